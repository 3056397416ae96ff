"""What the lung is at a set of points: the common ground of density, perfusion and ventilation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct2vq.simulate.units import Units


@dataclass(frozen=True)
class LungSample:
    """Lung points in the reference state; every array has shape (n,) except `points` (3, n).

    `gravity` runs from 0 (front) to 1 (back), `height` from 0 (base) to 1 (apex); `depth` lies under the lung's
    surface in mm; `unit` is the terminal unit.
    """

    points: np.ndarray
    depth: np.ndarray
    side: np.ndarray
    unit: np.ndarray
    gravity: np.ndarray
    height: np.ndarray


def sample_lung(units: Units, points: np.ndarray, distance: np.ndarray, side: np.ndarray) -> LungSample:
    """Read unit and position at points (3, n) with their signed distance (n,) to the lung and side (n,)."""
    gravity, height = units.chest.coordinates(points)
    return LungSample(points, -distance, side, units.at(points, side), gravity, height)


def sample_units(units: Units) -> LungSample:
    """The units' own seed points as a sample: one point a unit, in the units' order."""
    points = units.position.T.astype(np.float32)
    every = np.arange(len(units.position), dtype=np.int32)
    return LungSample(points, units.depth, units.side, every, units.gravity, units.height)

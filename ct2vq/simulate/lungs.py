"""What the lung is at a set of points: the common ground of density, perfusion and ventilation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct2vq.simulate import anatomy
from ct2vq.simulate.territories import TerritoryMap


@dataclass(frozen=True)
class LungSample:
    """Lung points in the SPECT state; every array has shape (n,) except `points` (3, n).

    `gravity` runs from 0 (front) to 1 (back), `height` from 0 (base) to 1 (apex), `hilar` is the distance from the
    lobe's hub in units of 100 mm, `depth` the depth under the lung's surface in mm.
    """

    points: np.ndarray
    depth: np.ndarray
    side: np.ndarray
    lobe: np.ndarray
    segment: np.ndarray
    territory: np.ndarray
    gravity: np.ndarray
    height: np.ndarray
    hilar: np.ndarray


def sample_lung(division: TerritoryMap, points: np.ndarray, distance: np.ndarray, side: np.ndarray) -> LungSample:
    """Read territory and position at points (3, n) with their signed distance (n,) to the lung and side (n,)."""
    lobe, segment, territory = division.label(points, side)
    gravity, height = anatomy.lung_coordinates(division.body, points)
    hubs = np.zeros((max(division.hubs) + 1, 3), dtype=np.float32)
    for number, hub in division.hubs.items():
        hubs[number] = hub
    hilar = np.linalg.norm(points - hubs[lobe].T, axis=0) / np.float32(100)
    return LungSample(points, -distance, side, lobe, segment, territory, gravity, height, hilar)

"""Trachea and main bronchi."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ct2vq.segment.working import Coarse, ball

#: the trachea's cross-section: 0.8 to 8 cm^2 covers 95 % of adults (Breatnach 1984: 13-27 mm wide) and tracheomegaly
TRACHEA_CM2 = (0.8, 8.0)
#: volume of trachea and main bronchi; more than this has leaked into a lung
AIRWAY_ML = 90.0
#: thresholds for the airway's growth, from the strictest
AIRWAY_HU = (-950, -925, -900, -875, -850, -825, -800, -750, -700)


def find_airway(coarse: Coarse, air: np.ndarray, middle: float) -> tuple[np.ndarray, list[str]]:
    """Trachea and main bronchi with their wall: grown from the trachea, stopped before they leak into a lung."""
    trachea = _trachea(coarse, air, middle)
    if not trachea.any():
        return trachea, ["W703 no trachea found: central airways may be counted as lung"]
    seed = np.unravel_index(np.where(trachea, coarse.hu, np.inf).argmin(), air.shape)
    notes = []
    grown = np.zeros_like(air)
    for threshold in AIRWAY_HU:
        labels, _ = ndimage.label(air & (coarse.hu < threshold))
        candidate = labels == labels[seed] if labels[seed] else np.zeros_like(air)
        volume = candidate.sum() * coarse.voxel_ml
        # A jump in volume is a leak through the wall of a bronchus.
        if volume > AIRWAY_ML or (grown.any() and volume > 2 * grown.sum() * coarse.voxel_ml and volume > 30):
            break
        grown = candidate
    if not grown.any():
        notes = ["W703 the main bronchi could not be told from the lungs: they may be counted as lung"]
    # The wall and the partial volume around it belong to the airway.
    wall = max(2.5, float(coarse.spacing[1:].max()))
    return ball(grown | trachea, coarse.spacing, wall, grow=True), notes


def _trachea(coarse: Coarse, air: np.ndarray, middle: float) -> np.ndarray:
    """The trachea's upper part.

    In the top part of the body's air, it is the round piece nearest to the middle, with a cross-section of
    `TRACHEA_CM2`, that goes on for at least 10 mm.
    """
    trachea = np.zeros_like(air)
    slices = np.flatnonzero(air.any(axis=(1, 2)))
    top = slices[int(len(slices) * 0.6) :]
    pixel_cm2 = float(coarse.spacing[1] * coarse.spacing[2]) / 100.0
    x_mm = np.broadcast_to(coarse.x_mm(), air.shape)
    pieces: dict[int, tuple[float, np.ndarray]] = {}
    for z in top:
        labels, count = ndimage.label(air[z])
        area = np.bincount(labels.ravel(), minlength=count + 1) * pixel_cm2
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            if not TRACHEA_CM2[0] <= area[label] <= TRACHEA_CM2[1]:
                continue
            piece = labels[box] == label
            extent = np.array(piece.shape) * coarse.spacing[1:]
            aside = abs(float(x_mm[z][box][piece].mean()) - middle)
            is_round = extent.max() < 2.5 * extent.min() and piece.mean() > 0.5
            if is_round and aside < 50 and (z not in pieces or aside < pieces[z][0]):
                pieces[z] = (aside, labels == label)
    if pieces:
        found = np.array(sorted(pieces))
        run = max(np.split(found, np.flatnonzero(np.diff(found) > 2) + 1), key=len)
        if len(run) * coarse.spacing[0] >= 10:
            for z in run:
                trachea[z] = pieces[z][1]
    return trachea

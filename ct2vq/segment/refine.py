"""From the working copy to the CT's own grid."""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk

from ct2vq.lungs import LEFT, RIGHT
from ct2vq.segment.working import Coarse, box
from ct2vq.volume import from_array, resample, to_array


def refine(ct: sitk.Image, coarse: Coarse, lungs: np.ndarray, dense: np.ndarray, threshold_hu: float) -> sitk.Image:
    """Carry the labels to the CT's grid.

    Each lung is interpolated linearly and cut at one half. Within about one coarse voxel of that border the CT's own
    HU decides instead, so that blocks leave no steps; where the lung is dense there is nothing to decide by.

    Args:
        ct: the CT.
        coarse: its working copy.
        lungs: side labels on the working copy.
        dense: mask of lung that is dense, on the working copy.
        threshold_hu: lung with air is darker.
    """
    hu = sitk.GetArrayViewFromImage(ct)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    for label in (RIGHT, LEFT):
        own = lungs == label
        if not own.any():
            continue
        where = _box_on_grid(coarse, own, ct)
        light, part = hu[where] < threshold_hu, labels[where]
        share = _share(ct, where, coarse, own)
        solid = _share(ct, where, coarse, dense) > 0.5 if dense.any() else np.zeros_like(light)
        at_border = (share > 0.25) & light & (part == 0)
        part[(share > 0.9) | at_border | ((share > 0.5) & (light | solid))] = label
    return from_array(labels, ct)


def _box_on_grid(coarse: Coarse, mask: np.ndarray, ct: sitk.Image) -> tuple[slice, ...]:
    """The part of the CT's grid `(z, y, x)` that holds a mask of the working copy and a voxel around it."""
    ends = [(float(s.start), float(s.stop - 1)) for s in reversed(box(mask, 1))]
    corners = np.array(
        [
            ct.TransformPhysicalPointToContinuousIndex(coarse.image.TransformContinuousIndexToPhysicalPoint(corner))
            for corner in product(*ends)
        ]
    )
    low = np.floor(corners.min(axis=0)).astype(int)[::-1]
    high = np.ceil(corners.max(axis=0)).astype(int)[::-1] + 1
    return tuple(slice(max(0, int(a)), max(0, int(b))) for a, b in zip(low, high, strict=True))


def _share(ct: sitk.Image, where: tuple[slice, ...], coarse: Coarse, mask: np.ndarray) -> np.ndarray:
    """How much of each of the CT's voxels in a box a mask of the working copy fills."""
    soft = sitk.Cast(from_array(mask.astype(np.uint8), coarse.image), sitk.sitkFloat32)
    return to_array(resample(soft, ct[tuple(reversed(where))]))

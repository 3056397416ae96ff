"""Parts of the lungs: thirds by volume, and lobes where something tells them."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ct2vq.lungs import LOBE_SIDES, SIDES, THIRDS_OF, labels_in_lungs
from ct2vq.volume import affine, from_array, require_same_grid, to_array


def thirds(lungs: sitk.Image) -> sitk.Image:
    """Each lung in three parts of equal volume along the patient's axis from head to feet.

    Args:
        lungs: labels 1 right, 2 left, on any grid.

    Returns:
        labels by `ct2vq.lungs.THIRDS` on the same grid. Voxels of one height stay together: a part may differ from a
        third by half a slice.
    """
    labels = to_array(lungs)
    result = np.zeros_like(labels, dtype=np.uint8)
    for side in SIDES:
        where = np.nonzero(labels == side)
        if where[0].size:
            rank = _thirds_from_head(_height_mm(lungs, where))
            result[where] = np.array(THIRDS_OF[side], dtype=np.uint8)[rank]
    return from_array(result, lungs)


def _height_mm(image: sitk.Image, where: tuple[np.ndarray, ...]) -> np.ndarray:
    """The patient's coordinate towards the head of voxels given by `(z, y, x)` indices."""
    row = affine(image)[2]
    return row[3] + row[2] * where[0] + row[1] * where[1] + row[0] * where[2]


def _thirds_from_head(height: np.ndarray) -> np.ndarray:
    """0, 1 or 2 for each height: upper, middle, lower, as equal in number as whole heights allow."""
    _, place, counts = np.unique(np.round(height, 4), return_inverse=True, return_counts=True)
    # a level goes to the third in which the middle of its voxels lies, counted from the head
    above = np.cumsum(counts[::-1])[::-1] - counts / 2
    return np.minimum((above / height.size * 3).astype(int), 2)[place]


def lobes_in_lungs(lobes: sitk.Image, lungs: sitk.Image) -> sitk.Image:
    """Lobes that fill the lungs exactly: what has no lobe gets that of the nearest voxel of its side.

    Args:
        lobes: labels by `ct2vq.lungs.LOBES`.
        lungs: labels 1 right, 2 left on the same grid.

    Raises:
        GeometryError: another grid.
    """
    require_same_grid(lobes, lungs, "the lobes", "the lungs")
    return from_array(labels_in_lungs(to_array(lobes), lungs, LOBE_SIDES), lungs)

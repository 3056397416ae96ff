"""The network's grid: where it lies, what it may be, and averaging onto it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.errors import CropError
from ct2vq.lungs import LEFT, RIGHT, grid_around, resample_labels
from ct2vq.volume import corners, from_array, resample, to_array

#: voxels of the largest grid, 400 x 400 x 400: a float32 channel then takes 256 MB, and a network a hundred times that
MAX_VOXELS = 400**3
#: lungs of fewer voxels have no shape: 64 of them are a cube of four
MIN_LUNG_VOXELS = 64
#: how finely the box round the lungs is measured before its grid is made
_BOX_MM = 10.0


def network_grid(lungs: sitk.Image, settings: Mapping[str, Any]) -> sitk.Image:
    """Lung labels on the network's grid: isotropic, along the patient's axes, with its margin, of divisible size.

    Args:
        lungs: labels on the CT's grid (1 right, 2 left).
        settings: config block `crop`.

    Raises:
        CropError: D901 no lungs, D903 nothing left of the lungs, D904 too many voxels.
    """
    require_lungs(to_array(lungs))
    _require_memory(lungs, settings["spacing_mm"], settings["margin_mm"])
    small = resample_labels(
        lungs, grid_around(lungs, settings["spacing_mm"], settings["margin_mm"], settings["multiple"])
    )
    voxels = int((to_array(small) > 0).sum())
    if voxels < MIN_LUNG_VOXELS:
        raise CropError(
            "D903",
            f"of the lungs {voxels} voxels of {settings['spacing_mm']} mm are left, fewer than {MIN_LUNG_VOXELS}",
            key="crop.spacing_mm",
            hint="lower it, or look at the lung mask",
        )
    return small


def _require_memory(lungs: sitk.Image, spacing_mm: float, margin_mm: float) -> None:
    """Stop before a grid is made that no machine holds.

    Raises:
        CropError: D904.
    """
    box = grid_around(lungs, _BOX_MM, margin_mm).GetSize()
    voxels = float(np.prod(np.asarray(box) * _BOX_MM / spacing_mm))
    if voxels > MAX_VOXELS:
        sides = " x ".join(f"{side * _BOX_MM:.0f}" for side in box)
        raise CropError(
            "D904",
            f"a box of {sides} mm round the lungs has {voxels:.2g} voxels of {spacing_mm} mm; at most "
            f"{MAX_VOXELS:.2g} are accepted",
            key="crop.spacing_mm",
            hint="raise it, or look for specks far from the lungs in the lung mask",
        )


def require_lungs(labels: np.ndarray) -> None:
    """Stop without lungs; whether one is enough was decided by the segmentation.

    Raises:
        CropError: D901.
    """
    if not ((labels == RIGHT) | (labels == LEFT)).any():
        raise CropError("D901", "the lung mask is empty", hint="look at the CT and at its lung mask")


def require_finite(values: np.ndarray, name: str) -> None:
    """Stop at values that are no numbers.

    Raises:
        CropError: D905.
    """
    wrong = int(values.size - np.isfinite(values).sum())
    if wrong:
        raise CropError("D905", f"{wrong} of {values.size} voxels of the {name} are NaN or infinite")


def averaged(image: sitk.Image, spacing_mm: float, within: sitk.Image | None = None) -> sitk.Image:
    """The image as a grid of this spacing may sample it: what would alias is averaged away.

    A Gaussian whose standard deviation is a third of the new spacing, less in quadrature what the image's own voxels
    average along each of its axes; nothing happens along an axis whose voxels are as large as the new ones.

    Args:
        image: any scalar volume; the result is float32 on its grid.
        spacing_mm: voxel size of the isotropic grid that will sample it.
        within: that grid, if the result is read nowhere else: what lies away from it is 0, and costs nothing.
    """
    own = np.asarray(image.GetSpacing())
    sigma = (np.sqrt(np.maximum(spacing_mm**2 - own**2, 0.0)) / 3.0 / own)[::-1]
    view = sitk.GetArrayViewFromImage(image)
    if within is None:
        return from_array(ndimage.gaussian_filter(view.astype(np.float32), sigma, mode="nearest"), image)
    wanted = _box_of(within, image)
    # SciPy cuts its Gaussian off at four standard deviations
    reach = [int(4 * one + 0.5) for one in sigma]
    read = tuple(slice(max(0, s.start - r), s.stop + r) for s, r in zip(wanted, reach, strict=True))
    smooth = ndimage.gaussian_filter(view[read].astype(np.float32), sigma, mode="nearest")
    values = np.zeros(view.shape, dtype=np.float32)
    values[wanted] = smooth[
        tuple(slice(w.start - r.start, w.stop - r.start) for w, r in zip(wanted, read, strict=True))
    ]
    return from_array(values, image)


def _box_of(grid: sitk.Image, image: sitk.Image) -> tuple[slice, ...]:
    """The part of an image `(z, y, x)` that linear interpolation on a grid reads, and a voxel around it."""
    index = np.array([image.TransformPhysicalPointToContinuousIndex(corner) for corner in corners(grid).tolist()])
    low = np.floor(index.min(axis=0)).astype(int)[::-1] - 1
    high = np.ceil(index.max(axis=0)).astype(int)[::-1] + 2
    size = image.GetSize()[::-1]
    return tuple(slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n))) for a, b, n in zip(low, high, size, strict=True))


def share_outside(image: sitk.Image, grid: sitk.Image, inside: np.ndarray | None = None) -> float:
    """Share of the grid's voxels, or of those inside a mask `(z, y, x)` on it, that lie beyond the image."""
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(image)
    beyond = to_array(resample(ones, grid, linear=False)) == 0
    return float((beyond if inside is None else beyond[inside]).mean())

"""What several stages need to know of a pair of lungs given as labels (1 right, 2 left; array axes `(z, y, x)`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.errors import GeometryError
from ct2vq.volume import make_grid, resample, to_array

RIGHT, LEFT = 1, 2
SIDES = (RIGHT, LEFT)
#: labels of `ct_lobes.nii.gz`, and each lobe's side
LOBES = {
    1: "right upper lobe",
    2: "right middle lobe",
    3: "right lower lobe",
    4: "left upper lobe",
    5: "left lower lobe",
}
LOBE_SIDES = {1: RIGHT, 2: RIGHT, 3: RIGHT, 4: LEFT, 5: LEFT}
#: labels of `ct_regions.nii.gz`: thirds of each lung by volume, from head to feet
THIRDS = {
    1: "right upper third",
    2: "right middle third",
    3: "right lower third",
    4: "left upper third",
    5: "left middle third",
    6: "left lower third",
}
THIRDS_OF = {RIGHT: (1, 2, 3), LEFT: (4, 5, 6)}
THIRD_SIDES = {third: side for side, thirds in THIRDS_OF.items() for third in thirds}


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box `(z, y, x)` that holds all voxels of a mask.

    Raises:
        GeometryError: the mask is empty.
    """
    if not mask.any():
        raise GeometryError("the lung mask is empty", hint="look at the segmentation")
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def grid_around(lungs: sitk.Image, spacing_mm: float, margin_mm: float, multiple: int = 1) -> sitk.Image:
    """An isotropic grid along the patient's axes that holds the lungs and a margin.

    Args:
        lungs: lung labels on any grid.
        spacing_mm: voxel size of the new grid in mm.
        margin_mm: margin on each side in mm.
        multiple: each side's number of voxels is a multiple of this; the surplus is shared by both sides.

    Returns:
        An empty volume that stands for the grid (LPS, identity direction).
    """
    box = bounding_box(to_array(lungs) > 0)
    first = [axis.start - 0.5 for axis in reversed(box)]
    last = [axis.stop - 0.5 for axis in reversed(box)]
    ends = [(first[0], last[0]), (first[1], last[1]), (first[2], last[2])]
    points = np.array(
        [
            lungs.TransformContinuousIndexToPhysicalPoint((float(i), float(j), float(k)))
            for i in ends[0]
            for j in ends[1]
            for k in ends[2]
        ]
    )
    low, high = points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm
    size = np.ceil((high - low) / spacing_mm / multiple).astype(int) * multiple
    origin = (low + high) / 2 - (size - 1) / 2 * spacing_mm
    return make_grid(size, [spacing_mm] * 3, origin)


def resample_smoothed(image: sitk.Image, grid: sitk.Image, outside: float) -> sitk.Image:
    """Resample onto a grid that may be coarser, averaging instead of skipping voxels.

    A Gaussian whose standard deviation is a third of the new spacing, added in quadrature to what the old spacing
    already averages, keeps aliasing small along each axis that becomes coarser.
    """
    smoothed = sitk.Cast(image, sitk.sitkFloat32)
    sigma = _smoothing(image, grid)
    if max(sigma) > 0:
        # one pixel-wise recursion along each axis; a vanishing sigma is not allowed by the filter
        filtered = sitk.GetImageFromArray(ndimage.gaussian_filter(to_array(smoothed), sigma, mode="nearest"))
        filtered.CopyInformation(smoothed)
        smoothed = filtered
    return resample(smoothed, grid, outside=outside)


def _smoothing(image: sitk.Image, grid: sitk.Image) -> list[float]:
    """Standard deviation in voxels of the image along its array's axes `(z, y, x)`."""
    old = np.abs(np.reshape(image.GetDirection(), (3, 3))) @ np.asarray(image.GetSpacing())
    new = np.asarray(grid.GetSpacing())
    sigma = np.sqrt(np.maximum(new**2 - old**2, 0.0)) / 3.0
    axes = np.abs(np.reshape(image.GetDirection(), (3, 3))).argmax(axis=0)
    return [float(sigma[axes[axis]] / image.GetSpacing()[axis]) for axis in (2, 1, 0)]


def resample_labels(lungs: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """Lung labels on another grid: each voxel takes the side that fills most of it, if the lungs fill half of it."""
    labels, sigma = to_array(lungs), _smoothing(lungs, grid)
    shares = np.stack([to_array(_share_of(labels == side, sigma, lungs, grid)) for side in SIDES])
    chosen = np.where(shares.sum(axis=0) >= 0.5, shares.argmax(axis=0) + 1, 0).astype(np.uint8)
    image = sitk.GetImageFromArray(chosen)
    image.CopyInformation(grid)
    return image


def _share_of(mask: np.ndarray, sigma: list[float], like: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """As `resample_smoothed` of a mask on the grid of `like`, smoothed only as far as the Gaussian reaches."""
    share = np.zeros(mask.shape, dtype=np.float32)
    if mask.any():
        # SciPy cuts its Gaussian off at four standard deviations; one voxel more, so that the box ends in zeros
        reach = [int(4 * one + 0.5) + 1 for one in sigma]
        box = tuple(slice(max(0, s.start - r), s.stop + r) for s, r in zip(bounding_box(mask), reach, strict=True))
        share[box] = mask[box]
        if max(sigma) > 0:
            share[box] = ndimage.gaussian_filter(share[box], sigma, mode="nearest")
    image = sitk.GetImageFromArray(share)
    image.CopyInformation(like)
    return resample(image, grid)


def labels_in_lungs(given: np.ndarray, lungs: sitk.Image, sides: Mapping[int, int]) -> np.ndarray:
    """Labels of parts that fill the lungs exactly: a voxel without one gets that of the nearest voxel of its side.

    Args:
        given: labels `(z, y, x)` on the lungs' grid, 0 outside.
        lungs: labels 1 right, 2 left.
        sides: the side of each label.

    Returns:
        uint8 `(z, y, x)`; 0 outside the lungs, and in a lung of which no part is given.
    """
    labels = to_array(lungs)
    result = np.zeros(labels.shape, dtype=np.uint8)
    for side in SIDES:
        inside = labels == side
        own = np.isin(given, [label for label, of in sides.items() if of == side])
        if not inside.any() or not own.any():
            continue
        box = bounding_box(inside | own)
        nearest = ndimage.distance_transform_edt(
            ~own[box], lungs.GetSpacing()[::-1], return_distances=False, return_indices=True
        )
        result[box] = np.where(inside[box], given[box][tuple(nearest)], result[box])
    return result


def normalised_position(labels: np.ndarray) -> np.ndarray:
    """Position in each lung's own box, so that apex and base, front and back mean the same in every patient.

    Args:
        labels: lung labels `(z, y, x)` on a grid along the patient's axes.

    Returns:
        float32 array `(3, z, y, x)`: height (-1 base, 1 apex), depth (-1 front, 1 back) and distance from the
        midline (-1 medial, 1 lateral; mirrored so that both lungs agree); 0 outside the lungs.
    """
    position = np.zeros((3, *labels.shape), dtype=np.float32)
    for side in SIDES:
        inside = labels == side
        if not inside.any():
            continue
        box = bounding_box(inside)
        axes = [np.linspace(-1, 1, axis.stop - axis.start, dtype=np.float32) for axis in box]
        if side == RIGHT:
            axes[2] = -axes[2]  # the patient's right is at small x
        mesh = np.stack(np.meshgrid(*axes, indexing="ij"))
        position[(slice(None), *box)] = np.where(inside[box], mesh, position[(slice(None), *box)])
    return position


def smooth_in_lungs(values: np.ndarray, inside: np.ndarray, sigma_voxels: float | Sequence[float]) -> np.ndarray:
    """Gaussian average over lung voxels only (the window is renormalised at the border); 0 outside.

    Args:
        values: `(z, y, x)`.
        inside: the lungs.
        sigma_voxels: standard deviation, or one along each axis.
    """
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma_voxels, mode="constant")
    total = ndimage.gaussian_filter(np.where(inside, values, 0).astype(np.float32), sigma_voxels, mode="constant")
    return np.where(inside, total / np.maximum(weight, 1e-6), 0).astype(np.float32)


def fill_from_inside(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Give every voxel outside a mask the value of the nearest voxel inside, so that interpolation sees no edge."""
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice coefficient of two masks (Dice 1945); 1 if both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int(np.logical_and(a, b).sum()) / total if total else 1.0

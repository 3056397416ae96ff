"""The working copy of a CT, along the patient's axes at about 2 mm, and what is done with masks on it.

"Up", "right" and a radius in mm then mean the same for every scan. Arrays have axes `(z, y, x)`, z to the head, y to
the back, x to the patient's left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.volume import affine

#: a ball of fewer voxels is applied as a neighbourhood
FEW_VOXELS = 40


@dataclass(frozen=True)
class Coarse:
    """The working copy: HU `(z, y, x)` along the patient's axes, and voxel sizes in mm in the same order."""

    image: sitk.Image
    hu: np.ndarray
    spacing: np.ndarray

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(np.prod(self.spacing)) / 1000.0

    def x_mm(self) -> np.ndarray:
        """The patient's x of each voxel in mm, broadcastable to `(z, y, x)`; larger to the left."""
        return along(self.image, self.hu.shape, 0)


def along(image: sitk.Image, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The patient's coordinate (0 left, 1 back, 2 head) of each voxel in mm, broadcastable to `shape` `(z, y, x)`."""
    row = affine(image)[axis]
    z, y, x = (np.arange(n) for n in shape)
    return (row[3] + row[2] * z)[:, None, None] + (row[1] * y)[None, :, None] + (row[0] * x)[None, None, :]


def coarsen(ct: sitk.Image, spacing_mm: float) -> Coarse:
    """Turn to the nearest patient axes and average whole blocks of voxels, up to `spacing_mm` wide."""
    image = sitk.DICOMOrient(ct, "LPS")
    factors = [max(1, int(spacing_mm / spacing + 0.05)) for spacing in image.GetSpacing()]
    # Blocks need a whole number of voxels: the rest at the far side is filled by repeating the edge.
    rest = [-size % factor for size, factor in zip(image.GetSize(), factors, strict=True)]
    if any(rest):
        image = sitk.ZeroFluxNeumannPad(image, [0, 0, 0], rest)
    image = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors)
    return Coarse(image, sitk.GetArrayFromImage(image), np.array(image.GetSpacing()[::-1]))


def ball(mask: np.ndarray, spacing: np.ndarray, radius_mm: float, *, grow: bool) -> np.ndarray:
    """Dilate or erode by a ball of `radius_mm`; beyond the image's end everything goes on as it is there.

    A small ball is a neighbourhood of few voxels; for a large one the distance transform costs less.
    """
    reach = np.floor(radius_mm / spacing + 1e-6).astype(int)
    inside = box(mask, reach + 1)
    part = mask[inside]
    result = np.zeros_like(mask)
    offsets = np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij")
    neighbours = sum((o * s) ** 2 for o, s in zip(offsets, spacing, strict=True)) <= radius_mm**2 + 1e-6
    if neighbours.sum() <= FEW_VOXELS:
        morph = ndimage.binary_dilation if grow else ndimage.binary_erosion
        result[inside] = morph(part, neighbours, border_value=0 if grow else 1)
    elif grow:
        result[inside] = ndimage.distance_transform_edt(~part, spacing) <= radius_mm if part.any() else part
    else:
        result[inside] = ndimage.distance_transform_edt(part, spacing) > radius_mm if not part.all() else part
    return result


def opened(mask: np.ndarray, spacing: np.ndarray, radius_mm: float) -> np.ndarray:
    """Only what a ball of `radius_mm` fits into."""
    return ball(ball(mask, spacing, radius_mm, grow=False), spacing, radius_mm, grow=True) & mask


def box(mask: np.ndarray, margin: np.ndarray | int = 0) -> tuple[slice, ...]:
    """The bounding box of a mask with a margin in voxels, inside the array; everything if the mask is empty."""
    margin = np.broadcast_to(margin, mask.ndim)
    found = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if used.size == 0:
            return tuple(slice(0, n) for n in mask.shape)
        stop = min(mask.shape[axis], int(used[-1]) + 1 + int(margin[axis]))
        found.append(slice(max(0, int(used[0]) - int(margin[axis])), stop))
    return tuple(found)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected component."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()

"""Displacement fields: how a registration is stored and applied.

Vectors in mm (LPS) on a grid of their own: `p_moving = p_fixed + d(p_fixed)`. Any stage applies them with SimpleITK in
one interpolation, without the program that made them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.volume import from_array, make_grid, read_volume, resample, to_array

_INVERSE_ROUNDS = 60
_INVERSE_TOLERANCE_MM = 0.05


def read_transform(path: Path) -> sitk.Transform:
    """A stored displacement field as a transform of points in mm (LPS)."""
    return as_transform(read_volume(path))


def as_transform(field: sitk.Image) -> sitk.Transform:
    """A transform from a displacement field in mm (LPS)."""
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def grid_over(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """A grid over the whole volume, along its own axes, at least one of its voxels beyond the volume's outer faces.

    A field moves nothing outside: ITK takes no displacement for points more than half a field voxel beyond it.
    """
    spacing, size = np.asarray(image.GetSpacing()), np.asarray(image.GetSize())
    padding = np.ceil(spacing / 2 / spacing_mm)
    voxels = np.ceil((size - 1) * spacing / spacing_mm) + 1 + 2 * padding
    axes = np.reshape(image.GetDirection(), (3, 3))
    origin = np.asarray(image.GetOrigin()) - axes @ (padding * spacing_mm)
    return make_grid(voxels.astype(int), [spacing_mm] * 3, origin, image.GetDirection())


def displacements(transform: sitk.Transform, grid: sitk.Image) -> sitk.Image:
    """The transform sampled on a grid as a displacement field in mm."""
    return sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )


def inverse_of(field: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """The inverse of a displacement field, by fixed-point iteration `v(q) = -d(q + v(q))`.

    Chen et al., Med Phys 2008;35:81 (doi:10.1118/1.2816107). Steps are halved where they grow, so that it converges
    where lung is strongly squeezed too.

    Args:
        field: displacement in mm (LPS) of points of its own grid; it goes on outside as at its edge.
        grid: the grid on the other side, whose points the result moves.

    Returns:
        Displacement field in mm on `grid`.
    """
    points = positions(grid)
    to_index = np.linalg.inv(np.reshape(field.GetDirection(), (3, 3)) * np.array(field.GetSpacing()))
    origin, parts = np.array(field.GetOrigin())[:, None], np.moveaxis(to_array(field), -1, 0)
    found = np.zeros_like(points)
    share = np.ones(points.shape[1])
    last = np.full(points.shape[1], np.inf)
    left = np.arange(points.shape[1])
    for _ in range(_INVERSE_ROUNDS):
        index = (to_index @ (points[:, left] + found[:, left] - origin))[::-1]
        there = np.stack([ndimage.map_coordinates(part, index, order=1, mode="nearest") for part in parts])
        step = -there - found[:, left]
        length = np.linalg.norm(step, axis=0)
        share[left] = np.where(length > last[left], share[left] / 2, share[left])
        last[left] = length
        found[:, left] += share[left] * step
        left = left[length > _INVERSE_TOLERANCE_MM]
        if not left.size:
            break
    inverse = sitk.GetImageFromArray(np.moveaxis(found.reshape(3, *grid.GetSize()[::-1]), 0, -1), isVector=True)
    inverse.CopyInformation(grid)
    return inverse


def positions(grid: sitk.Image) -> np.ndarray:
    """Points `(3, n)` in mm (LPS) of a grid's voxels, in the order of its array `(z, y, x)`."""
    index = np.indices(grid.GetSize()[::-1]).reshape(3, -1)[::-1]
    axes = np.reshape(grid.GetDirection(), (3, 3)) * np.array(grid.GetSpacing())
    return np.array(grid.GetOrigin())[:, None] + axes @ index


def inverse_error(forward: sitk.Image, inverse: sitk.Image, inside: np.ndarray) -> tuple[np.ndarray, float]:
    """How far points end from where they started, after forward and inverse have carried them.

    Args:
        forward: displacement field in mm.
        inverse: the way back, on a grid of its own.
        inside: voxels `(z, y, x)` of the forward field that count.

    Returns:
        Distance in mm of each voxel inside that is carried to where the inverse is known, and the share (0 to 1) of
        the others, of which it says nothing.
    """
    known = from_array(np.ones(inverse.GetSize()[::-1], np.uint8), inverse)
    held = inside & (to_array(resample(known, forward, as_transform(forward), linear=False)) > 0)
    carried = sitk.Warp(
        inverse,
        forward,
        outputSpacing=forward.GetSpacing(),
        outputOrigin=forward.GetOrigin(),
        outputSize=forward.GetSize(),
        outputDirection=forward.GetDirection(),
    )
    outside = 1 - held.sum() / max(inside.sum(), 1)
    return np.linalg.norm(to_array(forward) + to_array(carried), axis=-1)[held], float(outside)


def jacobian(field: sitk.Image) -> np.ndarray:
    """Local change of volume `(z, y, x)`: the determinant of the derivative of `p + d(p)`; 1 is none, <= 0 folds.

    ITK's filter takes derivatives along the grid's axes for derivatives along the patient's, which is wrong on a grid
    that is turned or mirrored.
    """
    d = to_array(field).astype(np.float64)
    along_axes = [
        np.gradient(d, step, axis=axis) if d.shape[axis] > 1 else np.zeros_like(d)
        for axis, step in zip((2, 1, 0), field.GetSpacing(), strict=True)
    ]
    # rows: component of d; columns: along the grid's axes, turned into the patient's by the direction's inverse
    gradient = np.stack(along_axes, axis=-1) @ np.linalg.inv(np.reshape(field.GetDirection(), (3, 3)))
    (a, b, c), (e, f, g), (h, i, k) = np.moveaxis(gradient + np.eye(3), (-2, -1), (0, 1))
    return a * (f * k - g * i) - b * (e * k - g * h) + c * (e * i - f * h)


def carry(image: sitk.Image, grid: sitk.Image, field: sitk.Image, modulate: bool = False) -> sitk.Image:
    """Carry a volume onto a grid through a displacement field, in one interpolation.

    Args:
        image: the moving volume (a SPECT: counts or Bq/mL), with 0 outside it.
        grid: a volume whose geometry the result takes.
        field: displacement in mm (LPS) from points of the grid to points of `image`.
        modulate: multiply by the Jacobian determinant, so that the integral over any region (counts of a lobe) stays
            what it was, as in voxel-based morphometry (Good et al., NeuroImage 2001;14:21); without it the value
            itself stays, as a concentration does.

    Returns:
        The volume on `grid`, of `image`'s pixel type; float32 if modulated.
    """
    carried = resample(image, grid, as_transform(field))
    if not modulate:
        return carried
    factor = from_array(jacobian(field).astype(np.float32), field)
    return sitk.Cast(carried, sitk.sitkFloat32) * resample(factor, grid, outside=1.0)


def grid_of(field: sitk.Image) -> sitk.Image:
    """The grid that a field is sampled on, as an empty scalar volume."""
    return make_grid(field.GetSize(), field.GetSpacing(), field.GetOrigin(), field.GetDirection())

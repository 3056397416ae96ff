"""Displacement fields: how a registration is stored and applied.

Vectors in mm (LPS) on a grid of their own: `p_moving = p_fixed + d(p_fixed)`. Any stage applies them with SimpleITK in
one interpolation, without the program that made them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ct2vq.volume import make_grid, read_volume, to_array


def read_transform(path: Path) -> sitk.Transform:
    """A stored displacement field as a transform of points in mm (LPS)."""
    return as_transform(read_volume(path))


def as_transform(field: sitk.Image) -> sitk.Transform:
    """A transform from a displacement field in mm (LPS)."""
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def grid_over(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """A grid over the whole volume, along its own axes, so that no point of it lies outside the field."""
    extent = (np.asarray(image.GetSize()) - 1) * np.asarray(image.GetSpacing())
    size = np.ceil(extent / spacing_mm).astype(int) + 1
    return make_grid(size, [spacing_mm] * 3, image.GetOrigin(), image.GetDirection())


def displacements(transform: sitk.Transform, grid: sitk.Image) -> sitk.Image:
    """The transform sampled on a grid as a displacement field in mm."""
    return sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )


def inverse_error(forward: sitk.Image, inverse: sitk.Image, inside: np.ndarray) -> np.ndarray:
    """Distance in mm between a lung point and where forward and inverse carry it, for each voxel inside."""
    carried = sitk.Warp(
        inverse,
        forward,
        outputSpacing=forward.GetSpacing(),
        outputOrigin=forward.GetOrigin(),
        outputSize=forward.GetSize(),
        outputDirection=forward.GetDirection(),
    )
    return np.linalg.norm(to_array(forward) + to_array(carried), axis=-1)[inside]


def grid_of(field: sitk.Image) -> sitk.Image:
    """The grid that a field is sampled on, as an empty scalar volume."""
    return make_grid(field.GetSize(), field.GetSpacing(), field.GetOrigin(), field.GetDirection())

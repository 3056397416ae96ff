"""The inverse of a displacement field, on another grid and under strong squeezing."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ct2vq.fields import as_transform, inverse_of, positions
from ct2vq.volume import make_grid

ANGLE = np.deg2rad(20)
TURNED = (np.cos(ANGLE), -np.sin(ANGLE), 0.0, np.sin(ANGLE), np.cos(ANGLE), 0.0, 0.0, 0.0, -1.0)


def smooth_field(seed: int, size: float, direction: tuple) -> sitk.Image:
    """A random smooth field with displacements up to `size` mm on 32^3 voxels of 6 mm."""
    grid = make_grid((32, 32, 32), (6, 6, 6), (-90, -90, -90), direction)
    noise = np.random.default_rng(seed).normal(size=(3, 32, 32, 32))
    d = np.stack([ndimage.gaussian_filter(part, 5, mode="constant") for part in noise], axis=-1)
    field = sitk.GetImageFromArray(d * (size / np.linalg.norm(d, axis=-1).max()), isVector=True)
    field.CopyInformation(grid)
    return field


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6), size=st.floats(0, 25), direction=st.sampled_from([(1, 0, 0, 0, 1, 0, 0, 0, 1), TURNED])
)
def test_there_and_back_is_nowhere(seed: int, size: float, direction: tuple) -> None:
    field = smooth_field(seed, size, direction)
    # a grid of its own around the middle of the field
    middle = np.array(field.TransformContinuousIndexToPhysicalPoint((15.5, 15.5, 15.5)))
    other = make_grid((18, 16, 14), (3, 4, 5), middle - 20)
    back = inverse_of(field, other)
    forth = as_transform(field)
    points = positions(other).T
    moved = points + sitk.GetArrayFromImage(back).reshape(-1, 3)
    returned = np.array([forth.TransformPoint(point) for point in moved[::41].tolist()])
    assert np.abs(returned - points[::41]).max() < 0.15


def test_a_squeeze_to_a_fifth_is_undone() -> None:
    """Where the plain iteration would swing: `d' = -0.8` along z, as lung at the base of a full breath."""
    grid = make_grid((5, 5, 61), (10, 10, 2), (0, 0, 0))
    z = np.arange(61) * 2.0
    d = np.zeros((61, 5, 5, 3))
    d[..., 2] = (-0.8 * np.clip(z, 0, 60))[:, None, None]
    field = sitk.GetImageFromArray(d, isVector=True)
    field.CopyInformation(grid)
    back = sitk.GetArrayFromImage(inverse_of(field, make_grid((1, 1, 10), (1, 1, 1), (20, 20, 1))))
    assert back[:, 0, 0, 2] == pytest.approx(4 * np.arange(1.0, 11.0), abs=0.3)

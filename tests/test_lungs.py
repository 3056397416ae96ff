"""What all stages ask of the lungs: a grid that holds them, positions that agree, averages blind to the rest."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from factories import lung_labels, oblique_lungs, random_direction
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.errors import GeometryError
from ct2vq.lungs import (
    bounding_box,
    dice,
    fill_from_inside,
    grid_around,
    normalised_position,
    resample_labels,
    resample_smoothed,
    smooth_in_lungs,
)
from ct2vq.volume import affine, from_array, make_grid, to_array, voxel_volume_ml


def voxel_positions(image: sitk.Image, mask: np.ndarray) -> np.ndarray:
    """Positions (n, 3) in mm of the voxels of a mask."""
    index = np.argwhere(mask)[:, ::-1]
    return index @ affine(image)[:3, :3].T + affine(image)[:3, 3]


@given(st.integers(0, 10**6), st.floats(2, 15), st.floats(0, 30), st.sampled_from([1, 4, 8]))
def test_the_grid_holds_oblique_lungs_and_is_divisible(seed: int, spacing: float, margin: float, multiple: int) -> None:
    lungs = oblique_lungs(seed)
    grid = grid_around(lungs, spacing, margin, multiple)
    assert all(n % multiple == 0 for n in grid.GetSize())
    assert grid.GetSpacing() == (spacing,) * 3
    assert grid.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    low = np.array(grid.GetOrigin()) - spacing / 2
    high = low + np.array(grid.GetSize()) * spacing
    points = voxel_positions(lungs, to_array(lungs) > 0)
    assert (points.min(axis=0) - margin >= low - 1e-6).all()
    assert (points.max(axis=0) + margin <= high + 1e-6).all()


def test_the_grid_is_no_larger_than_it_must_be() -> None:
    labels = np.zeros((20, 20, 20), dtype=np.uint8)
    labels[5:10, 6:12, 7:15] = 1
    grid = grid_around(from_array(labels, make_grid((20, 20, 20), (2, 2, 2), (0, 0, 0))), 2.0, 4.0)
    assert grid.GetSize() == (8 + 4, 6 + 4, 5 + 4)
    assert grid.GetOrigin() == (10, 8, 6)


def test_no_lungs_is_an_error() -> None:
    empty = make_grid((4, 4, 4), (1, 1, 1), (0, 0, 0))
    with pytest.raises(GeometryError, match="empty"):
        grid_around(empty, 1.0, 1.0)
    with pytest.raises(GeometryError, match="empty"):
        bounding_box(np.zeros((2, 2, 2), dtype=bool))


@given(st.integers(0, 10**6), st.floats(3, 12))
def test_labels_keep_their_volume_and_their_side(seed: int, spacing: float) -> None:
    lungs = oblique_lungs(seed)
    small = resample_labels(lungs, grid_around(lungs, spacing, 20.0))
    for side in (1, 2):
        before = (to_array(lungs) == side).sum() * voxel_volume_ml(lungs)
        after = (to_array(small) == side).sum() * voxel_volume_ml(small)
        assert after == pytest.approx(before, rel=0.08)
    x = voxel_positions(small, to_array(small) == 1)[:, 0]
    assert x.max() < voxel_positions(small, to_array(small) == 2)[:, 0].min(), "the right lung is at small x"
    assert small.GetPixelID() == sitk.sitkUInt8


@given(st.integers(0, 10**6), st.floats(0.5, 20), st.floats(-1000, 1000))
def test_smoothing_keeps_a_constant(seed: int, spacing: float, value: float) -> None:
    generator = np.random.default_rng(seed)
    image = make_grid((20, 24, 16), generator.uniform(1, 6, 3), (3, -7, 11), random_direction(seed).ravel())
    image = from_array(np.full((16, 24, 20), value, dtype=np.float32), image)
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint((9.5, 11.5, 7.5)))
    grid = make_grid((2, 2, 2), [spacing * 0.2] * 3, centre)
    grid.SetSpacing((spacing,) * 3)
    grid.SetOrigin((centre - spacing * 0.05).tolist())
    out = to_array(resample_smoothed(image, grid, outside=value))
    np.testing.assert_allclose(out, value, rtol=1e-4, atol=1e-3)


def test_smoothing_averages_instead_of_skipping() -> None:
    fine = make_grid((48, 48, 48), (1, 1, 1), (0, 0, 0))
    checkers = from_array((np.indices((48, 48, 48)).sum(axis=0) % 2).astype(np.float32), fine)
    coarse = to_array(resample_smoothed(checkers, make_grid((4, 4, 4), (8, 8, 8), (12, 12, 12)), outside=0))
    np.testing.assert_allclose(coarse, 0.5, atol=0.01)


def test_no_smoothing_towards_a_finer_grid() -> None:
    generator = np.random.default_rng(0)
    grid = make_grid((6, 6, 6), (4, 4, 4), (0, 0, 0))
    image = from_array(generator.normal(size=(6, 6, 6)).astype(np.float32), grid)
    same = to_array(resample_smoothed(image, grid, outside=0))
    np.testing.assert_allclose(same, to_array(image), atol=1e-6)


def test_position_is_the_same_in_both_lungs_and_grows_as_it_should() -> None:
    labels = lung_labels()
    position = normalised_position(labels)
    mirrored = np.where(labels > 0, 3 - labels, 0).astype(np.uint8)[:, :, ::-1]
    np.testing.assert_array_equal(mirrored, labels)
    np.testing.assert_allclose(position[:, :, :, ::-1], position, atol=1e-6)
    height, depth, side = position
    inside = labels > 0
    assert (np.abs(position) <= 1).all()
    assert (position[:, ~inside] == 0).all()
    for values, axis in ((height, 0), (depth, 1)):
        by_plane = [np.moveaxis(values, axis, 0)[n][np.moveaxis(inside, axis, 0)[n]] for n in range(values.shape[axis])]
        means = [plane.mean() for plane in by_plane if plane.size]
        assert (np.diff(means) > 0).all()
        assert (means[0], means[-1]) == (-1, 1)
    lateral_right = np.argwhere(labels == 1)[:, 2].min()
    assert side[:, :, lateral_right][labels[:, :, lateral_right] == 1] == pytest.approx(1)


@given(st.integers(0, 10**6))
def test_position_of_any_labels_is_mirror_symmetric(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (5, 6, 7)).astype(np.uint8)
    mirrored = np.where(labels > 0, 3 - labels, 0).astype(np.uint8)[:, :, ::-1]
    np.testing.assert_allclose(normalised_position(mirrored), normalised_position(labels)[:, :, :, ::-1], atol=1e-6)


def test_one_lung_is_enough() -> None:
    labels = np.where(lung_labels() == 2, 2, 0).astype(np.uint8)
    position = normalised_position(labels)
    assert (position[:, labels == 0] == 0).all()
    assert position[2][labels == 2].max() == 1


@given(st.integers(0, 10**6), st.floats(0.3, 3))
def test_the_average_in_the_lungs_is_blind_to_the_rest(seed: int, sigma: float) -> None:
    generator = np.random.default_rng(seed)
    inside = lung_labels() > 0
    values = generator.normal(size=inside.shape).astype(np.float32)
    other = np.where(inside, values, generator.choice([np.nan, np.inf, -1e30, 7.0], inside.shape))
    smoothed = smooth_in_lungs(values, inside, sigma)
    np.testing.assert_array_equal(smooth_in_lungs(other, inside, sigma), smoothed)
    assert (smoothed[~inside] == 0).all()
    np.testing.assert_allclose(smooth_in_lungs(np.full(inside.shape, 5.0), inside, sigma)[inside], 5, rtol=1e-4)
    assert (
        values[inside].min() - 1e-4 <= smoothed[inside].min() <= smoothed[inside].max() <= values[inside].max() + 1e-4
    )


def test_filling_continues_the_nearest_value() -> None:
    inside = lung_labels() > 0
    values = np.where(inside, 3.0, np.nan)
    values[tuple(np.argwhere(inside)[0])] = 5.0
    filled = fill_from_inside(values, inside)
    np.testing.assert_array_equal(filled[inside], values[inside])
    assert set(np.unique(filled)) == {3.0, 5.0}


@given(st.integers(0, 10**6))
def test_dice(seed: int) -> None:
    a, b = np.random.default_rng(seed).random((2, 4, 4, 4)) < 0.4
    assert dice(a, b) == dice(b, a)
    assert 0 <= dice(a, b) <= 1
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0
    assert dice(a, a & False) == (0 if a.any() else 1)
    assert dice(np.array([1, 1, 0], bool), np.array([0, 1, 1], bool)) == 0.5

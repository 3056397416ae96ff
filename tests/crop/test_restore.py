"""A round trip between the CT's grid and the network's loses next to nothing of a smooth image."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from factories import CROP, oblique_lungs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ct2vq.crop.grid import network_grid
from ct2vq.crop.restore import WayBack, continuation
from ct2vq.volume import affine, corners, from_array, make_grid, require_same_grid, to_array

SEEDS = st.integers(0, 10**6)


def positions(grid: sitk.Image) -> np.ndarray:
    """Patient position (mm) of every voxel, (3, z, y, x)."""
    index = np.indices(grid.GetSize()[::-1])[::-1]
    matrix = affine(grid)
    return np.einsum("ab,b...->a...", matrix[:3, :3], index) + matrix[:3, 3, None, None, None]


def smooth_image(grid: sitk.Image, fwhm_mm: float, seed: int) -> sitk.Image:
    """A positive random image (mean 1, SD 0.35) of one resolution, on fine voxels round a grid."""
    low, high = corners(grid).min(axis=0) - 30, corners(grid).max(axis=0) + 30
    fine = make_grid(np.ceil((high - low) / 4).astype(int) + 1, [4.0] * 3, low)
    noise = np.random.default_rng(seed).normal(size=fine.GetSize()[::-1])
    noise = gaussian_filter(noise, fwhm_mm / 2.355 / 4)
    return from_array((1 + 0.35 * noise / noise.std()).astype(np.float32), fine)


def sampled(image: sitk.Image, grid: sitk.Image) -> np.ndarray:
    identity = sitk.Transform(3, sitk.sitkIdentity)
    return to_array(sitk.Resample(image, grid, identity, sitk.sitkBSpline, 0.0, sitk.sitkFloat32))


@settings(max_examples=8)
@given(SEEDS)
def test_a_round_trip_keeps_a_smooth_image(seed: int) -> None:
    """A resolution of three voxels, as 12 mm is of 4 mm; lungs a third of a patient's, so with more edge than lung."""
    lungs = oblique_lungs(seed, size=(50, 44, 46), spacing=(5.0, 6.0, 5.5))
    grid = network_grid(lungs, CROP | {"spacing_mm": 6.0})
    source = smooth_image(lungs, 24.0, seed)
    inside = to_array(lungs) > 0
    truth = sampled(source, lungs)
    network = np.where(to_array(grid) > 0, sampled(source, grid), 0)
    back = WayBack(grid, lungs)(network)
    require_same_grid(back, lungs, "image", "ct")
    error = np.abs(to_array(back) - truth)[inside]
    assert error.mean() < 0.01
    deep = distance_transform_edt(inside, lungs.GetSpacing()[::-1])[inside] > 15
    assert np.percentile(error[deep], 95) < 0.01
    assert (to_array(back)[~inside] == 0).all()


@given(SEEDS, st.tuples(*[st.floats(-1, 1)] * 3))
def test_a_slope_is_continued_to_the_pleura(seed: int, slope: tuple[float, float, float]) -> None:
    """An image whose values are positions comes back with the positions of the CT's voxels, whatever its direction."""
    lungs = oblique_lungs(seed)
    grid = network_grid(lungs, CROP | {"spacing_mm": 8.0})
    inside, known = to_array(lungs) > 0, to_array(grid) > 0
    expected = np.einsum("a,a...->...", slope, positions(lungs))
    image = np.where(known, np.einsum("a,a...->...", slope, positions(grid)), 0)
    back = to_array(WayBack(grid, lungs)(image))
    expected = np.clip(expected, image[known].min(), image[known].max())
    scale = 8.0 * np.abs(slope).sum()
    error = np.abs(back - expected)[inside]
    assert np.percentile(error, 99) <= 0.05 * scale + 1e-4
    assert error.max() <= scale + 1e-4


@pytest.mark.parametrize("margin", [0, 12])
def test_the_pleura_is_not_darkened(margin: int) -> None:
    lungs = oblique_lungs(5)
    grid = network_grid(lungs, CROP | {"margin_mm": margin, "multiple": 1})
    image = np.where(to_array(grid) > 0, 0.7, 0).astype(np.float32)
    values = to_array(WayBack(grid, lungs)(image))
    np.testing.assert_allclose(values[to_array(lungs) > 0], 0.7, atol=1e-6)


@given(SEEDS)
def test_nothing_leaves_the_range_of_the_image_and_what_lies_outside_does_not_matter(seed: int) -> None:
    lungs = oblique_lungs(seed)
    grid = network_grid(lungs, CROP)
    known = to_array(grid) > 0
    image = np.random.default_rng(seed).random(known.shape).astype(np.float32)
    way_back = WayBack(grid, lungs)
    back = to_array(way_back(image))
    inside = to_array(lungs) > 0
    assert image[known].min() <= back[inside].min() and back[inside].max() <= image[known].max()
    np.testing.assert_array_equal(back, to_array(way_back(np.where(known, image, 1e6))))


def test_the_continuation_is_exact_for_planes_and_sums_to_one() -> None:
    """Far from thin parts of the mask the slopes are known well; everywhere the weights are an average."""
    inside = np.zeros((20, 20, 20), bool)
    inside[5:15, 5:15, 5:15] = True
    layer, sources, weights = continuation(inside)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=0.01)
    assert not inside[layer].any()
    assert inside.ravel()[sources[weights != 0]].all()
    z, y, x = np.indices(inside.shape)
    plane = 3.0 + 0.5 * z - 0.2 * y + 0.1 * x
    near = (layer[0] >= 3) & (layer[0] <= 16)  # three voxels away a single one is seen
    face = near & (np.abs(layer[1] - 9.5) < 4) & (np.abs(layer[2] - 9.5) < 4)
    values = np.einsum("ns,ns->n", weights, plane.ravel()[sources])
    np.testing.assert_allclose(values[face], plane[layer][face], atol=0.05)


def test_a_lone_voxel_goes_on_as_it_is() -> None:
    inside = np.zeros((9, 9, 9), bool)
    inside[4, 4, 4] = True
    layer, sources, weights = continuation(inside)
    image = np.where(inside, 0.4, 0)
    np.testing.assert_allclose(np.einsum("ns,ns->n", weights, image.ravel()[sources]), 0.4, atol=0.1)
    assert len(layer[0]) > 50

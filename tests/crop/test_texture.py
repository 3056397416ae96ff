"""Texture below the network's voxels: what is counted, on any grid, of lung alone."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from factories import CROP, oblique_lungs
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ct2vq.crop.grid import network_grid
from ct2vq.crop.texture import TEXTURES, texture
from ct2vq.volume import affine, from_array, make_grid, to_array

SETTINGS = CROP["texture"]
SHARP = SETTINGS | {"smooth_mm": 0}


def block(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), side: int = 48) -> sitk.Image:
    """A lung that fills the middle of a CT."""
    labels = np.zeros((side,) * 3, np.uint8)
    labels[4:-4, 4:-4, 4:-4] = 1
    return from_array(labels, make_grid((side,) * 3, spacing, (10.0, -20.0, 30.0)))


def grid_of(lungs: sitk.Image, spacing_mm: float = 8.0) -> sitk.Image:
    return network_grid(lungs, CROP | {"spacing_mm": spacing_mm, "margin_mm": 8, "multiple": 4})


def named(values: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(TEXTURES, values, strict=True))


def deep(grid: sitk.Image) -> np.ndarray:
    return ndimage.binary_erosion(to_array(grid) > 0)


def test_shares_and_spreads_of_a_known_mixture() -> None:
    lungs = block()
    rng = np.random.default_rng(0)
    values = rng.choice([-980.0, -850.0, -500.0], size=(48,) * 3, p=[0.3, 0.6, 0.1]).astype(np.float32)
    grid = grid_of(lungs)
    found = named(texture(from_array(values, lungs), lungs, grid, SHARP))
    inside = deep(grid)
    mean = 0.3 * -980 + 0.6 * -850 + 0.1 * -500
    deviation = np.sqrt(0.3 * 980**2 + 0.6 * 850**2 + 0.1 * 500**2 - mean**2)
    assert found["low"][inside].mean() == pytest.approx(0.3, abs=0.01)
    assert found["high"][inside].mean() == pytest.approx(0.1, abs=0.01)
    assert found["spread"][inside].mean() == pytest.approx(deviation, rel=0.02)


def test_smoothing_takes_noise_out() -> None:
    lungs = block()
    noise = np.random.default_rng(0).normal(-850, 40, (48,) * 3).astype(np.float32)
    grid = grid_of(lungs)
    sharp, found = (named(texture(from_array(noise, lungs), lungs, grid, one)) for one in (SHARP, SETTINGS))
    inside = deep(grid)
    assert sharp["spread"][inside].mean() == pytest.approx(40, rel=0.05)
    # white noise through a Gaussian of one voxel keeps (4 pi)^(-3/4) of its standard deviation
    assert found["spread"][inside].mean() == pytest.approx(40 * (4 * np.pi) ** -0.75, rel=0.1)
    assert found["low"][inside].max() < 0.01


@pytest.mark.parametrize("slices_mm", [1.0, 5.0, 12.0])
def test_thick_slices_leave_no_holes(slices_mm: float) -> None:
    lungs = block((1.0, 1.0, slices_mm))
    grid = grid_of(lungs, 4.0)
    found = named(texture(from_array(np.full((48,) * 3, -970, np.float32), lungs), lungs, grid, SETTINGS))
    inside = to_array(grid) > 0
    assert (found["low"][inside] == 1).all()
    assert not found["high"].any()
    assert found["spread"].max() < 0.1


@given(st.integers(0, 30))
def test_it_follows_the_tissue_on_an_oblique_grid_and_never_reads_outside_the_lungs(seed: int) -> None:
    lungs = oblique_lungs(seed)
    points = np.indices(lungs.GetSize()[::-1])[::-1].reshape(3, -1)
    height = (affine(lungs) @ np.vstack([points, np.ones(points.shape[1])]))[2].reshape(lungs.GetSize()[::-1])
    inside = to_array(lungs) > 0
    values = np.where(height > 0, -970.0, -800.0)
    wild = np.random.default_rng(seed).choice([-2000.0, 3000.0], size=values.shape)
    grid = network_grid(lungs, CROP)
    images = [from_array(np.where(inside, values, other).astype(np.float32), lungs) for other in (values, wild)]
    clean, disturbed = (texture(image, lungs, grid, SHARP) for image in images)
    np.testing.assert_array_equal(clean, disturbed)
    low, wanted = clean[0], to_array(grid) > 0
    assert not clean[:, ~wanted].any()
    centre = np.indices(wanted.shape)[0] * grid.GetSpacing()[2] + grid.GetOrigin()[2]
    far = wanted & (np.abs(centre) > 2.5 * CROP["spacing_mm"])
    np.testing.assert_array_equal(low[far] > 0.5, centre[far] > 0)


#: spacing of the CT and of the grid, and voxels along an axis: commensurate ones of any parity meet the grid's borders
STORED = [
    ((1.5, 1.5, 2.0), 8.0, 32),
    ((1.0, 1.0, 4.0), 4.0, 31),
    ((1.0, 1.0, 1.0), 4.0, 33),
    ((2.0, 2.0, 3.0), 6.0, 31),
]


def noisy(
    spacing: tuple[float, float, float], spacing_mm: float, side: int
) -> tuple[sitk.Image, np.ndarray, sitk.Image]:
    """A lung, HU of noise in it, and the grid round it."""
    lungs = block(spacing, side)
    values = np.random.default_rng(1).normal(-850, 80, (side,) * 3).astype(np.float32)
    return lungs, values, grid_of(lungs, spacing_mm)


@pytest.mark.parametrize(("spacing", "spacing_mm", "side"), STORED)
def test_the_result_does_not_depend_on_how_the_ct_is_stored(
    spacing: tuple[float, float, float], spacing_mm: float, side: int
) -> None:
    lungs, values, grid = noisy(spacing, spacing_mm, side)
    ct = from_array(values, lungs)
    turned = [sitk.Flip(image, (True, False, True)) for image in (ct, lungs)]
    np.testing.assert_allclose(
        texture(*turned, grid, SETTINGS), texture(ct, lungs, grid, SETTINGS), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize(("spacing", "spacing_mm", "side"), STORED)
def test_a_mirrored_ct_has_the_mirrored_texture(
    spacing: tuple[float, float, float], spacing_mm: float, side: int
) -> None:
    lungs, values, grid = noisy(spacing, spacing_mm, side)
    there, back = (texture(from_array(one, lungs), lungs, grid, SETTINGS) for one in (values, values[:, :, ::-1]))
    inside = to_array(grid) > 0
    np.testing.assert_array_equal(inside, inside[:, :, ::-1])
    np.testing.assert_allclose(back[..., ::-1], there, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("spacing", "spacing_mm", "side"), STORED)
def test_a_slope_has_no_stripes(spacing: tuple[float, float, float], spacing_mm: float, side: int) -> None:
    lungs = block(spacing, side)
    slope = np.broadcast_to(-850 + np.arange(side)[:, None, None] * spacing[2], (side,) * 3).astype(np.float32)
    grid = grid_of(lungs, spacing_mm)
    found = named(texture(from_array(slope, lungs), lungs, grid, SHARP))["spread"]
    inside = deep(grid)
    along = [found[z][inside[z]].mean() for z in range(len(found)) if inside[z].any()][1:-1]
    assert len(along) > 1
    assert np.ptp(along) < 0.01 * np.mean(along)


@pytest.mark.parametrize(("own_mm", "spacing_mm"), [(2.0, 1.0), (8.0, 4.0), (3.0, 2.0)])
def test_a_ct_coarser_than_the_grid_leaves_no_holes(own_mm: float, spacing_mm: float) -> None:
    lungs = block((own_mm,) * 3, 24)
    grid = grid_of(lungs, spacing_mm)
    found = texture(from_array(np.full((24,) * 3, -970, np.float32), lungs), lungs, grid, SHARP)
    assert (found[0][to_array(grid) > 0] > 0.999).all()


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float64])
def test_any_kind_of_number_and_lungs_at_the_border_of_the_ct(kind: type) -> None:
    labels = np.ones((20, 24, 28), np.uint8)
    labels[..., 14:] = 0  # one lung, and it reaches five faces
    lungs = from_array(labels, make_grid((28, 24, 20), (2, 2, 3), (0.0, 0.0, 0.0)))
    values = np.random.default_rng(3).integers(-1000, -500, labels.shape)
    grid = grid_of(lungs)
    found, expected = (
        texture(from_array(values.astype(one), lungs), lungs, grid, SETTINGS) for one in (kind, np.float32)
    )
    np.testing.assert_array_equal(found, expected)
    inside = to_array(grid) > 0
    assert found[:, ~inside].max() == 0
    assert found[2][inside].min() > 20, "no voxel of the lung is left out"


def test_no_lung_voxel_within_the_grid_gives_zeros() -> None:
    lungs = block()
    away = make_grid((8, 8, 8), (4, 4, 4), (500.0, 500.0, 500.0)) + 1
    ct = from_array(np.full((48,) * 3, -970, np.float32), lungs)
    assert not texture(ct, lungs, away, SETTINGS).any()

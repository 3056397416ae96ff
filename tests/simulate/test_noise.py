"""Fast SPECT noise: unbiased, never negative, with the variance and the spectrum it was calibrated to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct2vq.errors import GeometryError
from ct2vq.simulate.noise import NOISE_EXPONENT, NOISE_SCALE, add_noise, correlated_field, expected_image

VOXEL_MM = 4.8
COUNTS = 5e6


@pytest.fixture(scope="module")
def graded() -> np.ndarray:
    """Three slabs of uniform activity, 1, 4 and 16, and nothing around them."""
    image = np.zeros((24, 40, 40))
    for slab, value in enumerate((1.0, 4.0, 16.0)):
        image[4:20, 4:36, 4 + 11 * slab : 14 + 11 * slab] = value
    return image


@pytest.fixture(scope="module")
def draws(graded) -> np.ndarray:
    """Realisations (n, z, y, x)."""
    return np.stack([add_noise(graded, COUNTS, VOXEL_MM, np.random.default_rng(seed)) for seed in range(60)])


def test_noise_is_never_negative_and_stays_out_of_empty_space(graded, draws):
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert not draws[:, graded == 0].any()


def test_the_mean_is_kept_at_every_level(graded, draws):
    for value in (1.0, 4.0, 16.0):
        assert draws[:, graded == value].mean() == pytest.approx(value, rel=0.01)


def test_the_standard_deviation_follows_its_formula(graded, draws):
    level = (graded**2).sum() / graded.sum()
    area_cm2 = (graded.sum() / level * (VOXEL_MM / 10) ** 3) ** (2 / 3)
    for value in (1.0, 4.0, 16.0):
        expected = level * NOISE_SCALE / np.sqrt(COUNTS / area_cm2) * (value / level) ** NOISE_EXPONENT
        assert draws[:, graded == value].std() == pytest.approx(expected, rel=0.05)


def test_variance_falls_with_counts(graded):
    def deviation(counts: float) -> float:
        return float(np.std(add_noise(graded, counts, VOXEL_MM, np.random.default_rng(0))[graded == 16.0]))

    assert deviation(COUNTS / 16) / deviation(COUNTS) == pytest.approx(4, rel=0.05)


def test_the_unit_of_the_image_does_not_matter(graded):
    one = add_noise(graded, COUNTS, VOXEL_MM, np.random.default_rng(5))
    thousand = add_noise(1000 * graded, COUNTS, VOXEL_MM, np.random.default_rng(5))
    np.testing.assert_allclose(thousand, 1000 * one, rtol=1e-5)


def test_the_same_generator_gives_the_same_bytes(graded):
    first, second = (add_noise(graded, COUNTS, VOXEL_MM, np.random.default_rng(3)) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("shape", [(32, 48, 48), (31, 47, 45)])
def test_the_field_has_unit_variance_and_a_band_of_frequencies(shape):
    """Even and odd sizes; no power at frequency 0 across the axis, so that slices keep their mean."""
    fields = np.stack([correlated_field(shape, VOXEL_MM, np.random.default_rng(seed)) for seed in range(20)])
    assert fields.var() == pytest.approx(1, rel=0.03)
    np.testing.assert_allclose(fields.mean(axis=(2, 3)), 0, atol=1e-9)
    beside = (fields[..., 1:] * fields[..., :-1]).mean()
    four_on = (fields[..., 4:] * fields[..., :-4]).mean()
    above = (fields[:, 1:] * fields[:, :-1]).mean()
    assert beside == pytest.approx(0.745, abs=0.03)
    assert above == pytest.approx(0.67, abs=0.03)
    assert four_on == pytest.approx(-0.075, abs=0.03)


def test_correlation_is_in_mm_not_in_voxels():
    coarse = correlated_field((32, 40, 40), 4.8, np.random.default_rng(0))
    fine = correlated_field((64, 80, 80), 2.4, np.random.default_rng(0))
    step = (fine[..., 2:] * fine[..., :-2]).mean()
    assert step == pytest.approx((coarse[..., 1:] * coarse[..., :-1]).mean(), abs=0.05)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4)), np.full((4, 4, 4), -1.0), np.eye(4)[None] - 0.1])
def test_an_impossible_image_is_an_error(image):
    with pytest.raises(GeometryError, match="positive somewhere"):
        add_noise(image, COUNTS, VOXEL_MM, np.random.default_rng(0))


@settings(max_examples=20, deadline=None)
@given(counts=st.floats(1e3, 1e8), scale=st.floats(1e-3, 1e6), seed=st.integers(0, 2**32 - 1))
def test_noise_is_finite_for_any_counts(counts, scale, seed):
    image = scale * np.random.default_rng(seed).random((6, 8, 8)) ** 8
    noisy = add_noise(image, counts, VOXEL_MM, np.random.default_rng(seed))
    assert np.isfinite(noisy).all()
    assert (noisy >= 0).all()


def test_blur_keeps_the_total_and_is_sharper_along_the_axis():
    point = np.zeros((41, 41, 41))
    point[20, 20, 20] = 1000.0
    image = expected_image(point, VOXEL_MM)
    assert image.sum() == pytest.approx(1000, rel=0.01)
    assert image[20, 20, 20] == image.max()
    assert image[21, 20, 20] < image[20, 21, 20] == pytest.approx(image[20, 20, 21])
    far = image[20, 20, 28] / image[20, 20, 20]
    assert 0 < far < 0.01

"""What a network sees of the CT: only the lungs of this case, whatever the method."""

from __future__ import annotations

import numpy as np
import pytest
from factories import CROP, lung_labels
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from ct2vq.config import config_schema
from ct2vq.crop.contrast import ENHANCED_LIMIT, METHODS, enhance
from ct2vq.crop.window import window

INSIDE = lung_labels((20, 20, 28)) > 0
SEEDS = st.integers(0, 10**6)
VISIBLE = sorted(METHODS.keys() - {"none"})
MONOTONIC = sorted(METHODS.keys() - {"none", "lung_adaptive"})


def some_hu(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-820, 60, INSIDE.shape).astype(np.float32)


def enhanced(hu: np.ndarray, method: str) -> np.ndarray:
    return enhance(hu, INSIDE, CROP | {"enhance": method})


def test_the_schema_names_the_methods() -> None:
    assert set(config_schema()["properties"]["crop"]["properties"]["enhance"]["enum"]) == METHODS.keys()


@pytest.mark.parametrize("method", VISIBLE)
@given(seed=SEEDS, gain=st.floats(0.6, 1.6), offset=st.floats(-80, 80))
def test_inflation_and_calibration_drop_out(method: str, seed: int, gain: float, offset: float) -> None:
    hu = some_hu(seed)
    image = enhanced(hu, method)
    # adaptive equalisation sorts values into grey levels, where a rounding error may decide
    tolerance = 0.02 if method == "lung_adaptive" else 2e-3
    np.testing.assert_allclose(enhanced(gain * hu + offset, method)[INSIDE], image[INSIDE], atol=tolerance)
    assert image.dtype == np.float32


def test_standardised_by_definition() -> None:
    image = enhanced(some_hu(1), "lung_standardised")
    assert np.median(image[INSIDE]) == pytest.approx(0, abs=1e-3)
    assert np.subtract(*np.percentile(image[INSIDE], [75, 25])) == pytest.approx(1, abs=1e-3)
    assert np.abs(image).max() <= ENHANCED_LIMIT


def test_stretched_by_definition() -> None:
    hu = some_hu(2)
    image = enhanced(hu, "lung_stretched")
    low, high = np.percentile(hu[INSIDE], CROP["stretch_percentiles"])
    assert (image[INSIDE & (hu <= low)] == -1).all() and (image[INSIDE & (hu >= high)] == 1).all()
    middle = INSIDE & (np.abs(hu - (low + high) / 2) < 1)
    assert np.abs(image[middle]).max() < 0.02


@given(SEEDS)
def test_equalised_is_uniform_and_keeps_only_the_order(seed: int) -> None:
    hu = some_hu(seed)
    image = enhanced(hu, "lung_equalised")
    values = np.sort(image[INSIDE])
    np.testing.assert_allclose(values, np.linspace(-1, 1, len(values)), atol=2 / len(values))
    np.testing.assert_allclose(enhanced(np.exp(hu.astype(float) / 100), "lung_equalised"), image, atol=1e-6)


def test_equal_densities_stay_equal() -> None:
    hu = np.round(some_hu(3) / 40) * 40
    image = enhanced(hu, "lung_equalised")
    for value in np.unique(hu[INSIDE]):
        assert np.ptp(image[INSIDE & (hu == value)]) == 0


@pytest.mark.parametrize("method", MONOTONIC)
def test_denser_lung_is_never_darker(method: str) -> None:
    hu = some_hu(4)
    order = np.argsort(hu[INSIDE])
    assert (np.diff(enhanced(hu, method)[INSIDE][order]) >= 0).all()


def test_adaptive_shows_a_faint_defect_under_a_steep_gradient() -> None:
    z = np.linspace(-150, 150, 20)[:, None, None]
    hu = (-800 + z + np.random.default_rng(0).normal(0, 5, INSIDE.shape)).astype(np.float32)
    defect = np.zeros(INSIDE.shape, bool)
    defect[8:11, 8:12, 6:10] = True
    hu[defect] -= 25
    settings = CROP | {"spacing_mm": 4.0, "clahe": {"kernel_mm": 24, "clip_limit": 0.05}}
    depth = {}
    for method in ("lung_stretched", "lung_adaptive"):
        image = enhance(hu, INSIDE, settings | {"enhance": method})
        around = INSIDE & ~defect
        around[:8], around[11:] = False, False
        depth[method] = image[around].mean() - image[defect & INSIDE].mean()
        assert np.abs(image).max() <= 1
    assert depth["lung_adaptive"] > 1.3 * depth["lung_stretched"]
    image = enhance(hu, INSIDE, settings | {"enhance": "lung_adaptive"})
    assert spearmanr(image[INSIDE], hu[INSIDE]).statistic > 0.3


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_chest_wall_does_not_matter(method: str) -> None:
    hu = some_hu(5)
    other = np.where(INSIDE, hu, 3000).astype(np.float32)
    np.testing.assert_array_equal(enhanced(hu, method), enhanced(other, method))
    assert (enhanced(hu, method)[~INSIDE] == 0).all()
    np.testing.assert_array_equal(window(hu, INSIDE, (-1000, 0)), window(other, INSIDE, (-1000, 0)))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_constant_lung_has_no_contrast(method: str) -> None:
    image = enhanced(np.full(INSIDE.shape, -800.0, np.float32), method)
    assert np.isfinite(image).all()
    assert np.ptp(image[INSIDE]) == 0
    assert image.dtype == np.float32


def test_none_is_nothing() -> None:
    assert not enhanced(some_hu(0), "none").any()


def test_the_window_by_hand() -> None:
    hu = np.array([-1200.0, -1000, -750, 0, 50, -750])
    inside = np.array([1, 1, 1, 1, 1, 0], bool)
    assert window(hu, inside, (-1000, 0)).tolist() == [0, 0, 0.25, 1, 1, 0]

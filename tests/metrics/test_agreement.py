"""Voxel-wise agreement against other people's implementations, by hand, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from factories import lung_labels
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.image import peak_signal_noise_ratio

from ct2vq.metrics.agreement import mae, pearson, psnr, rmse, spearman
from ct2vq.metrics.value import RegionValues, missing_because

INSIDE = lung_labels() > 0
SEEDS = st.integers(0, 10**6)
METRICS = {
    "spearman": spearman,
    "pearson": pearson,
    "mae": mae,
    "rmse": rmse,
    "psnr": lambda a, b: psnr(a, b, data_range=1.0),
}


def pair(seed: int, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    a = generator.random(INSIDE.shape)
    b = np.clip(0.7 * a + 0.4 * generator.random(INSIDE.shape), 0, 1)
    return (np.round(a, 1), np.round(b, 1)) if ties else (a, b)


def values(*images: np.ndarray, inside: np.ndarray = INSIDE) -> list[RegionValues]:
    return [RegionValues.of(image, inside) for image in images]


@given(SEEDS, st.booleans())
def test_correlations_are_scipys(seed: int, ties: bool) -> None:
    a, b = pair(seed, ties=ties)
    assert spearman(*values(a, b)).number == pytest.approx(spearmanr(a[INSIDE], b[INSIDE]).statistic, abs=1e-12)
    assert pearson(*values(a, b)).number == pytest.approx(pearsonr(a[INSIDE], b[INSIDE]).statistic, abs=1e-12)
    np.testing.assert_allclose(values(a)[0].centred_ranks, rankdata(a[INSIDE]) - (INSIDE.sum() + 1) / 2)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_and_psnr_are_torchmetrics(ties: bool) -> None:
    a, b = pair(8, ties=ties)
    x, y = (torch.from_numpy(image[INSIDE]) for image in (a, b))
    assert spearman(*values(a, b)).number == pytest.approx(float(spearman_corrcoef(x, y)), abs=1e-6)
    assert pearson(*values(a, b)).number == pytest.approx(float(pearson_corrcoef(x, y)), abs=1e-12)
    for data_range in (1.0, 255.0):
        expected = float(peak_signal_noise_ratio(x, y, data_range=data_range))
        assert psnr(*values(a, b), data_range=data_range).number == pytest.approx(expected, abs=1e-4)


@given(SEEDS)
def test_errors_are_scikit_learns(seed: int) -> None:
    a, b = pair(seed)
    assert mae(*values(a, b)).number == pytest.approx(mean_absolute_error(b[INSIDE], a[INSIDE]), rel=1e-12)
    assert rmse(*values(a, b)).number == pytest.approx(root_mean_squared_error(b[INSIDE], a[INSIDE]), rel=1e-12)


def test_by_hand() -> None:
    # ranks 1 2 3 4 5 and 1 3 2 5 4: rho = 1 - 6 * 4 / (5 * 24)
    inside = np.array([1, 1, 1, 1, 1, 0], bool)
    image, reference = np.array([1.0, 2, 3, 4, 5, 99]), np.array([10.0, 30, 20, 50, 40, -99])
    assert spearman(*values(image, reference, inside=inside)).number == pytest.approx(0.8)
    a, b = values(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.5, 0.7]), inside=np.ones(3, bool))
    assert mae(a, b).number == pytest.approx(0.4 / 3)
    assert rmse(a, b).number == pytest.approx(np.sqrt(0.1 / 3))
    assert psnr(a, b, data_range=1.0).number == pytest.approx(10 * np.log10(30))
    assert psnr(a, b, data_range=10.0).number == pytest.approx(10 * np.log10(3000)), "20 dB for ten times the range"


@given(SEEDS, st.floats(0.1, 9), st.floats(-5, 5))
def test_spearman_knows_only_ranks_and_pearson_only_lines(seed: int, gain: float, offset: float) -> None:
    a, b = pair(seed)
    rs, r = spearman(*values(a, b)).number, pearson(*values(a, b)).number
    assert spearman(*values(np.exp(gain * a) + offset, b**3)).number == pytest.approx(rs)
    assert spearman(*values(-a, b)).number == pytest.approx(-rs)
    assert pearson(*values(gain * a + offset, b)).number == pytest.approx(r)
    assert spearman(*values(a, a)).number == pytest.approx(1)
    assert pearson(*values(a, 2 - a)).number == pytest.approx(-1)


@given(SEEDS)
def test_agreement_is_symmetric_and_blind_to_the_outside(seed: int) -> None:
    a, b = pair(seed)
    noise = np.random.default_rng(seed + 1).choice([np.nan, np.inf, -1e6, 0.3], INSIDE.shape)
    c, d = np.where(INSIDE, a, noise), np.where(INSIDE, b, noise[::-1])
    for metric in METRICS.values():
        assert metric(*values(c, d)) == metric(*values(a, b)) == metric(*values(b, a))


@given(SEEDS, st.booleans())
def test_a_part_of_a_region_has_the_values_that_it_has_by_itself(seed: int, ties: bool) -> None:
    a, _ = pair(seed, ties=ties)
    part = INSIDE & (np.random.default_rng(seed).random(INSIDE.shape) < 0.3)
    derived, own = values(a)[0].within(part[INSIDE]), values(a, inside=part)[0]
    for name in ("values", "order", "sorted", "centred_ranks"):
        np.testing.assert_array_equal(getattr(derived, name), getattr(own, name))


@given(SEEDS, st.floats(0, 100))
def test_percentiles_are_numpys(seed: int, percent: float) -> None:
    a, _ = pair(seed)
    assert values(a)[0].percentile(percent) == pytest.approx(np.percentile(a[INSIDE], percent), rel=1e-12)


GOOD, _ = pair(1)
BAD = {
    "constant image": (np.full(INSIDE.shape, 0.5), GOOD, INSIDE),
    "constant reference": (GOOD, np.zeros(INSIDE.shape), INSIDE),
    "values that are not finite": (np.where(np.arange(GOOD.size).reshape(GOOD.shape) % 7, GOOD, np.nan), GOOD, INSIDE),
    "empty region": (GOOD, GOOD, np.zeros(INSIDE.shape, bool)),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_computed_is_missing_and_says_why(metric: str, reason: str) -> None:
    image, reference, inside = BAD[reason]
    value = METRICS[metric](*values(image, reference, inside=inside))
    assert np.isnan(value.number)
    assert value.reason == reason


def test_a_part_of_an_image_with_values_that_are_not_finite_is_judged_by_itself() -> None:
    image = GOOD.copy()
    image[np.nonzero(INSIDE)[0][0]] = np.nan
    part = INSIDE & np.isfinite(image)
    assert values(image)[0].problem == "values that are not finite"
    assert values(image)[0].within(part[INSIDE]).problem == ""
    assert values(image)[0].within(np.zeros(INSIDE.sum(), bool)).problem == "empty region"


def test_identical_images_have_no_psnr() -> None:
    value = psnr(*values(GOOD, GOOD), data_range=1.0)
    assert np.isnan(value.number)
    assert value.reason == "identical images: infinite"
    assert mae(*values(GOOD, GOOD)).number == 0


def test_values_of_two_regions_are_never_compared() -> None:
    with pytest.raises(ValueError, match="not taken in one region"):
        missing_because(RegionValues(np.arange(4.0)), RegionValues(np.arange(5.0)))

"""Metrics against other people's implementations, by hand, and where they must say that they are missing."""

from __future__ import annotations

import numpy as np
import pytest
from factories import lung_labels
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from ct2vq import metrics
from ct2vq.metrics import Value, functional_overlap, spearman, ssim

WINDOW = {"sigma_voxels": 1.5, "data_range": 1.0, "k1": 0.01, "k2": 0.03}
INSIDE = lung_labels() > 0
SEEDS = st.integers(0, 10**6)


def pair(seed: int, shape: tuple[int, ...] = INSIDE.shape, correlation: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    a = generator.random(shape)
    return a, np.clip(correlation * a + (1 - correlation) * generator.random(shape), 0, 1)


@given(SEEDS, st.booleans())
def test_spearman_is_scipys(seed: int, ties: bool) -> None:
    a, b = pair(seed)
    if ties:
        a, b = np.round(a, 1), np.round(b, 1)
    expected = spearmanr(a[INSIDE], b[INSIDE]).statistic
    assert spearman(a, b, INSIDE).number == pytest.approx(expected, abs=1e-12)


@given(SEEDS, st.floats(0.1, 9), st.floats(-5, 5))
def test_spearman_knows_only_ranks(seed: int, gain: float, offset: float) -> None:
    a, b = pair(seed)
    rs = spearman(a, b, INSIDE).number
    assert spearman(b, a, INSIDE).number == pytest.approx(rs)
    assert spearman(np.exp(gain * a) + offset, b**3, INSIDE).number == pytest.approx(rs)
    assert spearman(-a, b, INSIDE).number == pytest.approx(-rs)
    assert spearman(a, a, INSIDE).number == pytest.approx(1)


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 5 and 1 3 2 5 4: rho = 1 - 6 * 4 / (5 * 24)
    a, b = np.array([1.0, 2, 3, 4, 5, 99]), np.array([10.0, 30, 20, 50, 40, -99])
    assert spearman(a, b, np.array([1, 1, 1, 1, 1, 0], bool)).number == pytest.approx(0.8)


@given(SEEDS)
def test_ssim_of_an_image_with_itself(seed: int) -> None:
    a, b = pair(seed)
    assert ssim(a, a, INSIDE, **WINDOW).number == pytest.approx(1)
    assert ssim(a, b, INSIDE, **WINDOW).number < 1
    assert ssim(a, b, INSIDE, **WINDOW).number == pytest.approx(ssim(b, a, INSIDE, **WINDOW).number)


@pytest.mark.parametrize("sigma", [0.8, 1.5])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_ssim_is_scikit_images(sigma: float, data_range: float, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (data_range * image for image in pair(3, (13, 14, 15)))
    _, expected = structural_similarity(
        a, b, gaussian_weights=True, use_sample_covariance=False, sigma=sigma, data_range=data_range, full=True
    )
    # scikit-image mirrors at the border, where this project cuts the window off
    reflecting = type("ndimage", (), {})
    reflecting.gaussian_filter = lambda *a, **k: ndimage.gaussian_filter(*a, **(k | {"mode": "reflect"}))
    monkeypatch.setattr(metrics, "ndimage", reflecting)
    window = WINDOW | {"sigma_voxels": sigma, "data_range": data_range}
    assert ssim(a, b, np.ones(a.shape, bool), **window).number == pytest.approx(expected.mean(), abs=1e-10)


def test_ssim_with_the_window_cut_off_at_the_border_by_brute_force() -> None:
    shape, sigma = (7, 8, 9), 1.0
    a, b = pair(5, shape)
    inside = np.random.default_rng(6).random(shape) < 0.7
    radius = int(metrics.SSIM_TRUNCATE * sigma + 0.5)
    points = np.argwhere(inside)
    values = []
    for point in points:
        offset = points - point
        near = (np.abs(offset) <= radius).all(axis=1)
        weight = np.exp(-(offset[near] ** 2).sum(axis=1) / (2 * sigma**2))
        weight /= weight.sum()
        x, y = a[inside][near], b[inside][near]
        mx, my = weight @ x, weight @ y
        vx, vy, cov = weight @ (x - mx) ** 2, weight @ (y - my) ** 2, weight @ ((x - mx) * (y - my))
        c1, c2 = 1e-4, 9e-4
        values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    found = ssim(a, b, inside, **(WINDOW | {"sigma_voxels": sigma})).number
    assert found == pytest.approx(np.mean(values), abs=1e-10)


@given(SEEDS)
def test_all_metrics_are_blind_to_what_lies_outside(seed: int) -> None:
    a, b = pair(seed)
    noise = np.random.default_rng(seed + 1).choice([np.nan, np.inf, -1e6, 0.3], INSIDE.shape)
    c, d = np.where(INSIDE, a, noise), np.where(INSIDE, b, noise[::-1])
    assert ssim(c, d, INSIDE, **WINDOW) == ssim(a, b, INSIDE, **WINDOW)
    assert spearman(c, d, INSIDE) == spearman(a, b, INSIDE)
    assert functional_overlap(c, d, INSIDE, 40, low=True) == functional_overlap(a, b, INSIDE, 40, low=True)


@given(SEEDS, st.floats(5, 95), st.booleans())
def test_overlap_is_symmetric_and_knows_only_ranks(seed: int, percentile: float, low: bool) -> None:
    a, b = pair(seed)
    one, other = (functional_overlap(*images, INSIDE, percentile, low=low) for images in ((a, b), (b, a)))
    assert one.dice == other.dice
    assert one.chance.number == pytest.approx(other.chance.number)
    assert (one.image_fraction, one.reference_fraction) == (other.reference_fraction, other.image_fraction)
    assert 0 <= one.dice.number <= 1
    scaled = functional_overlap(7 * a + 1, b, INSIDE, percentile, low=low)
    assert scaled.dice.number == pytest.approx(one.dice.number, abs=2 / INSIDE.sum())
    assert functional_overlap(a, a, INSIDE, percentile, low=low).dice.number == 1
    share = percentile / 100 if low else 1 - percentile / 100
    assert one.image_fraction == pytest.approx(share, abs=2 / INSIDE.sum())


def test_overlap_of_chance_is_what_chance_gives() -> None:
    generator = np.random.default_rng(0)
    inside = np.ones((40, 40, 40), bool)
    a, b = generator.random((2, 40, 40, 40))
    for low in (True, False):
        overlap = functional_overlap(a, b, inside, 40, low=low)
        assert overlap.dice.number == pytest.approx(overlap.chance.number, abs=0.01)
        assert overlap.chance.number == pytest.approx(0.4 if low else 0.6, abs=1e-3)


def test_overlap_by_hand() -> None:
    a = np.arange(10.0)
    b = np.array([0.0, 1, 9, 3, 4, 5, 6, 7, 8, 2])
    overlap = functional_overlap(a, b, np.ones(10, bool), 40, low=True)
    # the cut is at 3.6, low in a are 0 1 2 3, low in b are those at 0 1 3 9
    assert (overlap.image_fraction, overlap.reference_fraction) == (0.4, 0.4)
    assert overlap.dice.number == pytest.approx(2 * 3 / 8)
    assert overlap.chance.number == pytest.approx(0.4)
    low, high = (functional_overlap(a, b, np.ones(10, bool), 40, low=low) for low in (True, False))
    assert low.image_fraction + high.image_fraction == 1, "one cut divides the lung"


def test_ties_at_the_cut_belong_to_low_function() -> None:
    a = np.array([0.0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
    overlap = functional_overlap(a, a, np.ones(10, bool), 40, low=True)
    assert overlap.image_fraction == 0.6
    high = functional_overlap(np.minimum(a, 1), a, np.ones(10, bool), 95, low=False)
    assert (high.image_fraction, high.dice.number) == (0.0, 0.0)
    none = functional_overlap(np.minimum(a, 1), np.minimum(a, 1), np.ones(10, bool), 95, low=False)
    assert np.isnan(none.dice.number)
    assert none.dice.reason == "both regions are empty"


GOOD = pair(1)[0]
BAD = {
    "constant image": (np.full(INSIDE.shape, 0.5), GOOD, INSIDE),
    "constant reference": (GOOD, np.zeros(INSIDE.shape), INSIDE),
    "values that are not finite": (np.where(np.arange(GOOD.size).reshape(GOOD.shape) % 7, GOOD, np.nan), GOOD, INSIDE),
    "empty region": (GOOD, GOOD, np.zeros(INSIDE.shape, bool)),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_computed_is_missing_and_says_why(reason: str) -> None:
    image, reference, inside = BAD[reason]
    values: list[Value] = [
        spearman(image, reference, inside),
        ssim(image, reference, inside, **WINDOW),
        functional_overlap(image, reference, inside, 40, low=True).dice,
        functional_overlap(image, reference, inside, 40, low=False).chance,
    ]
    assert all(np.isnan(value.number) for value in values)
    assert {value.reason for value in values} == {reason}

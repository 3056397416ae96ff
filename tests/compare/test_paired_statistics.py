"""Statistics of one comparison against other people's implementations, a published example and brute force."""

from __future__ import annotations

import gc
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import PermutationMethod, bootstrap, rankdata, wilcoxon
from statsmodels.stats.multitest import multipletests

from ct2vq.compare.paired import (
    bootstrap_mean,
    equivalence,
    hodges_lehmann,
    holm,
    paired_statistics,
    rank_biserial,
    resamples,
    signed_rank_distribution,
)
from ct2vq.config import complete_config
from ct2vq.intervals import widened_tails

SETTINGS = complete_config({"study": "x", "compare": {"bootstrap": 200}})["compare"]
GENERATOR = np.random.default_rng
#: Hamilton depression scale factor of nine patients at the first and second visit (Hollander & Wolfe 1973, p. 29)
FIRST = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
SECOND = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])


@pytest.fixture(autouse=True)
def no_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage in every correction, which takes a second each in a long test run."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def statistics(first: np.ndarray, second: np.ndarray | float = 0.0, **settings: float) -> dict:
    paired = pd.DataFrame({"first": np.asarray(first, dtype=float), "second": np.asarray(second, dtype=float)})
    return paired_statistics(paired, SETTINGS | settings, 0)


def exact_p(d: np.ndarray) -> float:
    """Two-sided p of the signed-rank statistic with Pratt's zeros, over all signs."""
    ranks = rankdata(np.abs(d))[d != 0]
    observed = abs((ranks * np.sign(d[d != 0])).sum())
    sums = [abs(np.dot(ranks, signs)) for signs in product((-1, 1), repeat=ranks.size)]
    return float(np.mean([value >= observed - 1e-9 for value in sums]))


def test_the_example_of_hollander_and_wolfe() -> None:
    result = statistics(FIRST, SECOND)
    # R's documentation of wilcox.test: V = 40, p-value = 0.03906 (two-sided; 0.01953 one-sided)
    assert result["p"] == pytest.approx(0.0390625)
    assert result["method"] == "exact"
    # estimate and interval: the median, and the 6th and 40th, of the 45 Walsh averages (1 - 2 * 0.0195 = 96.1 %)
    walsh = np.sort([(a + b) / 2 for i, a in enumerate(FIRST - SECOND) for b in (FIRST - SECOND)[i:]])
    assert result["hodges_lehmann"] == pytest.approx(np.median(walsh)) == pytest.approx(0.46)
    assert (result["ci_low"], result["ci_high"]) == pytest.approx((walsh[5], walsh[39]))
    assert result["rank_biserial"] == pytest.approx((40 - 5) / 45)


@given(st.integers(0, 10**6), st.one_of(st.integers(5, 60), st.sampled_from([98, 200, 201, 260])))
def test_wilcoxon_is_scipys_on_plain_data(seed: int, n: int) -> None:
    first, second = GENERATOR(seed).normal(size=(2, n)) + np.array([[0.2], [0.0]])
    result = statistics(first, second)
    expected = wilcoxon(first, second, method="exact" if n <= 200 else "asymptotic")
    assert result["p"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert (result["n"], result["zeros"], result["excluded"]) == (n, 0, 0)
    assert result["method"] == ("exact" if n <= 200 else "normal approximation")
    swapped = statistics(second, first)
    assert swapped["p"] == pytest.approx(result["p"])
    assert swapped["hodges_lehmann"] == pytest.approx(-result["hodges_lehmann"])
    assert (swapped["ci_low"], swapped["ci_high"]) == pytest.approx((-result["ci_high"], -result["ci_low"]))
    assert swapped["rank_biserial"] == pytest.approx(-result["rank_biserial"])


@settings(max_examples=20)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_ties_and_zeros_of_few_patients_are_counted_out(values: list[int]) -> None:
    d = np.array(values, dtype=float)
    result = statistics(d)
    assert result["zeros"] == values.count(0)
    if not d.any():
        assert np.isnan(result["p"])
        assert result["note"] == "no differences to test"
        return
    assert result["p"] == pytest.approx(exact_p(d))
    assert ("Pratt" in result["method"]) == (0 in values)


def test_p_is_never_below_what_so_few_patients_allow() -> None:
    for n in (1, 2, 3, 5, 6, 9):
        for d in (np.ones(n), np.arange(1.0, n + 1), np.minimum(np.arange(1.0, n + 1), 3)):
            result = statistics(d)
            assert result["p"] >= 2.0 ** (1 - n) - 1e-12
            assert ("cannot be below" in result["note"]) == (n <= 5)


def test_ties_and_zeros_of_many_patients_are_exact_too() -> None:
    d = np.round(GENERATOR(0).normal(0.3, 1, 12), 1)
    d[:3] = 0
    result = statistics(d)
    assert result["p"] == pytest.approx(exact_p(d))
    assert result["p"] == pytest.approx(wilcoxon(d, zero_method="pratt", method=PermutationMethod()).pvalue)
    assert result["method"] == "exact, ties at mean ranks, zeros by Pratt"


def test_the_exact_p_with_ties_approaches_the_normal_one() -> None:
    d = np.round(GENERATOR(1).normal(0.1, 1, 150), 1)
    assert statistics(d)["p"] == pytest.approx(wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue, rel=0.02)
    many = np.round(GENERATOR(1).normal(0.1, 1, 250), 1)
    result = statistics(many)
    assert result["p"] == pytest.approx(wilcoxon(many, zero_method="pratt", method="asymptotic").pvalue)
    assert result["method"].startswith("normal approximation, ties")


def test_round_off_makes_no_difference() -> None:
    first = np.array([0.1 + 0.2, 0.5, 0.7])
    result = statistics(first, [0.3, 0.4, 0.5])
    assert result["zeros"] == 1


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_patients_without_both_values_are_counted_and_left_out(missing: int) -> None:
    first, second = FIRST.copy(), SECOND.copy()
    first[:missing] = np.nan
    result = statistics(first, second)
    assert (result["n"], result["excluded"]) == (9 - missing, missing)
    alone = statistics(FIRST[missing:], SECOND[missing:])
    assert result | {"excluded": 0} == alone


def test_nobody_has_both() -> None:
    result = statistics(np.array([1.0, np.nan]), np.array([np.nan, 1.0]))
    assert (result["n"], result["excluded"], result["note"]) == (0, 2, "no patient has both")
    assert np.isnan(result["p"])


@given(st.lists(st.floats(-5, 5).filter(lambda x: abs(x) > 1e-6 or x == 0), min_size=1, max_size=30))
def test_the_rank_biserial_correlation_has_bounds_and_a_sign(values: list[float]) -> None:
    d = np.array(values)
    if not d.any():
        return
    r = rank_biserial(d)
    assert -1 <= r <= 1
    assert rank_biserial(-d) == pytest.approx(-r)
    assert rank_biserial(np.abs(d)) == 1
    assert rank_biserial(np.append(d, 0)) == pytest.approx(r)


def test_the_rank_biserial_correlation_by_hand() -> None:
    # ranks 1 to 4; favourable 1 + 3 + 4, unfavourable 2
    assert rank_biserial(np.array([1.0, -2, 3, 4])) == pytest.approx((8 - 2) / 10)


@pytest.mark.parametrize("n", range(1, 11))
def test_the_distribution_of_the_signed_rank_by_brute_force(n: int) -> None:
    sums = [sum(r for r, s in zip(range(1, n + 1), signs, strict=True) if s) for signs in product((0, 1), repeat=n)]
    expected = np.bincount(sums, minlength=n * (n + 1) // 2 + 1) / 2**n
    np.testing.assert_allclose(signed_rank_distribution(n), expected, atol=1e-15)


@given(st.integers(1, 60), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.integers(0, 999))
def test_the_interval_keeps_its_confidence(n: int, confidence: float, seed: int) -> None:
    d = GENERATOR(seed).normal(size=n)
    estimate, low, high = hodges_lehmann(d, confidence)
    walsh = np.sort([(a + b) / 2 for i, a in enumerate(d) for b in d[i:]])
    assert estimate == pytest.approx(np.median(walsh))
    assert low <= estimate <= high
    tail = np.cumsum(signed_rank_distribution(n))
    if np.isinf(low):
        assert np.isinf(high)
        assert 1 - 2 * tail[0] < confidence
    else:
        below = int(np.searchsorted(walsh, low))
        assert 1 - 2 * tail[below] >= confidence - 1e-9
        assert below + 1 == tail.size or 1 - 2 * tail[below + 1] < confidence, "no wider than it must be"


def test_the_interval_is_the_set_of_shifts_that_the_test_accepts() -> None:
    d = GENERATOR(4).normal(0.5, 1, 8)
    _, low, high = hodges_lehmann(d, 0.95)
    for shift in np.linspace(d.min(), d.max(), 101):
        accepted = wilcoxon(d - shift, method="exact").pvalue > 0.05
        assert accepted == (low < shift < high), shift


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels_and_never_smaller(p: list[float]) -> None:
    values = np.array(p)
    adjusted = holm(values)
    np.testing.assert_allclose(adjusted, multipletests(values, method="holm")[1])
    assert (adjusted >= values - 1e-15).all()
    with_missing = holm(np.append(values, np.nan))
    np.testing.assert_allclose(with_missing[:-1], adjusted)
    assert np.isnan(with_missing[-1])


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    assert np.isnan(holm(np.array([np.nan]))).all()


@given(st.integers(0, 999), st.integers(6, 30))
def test_the_bootstrap_interval(seed: int, n: int) -> None:
    x = GENERATOR(seed).normal(size=n)
    low, high = bootstrap_mean(x, SETTINGS, 1)
    assert (low, high) == bootstrap_mean(x, SETTINGS, 1)
    assert x.min() <= low <= high <= x.max()
    assert np.isnan(bootstrap_mean(x[:5], SETTINGS, 1)).all(), "five patients are too few"
    assert np.isnan(bootstrap_mean(x, SETTINGS | {"bootstrap": 0}, 1)).all()


def test_the_bootstrap_interval_is_scipys() -> None:
    x = GENERATOR(3).normal(0.5, 1, 40)
    ours = bootstrap_mean(x, SETTINGS | {"bootstrap": 20000}, 1)
    low, high = widened_tails(0.95, 40)
    known = {"n_resamples": 20000, "method": "percentile", "confidence_level": high - low}
    theirs = bootstrap((x,), np.mean, rng=GENERATOR(0), **known).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_samples_depend_on_seed_and_size_only() -> None:
    np.testing.assert_array_equal(resamples(7, 50, 3), resamples(7, 50, 3).copy())
    first = resamples(7, 50, 3).copy()
    resamples.cache_clear()
    resamples(9, 50, 3)
    np.testing.assert_array_equal(resamples(7, 50, 3), first)
    assert (resamples(7, 50, 4) != first).any()
    assert set(np.unique(first)) == set(range(7))


def test_all_zeros_are_no_test_but_a_difference_of_none() -> None:
    result = statistics(np.zeros(6))
    assert np.isnan(result["p"]) and np.isnan(result["rank_biserial"])
    assert (result["hodges_lehmann"], result["ci_low"], result["ci_high"]) == (0, 0, 0)
    assert (result["zeros"], result["note"]) == (6, "no differences to test")


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_patients_have_an_infinite_interval(n: int) -> None:
    result = statistics(np.arange(1.0, n + 1))
    assert np.isinf([result["ci_low"], result["ci_high"]]).all(), "2 / 2**5 is more than 5 %"
    assert result["p"] == pytest.approx(2.0 ** (1 - n))
    assert equivalence(np.zeros(n), 0.1, SETTINGS)["equivalent"] == ("yes" if n == 5 else "no"), "2 / 2**5 < 10 %"


def test_equivalence_is_two_one_sided_tests() -> None:
    """The interval inside the margin, and both one-sided exact tests below 5 %, say the same of 300 samples."""
    said = {"yes": 0, "no": 0}
    for seed in range(300):
        d = GENERATOR(seed).normal(GENERATOR(seed + 1000).uniform(-0.6, 0.6), 0.8, 12)
        upper = wilcoxon(d - 0.5, alternative="less", method="exact").pvalue
        lower = wilcoxon(d + 0.5, alternative="greater", method="exact").pvalue
        found = equivalence(d, 0.5, SETTINGS)["equivalent"]
        assert (found == "yes") == (max(upper, lower) < 0.05), seed
        said[found] += 1
    assert min(said.values()) > 20


@pytest.mark.parametrize("shape", ["normal", "heavy", "coarse"])
def test_equivalence_is_claimed_falsely_no_more_often_than_its_level(shape: str) -> None:
    """At a true difference of just the margin TOST claims equivalence in at most 5 % of samples."""
    generator, samples, claims = GENERATOR(5), 2000, 0
    for _ in range(samples):
        d = generator.normal(0, 0.3, 15) if shape != "heavy" else 0.2 * generator.standard_t(3, 15)
        d = np.round(d, 1) + 0.5 if shape == "coarse" else d + 0.5
        claims += equivalence(d, 0.5, SETTINGS)["equivalent"] == "yes"
    assert claims / samples <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / samples)
    assert shape == "coarse" or claims / samples > 0.03, "nor is it needlessly timid"


def test_equivalence_by_hand() -> None:
    # n = 5: 90 % from the outermost Walsh averages, 2 / 2**5 = 6.25 %
    d = np.array([-0.01, 0.0, 0.01, 0.02, 0.03])
    result = equivalence(d, 0.05, SETTINGS)
    assert result == {"margin": 0.05, "equivalence_low": -0.01, "equivalence_high": 0.03, "equivalent": "yes"}
    assert equivalence(d, 0.03, SETTINGS)["equivalent"] == "no", "at the margin is not inside it"
    assert equivalence(d, None, SETTINGS)["equivalent"] == ""
    assert equivalence(d[:0], 0.03, SETTINGS)["equivalent"] == ""

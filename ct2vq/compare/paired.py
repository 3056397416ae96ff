"""Statistics of one comparison of two models on the same patients."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata, wilcoxon
from statsmodels.stats.multitest import multipletests

from ct2vq.intervals import LEAST_PATIENTS, widened_tails

#: up to this many differences p is exact; beyond it the normal approximation is as good and the exact one slow
EXACT_LIMIT = 200


def paired_statistics(paired: pd.DataFrame, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Wilcoxon's signed-rank test with effect sizes, two-sided, of the columns `first` and `second`.

    Differences are rounded (round-off makes false non-ties); zeros are ranked and then dropped (Pratt, J Am Stat Assoc
    1959;54:655); p is exact up to `EXACT_LIMIT` differences, given their ties and zeros, else from the normal
    approximation.
    The Hodges-Lehmann difference is the median of the Walsh averages, its interval the distribution-free one of the
    signed-rank statistic (Hollander & Wolfe, Nonparametric Statistical Methods, 3.2-3.3); it is infinite where so few
    patients cannot reach the confidence asked for.

    Args:
        paired: one row a patient; patients without both values are counted as excluded.
        settings: config block `compare`.
        seed: seed of the bootstrap.
    """
    complete = paired.dropna()
    d = differences(complete, settings)
    zeros = int((d == 0).sum())
    statistics: dict[str, Any] = {
        "n": d.size,
        "excluded": len(paired) - d.size,
        "median_first": complete["first"].median(),
        "median_second": complete["second"].median(),
        "hodges_lehmann": np.nan,
        "ci_low": np.nan,
        "ci_high": np.nan,
        "mean_difference": d.mean() if d.size else np.nan,
        "bootstrap_low": np.nan,
        "bootstrap_high": np.nan,
        "p": np.nan,
        "rank_biserial": np.nan,
        "zeros": zeros,
        "method": "",
        "note": "",
    }
    if not d.size:
        return statistics | {"note": "no patient has both"}
    estimate, low, high = hodges_lehmann(d, settings["confidence"])
    statistics |= {"hodges_lehmann": estimate, "ci_low": low, "ci_high": high}
    low, high = bootstrap_mean(d, settings, seed)
    statistics |= {"bootstrap_low": low, "bootstrap_high": high}
    if zeros == d.size:
        return statistics | {"note": "no differences to test"}
    return statistics | _test(d, settings) | {"rank_biserial": rank_biserial(d)}


def differences(complete: pd.DataFrame, settings: Mapping[str, Any]) -> np.ndarray:
    """First minus second of each patient, rounded to `decimals`."""
    return np.round((complete["first"] - complete["second"]).to_numpy(dtype=float), settings["decimals"])


def _test(d: np.ndarray, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The p of Wilcoxon's signed-rank test, how it was computed, and what it cannot be below."""
    exact = d.size <= EXACT_LIMIT
    method = "exact" if exact else "normal approximation"
    if np.unique(np.abs(d[d != 0])).size < np.count_nonzero(d):
        method += ", ties at mean ranks"
    if (d == 0).any():
        method += ", zeros by Pratt"
    smallest = 2.0 ** (1 - d.size)
    limited = smallest > 1 - settings["confidence"]
    return {
        "p": signed_rank_p(d) if exact else float(wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue),
        "method": method,
        "note": f"with {d.size} patients p cannot be below {smallest:.3g}" if limited else "",
    }


def signed_rank_p(d: np.ndarray) -> float:
    """Exact two-sided p of the signed-rank statistic over all signs of the differences, given their ties and zeros.

    Ranks with ties are halves of whole numbers, so that the distribution of their sums follows by shifting and adding
    (Streitberg & Roehmel, Comput Stat Q 1986;1:23), which needs no 2^n trials.
    """
    doubled = np.rint(2 * rankdata(np.abs(d))).astype(int)[d != 0]
    probability = _sums(tuple(sorted(doubled)))
    centred = np.abs(2 * np.arange(probability.size) - doubled.sum())
    observed = abs(2 * doubled[d[d != 0] > 0].sum() - doubled.sum())
    return min(1.0, float(probability[centred >= observed].sum()))


def rank_biserial(d: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): favourable minus unfavourable share of the rank sum."""
    d = d[d != 0]
    ranks = rankdata(np.abs(d))
    return float((ranks[d > 0].sum() - ranks[d < 0].sum()) / ranks.sum())


def hodges_lehmann(d: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Hodges-Lehmann estimate of the median difference and its distribution-free interval."""
    i, j = np.triu_indices(d.size)
    walsh = np.sort((d[i] + d[j]) / 2)
    # the interval from the (k+1)-th to the (k+1)-th last Walsh average misses the median with probability 2 P(T <= k)
    tail = np.cumsum(signed_rank_distribution(d.size))
    cut = int(np.searchsorted(tail, (1 - confidence) / 2 * (1 + 1e-12), side="right")) - 1
    low, high = (walsh[cut], walsh[-cut - 1]) if cut >= 0 else (-np.inf, np.inf)
    return float(np.median(walsh)), float(low), float(high)


def signed_rank_distribution(n: int) -> np.ndarray:
    """Probability of each value 0..n(n+1)/2 of the signed-rank statistic of `n` differences, under no difference."""
    return _sums(tuple(range(1, n + 1)))


@lru_cache(maxsize=64)
def _sums(ranks: tuple[int, ...]) -> np.ndarray:
    """Probability of each sum of ranks, each of which counts or does not with probability a half."""
    probability = np.zeros(sum(ranks) + 1)
    probability[0] = 1.0
    for rank in ranks:
        shifted = np.concatenate([np.zeros(rank), probability[:-rank]])
        probability = (probability + shifted) / 2
    probability.flags.writeable = False
    return probability


def equivalence(d: np.ndarray, margin: float | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the median difference lies within a margin: two one-sided signed-rank tests (TOST).

    Each test has level `1 - confidence`; both reject exactly where the distribution-free interval of the
    Hodges-Lehmann difference with the confidence `1 - 2 (1 - confidence)`, 90 % by default, lies inside the margin
    (Schuirmann, J Pharmacokinet Biopharm 1987;15:657; Hauschke et al., Int J Clin Pharmacol Ther Toxicol 1990;28:72).

    Args:
        d: differences, one a patient.
        margin: half width of what counts as the same; None: nothing is stated.
        settings: config block `compare`.

    Returns:
        `margin`, `equivalence_low`, `equivalence_high`, and `equivalent`: `yes`, `no` (not shown) or empty.
    """
    nothing = {"margin": np.nan, "equivalence_low": np.nan, "equivalence_high": np.nan, "equivalent": ""}
    if margin is None or not d.size:
        return nothing | ({} if margin is None else {"margin": margin})
    _, low, high = hodges_lehmann(d, 2 * settings["confidence"] - 1)
    within = -margin < low and high < margin
    return {"margin": margin, "equivalence_low": low, "equivalence_high": high, "equivalent": "yes" if within else "no"}


def holm(p: np.ndarray) -> np.ndarray:
    """Holm-adjusted p values; missing ones stay missing and do not count in the family."""
    adjusted = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        adjusted[known] = multipletests(p[known], method="holm")[1]
    return adjusted


def bootstrap_mean(x: np.ndarray, settings: Mapping[str, Any], seed: int) -> tuple[float, float]:
    """Bootstrap interval of the mean over patients, at percentiles widened for few patients (`widened_tails`).

    Missing below `LEAST_PATIENTS` patients or without samples.
    """
    if x.size < LEAST_PATIENTS or not settings["bootstrap"]:
        return np.nan, np.nan
    means = x[resamples(x.size, settings["bootstrap"], seed)].mean(axis=1)
    low, high = np.quantile(means, widened_tails(settings["confidence"], x.size))
    return float(low), float(high)


@lru_cache(maxsize=8)
def resamples(n: int, samples: int, seed: int) -> np.ndarray:
    """Indices of bootstrap samples of `n` patients, `(samples, n)`.

    They depend on nothing but the arguments: all metrics of the same patients see the same samples, and neither the
    order of the rows nor another model changes any interval.
    """
    digest = hashlib.sha256(f"{seed}:bootstrap:{n}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    indices = generator.integers(n, size=(samples, n))
    indices.flags.writeable = False
    return indices

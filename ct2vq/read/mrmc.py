"""Multi-reader multi-case analysis after Obuchowski and Rockette, with the degrees of freedom of Hillis.

Every reader reads every case from both sources. The figure of merit (AUC, or a share) of source i and reader j is
`mu + source_i + reader_j + (source x reader)_ij + error_ij`; errors are correlated because the cases are the same:
Cov1 (same reader, other source), Cov2 (other reader, same source), Cov3 (both other).

Sources: Obuchowski & Rockette, Commun Stat Simul Comput 1995;24:285-308; Hillis, Stat Med 2007;26:596-619 (degrees of
freedom); Hillis, Stat Med 2014;33:330-360 (single sources, fixed readers); covariances: DeLong et al., Biometrics
1988;44:837-845, or jackknife. There is no Python library for it; the tests hold it against published worked examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, t

from ct2vq.detect.figures_of_merit import ratio

#: what round-off leaves of no variance at all
NONE_LEFT = 1e-14


@dataclass(frozen=True)
class Merits:
    """Figures of merit of every source and reader, and how they vary together from sample to sample of cases.

    Attributes:
        values: `(sources, readers)`.
        covariance: `(sources, readers, sources, readers)`.
    """

    values: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True)
class Components:
    """Variance and covariances of the errors, averaged over sources and readers.

    Attributes:
        error: variance.
        cov1: same reader, other source.
        cov2: other reader, same source.
        cov3: other reader, other source.
        error_of, cov2_of: `(sources,)`, within each source.
    """

    error: float
    cov1: float
    cov2: float
    cov3: float
    error_of: np.ndarray
    cov2_of: np.ndarray


def placements(ratings: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components of the area under the ROC curve.

    Args:
        ratings: `(..., cases)`, higher is more suspicious.
        positive: `(cases,)`, whether a case is positive.

    Returns:
        For each positive case the share of negatives rated lower, ties counting half, `(..., positives)`, and for each
        negative the share of positives rated higher, `(..., negatives)`. The mean of either is the area.
    """
    ill, well = ratings[..., positive], ratings[..., ~positive]
    above = (ill[..., :, None] > well[..., None, :]) + 0.5 * (ill[..., :, None] == well[..., None, :])
    return above.mean(axis=-1), above.mean(axis=-2)


def delong(ratings: np.ndarray, positive: np.ndarray) -> Merits:
    """Areas under the empirical ROC curves and their covariances by DeLong's method; each case is another patient.

    Args:
        ratings: `(sources, readers, cases)`.
        positive: `(cases,)`; with fewer than two positives or negatives the covariances are missing.
    """
    ill, well = placements(ratings, positive)
    shape, merits = ratings.shape[:2], ill.mean(axis=-1)
    if min(ill.shape[-1], well.shape[-1]) < 2:
        return Merits(merits, np.full(shape * 2, np.nan))
    each = [np.atleast_2d(np.cov(part.reshape(-1, part.shape[-1]))) / part.shape[-1] for part in (ill, well)]
    return Merits(merits, sum(each).reshape(shape * 2))


def jackknife_auc(ratings: np.ndarray, positive: np.ndarray, patients: np.ndarray) -> Merits:
    """Areas under the empirical ROC curves, their covariances by leaving out one patient, with all of their cases.

    Args:
        ratings: `(sources, readers, cases)`.
        positive: `(cases,)`.
        patients: `(cases,)`, patient of each case.
    """
    areas = []
    for patient in np.unique(patients):
        keep = patients != patient
        both = positive[keep].any() and not positive[keep].all()
        areas.append(
            placements(ratings[..., keep], positive[keep])[0].mean(axis=-1)
            if both
            else np.full(ratings.shape[:2], np.nan)
        )
    return Merits(placements(ratings, positive)[0].mean(axis=-1), _jackknife(np.array(areas)))


def jackknife_share(hits: np.ndarray, patients: np.ndarray) -> Merits:
    """Shares of hits (sensitivity, specificity, accuracy), their covariances by leaving out one patient.

    Args:
        hits: `(sources, readers, cases)`, 1 or 0, of the cases that count.
        patients: `(cases,)`.
    """
    member = (np.unique(patients)[:, None] == patients[None, :]).astype(float)
    sums = np.einsum("pc,ijc->pij", member, hits)
    cases = member.sum(axis=1)[:, None, None]
    return Merits(hits.mean(axis=-1), _jackknife(ratio(hits.sum(axis=-1) - sums, patients.size - cases)))


def _jackknife(without: np.ndarray) -> np.ndarray:
    """Covariances `(t, r, t, r)` from figures without each patient, `(patients, t, r)`; missing for one patient."""
    number, shape = len(without), without.shape[1:]
    if number < 2:
        return np.full(shape * 2, np.nan)
    centred = (without - without.mean(axis=0)).reshape(number, -1)
    return ((number - 1) / number * centred.T @ centred).reshape(shape * 2)


def components(covariance: np.ndarray) -> Components:
    """The error's variance and the three covariances; one that needs a second source or reader is 0 without it."""
    sources, readers = covariance.shape[:2]
    same_source = np.eye(sources, dtype=bool)[:, None, :, None] & np.ones((1, readers, 1, readers), bool)
    same_reader = np.eye(readers, dtype=bool)[None, :, None, :] & np.ones((sources, 1, sources, 1), bool)

    def mean(where: np.ndarray) -> float:
        return float(covariance[where].mean()) if where.any() else 0.0

    within = [covariance[i, :, i, :] for i in range(sources)]
    other = ~np.eye(readers, dtype=bool)
    return Components(
        error=mean(same_source & same_reader),
        cov1=mean(~same_source & same_reader),
        cov2=mean(same_source & ~same_reader),
        cov3=mean(~same_source & ~same_reader),
        error_of=np.array([np.diag(one).mean() for one in within]),
        cov2_of=np.array([one[other].mean() if readers > 1 else 0.0 for one in within]),
    )


def mean_squares(values: np.ndarray) -> dict[str, Any]:
    """Mean squares of the two-way table `(sources, readers)`: `source`, `reader`, `interaction`, `reader_of` a source.

    Those that need a second reader are missing with one.
    """
    sources, readers = values.shape
    whole, by_source, by_reader = values.mean(), values.mean(axis=1), values.mean(axis=0)
    rest = values - by_source[:, None] - by_reader[None, :] + whole
    several = readers > 1
    return {
        "source": readers * float(np.square(by_source - whole).sum()) / (sources - 1),
        "reader": sources * float(np.square(by_reader - whole).sum()) / (readers - 1) if several else np.nan,
        "interaction": float(np.square(rest).sum()) / ((sources - 1) * (readers - 1)) if several else np.nan,
        "reader_of": values.var(axis=1, ddof=1) if several else np.full(sources, np.nan),
    }


def analyse(merits: Merits, confidence: float, *, random_readers: bool) -> dict[str, Any]:
    """Difference of two sources, and each source by itself, with intervals.

    Random readers: the result is about readers like these (needs two or more). Fixed readers: about these readers and
    cases like these.

    Args:
        merits: of two sources; the difference is the second minus the first.
        confidence: level of the intervals.
        random_readers: which of the two.

    Returns:
        `values` and their bounds `low_of`, `high_of`, each `(2,)`, not beyond 0 and 1; `difference`, `se`, `df`, `low`,
        `high`, `statistic` (t or z), `p`; the mean squares and variance components; missing where there is no variance.
    """
    parts, squares = components(merits.covariance), mean_squares(merits.values)
    sources, readers = merits.values.shape
    by_source = merits.values.mean(axis=1)
    shared, beside = max(parts.cov2 - parts.cov3, 0.0), np.maximum(parts.cov2_of, 0.0)
    if random_readers:
        spread = squares["interaction"] + readers * shared
        df = _degrees(spread, squares["interaction"], (sources - 1) * (readers - 1))
        spread_of = squares["reader_of"] + readers * beside
        df_of = [_degrees(*pair, readers - 1) for pair in zip(spread_of, squares["reader_of"], strict=True)]
    else:
        spread, df = parts.error - parts.cov1 + (readers - 1) * shared, np.inf
        spread_of, df_of = parts.error_of + (readers - 1) * beside, [np.inf] * sources
    difference = float(by_source[1] - by_source[0])
    bounds = [_interval(*one, confidence) for one in zip(by_source, spread_of / readers, df_of, strict=True)]
    return {
        "values": by_source,
        "low_of": np.array([max(low, 0.0) for low, _ in bounds]),
        "high_of": np.array([min(high, 1.0) for _, high in bounds]),
        **_test(difference, 2 * spread / readers, df, confidence),
        **{f"ms_{name}": squares[name] for name in ("source", "reader", "interaction")},
        **{name: getattr(parts, name) for name in ("error", "cov1")},
        **{name: getattr(parts, name) if readers > 1 else np.nan for name in ("cov2", "cov3")},
        "variance_reader": (squares["reader"] - squares["interaction"]) / sources - parts.cov1 + parts.cov3,
        "variance_interaction": squares["interaction"] - parts.error + parts.cov1 + parts.cov2 - parts.cov3,
    }


def _degrees(spread: float, square: float, degrees: int) -> float:
    """Hillis' degrees of freedom of a sum of a mean square and a covariance."""
    return spread**2 / (square**2 / degrees) if square > NONE_LEFT else np.inf


def _quantile(df: float, confidence: float) -> float:
    upper = (1 + confidence) / 2
    return float(norm.ppf(upper) if np.isinf(df) else t.ppf(upper, df))


def _interval(value: float, variance: float, df: float, confidence: float) -> tuple[float, float]:
    if not variance > NONE_LEFT:
        return np.nan, np.nan
    half = _quantile(df, confidence) * np.sqrt(variance)
    return float(value - half), float(value + half)


def _test(difference: float, variance: float, df: float, confidence: float) -> Mapping[str, float]:
    low, high = _interval(difference, variance, df, confidence)
    told = {"difference": difference, "se": np.nan, "df": df, "low": low, "high": high, "statistic": np.nan}
    if not variance > NONE_LEFT:
        return told | {"df": np.nan, "p": np.nan}
    statistic = difference / np.sqrt(variance)
    p = 2 * (norm.sf(abs(statistic)) if np.isinf(df) else t.sf(abs(statistic), df))
    return told | {"se": float(np.sqrt(variance)), "statistic": float(statistic), "p": float(p)}

"""How many patients the primary endpoint asks for, fixed before anybody reads.

Non-inferiority of synthesised to real images, both read by the same readers in the same patients. The formulas take
the readers as fixed: how much readers differ in what the source does to them is not in them, nor how badly few readers
tell it. docs/reading.md has the power that was simulated for few readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

PROPORTION_FORMULA = (
    "n = (z(1-alpha) + z(power))^2 (discordance - difference^2) / (margin + difference)^2, the Wald test of the "
    "difference of two paired proportions against the margin (Liu et al., Stat Med 2002;21:231-245)"
)
AUC_FORMULA = (
    "n such that (margin + difference)^2 = (z(1-alpha) + z(power))^2 (var1 + var2 - 2 r sqrt(var1 var2)), with the "
    "variance of an AUC and the correlation r of two on the same patients (Hanley & McNeil, Radiology 1982;143:29-36 "
    "and 1983;148:839-843)"
)
#: no study has more: a larger number says as much as none
MOST_PATIENTS = 10**7
#: with fewer readers the endpoint's analysis has less power than the formula promises (simulated, docs/reading.md)
FEWEST_READERS = 5


def pairs_needed(margin: float, difference: float, discordance: float, alpha: float, power: float) -> int | None:
    """Pairs for the non-inferiority of paired proportions (`PROPORTION_FORMULA`).

    Args:
        margin: how much worse may still count as not inferior, above 0.
        difference: expected difference, new less old.
        discordance: expected share of pairs that are right on one side only; not below the size of `difference`.
        alpha: one-sided error of the first kind.
        power: probability of showing non-inferiority if the expectations hold.

    Returns:
        The number of pairs, at least 2; None where no number up to `MOST_PATIENTS` suffices.
    """
    if margin + difference <= 0:
        return None
    spread = discordance - difference**2
    number = max(2, _up(_quantiles(alpha, power) ** 2 * spread / (margin + difference) ** 2))
    return number if number <= MOST_PATIENTS else None


def auc_patients_needed(
    margin: float, difference: float, expected: float, correlation: float, alpha: float, power: float, share: float
) -> int | None:
    """Patients for the non-inferiority of two AUCs on the same patients (`AUC_FORMULA`).

    Args:
        margin: how much worse an AUC may be.
        difference: expected difference, new less old.
        expected: expected AUC of real images.
        correlation: of the two AUCs.
        alpha: one-sided error of the first kind.
        power: as for `pairs_needed`.
        share: of the patients that are positive, between 0 and 1.

    Returns:
        The number of patients; None where no number up to `MOST_PATIENTS` suffices.
    """
    if margin + difference <= 0 or not 0 < share < 1:
        return None
    limit = ((margin + difference) / _quantiles(alpha, power)) ** 2

    def suffices(patients: int) -> bool:
        first, second = (auc_variance(area, patients * share, patients * (1 - share)) for area in areas)
        return first + second - 2 * correlation * math.sqrt(first * second) <= limit

    areas = (expected, min(max(expected + difference, 0.0), 1.0))
    low, high = 1, max(4, math.ceil(2 / min(share, 1 - share)))
    while not suffices(high) and high < MOST_PATIENTS:
        low, high = high, 2 * high
    if not suffices(min(high, MOST_PATIENTS)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def auc_variance(area: float, positives: float, negatives: float) -> float:
    """Variance of an AUC (Hanley & McNeil 1982, equation 2, with Q1 and Q2 of the exponential model)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return spread / (positives * negatives)


def with_readers(patients: int, readers: int, correlation: float) -> int:
    """Patients that several fixed readers need: `patients` of one reader times (1 + (R - 1) r) / R.

    The mean over R readers of a patient's difference has this share of one reader's variance, r being the correlation
    between readers of a patient's differences (the design effect of a cluster of R; Kish 1965).
    """
    return max(2, _up(patients * (1 + (readers - 1) * correlation) / readers))


def sample_size(endpoint: Mapping[str, Any], references: Mapping[str, str], readers: int) -> dict[str, Any]:
    """What the primary endpoint asks for, and what the study has.

    Args:
        endpoint: config block `read.endpoint`.
        references: right choice of each patient that has one.
        readers: number of readers.

    Returns:
        `asked` and `present` (patients that count for the metric: the ill for sensitivity, the others for specificity,
        else all; `asked` is None where no number suffices), `positives` and `negatives` that are there, `unit`,
        `formula`, `assumptions` (lines of words).
    """
    positives = sum(reference in endpoint["positive"] for reference in references.values())
    negatives = len(references) - positives
    counted = {"sensitivity": positives, "specificity": negatives}.get(endpoint["metric"], len(references))
    if endpoint["metric"] == "auc":
        share = positives / len(references) if references else 0.0
        asked = auc_patients_needed(
            endpoint["margin"],
            endpoint["difference"],
            endpoint["expected"],
            endpoint["auc_correlation"],
            endpoint["alpha"],
            endpoint["power"],
            share,
        )
    else:
        asked = pairs_needed(*(endpoint[key] for key in ("margin", "difference", "discordance", "alpha", "power")))
    return {
        "asked": asked and with_readers(asked, readers, endpoint["reader_correlation"]),
        "present": counted,
        "positives": positives,
        "negatives": negatives,
        "unit": "patients",
        "formula": AUC_FORMULA if endpoint["metric"] == "auc" else PROPORTION_FORMULA,
        "assumptions": _assumptions(endpoint, readers),
    }


def _assumptions(endpoint: Mapping[str, Any], readers: int) -> list[str]:
    told = [f"expected difference, synthesised less real: {endpoint['difference']:g}"]
    if endpoint["metric"] == "auc":
        told.append(f"expected AUC on real images: {endpoint['expected']:g}")
        told.append(f"correlation of the two AUCs: {endpoint['auc_correlation']:g}")
    else:
        told.append(f"share of patients judged right on one of the two images only: {endpoint['discordance']:g}")
    effect = (1 + (readers - 1) * endpoint["reader_correlation"]) / readers
    told.append(
        f"correlation of a patient's differences between the {readers} readers: {endpoint['reader_correlation']:g}, "
        f"which multiplies the number for one reader by {effect:.3g}"
    )
    told.append("the readers are fixed: the source changes the metric of each of them by the same")
    return told


def _quantiles(alpha: float, power: float) -> float:
    return NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)


def _up(value: float) -> int:
    """The next whole number; round-off just above one decides nothing."""
    return math.ceil(round(value, 9))

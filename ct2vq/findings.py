"""What the tables say, in plain words. Every sentence follows from numbers in `results/compare/`; none is fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ct2vq.figures import METRIC_NAMES

#: level of the paper's tests (10.1002/acm2.70498: "p < 0.05")
SIGNIFICANCE = 0.05
#: a difference within this share of the standard deviation between patients is called too small to matter: Cohen's
#: "small" effect (Statistical Power Analysis for the Behavioral Sciences, 2nd ed. 1988, ch. 2). An assumption.
SMALL_EFFECT = 0.2
PUBLISHED_PATIENTS = 98


@dataclass(frozen=True)
class Finding:
    """One statement of the summary.

    Attributes:
        text: plain words.
        kind: `neutral`, `good`, `bad` or `caution`, which sets its colour on the page.
    """

    text: str
    kind: str = "neutral"


def number(value: Any, digits: int = 3) -> str:
    """A number with a true minus sign, `n/a` if it is missing."""
    if value is None or pd.isna(value):
        return "n/a"
    return f"{float(value):.{digits}f}".replace("-", "−")


def p_value(value: Any) -> str:
    """A p-value, never as zero."""
    if value is None or pd.isna(value):
        return "n/a"
    return "<\N{NO-BREAK SPACE}0.001" if value < 0.001 else number(value)


def interval(low: Any, high: Any) -> str:
    """`low to high`, or `n/a`; so few patients that no interval has the wanted level have an unbounded one."""
    if not pd.isna(low) and math.isinf(low):
        return "unbounded"
    return "n/a" if pd.isna(low) or pd.isna(high) else f"{number(low)} to {number(high)}"


def mean_and_sd(mean: Any, sd: Any, digits: int = 3) -> str:
    """`mean ± SD`; the SD is left out if there is none."""
    return number(mean, digits) if pd.isna(sd) else f"{number(mean, digits)} ± {number(sd, digits)}"


def in_lungs(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the lungs and against SPECT, where a table has other regions and references too."""
    for column, wanted in (("region", "lungs"), ("reference", "spect")):
        if column in table:
            table = table[table[column] == wanted]
    return table


def select_row(summary: pd.DataFrame, model: str, target: str, metric: str, definition: str) -> pd.Series | None:
    """The summary's row of a model, target and metric in the lungs against SPECT; Dice rows by the threshold's name."""
    summary = in_lungs(summary)
    rows = summary[(summary["model"] == model) & (summary["target"] == target) & (summary["metric"] == metric)]
    if metric.startswith("dice_"):
        rows = rows[rows["definition"] == definition]
    return None if rows.empty else rows.iloc[0]


def agreement(
    summary: pd.DataFrame, target: str, networks: Sequence[str], labels: Mapping[str, str], confidence: float
) -> Finding:
    """Mean Rs and SSIM of every network for a target."""
    parts = []
    for model in networks:
        rs = select_row(summary, model, target, "spearman", "")
        ssim = select_row(summary, model, target, "ssim", "")
        if rs is None:
            continue
        text = f"{labels[model]} mean Rs {number(rs['mean'])}"
        if not pd.isna(rs["ci_low"]):
            text += f" ({confidence:.0%} CI {interval(rs['ci_low'], rs['ci_high'])})"
        parts.append(text + ("" if ssim is None else f", mean SSIM {number(ssim['mean'])}"))
    if not parts:
        return Finding(f"{target.capitalize()}: no network was scored.", "caution")
    return Finding(f"{target.capitalize()}, agreement with SPECT in the lungs: {'; '.join(parts)}.")


def against_baselines(baselines: pd.DataFrame, labels: Mapping[str, str]) -> list[Finding]:
    """Whether each network knows more than the best of the trivial baselines."""
    findings = []
    for row in baselines.itertuples():
        if pd.isna(row.baseline_mean_spearman):
            continue
        network, baseline = labels[row.network], labels[row.best_baseline]
        numbers = (
            f"mean Rs {number(row.mean_spearman)} against {number(row.baseline_mean_spearman)} of {baseline}, the best "
            f"trivial baseline; higher in {row.cases_better} of {row.n} patients"
        )
        if is_true(row.beats):
            findings.append(Finding(f"{network} beats every trivial baseline for {row.target}: {numbers}.", "good"))
        else:
            findings.append(
                Finding(f"{network} has learnt nothing beyond {baseline} for {row.target}: {numbers}.", "bad")
            )
    return findings


def is_true(value: Any) -> bool:
    """A truth value of a table, whether pandas read it as bool or as text."""
    return str(value).strip().lower() in {"true", "1", "1.0", "yes"}


def effect_size_words(low: float, high: float, spread: float) -> str:
    """Whether a difference is large enough to matter, judged by its confidence interval.

    Args:
        low: lower end of the interval of the difference.
        high: its upper end.
        spread: standard deviation of the metric between patients.
    """
    if any(value is None or math.isnan(value) for value in (low, high, spread)) or spread <= 0:
        return "size unknown"
    limit = SMALL_EFFECT * spread
    if -limit <= low and high <= limit:
        return "too small to matter"
    if low > limit or high < -limit:
        return "large enough to matter"
    return "size uncertain"


def pair_size(pair: Any, summary: pd.DataFrame, definition: str) -> str:
    """`effect_size_words` of a row of the paired table, the spread being that of the second model."""
    row = select_row(summary, pair.second, pair.target, pair.metric, definition)
    return effect_size_words(pair.ci_low, pair.ci_high, math.nan if row is None else float(row["sd"]))


def main_pairs(pairs: pd.DataFrame, definition: str) -> pd.DataFrame:
    """The tests of the metrics on the page: Dice rows only by the first threshold."""
    pairs = in_lungs(pairs)
    is_dice = pairs["metric"].str.startswith("dice_")
    return pairs[pairs["metric"].isin(METRIC_NAMES) & (~is_dice | (pairs["definition"] == definition))]


def paired_differences(
    pairs: pd.DataFrame, summary: pd.DataFrame, labels: Mapping[str, str], definition: str
) -> list[Finding]:
    """Which declared differences are significant after Holm, and whether they are large enough to matter."""
    tested = main_pairs(pairs, definition)
    tested = tested[tested["p_holm"].notna()]
    if tested.empty:
        return [Finding("No paired comparison could be tested.", "caution")]
    significant = tested[tested["p_holm"] < SIGNIFICANCE]
    findings = [_significant(pair, summary, labels, definition) for pair in significant.itertuples()]
    rest = tested[tested["p_holm"] >= SIGNIFICANCE]
    sizes = [pair_size(pair, summary, definition) for pair in rest.itertuples()]
    if len(rest):
        small = sizes.count("too small to matter")
        bounded = (
            f"for {small} of these {len(rest)} the confidence interval rules out a difference that matters, for the "
            "others the data cannot tell"
            if small
            else "for none of them does the confidence interval rule out a difference that matters"
        )
        if significant.empty:
            count = f"None of the {len(tested)} declared paired differences is significant after Holm's correction"
        else:
            count = f"{len(rest)} of the {len(tested)} declared paired differences are not significant"
        findings.append(Finding(f"{count}; {bounded}. A difference that is not significant is no proof of equality."))
    return findings


def _significant(pair: Any, summary: pd.DataFrame, labels: Mapping[str, str], definition: str) -> Finding:
    size = pair_size(pair, summary, definition)
    direction = "higher" if pair.hodges_lehmann > 0 else "lower"
    joint = {"too small to matter": "but", "size uncertain": "but"}.get(size, "and")
    return Finding(
        f"{labels[pair.first]} is {direction} than {labels[pair.second]} in {METRIC_NAMES[pair.metric]} for "
        f"{pair.target} by {number(abs(pair.hodges_lehmann))} (interval {interval(pair.ci_low, pair.ci_high)}; "
        f"p after Holm {p_value(pair.p_holm)}): significant, {joint} {size}.",
        "good" if size == "large enough to matter" else "neutral",
    )


def smallest_p(n: int) -> float:
    """Smallest two-sided p of the exact signed-rank test with `n` patients: all differences of one sign, 2 / 2**n."""
    return min(1.0, 2.0 / 2.0**n)


def caveats(pairs: pd.DataFrame, definition: str, patients: int, simulated: bool) -> list[Finding]:
    """What the size and the kind of the cohort forbid to conclude."""
    findings = []
    if simulated:
        findings.append(
            Finding(
                "The patients are simulated: the numbers show that the workflow runs and what the networks can learn "
                "from this simulation, nothing about real patients.",
                "caution",
            )
        )
    text = f"The cohort has {patients} patients (the paper had {PUBLISHED_PATIENTS} cases)"
    if patients < PUBLISHED_PATIENTS:
        text += ": intervals are wide, and one patient can move a mean"
    findings.append(Finding(text + ".", "caution"))
    tested = main_pairs(pairs, definition)
    tested = tested[tested["p"].notna()]
    if len(tested):
        least = smallest_p(int(tested["n"].max())) * len(tested)
        if least >= SIGNIFICANCE:
            findings.append(
                Finding(
                    f"With {int(tested['n'].max())} patients and {len(tested)} tests the smallest p that Holm's "
                    f"correction can give is {number(min(least, 1.0))}: no difference could have been significant, "
                    f"whatever its size.",
                    "caution",
                )
            )
    return findings

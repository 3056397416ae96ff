"""What the tables say, in plain words. Every sentence follows from numbers in `results/compare/`; none is fixed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ct2vq.figures import METRIC_NAMES
from ct2vq.names import DICE_METRICS, DIFFERENT, EQUIVALENT, LUNGS, SPECT, UNDECIDED, WITHIN_MARGIN

PUBLISHED_PATIENTS = 98
#: names of the metrics that may be declared beside those of the page
MORE_METRIC_NAMES = METRIC_NAMES | {"pearson": "Pearson's r", "mae": "MAE", "rmse": "RMSE", "psnr": "PSNR (dB)"}


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
    for column, wanted in (("region", LUNGS), ("reference", SPECT)):
        if column in table:
            table = table[table[column] == wanted]
    return table


def select_row(summary: pd.DataFrame, model: str, target: str, metric: str, definition: str) -> pd.Series | None:
    """The summary's row of a model, target and metric in the lungs against SPECT; Dice rows by the threshold's name."""
    summary = in_lungs(summary)
    rows = summary[(summary["model"] == model) & (summary["target"] == target) & (summary["metric"] == metric)]
    if metric in DICE_METRICS:
        rows = rows[rows["definition"] == definition]
    return None if rows.empty else rows.iloc[0]


def of_patients(n: int, patients: int) -> str:
    """` in 7 of 10 patients`, or nothing where nobody of the cohort is left out."""
    return "" if n == patients else f" in {n:.0f} of {patients} patients"


def agreement(
    summary: pd.DataFrame,
    target: str,
    networks: Sequence[str],
    labels: Mapping[str, str],
    confidence: float,
    patients: int,
) -> Finding:
    """Mean Rs and SSIM of every network for a target; how many patients, where it is not all of the cohort."""
    parts = []
    for model in networks:
        rs = select_row(summary, model, target, "spearman", "")
        ssim = select_row(summary, model, target, "ssim", "")
        if rs is None:
            continue
        if not rs["n"]:
            parts.append(f"{labels[model]} has no value in any patient")
            continue
        text = f"{labels[model]} mean Rs {number(rs['mean'])}"
        if not pd.isna(rs["ci_low"]):
            text += f" ({confidence:.0%} CI {interval(rs['ci_low'], rs['ci_high'])})"
        text += of_patients(rs["n"], patients)
        if ssim is not None:
            text += f", mean SSIM {number(ssim['mean'])}"
            text += "" if ssim["n"] == rs["n"] else of_patients(ssim["n"], patients)
        parts.append(text)
    if not parts:
        return Finding(f"{target.capitalize()}: no network was scored.", "caution")
    return Finding(f"{target.capitalize()}, agreement with SPECT in the lungs: {'; '.join(parts)}.")


def against_baselines(
    baselines: pd.DataFrame, labels: Mapping[str, str], confidence: float, patients: int
) -> list[Finding]:
    """Whether each network is shown to know more than the best of the trivial baselines."""
    return [
        _beside_baseline(row, labels, confidence, patients)
        for row in baselines.itertuples()
        if not pd.isna(row.baseline_mean_spearman)
    ]


def _beside_baseline(row: Any, labels: Mapping[str, str], confidence: float, patients: int) -> Finding:
    network, baseline = labels[row.network], labels[row.best_baseline]
    told = not pd.isna(row.ci_low)
    bounds = f"{confidence:.0%} CI of network minus baseline {interval(row.ci_low, row.ci_high)}"
    bounds = bounds if told else "too few patients for an interval"
    direction = "lower" if row.difference < 0 else "higher"
    numbers = (
        f"Rs {direction} on average by {number(abs(row.difference))} ({bounds}; "
        f"means {number(row.mean_spearman)} and {number(row.baseline_mean_spearman)}), higher in "
        f"{row.patients_better} of {row.n} patients"
    )
    if row.n != patients:
        numbers += f"; the other {patients - row.n} of the cohort lack a value"
    if row.beats == "yes":
        return Finding(f"{network} beats {baseline}, the best trivial baseline, for {row.target}: {numbers}.", "good")
    if row.beats == "no":
        return Finding(f"{network} is worse than {baseline}, a trivial baseline, for {row.target}: {numbers}.", "bad")
    return Finding(
        f"{network} is not shown to be better than {baseline}, the best trivial baseline, for {row.target}: {numbers}.",
        "caution",
    )


def paired_differences(pairs: pd.DataFrame, labels: Mapping[str, str], patients: int) -> list[Finding]:
    """What the declared tests of difference and of equivalence say together, by the column `conclusion` of the table.

    Args:
        pairs: `results/compare/pairs.tsv`.
        labels: name of each model in words.
        patients: patients of the cohort.
    """
    declared = in_lungs(pairs)
    if declared.empty:
        return [Finding("No paired comparison is declared.")]
    different = declared[declared["conclusion"].isin(DIFFERENT)]
    findings = [_different(pair, labels, patients) for pair in different.itertuples()]
    rest = len(declared) - len(different)
    if rest:
        counts = declared["conclusion"].value_counts()
        untested = int((~declared["conclusion"].isin([*DIFFERENT, EQUIVALENT, UNDECIDED])).sum())
        said = [
            (int(counts.get(EQUIVALENT, 0)), "shown to lie within the margin of equivalence"),
            (int(counts.get(UNDECIDED, 0)), "undecided (neither a difference nor equivalence is shown)"),
            (untested, "could not be tested, because no patient has both models"),
        ]
        of_all = f"of the {len(declared)} declared paired differences"
        first = f"None {of_all} is significant" if different.empty else f"{rest} {of_all} are not significant"
        parts = ", ".join(f"{count} {words}" for count, words in said if count)
        text = f"{first} after Holm's correction: {parts}.{_fewer(declared, patients)}"
        findings.append(Finding(text, "caution" if untested else "neutral"))
    return findings


def _fewer(declared: pd.DataFrame, patients: int) -> str:
    """That comparisons rest on fewer patients than the cohort has, if they do."""
    n = declared.loc[declared["n"] > 0, "n"]
    if n.empty or n.min() == patients:
        return ""
    span = f"{n.min():.0f}" if n.min() == n.max() else f"{n.min():.0f} to {n.max():.0f}"
    return f" They rest on {span} of {patients} patients."


def _different(pair: Any, labels: Mapping[str, str], patients: int) -> Finding:
    direction = "higher" if pair.hodges_lehmann > 0 else "lower"
    if pair.conclusion == WITHIN_MARGIN:
        size = f", but within the margin of ±{pair.margin:g}: too small to matter"
    elif pd.isna(pair.margin):
        size = "; no margin says what size matters"
    else:
        size = f", and not shown to lie within the margin of ±{pair.margin:g}"
    return Finding(
        f"{labels[pair.first]} is {direction} than {labels[pair.second]} in "
        f"{MORE_METRIC_NAMES.get(pair.metric, pair.metric)} for {pair.target} by {number(abs(pair.hodges_lehmann))}"
        f"{of_patients(pair.n, patients)} (interval {interval(pair.ci_low, pair.ci_high)}; p after Holm "
        f"{p_value(pair.p_holm)}): significant{size}."
    )


def smallest_p(n: int) -> float:
    """Smallest two-sided p of the exact signed-rank test with `n` patients: all differences of one sign, 2 / 2**n."""
    return min(1.0, 2.0 / 2.0**n)


def caveats(pairs: pd.DataFrame, confidence: float, patients: int, simulated: bool) -> list[Finding]:
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
    tested = in_lungs(pairs)
    tested = tested[tested["p"].notna()]
    if len(tested):
        least = smallest_p(int(tested["n"].max())) * len(tested)
        if least >= 1 - confidence:
            findings.append(
                Finding(
                    f"With {int(tested['n'].max())} patients and {len(tested)} tests the smallest p that Holm's "
                    f"correction can give is {number(min(least, 1.0))}: no difference could have been significant, "
                    f"whatever its size.",
                    "caution",
                )
            )
    return findings

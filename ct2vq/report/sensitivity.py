"""The declared comparisons under other choices: how often estimates, and how often intervals, speak for a model."""

from __future__ import annotations

from typing import Any

from ct2vq.names import DICE_METRICS, SPECT
from ct2vq.plots.sensitivity import turned
from ct2vq.report.study import REFERENCE_NAMES, Study


def sensitivity_summary(study: Study) -> list[dict[str, Any]]:
    """For each declared pair and reference: how many combinations favour each model, and how many of them clearly.

    Rows against SPECT stand first: only they are alternatives to the study's own analysis. Differences of errors, of
    which less is better, are turned round.

    Returns:
        `target first second reference n`; `first_better second_better`: combinations whose estimate favours the model;
        `first_clear second_clear`: those of them whose interval excludes 0.
    """
    table = study.extra.get("sensitivity")
    if table is None or table.empty:
        return []
    table = turned(table).dropna(subset=["hodges_lehmann"])
    rows = []
    for (first, second, target), pair in table.groupby(["first", "second", "target"], sort=False):
        for reference in (name for name in REFERENCE_NAMES if (pair["reference"] == name).any()):
            group = pair[pair["reference"] == reference]
            rows.append(
                {
                    "target": study.target_name(target),
                    "first": study.name(first),
                    "second": study.name(second),
                    "reference": REFERENCE_NAMES[reference],
                    "n": len(group),
                    "first_better": int((group["hodges_lehmann"] > 0).sum()),
                    "second_better": int((group["hodges_lehmann"] < 0).sum()),
                    "first_clear": int((group["ci_low"] > 0).sum()),
                    "second_clear": int((group["ci_high"] < 0).sum()),
                }
            )
    return rows


def sensitivity_words(study: Study) -> str:
    """What was counted, for the checklist: comparisons, and what varies between them."""
    table = study.extra.get("sensitivity")
    if table is None or table.empty:
        return "Other thresholds, regions and references are reported; no alternative analysis was run."
    pairs = len(table[["first", "second", "target"]].drop_duplicates())
    own = table[table["reference"] == SPECT]
    thresholds = own[own["metric"].isin(DICE_METRICS)]["definition"]
    varied = {
        "metrics": own["metric"].nunique(),
        "regions": own["region"].nunique(),
        "definitions of low and high function": thresholds.nunique(),
        "ways to prepare SPECT": own["spect"].nunique(),
    }
    options = ", ".join(f"{number} {name}" for name, number in varied.items() if number > 1) or "no alternative"
    text = (
        f"{len(own)} comparisons against SPECT: {pairs} declared pair{'s' if pairs != 1 else ''} with every "
        f"combination of {options} that exists"
    )
    others = len(table) - len(own)
    return text + (f"; {others} more against the simulated truth, counted apart." if others else ".")

"""Tables of the stage `compare` beyond means and pairs: passes, detection, calibration, defects, what was left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ct2vq.findings import MORE_METRIC_NAMES, interval, number, p_value
from ct2vq.report.scores import NAMES
from ct2vq.report.sensitivity import sensitivity_summary
from ct2vq.report.study import REFERENCE_NAMES, Study

MORE_METRICS = MORE_METRIC_NAMES | {"all": "all together"}
#: how `passes.tsv` says that less is better
AT_MOST = "at most"
LEVELS = {"case": "Case", "region": "Region", "voxel": "Voxel"}
#: figures of merit of the detection table, with their headings
MERITS = {
    "auroc": "AUROC",
    "auroc_within": "AUROC within patients",
    "auprc": "AUPRC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
}


def text(value: Any) -> str:
    """A cell of text; nothing if it is missing."""
    return "" if value is None or pd.isna(value) else str(value)


def with_interval(row: Any, name: str, digits: int = 2) -> dict[str, str]:
    """A figure and its interval, from columns `name`, `name_low` and `name_high`."""
    value, low, high = (getattr(row, f"{name}{end}", None) for end in ("", "_low", "_high"))
    shown = "" if number(low) == "n/a" else f"{number(low, digits)} to {number(high, digits)}"
    return {"value": number(value, digits), "small": shown}


def passes_table(study: Study) -> list[dict[str, Any]]:
    """The share of patients that pass each threshold of `compare.acceptance`, with Wilson's interval."""
    return [
        {
            "target": study.target_name(row.target),
            "model": study.name(row.model),
            "metric": MORE_METRICS.get(row.metric, row.metric),
            "all": row.metric == "all",
            "threshold": _threshold(row),
            "passed": f"{row.passed:.0f} of {row.n:.0f}" if row.n else "0 of 0",
            "share": {"value": number(row.share, 2), "small": _interval(row.wilson_low, row.wilson_high, 2)},
            "note": text(getattr(row, "note", "")),
        }
        for row in _ordered(study, "passes", ["target"])
    ]


def _threshold(row: Any) -> str:
    if pd.isna(row.threshold):
        return ""
    return f"{'≤' if row.direction == AT_MOST else '≥'} {row.threshold:g}"


def _interval(low: Any, high: Any, digits: int) -> str:
    return "" if pd.isna(low) or pd.isna(high) else f"{number(low, digits)} to {number(high, digits)}"


def mcnemar_table(study: Study) -> list[dict[str, Any]]:
    """McNemar's exact tests of the declared pairs: which of two models more patients pass with."""
    return [
        {
            "target": study.target_name(row.target),
            "comparison": f"{study.name(row.first)} and {study.name(row.second)}",
            "metric": MORE_METRICS.get(row.metric, row.metric),
            "counts": [f"{count:.0f}" for count in (row.both, row.only_first, row.only_second, row.neither)],
            "difference": {
                "value": number(row.difference, 2),
                "small": _interval(row.difference_low, row.difference_high, 2),
            },
            "p": p_value(row.p),
            "p_holm": p_value(row.p_holm),
            "note": text(row.note),
        }
        for row in _rows(study, "mcnemar")
    ]


def equivalence_table(study: Study) -> list[dict[str, Any]]:
    """What the declared pairs say of equivalence within the margin of `compare.margin`, in the lungs."""
    if "conclusion" not in study.pairs:
        return []
    rows = study.pairs[(study.pairs["region"] == "lungs") & study.pairs["margin"].notna()]
    return [
        {
            "target": study.target_name(row.target),
            "comparison": f"{study.name(row.first)} − {study.name(row.second)}",
            "metric": _with_definition(row),
            "margin": f"±{row.margin:g}",
            "interval": interval(row.equivalence_low, row.equivalence_high),
            "equivalent": text(row.equivalent) or "n/a",
            "conclusion": text(row.conclusion) or "n/a",
        }
        for row in rows.itertuples()
    ]


def _with_definition(row: Any) -> str:
    name = MORE_METRICS.get(row.metric, row.metric)
    return f"{name}, {row.definition}" if row.metric.startswith("dice") and text(row.definition) else name


def detection_tables(study: Study) -> list[dict[str, Any]]:
    """The detection of low function and of diagnoses, a table for each level: case, region, voxel."""
    found = list(_ordered(study, "detection", ["target", "definition", "reference"]))
    tables = []
    for level, title in LEVELS.items():
        rows = [_detection_row(study, row) for row in found if row.level == level]
        if rows:
            tables.append({"level": level, "title": title, "rows": rows, "merits": list(MERITS.values())})
    return tables


def _detection_row(study: Study, row: Any) -> dict[str, Any]:
    return {
        "target": study.target_name(row.target),
        "model": study.name(row.model),
        "question": f"{text(row.definition)} ({REFERENCE_NAMES.get(text(row.reference), text(row.reference))})",
        "counts": [_count(row, name) for name in ("n_patients", "n", "n_positive", "missing")],
        "prevalence": number(row.prevalence, 2),
        "threshold": _cut(row.threshold, row.level),
        "cells": [with_interval(row, name) for name in MERITS],
        "reason": text(row.reason),
    }


def _count(row: Any, name: str) -> str:
    value = getattr(row, name, None)
    return "n/a" if value is None or pd.isna(value) else f"{value:.0f}"


def _cut(threshold: Any, level: str) -> str:
    """A threshold, in words where it lies beyond all scores. Of cases large volumes are called, else low values."""
    if pd.notna(threshold) and math.isinf(threshold):
        return "none called" if (threshold > 0) == (level == "case") else "all called"
    return number(threshold, 2)


def calibration_table(study: Study) -> list[dict[str, Any]]:
    """Slope and intercept of the reference's value on the synthesised one; 1 and 0 are perfect."""
    table = study.extra.get("calibration")
    if table is None:
        return []
    lines = table[table["kind"].isin(["slope", "intercept"])]
    rows = []
    groups = {key: group for key, group in lines.groupby(["target", "model", "reference"], sort=False)}
    order = [(row.target, row.model, row.reference) for row in _ordered(study, "calibration", ["target"])]
    for target, model, reference in (key for key in dict.fromkeys(order) if key in groups):
        found = {row.kind: row for row in groups[target, model, reference].itertuples()}
        rows.append(
            {
                "target": study.target_name(target),
                "model": study.name(model),
                "reference": REFERENCE_NAMES.get(reference, reference),
                "cells": [with_interval(found.get(kind), "value") for kind in ("slope", "intercept")],
                "reason": "; ".join(dict.fromkeys(text(row.reason) for row in found.values() if text(row.reason))),
            }
        )
    return rows


def defects_table(study: Study) -> list[dict[str, Any]]:
    """Defects of the reference that a model's image shows, and those that it shows and the reference has not."""
    return [
        {
            "target": study.target_name(row.target),
            "model": study.name(row.model),
            "reference": REFERENCE_NAMES.get(row.reference, row.reference),
            "kind": row.kind + {"yes": ", seen on CT", "no": ", not seen on CT"}.get(text(row.visible), ""),
            "n": f"{row.n_defects:.0f}" if pd.notna(row.n_defects) else "",
            "found": f"{row.found:.0f}" if pd.notna(row.found) else "",
            "sensitivity": with_interval(row, "sensitivity"),
            "false": with_interval(row, "false_per_case"),
            "reason": text(row.reason),
        }
        for row in _ordered(study, "defects", ["target"])
    ]


def excluded_table(study: Study) -> dict[str, Any]:
    """What no statistic could use: numbers of missing values, and each with its reason.

    Returns:
        `counts`: rows of model, target, metric and number; `rows`: each missing value.
    """
    table = study.extra.get("excluded")
    if table is None or table.empty:
        return {"counts": [], "rows": []}
    counts = table.groupby(["model", "target", "metric"], sort=False).size()
    return {
        "counts": [
            {
                "model": study.name(model),
                "target": study.target_name(target),
                "metric": MORE_METRICS.get(metric, metric),
                "n": int(number_missing),
            }
            for (model, target, metric), number_missing in counts.items()
        ],
        "rows": [
            {
                "case": text(row.case_id) or text(row.patient),
                "model": study.name(row.model),
                "target": study.target_name(row.target),
                "metric": MORE_METRICS.get(row.metric, row.metric),
                "reason": text(row.reason),
            }
            for row in table.itertuples()
        ],
    }


def missing_metrics(study: Study) -> dict[str, Any]:
    """How many of all metrics are missing, and why; the Dice by chance is missing where the Dice is.

    Returns:
        `values` and `missing`: numbers of all rows of `results/evaluate/metrics.tsv`; `rows`: number and cases by
        metric and reason, the most frequent first.
    """
    table = study.metrics
    missing = table[table["value"].isna()]
    missing = missing[~missing["metric"].str.endswith("_chance")]
    numbers = table["metric"].value_counts()
    reasons = missing.get("reason", pd.Series(index=missing.index, dtype=object))
    missing = missing.assign(reason=reasons.astype(object).fillna("no reason given"))
    groups = missing.groupby(["metric", "reason"])["case_id"].agg(n="size", cases="nunique").reset_index()
    groups = groups.sort_values(["n", "metric", "reason"], ascending=[False, True, True])
    return {
        "values": int(numbers[[name for name in numbers.index if not name.endswith("_chance")]].sum()),
        "missing": len(missing),
        "rows": [
            {
                "metric": NAMES.get(row.metric, row.metric.replace("_", " ")),
                "reason": row.reason,
                "n": row.n,
                "cases": row.cases,
            }
            for row in groups.itertuples(index=False)
        ],
    }


def classification(study: Study) -> Mapping[str, Any]:
    """All tables of this module, by name."""
    return {
        "passes": passes_table(study),
        "mcnemar": mcnemar_table(study),
        "equivalence": equivalence_table(study),
        "detection": detection_tables(study),
        "calibration": calibration_table(study),
        "defects": defects_table(study),
        "excluded": excluded_table(study),
        "missing": missing_metrics(study),
        "sensitivity": sensitivity_summary(study),
    }


def _ordered(study: Study, name: str, keys: Sequence[str]) -> Iterator[Any]:
    """The rows of a table, by `keys` in the table's own order, models in the configuration's and ceilings last."""
    table = study.extra.get(name)
    if table is None or table.empty:
        return iter(())
    places = {model: place for place, model in enumerate(study.look.sorted(table["model"].dropna().unique()))}
    table = table.assign(_place=table["model"].map(places))
    for key in keys:
        table[f"_{key}"] = table[key].map({value: place for place, value in enumerate(table[key].unique())})
    return table.sort_values([*(f"_{key}" for key in keys), "_place"], kind="stable").itertuples()


def _rows(study: Study, name: str) -> Iterator[Any]:
    table = study.extra.get(name)
    return iter(()) if table is None else table.itertuples()

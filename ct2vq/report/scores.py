"""Tables of scores: networks, trivial baselines and ceilings side by side, in a region, against a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ct2vq.figures import METRIC_NAMES
from ct2vq.findings import MORE_METRIC_NAMES, interval, mean_and_sd, number
from ct2vq.names import CEILINGS, DICE_METRICS, LUNGS, SPECT, TRUTH, TRUTH_VISIBLE
from ct2vq.report.study import REFERENCE_NAMES, Study
from ct2vq.values import patient_means

CORE = "core"
#: errors, and agreement by other measures than the paper's
ERRORS = ("mae", "rmse", "psnr", "pearson")
#: of the map ventilation minus perfusion
VQ_METRICS = {
    "difference_spearman": "Rs of V − Q",
    "difference_mae": "MAE of V − Q",
    "mismatch_dice": "DSC of mismatched defects",
    "matched_dice": "DSC of matched defects",
}
VQ_VOLUMES = {
    "mismatch_volume_error": "Mismatched volume",
    "matched_volume_error": "Matched volume",
    "reverse_volume_error": "Reverse mismatched volume",
}
VOLUMES = {"volume_low_error": "low", "volume_high_error": "high"}
#: definitions by which image and reference have the same volumes, whatever they show
FIXED_VOLUMES = ("percentile", "equal_volumes")
NAMES = MORE_METRIC_NAMES | VQ_METRICS

Rows = Mapping[tuple[str, ...], Any]


def score_tables(study: Study) -> dict[str, list[dict[str, Any]]]:
    """All tables of scores, by the place on the page where they stand; places without a table have an empty list.

    Each table has a `caption`, `headings` of its columns and `rows`: `target`, `model`, `kind` (`network`, `baseline`
    or `ceiling`), `n` patients, and `cells` with a `value` and lines of `small` print.
    """
    rows = _indexed(study.summary)
    own = study.definition

    def table(caption: str, metrics: Sequence[str], *where: str, definition: str = own) -> list[dict[str, Any]]:
        return list(_table(study, rows, caption, metrics, *(where or (LUNGS, SPECT)), definition=definition))

    others = [item["name"] for item in study.config["evaluate"]["function_thresholds"][1:]]
    truths = [(name, region) for name in (TRUTH, TRUTH_VISIBLE) for region in (LUNGS, CORE)]
    return {
        "lungs": table("Agreement with SPECT in the lungs", list(METRIC_NAMES)),
        "core": table("Agreement with SPECT in the lungs' core", list(METRIC_NAMES), CORE, SPECT),
        "definitions": [one for name in others for one in table(name, DICE_METRICS, LUNGS, SPECT, definition=name)],
        "errors": [
            *table("Errors and other measures, in the lungs", ERRORS),
            *table("Errors and other measures, in the lungs' core", ERRORS, CORE, SPECT),
        ],
        "volumes": list(_volumes(study)),
        "vq": [*table("Ventilation minus perfusion, in the lungs", list(VQ_METRICS)), *_vq_volumes(study)],
        "truth": [
            one
            for reference, region in truths
            for one in table(
                f"Agreement with the {REFERENCE_NAMES[reference]} in the {_region(region)}",
                list(METRIC_NAMES),
                region,
                reference,
            )
        ],
    }


def _region(region: str) -> str:
    return "lungs' core" if region == CORE else region


def _indexed(summary: pd.DataFrame) -> Rows:
    """Rows of the summary by model, target, metric, region, reference, and the threshold's name for Dice."""
    return {
        (row.model, row.target, row.metric, row.region, row.reference, _definition(row.metric, row.definition)): row
        for row in summary.itertuples()
    }


def _definition(metric: str, definition: Any) -> str:
    return str(definition) if metric.startswith("dice_") else ""


def _table(
    study: Study, rows: Rows, caption: str, metrics: Sequence[str], region: str, reference: str, *, definition: str
) -> Iterator[dict[str, Any]]:
    """One table, or none if no row of it was scored."""
    keys = {(metric, region, reference, _definition(metric, definition)) for metric in metrics}
    found = []
    for target, model in _scored(study, [key[:2] for key in rows if key[2:] in keys]):
        cells = {
            metric: rows.get((model, target, metric, region, reference, _definition(metric, definition)))
            for metric in metrics
        }
        n = max(int(row.n) for row in cells.values() if row is not None)
        chance = {
            metric: rows.get((model, target, f"{metric}_chance", region, reference, definition))
            for metric in metrics
            if metric in DICE_METRICS
        }
        shown = [_cell(row, n, chance.get(metric)) for metric, row in cells.items()]
        found.append(_row(study, target, model, n, shown))
    if found:
        yield {"caption": caption, "name": definition, "headings": [NAMES[metric] for metric in metrics], "rows": found}


def _scored(study: Study, found: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Target and model of each row: targets in their order, models in the configuration's, ceilings last."""
    scored = {(target, model) for model, target in found}
    order = study.look.sorted({model for _, model in scored if study.look.is_known(model)})
    return [(target, model) for target in (*study.targets, "vq") for model in order if (target, model) in scored]


def _row(study: Study, target: str, model: str, n: int, cells: list[dict[str, Any]]) -> dict[str, Any]:
    kind = "ceiling" if model in CEILINGS else "network" if study.look.is_network(model) else "baseline"
    name = {"target": study.target_name(target), "model": study.name(model), "kind": kind}
    return name | {"n": n, "cells": cells}


def _cell(row: Any, n: int, chance: Any) -> dict[str, Any]:
    """Mean ± SD; below it its interval, the Dice by chance, and what is missing."""
    if row is None:
        return {"value": "n/a", "small": []}
    small = [interval(row.ci_low, row.ci_high)] if pd.notna(row.ci_low) else []
    if chance is not None:
        small.append(f"by chance {number(chance.mean, 2)}")
    if row.n < n:
        small.append(f"{row.n:.0f} patient{'s' if row.n != 1 else ''}")
    missing = getattr(row, "missing_cases", 0)
    if missing:
        small.append(f"missing in {missing:.0f} case{'s' if missing != 1 else ''}")
        if row.n_common and row.n_common < row.n:
            small.append(f"{number(row.mean_common)} in the {row.n_common:.0f} that all models have")
    return {"value": mean_and_sd(row.mean, row.sd), "small": small}


def _volumes(study: Study) -> Iterator[dict[str, Any]]:
    """Errors of the volumes of low and high function, by the definitions that leave them free."""
    free = [
        item["name"]
        for item in study.config["evaluate"]["function_thresholds"]
        if item.get("method", "percentile") not in FIXED_VOLUMES or item.get("cut") == "reference"
    ]
    columns = {(metric, name): f"{name}, {words}" for name in free for metric, words in VOLUMES.items()}
    yield from _errors(study, "Error of the volume of low and high function (mL), in the lungs", columns, study.targets)


def _vq_volumes(study: Study) -> Iterator[dict[str, Any]]:
    columns = {(metric, None): words for metric, words in VQ_VOLUMES.items()}
    yield from _errors(study, "Error of the volume of defects (mL)", columns, ["vq"])


def _errors(
    study: Study, caption: str, columns: Mapping[tuple[str, str | None], str], targets: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Mean ± SD over patients of differences to SPECT, and the mean of their sizes.

    Args:
        study: what the page is made from.
        caption: of the table.
        columns: heading of each metric and definition; None for metrics that have one definition.
        targets: targets of the rows.
    """
    table = study.metrics
    chosen = table[
        table["metric"].isin({metric for metric, _ in columns})
        & (table["region"] == LUNGS)
        & (table["reference"] == SPECT)
        & table["target"].isin(targets)
    ]
    keys = ["target", "model", "metric", "definition"]
    chosen = chosen.assign(definition=chosen["definition"].fillna(""))
    if {name for _, name in columns} == {None}:
        chosen = chosen.assign(definition="")
    means = patient_means(chosen, study.patients, keys).dropna(subset="value")
    groups = {key: rows["value"] for key, rows in means.groupby(keys)}
    rows = []
    for target, model in _scored(study, [(model, target) for target, model, *_ in groups]):
        values = [groups.get((target, model, metric, name or "")) for metric, name in columns]
        n = max((len(of_cell) for of_cell in values if of_cell is not None), default=0)
        rows.append(_row(study, target, model, n, [_error(of_cell) for of_cell in values]))
    if rows and columns:
        yield {"caption": caption, "name": "", "headings": list(columns.values()), "rows": rows}


def _error(values: pd.Series | None) -> dict[str, Any]:
    if values is None:
        return {"value": "n/a", "small": []}
    return {"value": mean_and_sd(values.mean(), values.std(), 0), "small": [f"size {number(values.abs().mean(), 0)}"]}

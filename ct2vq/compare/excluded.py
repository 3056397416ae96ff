"""Which cases a statistic leaves out, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ct2vq.compare.scores import Item, Scores, definition_of
from ct2vq.names import LUNGS, SPECT

COLUMNS = ("model", "target", "metric", "patient", "case_id", "whole", "reason")


def list_excluded(
    table: pd.DataFrame,
    scores: Scores,
    patients: Mapping[str, str],
    targets: Mapping[str, Sequence[str]],
    metrics: Iterable[str],
    threshold: str,
) -> pd.DataFrame:
    """One row for each case that a model's statistic of a metric leaves out, in the lungs, against SPECT.

    Args:
        table: rows of `results/evaluate/metrics.tsv`, with their reasons.
        scores: the same as values.
        patients: patient of each case of the cohort.
        targets: targets of each model.
        metrics: the metrics that are tested or have a threshold.
        threshold: name of the definition of low and high function.

    Returns:
        Columns `COLUMNS`; `whole`: whether the patient drops out (yes), or another case of theirs stays (no).
    """
    reasons = _reasons(table)
    imaged = _imaged(scores)
    rows: list[dict[str, Any]] = []
    for model, predicted in targets.items():
        for target in predicted:
            for metric in metrics:
                item = definition_of(scores, Item(model, target, metric), threshold)
                missing = dict(_missing(item, scores, patients, reasons, imaged.get(target, set())))
                kept = {patients[case] for case in patients if case not in missing}
                rows += [
                    {
                        "model": model,
                        "target": target,
                        "metric": metric,
                        "patient": patients[case],
                        "case_id": case,
                        "whole": "no" if patients[case] in kept else "yes",
                        "reason": reason,
                    }
                    for case, reason in missing.items()
                ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _missing(
    item: Item, scores: Scores, cases: Iterable[str], reasons: Mapping[tuple[Item, str], str], imaged: set[str]
) -> Iterator[tuple[str, str]]:
    """Cases without a value of an item, each with its reason."""
    values = scores.get(item, pd.Series(dtype=float))
    for case in cases:
        if case not in imaged:
            yield case, f"the case has no {item.target} SPECT"
        elif case not in values.index:
            yield case, "not scored"
        elif pd.isna(values[case]):
            yield case, reasons.get((item, case)) or "no reason given"


def _reasons(table: pd.DataFrame) -> dict[tuple[Item, str], str]:
    """Why each missing value against SPECT is missing; several reasons (of seeds) are joined."""
    missing = table[table["value"].isna() & (table["region"] == LUNGS) & (table["reference"] == SPECT)]
    found: dict[tuple[Item, str], list[str]] = {}
    for row in missing.itertuples():
        item = Item(row.model, row.target, row.metric, row.region, row.definition, row.reference)
        known = found.setdefault((item, row.case_id), [])
        if row.reason and row.reason not in known:
            known.append(row.reason)
    return {key: "; ".join(known) for key, known in found.items()}


def _imaged(scores: Scores) -> dict[str, set[str]]:
    """Cases that have a SPECT of each target, which is what any model was scored against."""
    cases: dict[str, set[str]] = {}
    for item, values in scores.items():
        if item.reference == SPECT:
            cases.setdefault(item.target, set()).update(values.index)
    return cases

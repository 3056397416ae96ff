"""Metrics as statistics, tables and figures use them: one value a patient."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ct2vq.files import read_tsv
from ct2vq.names import DICE_METRICS, LUNGS, SPECT

#: columns of `results/evaluate/metrics.tsv` that say what a value is of, beside the case
ITEM_COLUMNS = ("model", "target", "metric", "region", "definition", "reference")
#: rows of that table that are read at once
CHUNK_ROWS = 200_000


def read_metrics(
    path: str | Path, metrics: Collection[str], regions: Collection[str] | None = None, *more: str
) -> pd.DataFrame:
    """The rows of some metrics and regions (None: all), with the columns that statistics need and perhaps more.

    The table is read in pieces, and texts are held as categories: a study has some hundred thousand rows and a few
    dozen texts. They are read as text first, because pandas would take categories that look like numbers for numbers.
    """
    columns = ["case_id", *ITEM_COLUMNS, "reason", *more]
    types = dict.fromkeys(columns, str) | {"value": "float64"}
    pieces = []
    for piece in read_tsv(path, usecols=[*columns, "value"], dtype=types, chunksize=CHUNK_ROWS):
        chosen = piece["metric"].isin(set(metrics))
        pieces.append(piece[chosen if regions is None else chosen & piece["region"].isin(set(regions))])
    return pd.concat(pieces, ignore_index=True).astype(dict.fromkeys(columns, "category"))


def case_means(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Mean of column `value` over the rows of each case, which are the repeated trainings (seeds) of a model.

    Args:
        rows: rows of a table with a `case_id`.
        keys: columns whose combinations are averaged apart.

    Returns:
        Columns `keys`, `case_id`, `value`, in the order of the table; NaN where all rows of a case are missing.
    """
    by = [*keys, "case_id"]
    values = rows.assign(value=rows["value"].astype(float))
    means = values.groupby(by, sort=False, observed=True)["value"].mean().reset_index()
    return means.astype(dict.fromkeys(by, object))


def patient_means(rows: pd.DataFrame, patients: Mapping[str, str], keys: Sequence[str]) -> pd.DataFrame:
    """Mean of column `value` over the cases of each patient, of each of which seeds are averaged first.

    Args:
        rows: rows of a table with a `case_id`.
        patients: patient of each case.
        keys: columns whose combinations are averaged apart.

    Returns:
        Columns `patient_id`, `keys`, `value`.
    """
    means = case_means(rows, keys)
    means = means.assign(patient_id=means["case_id"].map(patients))
    return means.groupby(["patient_id", *keys], sort=False)["value"].mean().reset_index()


def patient_values(metrics: pd.DataFrame, patients: Mapping[str, str], definition: str) -> pd.DataFrame:
    """Metrics in the whole lungs against SPECT, averaged over the cases of a patient, because the patient is the unit.

    Args:
        metrics: the table of `results/evaluate/metrics.tsv`.
        patients: patient of each case.
        definition: threshold that Dice rows are taken of; other metrics have one definition.

    Returns:
        Columns `patient_id model target metric value`.
    """
    of_dice = [name for metric in DICE_METRICS for name in (metric, f"{metric}_chance")]
    kept = metrics[
        (~metrics["metric"].isin(of_dice) | (metrics["definition"] == definition))
        & (metrics["region"] == LUNGS)
        & (metrics["reference"] == SPECT)
    ]
    return patient_means(kept, patients, ["model", "target", "metric"])

"""The table of `evaluate` as values of cases and of patients."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ct2vq.files import read_tsv

LUNGS, SPECT = "lungs", "spect"
#: metrics that fall as the agreement grows
LOWER_IS_BETTER = frozenset({"mae", "rmse"})
#: metrics that depend on a definition of low and high function
OVERLAPS = ("dice_low", "dice_high")


class Item(NamedTuple):
    """What a value is of: the columns of `results/evaluate/metrics.tsv` beside the case."""

    model: str
    target: str
    metric: str
    region: str = LUNGS
    definition: str = ""
    reference: str = SPECT


#: values by case of each item, in the order of the table
Scores = Mapping[Item, pd.Series]


def read_metrics(path: str | Path, metrics: Collection[str], regions: Collection[str], *more: str) -> pd.DataFrame:
    """The rows of some metrics and regions, with the columns that statistics need and perhaps more.

    Texts are held as categories: a study has some hundred thousand rows and a few dozen texts. They are read as text
    first, because pandas would take categories that look like numbers for numbers.
    """
    columns = ["case_id", *Item._fields, "reason", *more]
    table = read_tsv(path, usecols=[*columns, "value"], dtype=dict.fromkeys(columns, str) | {"value": "float64"})
    table = table[table["metric"].isin(set(metrics)) & table["region"].isin(set(regions))]
    return table.astype(dict.fromkeys(columns, "category"))


def case_values(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each case and item: the mean of its rows (seeds of a model), NaN if all of them are missing.

    Args:
        table: rows of `results/evaluate/metrics.tsv`.
    """
    keys = [*Item._fields, "case_id"]
    means = table.groupby(keys, sort=False, observed=True)["value"].mean().reset_index()
    return means.astype(dict.fromkeys(keys, object))


def patient_values(table: pd.DataFrame, patients: Mapping[str, str]) -> pd.DataFrame:
    """One row for each patient and item: the mean over the patient's cases, of each of which seeds are averaged first.

    Args:
        table: rows of `results/evaluate/metrics.tsv`.
        patients: patient of each case.
    """
    values = case_values(table)
    values["patient"] = values["case_id"].map(patients)
    return values.groupby([*Item._fields, "patient"], sort=False)["value"].mean().reset_index()


def scores_of(table: pd.DataFrame) -> dict[Item, pd.Series]:
    """The value of each case, by item.

    Args:
        table: rows of `results/evaluate/metrics.tsv`.

    Returns:
        Series over `case_id`.
    """
    groups = case_values(table).groupby(list(Item._fields), sort=False)
    return {Item(*key): group.set_index("case_id")["value"] for key, group in groups}


def of_patients(values: pd.Series | pd.DataFrame, patients: Mapping[str, str]) -> pd.Series | pd.DataFrame:
    """Mean over the cases of each patient (those that are not missing), patients in the order of their names."""
    return values.groupby(values.index.map(patients), sort=True).mean().rename_axis("patient")


def together(scores: Scores, items: Sequence[Item], patients: Mapping[str, str]) -> pd.DataFrame:
    """Values of several items on the same images: a case without one of them counts for none.

    A patient's mean is thus over the same cases for all items. Patients without a complete case have NaN throughout.

    Returns:
        A row a patient that any item knows, a column an item (numbered from 0).
    """
    nothing = pd.Series(dtype=float)
    wide = pd.concat([scores.get(item, nothing) for item in items], axis=1, keys=range(len(items)))
    return of_patients(wide.where(wide.notna().all(axis=1)), patients)


def tested_rows(table: pd.DataFrame, definitions: Collection[str]) -> pd.DataFrame:
    """The rows without those of other definitions of low and high function (a curve has many)."""
    return table[~table["metric"].isin(OVERLAPS) | table["definition"].isin(set(definitions))]


def definition_of(scores: Iterable[Item], item: Item, threshold: str) -> Item:
    """The item with its definition: the threshold for low and high function, else the first that the table holds."""
    if item.metric in OVERLAPS:
        return item._replace(definition=threshold)
    wanted = (item.metric, item.region, item.reference)
    known = (other.definition for other in scores if (other.metric, other.region, other.reference) == wanted)
    return item._replace(definition=next(known, ""))

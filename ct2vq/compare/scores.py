"""The table of `evaluate` as values of cases and of patients."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from ct2vq.names import DICE_METRICS, LUNGS, SPECT
from ct2vq.values import case_means

#: metrics that fall as the agreement grows
LOWER_IS_BETTER = frozenset({"mae", "rmse"})


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


def scores_of(table: pd.DataFrame) -> dict[Item, pd.Series]:
    """The value of each case, by item.

    Args:
        table: rows of `results/evaluate/metrics.tsv`.

    Returns:
        Series over `case_id`.
    """
    groups = case_means(table, Item._fields).groupby(list(Item._fields), sort=False)
    return {Item(*key): group.set_index("case_id")["value"] for key, group in groups}


def of_patients(values: pd.Series | pd.DataFrame, patients: Mapping[str, str]) -> pd.Series | pd.DataFrame:
    """Mean over the cases of each patient (those that are not missing), patients in the order of their names."""
    return values.groupby(values.index.map(patients), sort=True).mean().rename_axis("patient")


def together(scores: Scores, items: Sequence[Item], patients: Mapping[str, str]) -> pd.DataFrame:
    """Values of several items on the same images: a case without one of them counts for none.

    A patient's mean is thus over the same cases for all items. Patients without a complete case have NaN throughout.

    Returns:
        A row a patient of the cohort, by name, a column an item (numbered from 0).
    """
    nothing = pd.Series(dtype=float)
    wide = pd.concat([scores.get(item, nothing) for item in items], axis=1, keys=range(len(items)))
    means = of_patients(wide.where(wide.notna().all(axis=1)), patients)
    return means.reindex(pd.Index(sorted(set(patients.values())), name="patient"))


def tested_rows(table: pd.DataFrame, definitions: Collection[str]) -> pd.DataFrame:
    """The rows without those of other definitions of low and high function (a curve has many)."""
    return table[~table["metric"].isin(DICE_METRICS) | table["definition"].isin(set(definitions))]


def definition_of(scores: Iterable[Item], item: Item, threshold: str) -> Item:
    """The item with its definition: the threshold for low and high function, else the first that the table holds."""
    if item.metric in DICE_METRICS:
        return item._replace(definition=threshold)
    wanted = (item.metric, item.region, item.reference)
    known = (other.definition for other in scores if (other.metric, other.region, other.reference) == wanted)
    return item._replace(definition=next(known, ""))

"""The declared comparisons: difference and equivalence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ct2vq.compare.paired import differences, equivalence, holm, paired_statistics
from ct2vq.compare.scores import Item, Scores, definition_of, together
from ct2vq.names import DIFFERENT, EQUIVALENT, LUNGS, UNDECIDED, WITHIN_MARGIN


def compare_pairs(
    scores: Scores, patients: Mapping[str, str], settings: Mapping[str, Any], threshold: str, seed: int
) -> pd.DataFrame:
    """Every declared comparison, with Holm's correction over the family of all of them in the lungs.

    Other regions (`regions`) are described beside it and have no corrected p: they are no declared tests.

    Args:
        scores: values of cases.
        patients: patient of each case.
        settings: config block `compare`.
        threshold: name of the definition of low and high function.
        seed: seed of the bootstrap.
    """
    regions = [LUNGS, *(region for region in settings["regions"] if region != LUNGS)]
    rows = []
    for region in regions:
        for first, second, target in settings["pairs"]:
            for metric in settings["metrics"]:
                item = definition_of(scores, Item(first, target, metric, region), threshold)
                paired = pair_of(scores, item, second, patients)
                row = {"first": first, "second": second, "target": target, "metric": metric, "region": region}
                row["definition"] = item.definition
                rows.append(row | _statistics(paired, metric, settings, seed))
    nothing = _statistics(pd.DataFrame(columns=["first", "second"], dtype=float), "", settings, seed)
    columns = ["first", "second", "target", "metric", "region", "definition", *nothing]
    table = pd.DataFrame(rows, columns=columns)
    family = table["p"].where(table["region"] == LUNGS).to_numpy(dtype=float)
    table.insert(table.columns.get_loc("p") + 1, "p_holm", holm(family))
    conclusions = [conclusion(row, settings["confidence"]) for row in table.itertuples()]
    table.insert(table.columns.get_loc("equivalent") + 1, "conclusion", conclusions)
    return table


def pair_of(scores: Scores, item: Item, second: str, patients: Mapping[str, str]) -> pd.DataFrame:
    """Columns `first` (the item's model) and `second`, a row a patient of the cohort."""
    items = [item, item._replace(model=second)]
    return together(scores, items, patients).set_axis(["first", "second"], axis=1)


def _statistics(paired: pd.DataFrame, metric: str, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Statistics of a comparison; what describes the computation stands last."""
    statistics = paired_statistics(paired, settings, seed)
    ending = {key: statistics.pop(key) for key in ("zeros", "method", "note")}
    margin = settings["margin"].get(metric)
    return statistics | equivalence(differences(paired.dropna(), settings), margin, settings) | ending


def conclusion(row: Any, confidence: float) -> str:
    """What difference and equivalence together say: neither of them is the other's opposite.

    Args:
        row: a row of the table with `p`, `p_holm`, `equivalent`; the corrected p counts where there is one.
        confidence: config `compare.confidence`; p below one minus it is called different.
    """
    p = row.p if pd.isna(row.p_holm) else row.p_holm
    different = not pd.isna(p) and p < 1 - confidence
    if different:
        return WITHIN_MARGIN if row.equivalent == "yes" else DIFFERENT[0]
    if row.equivalent == "yes":
        return EQUIVALENT
    return UNDECIDED if row.n else ""

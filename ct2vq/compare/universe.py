"""The declared comparisons under every combination of choices that the paper leaves open ("multiverse").

Steegen et al., Perspect Psychol Sci 2016;11:702. A row is a description, not a test: one looks at how many of them
agree, and no p is corrected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ct2vq.compare.paired import paired_statistics
from ct2vq.compare.pairs import pair_of
from ct2vq.compare.scores import LOWER_IS_BETTER, Item, Scores, scores_of, tested_rows
from ct2vq.config import OWN_SPECT
from ct2vq.files import write_tsv
from ct2vq.names import DICE_METRICS, LUNGS, SPECT
from ct2vq.values import read_metrics

COPIED = ("n", "hodges_lehmann", "ci_low", "ci_high", "p")
COLUMNS = (
    *("first", "second", "target", "metric", "region", "definition", "spect", "reference", "own"),
    *(*COPIED, "favours", "note"),
)


class Choices(NamedTuple):
    """What is varied beside the SPECT, and what is compared.

    Attributes:
        pairs: declared pairs `(first, second, target)`.
        metrics: metrics.
        regions: regions.
        definitions: definitions of low and high function.
        threshold: the study's own definition.
    """

    pairs: Sequence[Sequence[str]]
    metrics: Sequence[str]
    regions: Sequence[str]
    definitions: Sequence[str]
    threshold: str


def compare_universes(
    metrics: Path,
    alternatives: Sequence[Path],
    output: Path,
    choices: Choices,
    settings: Mapping[str, Any],
    *,
    patients: Mapping[str, str],
    seed: int,
) -> None:
    """Write every declared pair under every combination of choices that the tables hold.

    Args:
        metrics: the table of stage `evaluate`: the study's own SPECT.
        alternatives: tables of cases, with the same columns and `spect`, the name of the alternative.
        output: table to write.
        choices: what is varied and compared.
        settings: config block `compare`.
        patients: patient of each case.
        seed: seed of the bootstrap.
    """
    scored = {OWN_SPECT: scores_of(_compared(read_metrics(metrics, choices.metrics, choices.regions), choices))}
    if alternatives:
        tables = [
            read_metrics(table, choices.metrics, choices.regions, "spect").astype(object) for table in alternatives
        ]
        others = _compared(pd.concat(tables, ignore_index=True).astype({"value": float}), choices)
        scored |= {str(name): scores_of(rows) for name, rows in others.groupby("spect", sort=False)}
    rows = [
        row
        for spect, scores in scored.items()
        for row in universes(scores, spect, choices, settings, patients=patients, seed=seed)
    ]
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), output)


def universes(
    scores: Scores,
    spect: str,
    choices: Choices,
    settings: Mapping[str, Any],
    *,
    patients: Mapping[str, str],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """The rows of one SPECT: every pair, metric, region, definition and reference that the table holds for a model."""
    without_bootstrap = {**settings, "bootstrap": 0}
    for first, second, target in choices.pairs:
        known = dict.fromkeys(item._replace(model=first) for item in scores if item.model in (first, second))
        for item in known:
            if item.target != target:
                continue
            statistics = paired_statistics(pair_of(scores, item, second, patients), without_bootstrap, seed)
            yield {
                "first": first,
                "second": second,
                **{key: value for key, value in item._asdict().items() if key != "model"},
                "spect": spect,
                "own": "yes" if spect == OWN_SPECT and _own(item, choices) else "no",
                **{key: statistics[key] for key in COPIED},
                "favours": favours(statistics["hodges_lehmann"], item.metric),
                "note": statistics["note"],
            }


def _compared(table: pd.DataFrame, choices: Choices) -> pd.DataFrame:
    """The rows of models that are compared; the points of the threshold curve are no choices."""
    models = {model for pair in choices.pairs for model in pair[:2]}
    return tested_rows(table[table["model"].isin(models)], choices.definitions)


def _own(item: Item, choices: Choices) -> bool:
    """Whether an item is what the declared family tests."""
    usual = item.metric not in DICE_METRICS or item.definition == choices.threshold
    return item.region == LUNGS and item.reference == SPECT and usual


def favours(difference: float, metric: str) -> str:
    """Which model a difference (first minus second) speaks for: `first`, `second`, `neither`; empty if missing."""
    if pd.isna(difference):
        return ""
    better = -difference if metric in LOWER_IS_BETTER else difference
    return "first" if better > 0 else "second" if better < 0 else "neither"

"""Published values beside those of this study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ct2vq.figures import METRIC_NAMES, TARGET_NAMES
from ct2vq.findings import mean_and_sd, number, select_row
from ct2vq.report.study import Study

PAPER = "Wang 2026"
ADDRESSES = {
    "doi": "https://doi.org/{}",
    "pmid": "https://pubmed.ncbi.nlm.nih.gov/{}/",
    "pmc": "https://pmc.ncbi.nlm.nih.gov/articles/{}/",
}


def role(model: Mapping[str, Any]) -> str | None:
    """The published model that a configured one corresponds to."""
    if model["kind"] != "ran":
        return None
    return "DDRAN" if len(model["targets"]) == 2 else "RAN"


def published_beside_ours(study: Study, published: pd.DataFrame) -> list[dict[str, Any]]:
    """The paper's values and those of the corresponding models of this study."""
    rows = []
    for value in published[published["paper"] == PAPER].itertuples():
        models = [name for name in study.networks if role(study.config["models"][name]) == value.model]
        ours = [
            (study.labels[name], select_row(study.summary, name, value.target, value.metric, study.definition))
            for name in models
        ]
        rows.append(
            {
                "target": TARGET_NAMES[value.target],
                "metric": METRIC_NAMES[value.metric],
                "model": value.model,
                "published": number(value.mean),
                "note": value.note if isinstance(value.note, str) else "",
                "ours": [f"{label} {mean_and_sd(row['mean'], row['sd'])}" for label, row in ours if row is not None],
            }
        )
    return rows


def neighbours(published: pd.DataFrame) -> list[dict[str, Any]]:
    """Values of other papers, with a link to each."""
    names = METRIC_NAMES | {"dice_mean": "DSC, mean of regions"}
    return [
        {
            "paper": row.paper,
            "link": address(row.identifier),
            "n": row.cohort_n,
            "model": row.model,
            "input": row.input,
            "target": TARGET_NAMES[row.target],
            "metric": names[row.metric],
            "value": mean_and_sd(row.mean, row.sd),
            "note": row.note if isinstance(row.note, str) else "",
        }
        for row in published[published["paper"] != PAPER].itertuples()
    ]


def address(identifier: str) -> str:
    """The address of an identifier such as `doi:10.1002/acm2.70498`."""
    kind, _, value = identifier.partition(":")
    return ADDRESSES[kind].format(value)

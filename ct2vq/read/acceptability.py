"""Part I: distributions of the ratings, shares of acceptable ones, and real against synthesised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ct2vq.compare.paired import holm, paired_statistics
from ct2vq.read.answers import RATING, Group, Reading
from ct2vq.read.exports import ACCEPTABILITY
from ct2vq.read.settings import SOURCES
from ct2vq.read.shares import NO_ANSWER, share

#: ratings from which an image counts as acceptable, and as good
LEAST = (3, 4)
#: means of ratings are rounded to so many decimals before differences are ranked
DECIMALS = 6


def acceptability_table(reading: Reading) -> pd.DataFrame:
    """A row for each question, group and source: numbers of each rating, mean, median, shares of 3 and 4 and more."""
    groups = reading.each([ACCEPTABILITY] if ACCEPTABILITY in reading.parts else [])
    rows = [
        _row(reading, question, group, source, reading.of(part, group, source))
        for part, group, source in groups
        for question in reading.questions
    ]
    order = {name: place for place, name in enumerate(reading.questions)}
    rows.sort(key=lambda row: order[row["question"]])
    limits = [f"least_{least}{end}" for least in LEAST for end in ("", "_low", "_high")]
    ratings = [f"n_{value}" for value in reading.scale]
    columns = ["question", "kind", "group", "source", "n", "patients", *ratings, "mean", "sd", "median", *limits]
    return reading.table(rows, [*columns, "reason"])


def _row(reading: Reading, question: str, group: Group, source: str, answers: pd.DataFrame) -> dict[str, Any]:
    ratings = answers[f"{RATING}{question}"].dropna()
    patients = answers.loc[ratings.index, "patient_id"]
    row: dict[str, Any] = {"question": question, "kind": group.kind, "group": group.name, "source": source}
    row |= {"n": len(ratings), "patients": patients.nunique(), "reason": "" if len(ratings) else NO_ANSWER}
    row |= {f"n_{value}": int((ratings == value).sum()) for value in reading.scale}
    row |= {"mean": ratings.mean(), "sd": ratings.std(), "median": ratings.median()}
    for least in LEAST:
        told = share((ratings >= least).astype(float), patients, reading.confidence)
        row |= {f"least_{least}": told["share"], f"least_{least}_low": told["low"], f"least_{least}_high": told["high"]}
        row["reason"] = told["reason"]
    return row


def acceptability_pairs(reading: Reading) -> pd.DataFrame:
    """Synthesised against real: for each question and group the patients' mean ratings, by Wilcoxon's signed-rank test.

    A patient's ratings from one source are averaged over readers and cases first. Holm's correction runs over the
    questions, for all readers together; levels and single readers are described without.
    """
    settings = dict(reading.settings) | {"decimals": DECIMALS}
    rows = []
    for group in reading.groups if ACCEPTABILITY in reading.parts else []:
        answers = reading.of(ACCEPTABILITY, group)
        for question in reading.questions:
            means = answers.pivot_table(index="patient_id", columns="source", values=f"{RATING}{question}")
            pairs = means.reindex(columns=list(SOURCES)).set_axis(["second", "first"], axis=1)
            row = {"question": question, "kind": group.kind, "group": group.name}
            rows.append(row | paired_statistics(pairs, settings, reading.seed))
    columns = ["question", "kind", "group", *paired_statistics(pd.DataFrame(columns=["first", "second"]), settings, 0)]
    table = reading.table(rows, columns)
    families = (table["kind"] == "all").to_numpy()
    adjusted = np.full(len(table), np.nan)
    adjusted[families] = holm(table.loc[families, "p"].to_numpy(dtype=float))
    table.insert(table.columns.get_loc("p") + 1, "p_holm", adjusted)
    return table.rename(columns={"median_first": "median_synthesised", "median_second": "median_real"})

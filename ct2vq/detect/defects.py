"""How many defects of the reference an image shows, and how many it invents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.detect.figures_of_merit import ratio
from ct2vq.detect.resampling import Resamples, Support, told_bounds
from ct2vq.detect.scored import Members
from ct2vq.files import read_tsv
from ct2vq.intervals import LEAST_EVENTS, LEAST_PATIENTS

#: kind of a row for a defect that only the synthesised image has
FALSE = "false"
#: kind of a row that is no defect: the image or the reference could not be judged
UNJUDGED = "unjudged"
ALL = "all"
COLUMNS = (
    *("model", "target", "reference", "kind", "visible", "n_patients", "n_cases", "n_defects", "missing", "found"),
    *("sensitivity", "sensitivity_low", "sensitivity_high", "overlap"),
    *("false_per_case", "false_per_case_low", "false_per_case_high", "reason"),
)
NUMBERS = ["n", "missing", "found", "overlap"]
KEYS = ["model", "target", "reference"]


def count_defects(tables: Sequence[Path], members: Members) -> pd.DataFrame:
    """Defects by case and kind from `results/evaluate/defects/{case}.tsv`, one table at a time.

    A defect that an image could not be judged by (the image is constant, say) is neither found nor not: it counts as
    missing.

    Returns:
        Columns `patient`, `case_id`, `model`, `target`, `reference`, `kind`, `visible`, and numbers of defects: `n`
        (judged), `missing`, `found`, and the sum of their `overlap`.
    """
    text = dict.fromkeys(("kind", "visible", "found", "defect"), str)
    counts = []
    for path in tables:
        table = read_tsv(path, dtype=text)
        judged = (table["kind"] == FALSE) | table["found"].isin(["yes", "no"])
        shown = table.assign(
            n=judged.astype(int),
            missing=(~judged).astype(int),
            found=(table["found"] == "yes").astype(int),
            visible=table["visible"].fillna(""),
            overlap=pd.to_numeric(table["overlap"]).fillna(0.0),
        )
        counted = shown.groupby(["case_id", *KEYS, "kind", "visible"])[NUMBERS].sum().reset_index()
        counts.append(counted.assign(patient=[members.patient(case) for case in counted["case_id"]]))
    return pd.concat(counts, ignore_index=True)


def judged_cases(counts: pd.DataFrame, known: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """Cases by patient in which an image was judged: those known from its values, and those with a row of their own.

    A case whose image or reference could not be judged is none, whether it has a defect or not.
    """
    cases = {patient: set(names) for patient, names in known.items()}
    for patient, case in zip(counts["patient"], counts["case_id"], strict=True):
        cases.setdefault(patient, set()).add(case)
    unjudged = set(counts.loc[(counts["missing"] > 0) | (counts["kind"] == UNJUDGED), "case_id"])
    return {patient: names - unjudged for patient, names in cases.items() if names - unjudged}


def judge_defects(
    counts: pd.DataFrame, cases: Mapping[str, Collection[str]], settings: Mapping[str, Any], seed: int
) -> list[dict]:
    """Rows of one model, target and reference: all defects, each kind, each kind by visibility, and false defects.

    A sensitivity is found over all defects together; its interval resamples patients with everything they have, or is
    Wilson's where few patients have a defect that was found, or one that was not.
    False defects per case are the mean over patients of each one's mean over cases.

    Args:
        counts: the rows of `count_defects` of this model, target and reference.
        cases: by patient the cases in which the image was judged, those without any defect too.
        settings: config block `detect`.
        seed: seed of the bootstrap.
    """
    patients = sorted(cases)
    resamples = Resamples.of(len(patients), settings, seed)
    real, false = counts[~counts["kind"].isin([FALSE, UNJUDGED])], counts[counts["kind"] == FALSE]
    of_all = {"n_patients": len(patients), "n_cases": sum(map(len, cases.values()))}
    groups = [(ALL, "", real)]
    for kind, of_kind in real.groupby("kind"):
        groups.append((kind, "", of_kind))
        groups += [(kind, visible, rows) for visible, rows in of_kind.groupby("visible") if visible]
    rows = [
        of_all | {"kind": kind, "visible": visible} | _sensitivity(found, patients, resamples)
        for kind, visible, found in groups
    ]
    return [*rows, of_all | {"kind": FALSE, "visible": ""} | _false_defects(false, cases, resamples)]


def _sensitivity(counts: pd.DataFrame, patients: Sequence[str], resamples: Resamples) -> dict[str, Any]:
    sums = counts.groupby("patient")[NUMBERS].sum().reindex(patients, fill_value=0)
    n, found, overlap = (sums[name].to_numpy(float) for name in ("n", "found", "overlap"))
    missing = int(counts["missing"].sum())
    row = {"n_defects": int(n.sum()), "missing": missing, "found": int(found.sum()), "reason": ""}
    if not n.sum():
        return row | {"reason": "no image could be judged" if missing else "the reference has no defect"}
    bounds = resamples.intervals(lambda a, b: {"share": ratio(b, a)}, n[:, None], found[:, None])["share"][:, 0]
    share = found.sum() / n.sum()
    low, high = told_bounds(share, bounds, Support.of_share(found, n), resamples.confidence)
    return row | {
        "sensitivity": share,
        "sensitivity_low": low,
        "sensitivity_high": high,
        "overlap": overlap.sum() / n.sum(),
    }


def _false_defects(counts: pd.DataFrame, cases: Mapping[str, Collection[str]], resamples: Resamples) -> dict[str, Any]:
    patients = sorted(cases)
    number = counts.groupby("patient")["n"].sum().reindex(patients, fill_value=0).to_numpy(float)
    per_case = number / [len(cases[patient]) for patient in patients]
    one = np.ones((len(patients), 1))
    bounds = resamples.intervals(lambda a, b: {"mean": ratio(b, a)}, one, per_case[:, None])["mean"][:, 0]
    mean = float(per_case.mean())
    having = int((number > 0).sum())
    believed = len(patients) >= LEAST_PATIENTS
    low, high = told_bounds(mean, bounds, Support(having if believed else 0, LEAST_EVENTS), resamples.confidence)
    few = f"patients with a false defect: {having}, needed: {LEAST_EVENTS}"
    few = few if believed else f"patients: {len(patients)}, needed: {LEAST_PATIENTS}"
    return {
        "n_defects": int(number.sum()),
        "missing": 0,
        "false_per_case": mean,
        "false_per_case_low": low,
        "false_per_case_high": high,
        "reason": f"no interval ({few})" if np.isnan(low) and resamples.number else "",
    }

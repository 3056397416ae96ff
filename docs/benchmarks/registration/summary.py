"""What the registration's table says in short: every arm beside the others, and this project against its aims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

OURS = "ct2vq"
REFERENCES = {"attenuation_ct": "attenuation CT", "spect": "SPECT"}
#: aims of mean and 95th percentile of the TRE in mm, by stratum
TRE_AIMS = {"shallow": (2.0, 5.0), "full inspiration": (3.0, 8.0)}
DICE_AIM = 0.97
#: aims of a defect's volume: how far the median, and 95 % of the defects, may lie from the truth
VOLUME_AIMS = (0.05, 0.15)


def compared_cases(table: pd.DataFrame, header: Mapping[str, Any], stratum: str) -> list[str]:
    """The cases of a stratum that every arm of the table registered."""
    arms = set(table["arm"])
    mine = table[table["case"].map(header["strata"]) == stratum]
    return [case for case, rows in mine.groupby("case", sort=False) if set(rows["arm"]) == arms]


def side_by_side(table: pd.DataFrame, cases: list[str], reference: str) -> pd.DataFrame:
    """Means over some cases, a row for each arm that has all of them; the fastest first, the untouched images on top.

    Args:
        table: the long table.
        cases: the cases.
        reference: what the target registration error refers to.

    Returns:
        columns `seconds`, `peak MiB`, `TRE`, `TRE p95`, `diaphragm p95`, `lung Dice`, `folding %`, index `arm`.
    """
    chosen = table[table["case"].isin(cases)]
    complete = [arm for arm, rows in chosen.groupby("arm") if set(rows["case"]) == set(cases)]
    names = {
        "seconds": ("processor_time", ""),
        "peak MiB": ("peak_memory", ""),
        "TRE": ("tre_mean", reference),
        "TRE p95": ("tre_p95", reference),
        "diaphragm p95": ("tre_diaphragm_p95", reference),
        "lung Dice": ("lung_dice_true", ""),
        "folding %": ("folding", ""),
    }
    rows = {arm: {name: _mean(chosen, arm, *which) for name, which in names.items()} for arm in complete}
    means = pd.DataFrame.from_dict(rows, orient="index", columns=list(names))
    return means.sort_values("seconds", kind="stable")


def _mean(table: pd.DataFrame, arm: str, metric: str, reference: str) -> float:
    return float(_values(table, arm, metric, reference).mean())


def _values(table: pd.DataFrame, arm: str, metric: str, reference: str) -> pd.Series:
    """Values of one metric by case."""
    found = table[(table["arm"] == arm) & (table["metric"] == metric) & (table["reference"].fillna("") == reference)]
    return found.set_index("case")["value"].astype(float)


def aims(table: pd.DataFrame, header: Mapping[str, Any]) -> pd.DataFrame:
    """This project against its aims, by stratum of motion: mean over the cases, worst case, the aim, and whether met.

    Args:
        table: the long table.
        header: `strata` (stratum by case) and `voxel_diagonal_mm` (of the attenuation CT, by case).

    Returns:
        columns `stratum`, `reference`, `what`, `before`, `mean`, `worst`, `aim`, `reached`, `cases`; `reached`, by the
        mean over the cases, is `yes`, `no`, or in full inspiration `within a voxel`: no more than its diagonal.
    """
    rows = []
    for stratum, limits in TRE_AIMS.items():
        cases = [case for case, kind in header["strata"].items() if kind == stratum]
        chosen = table[table["case"].isin(cases)]
        if chosen.empty:
            continue
        diagonal = max(header["voxel_diagonal_mm"][case] for case in set(chosen["case"]))
        voxel = diagonal if stratum == "full inspiration" else 0.0
        for reference in REFERENCES:
            for metric, limit in zip(("tre_mean", "tre_p95"), limits, strict=True):
                rows.append(_against(chosen, stratum, reference, metric, limit, voxel=voxel))
        rows.append(_against(chosen, stratum, "", "lung_dice_true", DICE_AIM, larger=True))
        rows.append(_against(chosen, stratum, "", "folding", 0.0))
    return pd.DataFrame(rows)


def _against(
    table: pd.DataFrame,
    stratum: str,
    reference: str,
    metric: str,
    limit: float,
    *,
    larger: bool = False,
    voxel: float = 0.0,
) -> dict[str, Any]:
    """A row of `aims`; `larger`: the figure shall be at least the limit."""
    values, before = (_values(table, arm, metric, reference) for arm in (OURS, "none"))
    mean = float(values.mean())
    reached = "yes" if (mean >= limit if larger else mean <= limit) else "within a voxel" if mean <= voxel else "no"
    return {
        "stratum": stratum,
        "reference": REFERENCES.get(reference, ""),
        "what": metric,
        "before": float(before[before.index.isin(values.index)].mean()),
        "mean": mean,
        "worst": float(values.min() if larger else values.max()),
        "aim": limit,
        "reached": reached,
        "cases": len(values),
    }


def defects(table: pd.DataFrame, header: Mapping[str, Any]) -> pd.DataFrame:
    """Preserved volume of this project's defects: median ratio and the 95th percentile of its distance from 1.

    Returns:
        columns `stratum`, `reference`, `what` (`defect_label`, `defect_image`), `defects`, `median`, `p95`, `reached`.
    """
    ours, rows = table[table["arm"] == OURS], []
    for stratum in TRE_AIMS:
        here = ours[ours["case"].map(header["strata"]) == stratum]
        for reference, name in REFERENCES.items():
            for metric in ("defect_label", "defect_image"):
                ratio = here[(here["metric"] == metric) & (here["reference"] == reference)]["value"].astype(float)
                if ratio.empty:
                    continue
                median, far = float(ratio.median()), float(np.percentile((ratio - 1).abs(), 95))
                reached = abs(median - 1) <= VOLUME_AIMS[0] and far <= VOLUME_AIMS[1]
                rows.append([stratum, name, metric, len(ratio), median, far, "yes" if reached else "no"])
    columns = ["stratum", "reference", "what", "defects", "median", "p95", "reached"]
    return pd.DataFrame(rows, columns=columns)

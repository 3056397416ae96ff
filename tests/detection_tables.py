"""Tables of stage `evaluate` that stage `detect` reads, made from arrays in exactly the columns of the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ct2vq.files import write_tsv

DETECTION = ["case_id", "model", "target", "reference", "definition", "image_bin", "low", "other", "reference_sum"]
DEFECTS = [
    *("case_id", "model", "reference", "target", "defect", "kind"),
    *("visible", "volume_ml", "overlap", "found"),
]
METRICS = [
    *("case_id", "model", "target", "metric", "region", "definition", "reference", "value", "unit", "reason"),
]


def binned(case: str, image: np.ndarray, reference: np.ndarray, low: np.ndarray, **names: str) -> pd.DataFrame:
    """The binned table of one image: values in 100 bins of 0..1, only bins that hold a voxel.

    Args:
        case: the case.
        image: synthesised values of the lung voxels.
        reference: their reference values.
        low: which of them are low in the reference.
        names: `model`, `target`, `reference_name`, `definition`.
    """
    bins = np.clip(np.floor(image * 100), 0, 99).astype(int)
    table = pd.DataFrame({"image_bin": bins, "low": low.astype(int), "other": 1 - low, "reference_sum": reference})
    table = table.groupby("image_bin")[["low", "other", "reference_sum"]].sum().reset_index()
    named = {"model": "m", "target": "perfusion", "reference_name": "spect", "definition": "p40"} | names
    named["reference"] = named.pop("reference_name")
    return table.assign(case_id=case, **named)[DETECTION]


def metric_rows(case: str, values: Mapping[tuple[str, str, str, str], float], reference: str = "spect") -> pd.DataFrame:
    """Rows of the long table from values by (model, target, metric, region)."""
    rows = [
        dict(zip(METRICS, (case, model, target, metric, region, "", reference, value, "1", ""), strict=True))
        for (model, target, metric, region), value in values.items()
    ]
    return pd.DataFrame(rows, columns=METRICS)


def defect_rows(case: str, rows: list[tuple[str, str, str, float]], **names: str) -> pd.DataFrame:
    """Defects of one model and reference from (kind, visible, found, overlap)."""
    named = {"model": "m", "reference": "truth", "target": "perfusion"} | names
    table = pd.DataFrame(rows, columns=["kind", "visible", "found", "overlap"])
    return table.assign(case_id=case, defect=range(1, len(rows) + 1), volume_ml=30.0, **named)[DEFECTS]


def folds_table(patients: Mapping[str, str], folds: int = 3) -> pd.DataFrame:
    """Folds by patient in turn."""
    of = {patient: index % folds + 1 for index, patient in enumerate(sorted(set(patients.values())))}
    rows = [(case, patient, "all", of[patient]) for case, patient in patients.items()]
    return pd.DataFrame(rows, columns=["case_id", "patient_id", "stratum", "fold"])


def write_study(
    folder: Path,
    detection: Mapping[str, pd.DataFrame],
    metrics: pd.DataFrame,
    defects: Mapping[str, pd.DataFrame],
    folds: pd.DataFrame,
) -> dict[str, object]:
    """Write the tables as stages `evaluate` and `split` do; the arguments of `detect` that name them."""
    files: dict[str, list[Path]] = {"detection": [], "defects": []}
    for name, tables, columns in (("detection", detection, DETECTION), ("defects", defects, DEFECTS)):
        for case in folds["case_id"]:
            files[name].append(folder / name / f"{case}.tsv")
            write_tsv(tables.get(case, pd.DataFrame(columns=columns)), files[name][-1])
    write_tsv(metrics, folder / "metrics.tsv")
    write_tsv(folds, folder / "folds.tsv")
    return {"tables": files, "metrics": folder / "metrics.tsv", "folds": folder / "folds.tsv"}

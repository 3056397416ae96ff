"""The four tables of stage `detect`. They are made from tables of stage `evaluate`; no image is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.detect import calibration, classification
from ct2vq.detect import defects as lesions
from ct2vq.detect.classification import classify, why_not
from ct2vq.detect.figures_of_merit import curve
from ct2vq.detect.questions import NAMES, Question, all_questions
from ct2vq.detect.scored import Members, VoxelCounts
from ct2vq.files import write_tsv
from ct2vq.names import SPECT

CURVE = ("threshold", "fpr", "tpr", "precision", "recall")


def detect(
    tables: Mapping[str, Sequence[Path]],
    metrics: Path,
    folds: Path,
    outputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    *,
    diagnoses: Mapping[str, str],
    models: Mapping[str, Sequence[str]],
    seed: int,
) -> None:
    """Write the tables of classification, curves, calibration and defects.

    Args:
        tables: by name (`detection`, `defects`) the tables of every case.
        metrics: the long table of stage `evaluate`.
        folds: the table of stage `split`.
        outputs: files to write: `detection`, `roc`, `calibration`, `defects`.
        settings: config block `detect`.
        diagnoses: diagnosis of each case that has one.
        models: targets of each model of the configuration: one without any table gets a row with a reason.
        seed: seed of the bootstrap.

    Raises:
        Ct2vqError: a case without a fold, a patient in two folds, a value bin that does not exist.
    """
    members = Members.read(folds)
    voxels = VoxelCounts.read(tables["detection"], members)
    rows, points = [], []
    for question in all_questions(voxels, metrics, members, settings, diagnoses=diagnoses, models=models):
        rows.append(question.names | classify(question.scored, settings, seed))
        points += _curve_rows(question, settings["curve_points"])
    write_tsv(pd.DataFrame(rows, columns=[*NAMES, *classification.COLUMNS]), outputs["detection"])
    write_tsv(pd.DataFrame(points, columns=[*NAMES, *CURVE]), outputs["roc"])
    write_tsv(_calibration(voxels, settings, seed), outputs["calibration"])
    write_tsv(_defects(tables["defects"], voxels, members, settings, seed), outputs["defects"])


def _curve_rows(question: Question, number: int) -> list[dict[str, Any]]:
    scored = question.scored
    if why_not(scored):
        return []
    points = curve(scored.values, scored.positive.sum(axis=0), scored.negative.sum(axis=0), number)
    points["threshold"] = scored.sign * points["threshold"]
    return [
        question.names | dict(zip(CURVE, row, strict=True)) for row in np.column_stack([points[name] for name in CURVE])
    ]


def _calibration(voxels: VoxelCounts, settings: Mapping[str, Any], seed: int) -> pd.DataFrame:
    rows = []
    for (model, target, reference), values in voxels.values.items():
        here = calibration.calibrate_values(*values.weighted(), settings, seed)
        for definition in voxels.definitions(model, target, reference):
            low, other = voxels.low[model, target, reference, definition].weighted()
            here += calibration.calibrate_share(low, other, definition, settings, seed)
        rows += [{"model": model, "target": target, "reference": reference} | row for row in here]
    return pd.DataFrame(rows, columns=["model", "target", "reference", *calibration.COLUMNS]).astype({"bin": "Int64"})


def _defects(
    tables: Sequence[Path], voxels: VoxelCounts, members: Members, settings: Mapping[str, Any], seed: int
) -> pd.DataFrame:
    counts = lesions.count_defects(tables, members)
    references = {SPECT, *counts["reference"]}
    found = {key: rows for key, rows in counts.groupby(lesions.KEYS, sort=False)}
    rows = []
    for key in dict.fromkeys([*(key for key in voxels.values if key[2] in references), *found]):
        of_key = found.get(key, counts.iloc[:0])
        judged = lesions.judged_cases(of_key, voxels.cases(key))
        names = dict(zip(lesions.KEYS, key, strict=True))
        rows += [names | row for row in lesions.judge_defects(of_key, judged, settings, seed)]
    return pd.DataFrame(rows, columns=lesions.COLUMNS).astype({"found": "Int64"})

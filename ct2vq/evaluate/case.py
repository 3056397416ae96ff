"""All tables of one case: its images are read once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.evaluate import lesions
from ct2vq.evaluate.arms import score_arms
from ct2vq.evaluate.curves import DENSITY_COLUMNS, DETECTION_COLUMNS, density_rows, detection_rows
from ct2vq.evaluate.images import CaseImages, read_images
from ct2vq.evaluate.lesions import lesion_rows
from ct2vq.evaluate.scores import Row, score_case
from ct2vq.evaluate.truth import KnownTruth, carry_truth
from ct2vq.files import write_rows

logger = logging.getLogger(__name__)

COLUMNS = (
    "case_id",
    "model",
    "target",
    "metric",
    "region",
    "definition",
    "reference",
    "value",
    "unit",
    "reason",
)


def evaluate_case(
    case_id: str,
    files: Mapping[str, Path],
    outputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, str]],
    *,
    truth: KnownTruth | None = None,
    truth_outputs: Mapping[str, Path] | None = None,
) -> None:
    """Write the tables of one case: metrics, histograms for curves, defects; of a simulated one its truth too.

    Args:
        case_id: the case.
        files: volumes by name, as `read_images` takes them.
        outputs: TSV files to write: `metrics`, `density`, `detection`, `defects`.
        settings: config block `evaluate`.
        arms: what predicts both targets (`ct2vq.config.vq_arms`).
        truth: what is known of a simulated case; it then is a reference.
        truth_outputs: volumes to write of it, by the names of `carry_truth`.

    Raises:
        GeometryError: no lungs, or an image that is not on the grid where it must be.
    """
    known = dict(truth_outputs or {})
    if truth is not None:
        carry_truth(truth, files["lungs"], known)
    case = read_images(case_id, {**files, **known}, settings)
    metrics = metric_rows(case, settings, arms)
    missing = Counter(row["reason"] for row in metrics if row["reason"])
    logger.info("%s: %s metrics, %s of them missing", case_id, len(metrics), missing.total())
    for reason, count in missing.most_common():
        logger.info("%s: %s missing, because: %s", case_id, count, reason)
    write_rows(([row[column] for column in COLUMNS] for row in metrics), COLUMNS, outputs["metrics"])
    write_rows(density_rows(case), DENSITY_COLUMNS, outputs["density"])
    write_rows(detection_rows(case, settings), DETECTION_COLUMNS, outputs["detection"])
    write_rows(lesion_rows(case, settings), lesions.COLUMNS, outputs["defects"])


def metric_rows(case: CaseImages, settings: Mapping[str, Any], arms: Mapping[str, Mapping[str, str]]) -> list[Row]:
    """Every metric of a case, one fact a row (`COLUMNS`); a value that is missing is NaN and has a reason."""
    return [*score_case(case, settings), *score_arms(case, arms, settings)]

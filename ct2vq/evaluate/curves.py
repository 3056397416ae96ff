"""Histograms of a case's voxels, of which curves over all cases are made without reading an image again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ct2vq.config import detection_definitions
from ct2vq.evaluate.images import CaseImages
from ct2vq.metrics.thresholds import low_and_high, read_thresholds
from ct2vq.metrics.value import RegionValues
from ct2vq.names import SPECT, TRUTH

DENSITY_COLUMNS = ("case_id", "model", "target", "image_bin", "reference_bin", "voxels")
DETECTION_COLUMNS = (
    "case_id",
    "model",
    "target",
    "reference",
    "definition",
    "image_bin",
    "low",
    "other",
    "reference_sum",
)
#: bins of the values 0 to 1 in the joint histogram with SPECT, and of a detector's threshold
DENSITY_BINS, DETECTION_BINS = 40, 100
#: what low function is detected against
_DETECTED_IN = (SPECT, TRUTH)


def bin_of(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin 0 to `bins - 1` of each value, 0 to 1 in bins of equal width; values beyond fall into the last one."""
    return np.clip(np.floor(values * bins), 0, bins - 1).astype(np.int64)


def density_rows(case: CaseImages) -> list[tuple[Any, ...]]:
    """How many voxels of the lungs have a value in the image and one in the SPECT (`DENSITY_COLUMNS`).

    Bins without voxels have no rows. Images with values that are not finite have no rows.
    """
    inside, models, rows = case.regions.inside, case.models(), []
    for model, target, reference in case.pairs():
        if reference != SPECT:
            continue
        image, spect = models[model, target][inside], case.images[SPECT, target][inside]
        if not (np.isfinite(image).all() and np.isfinite(spect).all()):
            continue
        joint = np.bincount(
            bin_of(image, DENSITY_BINS) * DENSITY_BINS + bin_of(spect, DENSITY_BINS), minlength=DENSITY_BINS**2
        )
        rows += [
            (case.case_id, model, target, int(k) // DENSITY_BINS, int(k) % DENSITY_BINS, int(joint[k]))
            for k in np.flatnonzero(joint)
        ]
    return rows


def detection_rows(case: CaseImages, settings: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """How many voxels of each value of the image have low function in the reference (`DETECTION_COLUMNS`).

    `low` and `other` add up to the lungs' voxels over the bins of a model, target, reference and definition;
    `reference_sum` is the sum of the reference's values in the bin. An image or a reference without a metric (constant,
    values that are not finite) has no rows: it tells nothing, which is not the same as telling nothing right.

    Args:
        case: images on the evaluation grid.
        settings: config block `evaluate`.
    """
    inside, models, rows = case.regions.inside, case.models(), []
    wanted = set(detection_definitions(settings))
    thresholds = [one for one in read_thresholds(settings["function_thresholds"]) if one.name in wanted]
    references = {key: RegionValues.of(image, inside) for key, image in case.images.items() if key[0] in _DETECTED_IN}
    low = {
        (key, threshold.name): low_and_high(values, threshold)[0]
        for key, values in references.items()
        for threshold in thresholds
        if not values.problem
    }
    images = {key: RegionValues.of(image, inside) for key, image in models.items()}
    for model, target, reference in case.pairs():
        image, known = images[model, target], (reference, target)
        if known not in references or references[known].problem or image.problem:
            continue
        bins = bin_of(image.values, DETECTION_BINS)
        voxels = np.bincount(bins, minlength=DETECTION_BINS)
        sums = np.bincount(bins, weights=references[known].values, minlength=DETECTION_BINS)
        for threshold in thresholds:
            below = np.bincount(bins[low[known, threshold.name]], minlength=DETECTION_BINS)
            rows += [
                (
                    case.case_id,
                    model,
                    target,
                    reference,
                    threshold.name,
                    int(k),
                    int(below[k]),
                    int(voxels[k] - below[k]),
                    float(sums[k]),
                )
                for k in np.flatnonzero(voxels)
            ]
    return rows

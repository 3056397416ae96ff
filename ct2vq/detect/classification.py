"""Low function, disease or not: every figure at thresholds that never saw the patients they are applied to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ct2vq.detect.figures_of_merit import AT_THRESHOLD, OVER_THRESHOLDS, at_threshold, auprc, auroc, best_threshold
from ct2vq.detect.resampling import Resamples, Support, told_bounds
from ct2vq.detect.scored import Scored
from ct2vq.intervals import LEAST_EVENTS

#: figure that looks at one patient at a time: the mean over patients of each one's own AUROC
WITHIN = "auroc_within"
FIGURES = (*AT_THRESHOLD, *OVER_THRESHOLDS, WITHIN)
COUNTS = ("n_patients", "n", "n_positive", "missing", "prevalence", "threshold", "threshold_min", "threshold_max")
#: columns of a classification's row, after those that name it
COLUMNS = (*COUNTS, *(f"{figure}{end}" for figure in FIGURES for end in ("", "_low", "_high")), "reason")


def classify(scored: Scored, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Figures with intervals; what cannot be computed is missing, with a reason.

    The threshold of a fold is the best one on the patients of all other folds. Figures at a threshold come from the
    2 x 2 table summed over all patients, each at the threshold of the own fold; figures over all thresholds from the
    scores of all patients together. Intervals resample tested patients and leave the thresholds as they are.

    Args:
        scored: counts of each patient.
        settings: config block `detect`.
        seed: seed of the bootstrap.

    Returns:
        The columns `COLUMNS`.
    """
    row = dict.fromkeys(COLUMNS, np.nan) | _counts(scored) | {"reason": why_not(scored)}
    if row["reason"]:
        return row
    chosen = fold_thresholds(scored)
    row |= _described(scored.sign * np.array(list(chosen.values())))
    tables = confusion(scored, chosen)
    own = auroc(scored.positive, scored.negative)
    within = np.column_stack([np.nan_to_num(own), np.isfinite(own)])
    arrays = (tables, scored.positive, scored.negative, within)
    estimates = _figures(*(array.sum(axis=0, keepdims=True) for array in arrays))
    bounds = Resamples.of(len(scored.folds), settings, seed).intervals(_figures, *arrays)
    support = _support(*arrays)
    for name in FIGURES:
        row[name] = float(estimates[name][0])
        low, high = told_bounds(row[name], bounds[name], support[name], settings["confidence"])
        row[f"{name}_low"], row[f"{name}_high"] = low, high
    return row | {"reason": _remarks(row, chosen, support)}


def why_not(scored: Scored) -> str:
    """Why nothing can be classified, or an empty string."""
    if scored.reason:
        return scored.reason
    if not scored.number:
        return "nothing has both a score and a reference"
    if not scored.positive.sum():
        return "no positive"
    if not scored.negative.sum():
        return "no negative"
    return ""


def fold_thresholds(scored: Scored) -> dict[int, float]:
    """For each fold the best threshold on the patients of the others; NaN where those are of one class."""
    thresholds = {}
    for fold in np.unique(scored.folds):
        others = scored.folds != fold
        counts = scored.positive[others].sum(axis=0), scored.negative[others].sum(axis=0)
        thresholds[int(fold)] = best_threshold(scored.values, *counts)
    return thresholds


def confusion(scored: Scored, thresholds: Mapping[int, float]) -> np.ndarray:
    """True and false positives, false and true negatives of each patient `(P, 4)` at the threshold of the own fold.

    Patients of a fold without a threshold count nothing.
    """
    own = np.array([thresholds[int(fold)] for fold in scored.folds])[:, None]
    low, not_low = scored.values[None] < own, scored.values[None] >= own
    return np.column_stack(
        [
            (scored.positive * low).sum(axis=1),
            (scored.negative * low).sum(axis=1),
            (scored.positive * not_low).sum(axis=1),
            (scored.negative * not_low).sum(axis=1),
        ]
    )


def _figures(tables: np.ndarray, positive: np.ndarray, negative: np.ndarray, within: np.ndarray) -> dict[str, Any]:
    figures = at_threshold(*np.moveaxis(tables, -1, 0))
    figures |= {"auroc": auroc(positive, negative), "auprc": auprc(positive, negative)}
    own_sum, own_number = np.moveaxis(within, -1, 0)
    return figures | {WITHIN: np.divide(own_sum, own_number, out=np.full(own_sum.shape, np.nan), where=own_number > 0)}


def _support(tables: np.ndarray, positive: np.ndarray, negative: np.ndarray, within: np.ndarray) -> dict[str, Support]:
    """What each figure rests on: patients with either outcome of a share, else those of the rarer class."""
    tp, fp, fn, tn = tables.T

    def rarer(*classes: np.ndarray) -> Support:
        return Support(min(int((counts > 0).sum()) for counts in classes), LEAST_EVENTS)

    return {
        "sensitivity": Support.of_share(tp, tp + fn),
        "specificity": Support.of_share(tn, tn + fp),
        "accuracy": Support.of_share(tp + tn, tables.sum(axis=1)),
        "ppv": Support.of_share(tp, tp + fp),
        "npv": Support.of_share(tn, tn + fn),
        "f1": rarer(tp + fn),
        "balanced_accuracy": rarer(tp + fn, tn + fp),
        "auroc": rarer(positive.sum(axis=1), negative.sum(axis=1)),
        "auprc": rarer(positive.sum(axis=1), negative.sum(axis=1)),
        WITHIN: Support(int((within[:, 1] > 0).sum())),
    }


def _remarks(row: Mapping[str, Any], chosen: Mapping[int, float], support: Mapping[str, Support]) -> str:
    """What is missing although the rest is there: folds without a threshold, intervals of few patients."""
    remarks = []
    untold = sorted(fold for fold, threshold in chosen.items() if np.isnan(threshold))
    if untold:
        remarks.append(
            f"no threshold for fold {', '.join(map(str, untold))}: all other patients are of one class; these patients "
            "count only in figures over all thresholds"
        )
    few = support["auroc"]
    if few.patients < few.least and np.isnan(row["auroc_low"]):
        remarks.append(
            f"no interval of AUROC and AUPRC: {few.patients} patients of the rarer class, {few.least} needed"
        )
    elif np.isnan(row["auroc_low"]) and np.isfinite(row["accuracy_low"]):
        remarks.append("no interval of AUROC: all resamples give the same")
    return "; ".join(remarks)


def _counts(scored: Scored) -> dict[str, Any]:
    positive, negative = scored.positive.sum(), scored.negative.sum()
    return {
        "n_patients": len(scored.folds),
        "n": scored.number,
        "n_positive": scored.number_positive,
        "missing": scored.missing,
        "prevalence": positive / (positive + negative) if positive + negative else np.nan,
    }


def _described(thresholds: np.ndarray) -> dict[str, float]:
    known = np.sort(thresholds[~np.isnan(thresholds)])
    if not known.size:
        return {}
    # the median as one of the thresholds in use, also where some are infinite
    return {"threshold": known[(known.size - 1) // 2], "threshold_min": known[0], "threshold_max": known[-1]}

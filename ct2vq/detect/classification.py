"""Low function, disease or not: every figure at thresholds that never saw the patients they are applied to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ct2vq.detect.figures_of_merit import AT_THRESHOLD, OVER_THRESHOLDS, at_threshold, auprc, auroc, best_threshold
from ct2vq.detect.resampling import Resamples, told_bounds
from ct2vq.detect.scored import Scored

#: figure that looks at one patient at a time: the mean over patients of each one's own AUROC
WITHIN = "auroc_within"
#: figures that are shares of observations
SHARES = ("sensitivity", "specificity", "accuracy", "ppv", "npv")
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
    contributing = _contributing(*arrays)
    for name in FIGURES:
        row[name] = float(estimates[name][0])
        row[f"{name}_low"], row[f"{name}_high"] = told_bounds(
            row[name], bounds[name], contributing[name], settings["confidence"], share=name in SHARES
        )
    untold = sorted(fold for fold, threshold in chosen.items() if np.isnan(threshold))
    if untold:
        row["reason"] = (
            f"no threshold for fold {', '.join(map(str, untold))}: all other patients are of one class; these patients "
            "count only in figures over all thresholds"
        )
    return row


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


def _contributing(tables: np.ndarray, positive: np.ndarray, negative: np.ndarray, within: np.ndarray) -> dict[str, int]:
    """Patients who contribute to each figure; where two classes are needed, those of the rarer one."""
    tp, fp, fn, tn = tables.T

    def number(counts: np.ndarray) -> int:
        return int((counts > 0).sum())

    both = min(number(positive.sum(axis=1)), number(negative.sum(axis=1)))
    return {
        "sensitivity": number(tp + fn),
        "specificity": number(tn + fp),
        "accuracy": number(tables.sum(axis=1)),
        "ppv": number(tp + fp),
        "npv": number(tn + fn),
        "f1": number(tp + fp + fn),
        "balanced_accuracy": min(number(tp + fn), number(tn + fp)),
        "auroc": both,
        "auprc": both,
        WITHIN: number(within[:, 1]),
    }


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

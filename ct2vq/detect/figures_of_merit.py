"""Figures of a classification from counts. The last axis of every array is the score's, ascending; low is positive."""

from __future__ import annotations

import numpy as np

#: figures at a threshold, in the order of the table
AT_THRESHOLD = ("sensitivity", "specificity", "accuracy", "ppv", "npv", "f1", "balanced_accuracy")
#: figures over all thresholds
OVER_THRESHOLDS = ("auroc", "auprc")
#: balanced accuracies that differ by less are equal
TIE = 1e-12


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, missing (NaN) where nothing is counted."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def at_threshold(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of 2 x 2 tables (names of `AT_THRESHOLD`); missing where a denominator is empty.

    Balanced accuracy is the mean of sensitivity and specificity (Brodersen et al. 2010, ICPR 3121).
    """
    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        "ppv": ratio(tp, tp + fp),
        "npv": ratio(tn, tn + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
    }


def auroc(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the probability that a positive scores lower than a negative, ties counting half.

    Equal to the Mann-Whitney statistic over the number of pairs (Hanley and McNeil 1982, Radiology 143:29).
    """
    above = negative.sum(axis=-1, keepdims=True) - np.cumsum(negative, axis=-1)
    pairs = positive.sum(axis=-1) * negative.sum(axis=-1)
    return ratio((positive * (above + negative / 2)).sum(axis=-1), pairs)


def auprc(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Average precision: precision weighted by the gain in recall at each score, without interpolation.

    Linear interpolation between points of the curve would be too optimistic (Davis and Goadrich 2006, ICML 233).
    """
    found = np.cumsum(positive, axis=-1)
    called = found + np.cumsum(negative, axis=-1)
    precision = np.divide(found, called, out=np.zeros(found.shape), where=called > 0)
    total = ratio((positive * precision).sum(axis=-1), positive.sum(axis=-1))
    return np.where(negative.sum(axis=-1) > 0, total, np.nan)


def cuts(values: np.ndarray) -> np.ndarray:
    """Thresholds that tell scores apart: none below, half way between neighbours, all below. `values` are ascending."""
    return np.concatenate([[-np.inf], (values[:-1] + values[1:]) / 2, [np.inf]])


def best_threshold(values: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """The threshold of the largest balanced accuracy; what scores below it is called positive.

    Of several the lowest, which calls fewest positive, is taken. Only scores that occur are looked at, so that the
    answer depends on nothing but the given counts.

    Args:
        values: `(K,)` scores, ascending.
        positive: `(K,)` positives at each score.
        negative: `(K,)` negatives at each score.

    Returns:
        The threshold, NaN where one class is empty.
    """
    occurs = (positive + negative) > 0
    values, positive, negative = values[occurs], positive[occurs], negative[occurs]
    if not (positive.sum() > 0 and negative.sum() > 0):
        return np.nan
    found = np.concatenate([[0.0], np.cumsum(positive)]) / positive.sum()
    false = np.concatenate([[0.0], np.cumsum(negative)]) / negative.sum()
    balanced = (found + 1 - false) / 2
    return float(cuts(values)[np.flatnonzero(balanced >= balanced.max() - TIE)[0]])


def curve(values: np.ndarray, positive: np.ndarray, negative: np.ndarray, points: int) -> dict[str, np.ndarray]:
    """The ROC and precision-recall curve, at no more than `points` thresholds.

    Thinned points lie evenly along the ROC curve (by its path fpr + tpr); both ends stay.

    Returns:
        Arrays `threshold`, `fpr`, `tpr`, `precision` (NaN where nothing is called), `recall`.
    """
    occurs = (positive + negative) > 0
    values, positive, negative = values[occurs], positive[occurs], negative[occurs]
    tp, fp = (np.concatenate([[0.0], np.cumsum(counts)]) for counts in (positive, negative))
    tpr, fpr = tp / tp[-1], fp / fp[-1]
    at = np.arange(tp.size)
    if at.size > points:
        path = tpr + fpr
        at = np.unique(np.abs(path[:, None] - np.linspace(0, 2, points)).argmin(axis=0))
        at = np.unique(np.concatenate([[0], at[1:-1], [tp.size - 1]]))
    return {
        "threshold": cuts(values)[at],
        "fpr": fpr[at],
        "tpr": tpr[at],
        "precision": ratio(tp, tp + fp)[at],
        "recall": tpr[at],
    }

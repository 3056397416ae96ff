"""Figures from counts against scikit-learn on expanded scores, small tables by hand, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from ct2vq.detect.figures_of_merit import (
    AT_THRESHOLD,
    at_threshold,
    auprc,
    auroc,
    best_threshold,
    curve,
    cuts,
)

COUNTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=15).filter(
    lambda pairs: sum(p for p, _ in pairs) and sum(n for _, n in pairs)
)


def split(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    positive, negative = np.array(pairs, dtype=float).T
    return positive, negative


def expanded(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and values, one for each count; values are the indices of the bins."""
    bins = np.arange(positive.size)
    values = np.concatenate([np.repeat(bins, positive.astype(int)), np.repeat(bins, negative.astype(int))])
    return np.repeat([1, 0], [int(positive.sum()), int(negative.sum())]), values


@given(COUNTS)
def test_areas_are_scikit_learns_on_every_voxel(pairs: list[tuple[int, int]]) -> None:
    positive, negative = split(pairs)
    labels, values = expanded(positive, negative)
    assert auroc(positive, negative) == pytest.approx(metrics.roc_auc_score(labels, -values))
    assert auprc(positive, negative) == pytest.approx(metrics.average_precision_score(labels, -values))


@given(COUNTS, st.integers(0, 15))
def test_figures_at_a_threshold_are_scikit_learns(pairs: list[tuple[int, int]], cut: int) -> None:
    positive, negative = split(pairs)
    labels, values = expanded(positive, negative)
    called = values < cut
    tp, fp = positive[:cut].sum(), negative[:cut].sum()
    got = at_threshold(tp, fp, positive.sum() - tp, negative.sum() - fp)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, called, average="binary", zero_division=np.nan
    )
    expected = {
        "sensitivity": recall,
        "specificity": metrics.recall_score(labels, called, pos_label=0),
        "accuracy": metrics.accuracy_score(labels, called),
        "ppv": precision,
        "npv": metrics.precision_score(labels, called, pos_label=0, zero_division=np.nan),
        "f1": f1,
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, called),
    }
    assert list(got) == list(AT_THRESHOLD) == list(expected)
    for name, value in expected.items():
        assert float(got[name]) == pytest.approx(value, nan_ok=True), name


def test_a_table_by_hand() -> None:
    got = {name: float(value) for name, value in at_threshold(30, 10, 20, 40).items()}
    assert got == pytest.approx(
        {
            "sensitivity": 0.6,
            "specificity": 0.8,
            "accuracy": 0.7,
            "ppv": 0.75,
            "npv": 2 / 3,
            "f1": 2 / 3,
            "balanced_accuracy": 0.7,
        }
    )


def test_what_has_no_denominator_is_missing_and_not_zero() -> None:
    got = {name: float(value) for name, value in at_threshold(0, 0, 0, 7).items()}
    missing = {name for name, value in got.items() if np.isnan(value)}
    assert missing == {"sensitivity", "ppv", "f1", "balanced_accuracy"}
    assert (got["specificity"], got["accuracy"], got["npv"]) == (1, 1, 1)
    nothing = np.zeros(3)
    assert np.isnan(auroc(nothing, np.ones(3))) and np.isnan(auroc(np.ones(3), nothing))
    assert np.isnan(auprc(nothing, np.ones(3))) and np.isnan(auprc(np.ones(3), nothing))


@given(COUNTS, st.lists(st.integers(0, 3), min_size=15, max_size=15))
def test_areas_see_the_order_of_values_only(pairs: list[tuple[int, int]], gaps: list[int]) -> None:
    """A monotone map of the bins (here: moved apart, with empty bins between) changes neither area."""
    positive, negative = split(pairs)
    at = np.arange(positive.size) + np.cumsum(gaps[: positive.size])
    moved = np.zeros((2, at[-1] + 1))
    moved[:, at] = positive, negative
    assert auroc(*moved) == pytest.approx(auroc(positive, negative), abs=1e-12)
    assert auprc(*moved) == pytest.approx(auprc(positive, negative), abs=1e-12)


@given(COUNTS)
def test_complements(pairs: list[tuple[int, int]]) -> None:
    positive, negative = split(pairs)
    assert auroc(negative, positive) == pytest.approx(1 - auroc(positive, negative))
    assert auroc(positive[::-1], negative[::-1]) == pytest.approx(1 - auroc(positive, negative))
    # what is not low, told by high values, is the same question
    assert auroc(negative[::-1], positive[::-1]) == pytest.approx(auroc(positive, negative))


@given(COUNTS, st.floats(0.1, 50))
def test_weights_have_no_unit(pairs: list[tuple[int, int]], weight: float) -> None:
    positive, negative = split(pairs)
    values = np.arange(positive.size, dtype=float)
    assert auroc(weight * positive, weight * negative) == pytest.approx(auroc(positive, negative))
    same = best_threshold(values, positive, negative)
    assert best_threshold(values, weight * positive, weight * negative) == same


@given(COUNTS)
def test_the_best_threshold_is_best_and_the_lowest_of_the_best(pairs: list[tuple[int, int]]) -> None:
    positive, negative = split(pairs)
    values = np.arange(positive.size) / 10
    chosen = best_threshold(values, positive, negative)

    def balanced(threshold: float) -> float:
        low = values < threshold
        return (positive[low].sum() / positive.sum() + negative[~low].sum() / negative.sum()) / 2

    everywhere = {float(cut): balanced(cut) for cut in cuts(values)}
    best = max(everywhere.values())
    assert balanced(chosen) == pytest.approx(best)
    fewest = min((values < cut).sum() for cut, value in everywhere.items() if value == pytest.approx(best))
    occurs = positive + negative > 0
    assert ((values < chosen) & occurs).sum() == ((values < values.size) & occurs)[: int(fewest)].sum()


def test_a_tie_calls_fewer_low() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4])
    # cutting after the first or after the third value gives 0.75 both times
    assert best_threshold(values, np.array([1.0, 0, 1, 0]), np.array([0, 1.0, 0, 1])) == pytest.approx(0.15)
    assert best_threshold(values, np.array([0.0, 0, 1, 1]), np.array([1.0, 1, 0, 0])) == -np.inf
    assert np.isnan(best_threshold(values, np.ones(4), np.zeros(4)))


@given(COUNTS)
def test_the_whole_curve_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    positive, negative = split(pairs)
    labels, values = expanded(positive, negative)
    points = curve(np.arange(positive.size, dtype=float), positive, negative, 1000)
    fpr, tpr, _ = metrics.roc_curve(labels, -values, drop_intermediate=False)
    assert points["fpr"] == pytest.approx(fpr) and points["tpr"] == pytest.approx(tpr)
    precision, recall, _ = metrics.precision_recall_curve(labels, -values)
    assert points["recall"][1:] == pytest.approx(recall[-2::-1])
    assert points["precision"][1:] == pytest.approx(precision[-2::-1])
    assert np.isnan(points["precision"][0])


def test_a_thinned_curve_keeps_its_ends_and_its_area() -> None:
    generator = np.random.default_rng(3)
    values = np.sort(generator.normal(size=3000))
    low = generator.random(3000) < 1 / (1 + np.exp(2 * values))
    positive, negative = low.astype(float), 1.0 - low
    points = curve(values, positive, negative, 200)
    assert 150 < points["fpr"].size <= 200
    assert (points["fpr"][0], points["tpr"][0], points["fpr"][-1], points["tpr"][-1]) == (0, 0, 1, 1)
    assert (np.diff(points["threshold"]) > 0).all()
    assert np.trapezoid(points["tpr"], points["fpr"]) == pytest.approx(auroc(positive, negative), abs=2e-3)

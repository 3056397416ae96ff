"""Coefficients of agreement are those of published examples and of other people's libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from answered_study import make_study
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from ct2vq.detect.resampling import Resamples
from ct2vq.read.agreement import (
    ACROSS,
    BETWEEN,
    ONE_READER,
    SAME_CATEGORY,
    WITHIN,
    Ratings,
    agreement_table,
    coefficients,
    icc_2_1,
    intraclass,
)
from ct2vq.read.agreement import _icc_sums as icc_sums

#: Shrout & Fleiss, Psychol Bull 1979;86:420, table 2: six targets, four judges
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
#: Krippendorff's example with missing answers (Computing Krippendorff's alpha-reliability, 2011), twelve units, four
#: observers; the coefficients are Gwet's (Handbook of Inter-Rater Reliability, 2014)
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
).T


def resamples(patients: int) -> Resamples:
    return Resamples(patients, 200, 0.95, 1)


def told(codes: np.ndarray, values: list[int], *, ordinal: bool, patients: np.ndarray | None = None) -> dict:
    ratings = Ratings(codes, np.arange(len(codes)) if patients is None else patients, values, ordinal)
    return {row["statistic"]: row for row in coefficients(ratings, resamples)}


def test_published_intraclass_correlation() -> None:
    ratings = Ratings(JUDGES - 1, np.arange(6), list(range(1, 11)), True)
    found = intraclass(ratings, resamples)
    assert found["value"] == pytest.approx(0.29, abs=0.005) and found["interval"] == "F"
    assert (found["low"], found["high"]) == pytest.approx((0.02, 0.76), abs=0.005)
    sums = icc_sums(JUDGES.astype(float), np.arange(6)).sum(axis=0)
    assert icc_2_1(sums, 4) == pytest.approx(found["value"], abs=1e-12)


def test_published_gwet_and_fleiss_with_missing_answers() -> None:
    nominal = told(OBSERVERS - 1, [1, 2, 3, 4, 5], ordinal=False)
    assert nominal["Gwet's AC"]["value"] == pytest.approx(0.775, abs=5e-4)
    assert nominal["Fleiss' kappa"]["value"] == pytest.approx(0.761, abs=5e-4)
    assert nominal["exact agreement"]["value"] == pytest.approx(0.818, abs=5e-4)
    assert nominal["Gwet's AC"]["n"] == 11, "a unit with one answer cannot agree"
    ordinal = told(OBSERVERS - 1, [1, 2, 3, 4, 5], ordinal=True)
    assert (
        ordinal["Gwet's AC"]["value"] == pytest.approx(0.914, abs=5e-4)
        and ordinal["Gwet's AC"]["weights"] == "quadratic"
    )


def test_kappas_are_those_of_libraries() -> None:
    generator = np.random.default_rng(2)
    codes = np.clip(generator.integers(0, 4, (40, 1)) + generator.integers(-1, 2, (40, 3)), 0, 4)
    ordinal, nominal = (told(codes, [1, 2, 3, 4, 5], ordinal=flag) for flag in (True, False))
    pairs = [(0, 1), (0, 2), (1, 2)]
    for found, weights in ((ordinal, "quadratic"), (nominal, None)):
        expected = [cohen_kappa_score(codes[:, a], codes[:, b], labels=range(5), weights=weights) for a, b in pairs]
        assert found["Cohen's kappa"]["value"] == pytest.approx(np.mean(expected), abs=1e-12)
        assert found["Cohen's kappa"]["low"] < np.mean(expected) < found["Cohen's kappa"]["high"]
    table, _ = aggregate_raters(codes, 5)
    assert nominal["Fleiss' kappa"]["value"] == pytest.approx(fleiss_kappa(table), abs=1e-12)


def test_a_patient_with_many_cases_widens_the_interval() -> None:
    generator = np.random.default_rng(4)
    codes = np.clip(generator.integers(0, 4, (12, 1)) + generator.integers(-1, 2, (12, 2)), 0, 4)
    once = told(codes, [1, 2, 3, 4, 5], ordinal=True)
    copied = told(np.repeat(codes, 3, axis=0), [1, 2, 3, 4, 5], ordinal=True, patients=np.repeat(np.arange(12), 3))
    for name in ("Cohen's kappa", "Gwet's AC"):
        assert copied[name]["value"] == pytest.approx(once[name]["value"])
        assert (copied[name]["low"], copied[name]["high"]) == pytest.approx((once[name]["low"], once[name]["high"]))
    assert copied["ICC(2,1)"]["interval"] == "bootstrap"


def test_one_category_is_missing_with_a_reason_and_gwet_is_not() -> None:
    found = told(np.full((8, 3), 3), [1, 2, 3, 4, 5], ordinal=True)
    assert np.isnan(found["Cohen's kappa"]["value"]) and found["Cohen's kappa"]["reason"] == SAME_CATEGORY
    assert np.isnan(found["ICC(2,1)"]["value"]) and "do not vary" in found["ICC(2,1)"]["reason"]
    assert found["Gwet's AC"]["value"] == 1 and np.isnan(found["Gwet's AC"]["low"]) and found["Gwet's AC"]["reason"]
    assert found["exact agreement"]["value"] == 1
    nothing = told(np.full((5, 2), -1), [1, 2], ordinal=True)
    assert all(np.isnan(row["value"]) and row["reason"] for row in nothing.values())
    few = told(np.array([[0, 1], [1, 1]]), [1, 2], ordinal=True)
    assert "at least" in few["ICC(2,1)"]["reason"] and "patients" in few["exact agreement"]["reason"]


def test_between_within_and_across(tmp_path: Path) -> None:
    study = make_study(tmp_path, repeats=0.5)
    reading = study.load([study.answer(reader) for reader in study.readers], bootstrap=50)
    table = agreement_table(reading)
    assert set(table["kind"]) == {BETWEEN, WITHIN, ACROSS} and (table["readers"] == "simulated").all()
    all_ = table[
        (table["group"] == "all") & (table["statistic"] == "exact agreement") & (table["question"] == "diagnosis")
    ]
    assert all_.set_index(["kind", "source"])["n"].to_dict() == {
        (BETWEEN, "real"): 12,
        (BETWEEN, "synthesised"): 12,
        (WITHIN, "both"): 36,
        (ACROSS, "both"): 36,
    }
    resident = table[(table["group"] == "resident") & (table["kind"] == BETWEEN)]
    assert (resident["reason"] == ONE_READER).all() and resident["value"].isna().all()
    missing = table[table["value"].isna()]
    assert (missing["reason"].fillna("") != "").all()

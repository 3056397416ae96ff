"""Defects found and invented, counted by hand; patients are drawn with everything they have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from detection_tables import DEFECTS, defect_rows

from ct2vq.config import complete_config
from ct2vq.detect.defects import count_defects, judge_defects, judged_cases
from ct2vq.detect.scored import Members
from ct2vq.files import write_tsv
from ct2vq.intervals import wilson

SETTINGS = complete_config({"study": "x", "detect": {"bootstrap": 500}})["detect"]
CASES = {"a1": "a", "a2": "a", "b1": "b", "c1": "c", "d1": "d"}
MEMBERS = Members(CASES, dict.fromkeys("abcd", 1))
JUDGED = {patient: [case for case, of in CASES.items() if of == patient] for patient in "abcd"}
ROWS = {
    "a1": [("embolism", "yes", "yes", 0.8), ("embolism", "no", "no", 0.1), ("false", "", "n/a", np.nan)],
    "a2": [("embolism", "no", "no", 0.0), ("false", "", "n/a", np.nan), ("false", "", "n/a", np.nan)],
    "b1": [("embolism", "no", "yes", 0.6), ("emphysema", "yes", "yes", 0.5)],
    "c1": [("false", "", "n/a", np.nan)],
}


@pytest.fixture
def counts(tmp_path: Path) -> pd.DataFrame:
    paths = []
    for case in CASES:
        paths.append(tmp_path / f"{case}.tsv")
        table = defect_rows(case, ROWS[case]) if case in ROWS else pd.DataFrame(columns=DEFECTS)
        write_tsv(table, paths[-1])
    return count_defects(paths, MEMBERS)


def test_by_hand(counts: pd.DataFrame) -> None:
    rows = {(row["kind"], row["visible"]): row for row in judge_defects(counts, JUDGED, SETTINGS, seed=1)}
    told = {key: (row["n_defects"], row.get("found"), row.get("sensitivity")) for key, row in rows.items()}
    assert told == {
        ("all", ""): (5, 3, 0.6),
        ("embolism", ""): (4, 2, 0.5),
        ("embolism", "no"): (3, 1, pytest.approx(1 / 3)),
        ("embolism", "yes"): (1, 1, 1.0),
        ("emphysema", ""): (1, 1, 1.0),
        ("emphysema", "yes"): (1, 1, 1.0),
        ("false", ""): (4, None, None),
    }
    assert rows["all", ""]["overlap"] == pytest.approx((0.8 + 0.1 + 0.6 + 0.5) / 5)
    # patients a: 3 in 2 cases, b: 0, c: 1, d: 0
    assert rows["false", ""]["false_per_case"] == pytest.approx((1.5 + 0 + 1 + 0) / 4)
    assert all((row["n_patients"], row["n_cases"]) == (4, 5) for row in rows.values())


def test_intervals_of_few_patients(counts: pd.DataFrame) -> None:
    rows = {(row["kind"], row["visible"]): row for row in judge_defects(counts, JUDGED, SETTINGS, seed=1)}
    assert np.isnan(rows["embolism", "yes"]["sensitivity_low"])  # one patient tells no spread
    # patients a (3 defects, 1 found) and b (1, found): worth 4**2 / (3**2 + 1**2) observations
    expected = wilson(0.5, 1.6, 0.95)
    one = rows["embolism", ""]
    assert (one["sensitivity_low"], one["sensitivity_high"]) == pytest.approx(expected)
    false = rows["false", ""]
    assert np.isnan(false["false_per_case_low"]) and false["reason"] == "no interval (patients: 4, needed: 6)"
    again = judge_defects(counts, JUDGED, SETTINGS, seed=1)
    assert str(again) == str(list(rows.values()))  # as text, because missing values equal nothing


def test_intervals_of_many_patients_draw_patients(tmp_path: Path) -> None:
    names = [f"c{number:02d}" for number in range(20)]
    paths = []
    for number, case in enumerate(names):
        found = [("embolism", "no", "yes" if number % 2 else "no", 0.5)] * (1 + number % 3)
        paths.append(tmp_path / f"{case}.tsv")
        write_tsv(defect_rows(case, [*found, *([("false", "", "n/a", np.nan)] * (number % 4 == 0))]), paths[-1])
    members = Members({case: case for case in names}, dict.fromkeys(names, 1))
    judged = {case: [case] for case in names}
    rows = judge_defects(count_defects(paths, members), judged, SETTINGS, seed=1)
    n = np.array([1 + number % 3 for number in range(20)])
    assert rows[0]["sensitivity"] == pytest.approx(n[1::2].sum() / n.sum())
    low, high = rows[0]["sensitivity_low"], rows[0]["sensitivity_high"]
    assert 0.2 < low < rows[0]["sensitivity"] < high < 0.8
    false = rows[-1]
    assert 0 <= false["false_per_case_low"] < 0.25 < false["false_per_case_high"] < 0.6 and false["reason"] == ""


def test_an_image_that_cannot_be_judged_and_has_no_defect_is_no_case_without_defects(tmp_path: Path) -> None:
    write_tsv(defect_rows("a1", [("unjudged", "", "", np.nan)]), tmp_path / "a1.tsv")
    counts = count_defects([tmp_path / "a1.tsv"], MEMBERS)
    judged = judged_cases(counts, JUDGED)
    assert judged["a"] == {"a2"} and len(judged) == 4
    rows = judge_defects(counts, judged, SETTINGS, seed=1)
    assert [row["kind"] for row in rows] == ["all", "false"], "it is no kind of defect"
    assert rows[0]["n_cases"] == 4


def test_more_defects_of_the_same_patients_do_not_shrink_the_interval(counts: pd.DataFrame) -> None:
    many = counts.assign(**{name: 10 * counts[name] for name in ("n", "found", "overlap")})
    once = judge_defects(counts, JUDGED, SETTINGS, seed=1)[0]
    often = judge_defects(many, JUDGED, SETTINGS, seed=1)[0]
    assert often["n_defects"] == 50
    for name in ("sensitivity", "sensitivity_low", "sensitivity_high"):
        assert often[name] == pytest.approx(once[name])


def test_cases_without_any_defect_count(counts: pd.DataFrame) -> None:
    known = {patient: cases for patient, cases in JUDGED.items() if patient != "c"}
    assert judged_cases(counts, known) == {patient: set(cases) for patient, cases in JUDGED.items()}
    nothing = judge_defects(counts.iloc[:0], JUDGED, SETTINGS, seed=1)
    assert [row["kind"] for row in nothing] == ["all", "false"]
    assert nothing[0]["reason"] == "the reference has no defect" and "sensitivity" not in nothing[0]
    assert nothing[1]["false_per_case"] == 0
    assert np.isnan(nothing[1]["false_per_case_high"])  # a bootstrap of zeros knows no bound


def test_an_image_that_cannot_be_judged_has_neither_found_nor_missed(tmp_path: Path) -> None:
    unjudged = [("embolism", "no", "", np.nan), ("embolism", "no", "", np.nan)]
    for case, rows in {"a1": unjudged, "b1": ROWS["b1"]}.items():
        write_tsv(defect_rows(case, rows), tmp_path / f"{case}.tsv")
    counts = count_defects([tmp_path / "a1.tsv", tmp_path / "b1.tsv"], MEMBERS)
    judged = judged_cases(counts, JUDGED)
    assert judged == {"a": {"a2"}, "b": {"b1"}, "c": {"c1"}, "d": {"d1"}}
    row = judge_defects(counts, judged, SETTINGS, seed=1)[0]
    assert (row["n_defects"], row["missing"], row["found"], row["sensitivity"]) == (2, 2, 2, 1)
    only = counts[counts["case_id"] == "a1"]
    row = judge_defects(only, {"d": ["d1"]}, SETTINGS, seed=1)[0]
    assert (row["n_defects"], row["missing"], row["reason"]) == (0, 2, "no image could be judged")

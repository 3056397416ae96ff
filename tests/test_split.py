"""Folds: patients stay whole, a growing cohort changes nobody's fold, and the strata are even."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.cohort import Case
from ct2vq.errors import ConfigError
from ct2vq.split import assign_folds, folds_table, read_folds, write_folds


def case(number: int, patient: int, diagnosis: str = "normal") -> Case:
    return Case(f"c{number}", f"p{patient}", {"ct": "a", "perfusion": "b"}, attributes={"diagnosis": diagnosis})


def one_each(number: int, diagnoses: str = "abc") -> list[Case]:
    return [case(n, n, diagnoses[n % len(diagnoses)]) for n in range(number)]


@st.composite
def cohorts(draw: st.DrawFn) -> list[Case]:
    """Up to 40 cases of fewer patients, each patient with one diagnosis."""
    patients = draw(st.lists(st.integers(0, 20), min_size=1, max_size=40))
    diagnosis = {patient: draw(st.sampled_from("abc")) for patient in sorted(set(patients))}
    return [case(n, patient, diagnosis[patient]) for n, patient in enumerate(patients)]


def patients_of(cases: list[Case]) -> int:
    return len({case.patient_id for case in cases})


@given(cohorts(), st.integers(2, 5), st.integers(0, 99))
def test_patients_are_whole_and_strata_even(cases: list[Case], folds: int, seed: int) -> None:
    if patients_of(cases) < folds:
        with pytest.raises(ConfigError, match=r"split\.folds"):
            assign_folds(cases, folds, seed, "diagnosis")
        return
    assigned = assign_folds(cases, folds, seed, "diagnosis")
    assert assigned.keys() == {case.case_id for case in cases}
    of_patient = defaultdict(set)
    for one in cases:
        of_patient[one.patient_id].add(assigned[one.case_id])
    assert all(len(found) == 1 for found in of_patient.values()), "a patient is split"
    strata = {one.patient_id: one.attributes["diagnosis"] for one in cases}
    for stratum in [*set(strata.values()), None]:
        sizes = Counter({fold: 0 for fold in range(1, folds + 1)})
        sizes.update(min(of_patient[p]) for p in of_patient if stratum in (None, strata[p]))
        assert set(sizes) == set(range(1, folds + 1))
        assert max(sizes.values()) - min(sizes.values()) <= 1, (stratum, sizes)


@given(cohorts(), cohorts(), st.integers(0, 99), st.randoms())
def test_a_growing_cohort_changes_nobodys_fold(first: list[Case], more: list[Case], seed: int, random) -> None:
    if patients_of(first) < 3:
        return
    before = assign_folds(first, 3, seed, "diagnosis")
    newcomers = [Case(f"n{one.case_id}", one.patient_id, one.sources, None, one.attributes) for one in more]
    together = [*first, *newcomers]
    random.shuffle(together)
    after = assign_folds(together, 3, seed, "diagnosis", kept=before)
    assert {name: after[name] for name in before} == before
    patients = {
        one.patient_id: {after[o.case_id] for o in together if o.patient_id == one.patient_id} for one in together
    }
    assert all(len(folds) == 1 for folds in patients.values())


@given(cohorts(), st.integers(0, 99), st.randoms())
def test_the_order_of_the_table_does_not_matter(cases: list[Case], seed: int, random) -> None:
    if patients_of(cases) < 2:
        return
    shuffled = list(cases)
    random.shuffle(shuffled)
    assert assign_folds(shuffled, 2, seed, "diagnosis") == assign_folds(cases, 2, seed, "diagnosis")


def test_the_seed_decides() -> None:
    cases = one_each(30)
    assert len({tuple(assign_folds(cases, 5, seed, "none").values()) for seed in range(5)}) == 5


def test_who_leaves_takes_no_other_with_him() -> None:
    cases = one_each(12)
    kept = assign_folds(cases, 3, 1, "diagnosis")
    fewer = assign_folds(cases[4:], 3, 1, "diagnosis", kept)
    assert fewer == {one.case_id: kept[one.case_id] for one in cases[4:]}


def test_a_newcomer_goes_where_his_stratum_is_rarest() -> None:
    cases = [case(n, n, "a") for n in range(4)]
    kept = {"c0": 1, "c1": 1, "c2": 2, "c3": 3}
    grown = assign_folds([*cases, case(4, 4, "b"), case(5, 5, "a")], 3, 0, "diagnosis", kept)
    assert grown["c4"] in (2, 3)
    assert grown["c5"] in (2, 3)
    assert grown["c4"] != grown["c5"]


def test_kept_folds_that_cannot_be() -> None:
    cases = [case(0, 0), case(1, 0), case(2, 1)]
    with pytest.raises(ConfigError, match="patient `p0` is split over folds 1 and 2"):
        assign_folds(cases, 2, 0, "none", {"c0": 1, "c1": 2})
    with pytest.raises(ConfigError, match="fold 9, but there are 2"):
        assign_folds(cases, 2, 0, "none", {"c0": 9})
    assert assign_folds(cases, 2, 0, "none", {"gone": 9, "c0": 2})["c1"] == 2


def test_the_table_and_the_file_that_outlives_it(tmp_path: Path) -> None:
    cases = one_each(6)
    folds = assign_folds(cases, 2, 0, "diagnosis")
    table = folds_table(cases, folds, "diagnosis")
    output, kept = tmp_path / "folds.tsv", tmp_path / "work" / "kept.tsv"
    write_folds(table, output, kept)
    assert output.read_text() == kept.read_text() == table
    assert read_folds(output) == folds
    assert table.splitlines()[0] == "case_id\tpatient_id\tstratum\tfold"

    grown = [*cases[2:], case(9, 9, "a")]
    more = assign_folds(grown, 2, 0, "diagnosis", read_folds(kept))
    write_folds(folds_table(grown, more, "diagnosis"), output, kept)
    assert read_folds(output) == more
    assert read_folds(kept) == folds | more, "cases that left stay in the file"
    back = assign_folds([*cases, case(9, 9, "a")], 2, 0, "diagnosis", read_folds(kept))
    assert {name: back[name] for name in folds} == folds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case\tfold\nc1\t1\n", "needs the columns"),
        ("", "needs the columns"),
        ("case_id\tfold\nc1\tone\n", "not a whole number"),
        ("case_id\tfold\nc1\t\n", "not a whole number"),
        ("case_id\tfold\nc1\n", "not a whole number"),
    ],
)
def test_a_folds_table_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    table = tmp_path / "folds.tsv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_folds(table)
    assert str(table) in str(caught.value)


def test_a_folds_table_from_a_spreadsheet(tmp_path: Path) -> None:
    table = tmp_path / "folds.tsv"
    table.write_bytes(b"\xef\xbb\xbfcase_id\tfold\r\nc1\t2\r\n")
    assert read_folds(table) == {"c1": 2}

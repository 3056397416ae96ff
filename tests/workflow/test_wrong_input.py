"""Wrong settings and tables: one message that names the file and the key, before any job."""

import json

import pytest
from studies import TINY, Study, require_plain_failure, write_cases

pytestmark = pytest.mark.workflow


def _refused(study: Study, *expected: str) -> None:
    result = study.snakemake("--dry-run")
    require_plain_failure(result, *expected)
    assert "Job stats" not in result.output
    assert result.output.count("Error") == 1, result.output


def test_a_misspelt_key(fresh):
    fresh.append(TINY, "splitt: {folds: 2}\n")
    _refused(fresh, TINY, "unknown key `splitt`", "did you mean `split`?")


def test_a_wrong_value(fresh):
    fresh.replace(TINY, "folds: 2", "folds: two")
    _refused(fresh, TINY, "split.folds", "'two'")


def test_a_missing_column(own_cases):
    own_cases.replace("config/cases.tsv", "patient_id", "patient")
    _refused(own_cases, "config/cases.tsv", "missing column `patient_id`", "patient")


def test_two_lines_of_one_case(own_cases):
    table = own_cases.path("config/cases.tsv")
    table.write_text(table.read_text() + table.read_text().splitlines()[1] + "\n")
    _refused(own_cases, "config/cases.tsv", "line 5", "case_id `a`", "line 2")


def test_a_missing_table(own_cases):
    own_cases.path("config/cases.tsv").unlink()
    _refused(own_cases, "config/cases.tsv", "does not exist", "cohort.cases", "config/README.md")


def test_a_case_without_spect(own_cases):
    write_cases(own_cases, {"a": {"ct": "a/ct"}, "b": {"ct": "b/ct", "perfusion": "b/q"}})
    _refused(own_cases, "config/cases.tsv", "line 2", "neither `perfusion` nor `ventilation`")


def test_an_exclusion_of_an_unknown_case(fresh):
    fresh.path("config/exclusions.tsv").write_text("case_id\tstage\treason\nsim999\tregister\tmotion\n")
    _refused(fresh, "config/exclusions.tsv", "sim999")


def test_the_directory_of_another_study(fresh):
    fresh.path("results").mkdir()
    fresh.path("results/study.json").write_text(json.dumps({"study": "lung-2024", "ct2vq": "0.1.0"}))
    _refused(fresh, "results/study.json", "lung-2024", "ct2vq-tiny", "--directory")

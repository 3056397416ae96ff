"""A case that is added to a finished study: what it costs, and who learns from it.

The study is finished on paper: every file is made up and Snakemake's records say that its job is done.
"""

import os
import subprocess
import sys

import pytest
import yaml
from studies import LIMIT_S, ROOT, Result, Study, table_study, write_cases

pytestmark = pytest.mark.workflow

CASES = ("a", "b", "c", "d")
FOLDS = "results/split/folds.tsv"
#: jobs of the whole cohort that a new case concerns
AGGREGATIONS = {
    "split",
    "convert_cohort",
    "register_cohort",
    "evaluate",
    "detect",
    "compare",
    "compare_sensitivity",
    "report_registration",
    "report_registrations",
    "report_crop",
    "report_case",
    "report_figures",
    "report",
}
TRAINING = ("train", "train_baseline")


def test_a_finished_study_has_nothing_left_to_do(on_paper):
    assert not on_paper.plan().rules


def test_an_added_case_costs_its_own_jobs_and_the_tables(on_paper):
    _add(on_paper, "e")
    plan = on_paper.plan()
    assert "no model learns from e:" in plan.output
    assert plan.cases() == {"e"}, "no job of another case"
    assert {"convert_ct", "register", "synthesize", "evaluate_case"} < set(plan.rules)
    of_the_cohort = {rule for rule in plan.rules if "case" not in plan.wildcards[rule][0]}
    assert of_the_cohort == AGGREGATIONS
    assert not {"train", "train_baseline", "train_cohort"} & set(plan.rules)


def test_an_added_case_is_learnt_from_if_the_study_says_so(on_paper):
    _add(on_paper, "e")
    _set(on_paper, new_cases="learn")
    plan = on_paper.plan()
    assert "no model learns" not in plan.output
    assert plan.rules["train_cohort"] == 1
    _finish(on_paper)
    folds = _folds(on_paper)
    trained = {job["fold"] for rule in TRAINING for job in plan.wildcards[rule]}
    assert trained == {fold for fold in folds.values()}, "its own fold's too: they wait for the check of its images"


def test_what_was_learnt_from_once_stays_so(on_paper):
    _add(on_paper, "e")
    _set(on_paper, new_cases="learn")
    _finish(on_paper)
    _set(on_paper, new_cases="predict")
    plan = on_paper.plan()
    assert "no model learns" not in plan.output
    assert set(plan.rules) == {"report"}, "the page shows the configuration"


def test_an_image_with_a_registration_of_its_own_is_no_reason_to_train_either(checkout, tmp_path):
    own_cts = {"ct": "d/ct", "attenuation_ct_perfusion": "d/ac_q", "perfusion": "d/perfusion"}
    rows = {case: _row(case) for case in CASES} | {"d": own_cts}
    study = _own_study(checkout, tmp_path, rows)
    _finish(study)
    later = {"attenuation_ct_ventilation": "d/ac_v", "ventilation": "d/ventilation"}
    write_cases(study, rows | {"d": own_cts | later})
    plan = study.plan()
    assert "no model learns from d:" in plan.output
    assert not {"train", "train_baseline", "train_cohort"} & set(plan.rules)
    assert plan.wildcards["convert_spect"] == [{"case": "d", "target": "ventilation"}]


def test_cases_that_come_before_the_trainings_are_learnt_from(checkout, tmp_path):
    study = _own_study(checkout, tmp_path, {case: _row(case) for case in CASES})
    study.snakemake(FOLDS).require_success()
    _add(study, "e")
    plan = study.plan()
    assert "no model learns" not in plan.output
    assert plan.rules["train_cohort"] == 1


@pytest.fixture
def on_paper(checkout: Study, tmp_path) -> Study:
    """A finished study of four own cases whose files are empty."""
    study = _own_study(checkout, tmp_path, {case: _row(case) for case in CASES})
    _finish(study)
    return study


def _own_study(checkout: Study, tmp_path, rows: dict[str, dict[str, str]]) -> Study:
    return table_study(checkout.copy(tmp_path / "study"), rows)


def _row(case: str) -> dict[str, str]:
    return {volume: f"{case}/{volume}" for volume in ("ct", "attenuation_ct", "perfusion", "ventilation")}


def _add(study: Study, new: str) -> None:
    """One more row, the first of the table."""
    write_cases(study, {new: _row(new)} | {case: _row(case) for case in CASES})


def _set(study: Study, **split: str) -> None:
    """Change keys of the block `split`."""
    path = study.path("config/config.yaml")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["split"] = settings.get("split", {}) | split
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def _finish(study: Study) -> None:
    """Make up what is missing, as the benchmark of scale does."""
    done = subprocess.run(
        [sys.executable, "-m", "scale.dag", "finish", "--cores", "1", "--dry-run", "--quiet", "rules"],
        cwd=study.folder,
        env=os.environ | {"PYTHONPATH": f"{study.folder}:{ROOT / 'docs' / 'benchmarks'}"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    Result(done.returncode, done.stdout + done.stderr).require_success()


def _folds(study: Study) -> dict[str, str]:
    _, *lines = study.path(FOLDS).read_text(encoding="utf-8").splitlines()
    return {line.split("\t")[0]: line.split("\t")[3] for line in lines}

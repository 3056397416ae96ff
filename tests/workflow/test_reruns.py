"""What a change reruns: what depends on it, and nothing else."""

import os
import time
from pathlib import Path

import pytest
from studies import CASES, TINY, Study, files_under

pytestmark = pytest.mark.workflow

JUDGED_REPORT = {"report_registration", "report_registrations", "report_figures", "report"}
JUDGED = {"register_quality", "register_cohort"} | JUDGED_REPORT
REPORT = {"report_case", "report_crop", "report_registration", "report_registrations", "report_figures", "report"}
BEFORE_REGISTER = {"simulate", "convert_ct", "convert_spect", "segment", "split"}
LAST_STAGES = {"evaluate_case", "evaluate", "detect", "compare", "compare_sensitivity", "report_figures", "report"}


def test_touched_code_settings_and_images_rerun_nothing(study):
    later = time.time() + 60
    code = [path for part in ("ct2vq", "scripts", "workflow", "envs") for path in files_under(study.path(part))]
    settings = [study.path(name) for name in (TINY, "Snakefile", "requirements.lock")]
    images = [path for case in CASES for path in files_under(study.path(f"results/simulate/{case}/dicom"))]
    assert len(code) > 50
    assert len(images) > 50
    for path in (*code, *settings, *images):
        _touch(path, later)
    assert not study.plan().rules


def test_a_setting_of_figures_reruns_the_figures_and_the_page(study):
    study.replace(TINY, "dpi: 60", "dpi: 61")
    assert set(study.plan().rules) == REPORT | {"read_report"}


def test_a_setting_of_one_model_retrains_this_model(study):
    study.replace(
        TINY,
        "label: RAN (Q), kind: ran, targets: [perfusion], network: {width: 4",
        "label: RAN (Q), kind: ran, targets: [perfusion], network: {width: 5",
    )
    plan = study.plan()
    assert plan.values("train", "model") == {"ran_perfusion"}
    assert "train_baseline" not in plan.rules
    assert not BEFORE_REGISTER & set(plan.rules)


def test_what_cannot_change_a_training_trains_nothing_again(study):
    changed = "  memory_mb: 5000\n  cache_mb: 900\n  checkpoint_seconds: 60\n  tensorboard: true\n"
    study.replace(TINY, "train:\n", f"train:\n{changed}")
    assert set(study.plan().rules) <= REPORT


@pytest.mark.parametrize(
    "changed", ["flags: {dice_after_below: 0.91}", "refuse: {dice_after_below: 0.01}", "simulated_landmarks: false"]
)
def test_a_limit_of_the_registration_judges_it_again_and_registers_nothing(study, changed):
    study.replace(TINY, "register:\n", f"register:\n  {changed}\n")
    plan = study.plan()
    assert set(plan.rules) == JUDGED
    assert plan.values("register_quality", "case") == set(CASES)


@pytest.mark.parametrize(
    ("alternative", "registered"),
    [("crop: {spect: {reference: mean}}", set()), ("register: {transform: rigid}", set(CASES))],
)
def test_an_alternative_spect_trains_and_registers_nothing_of_the_study_again(study, alternative, registered):
    study.replace(TINY, "spect: {}", f"spect: {{other: {{{alternative}}}}}")
    plan = study.plan()
    assert {"sensitivity_case", "compare_sensitivity"} <= set(plan.rules)
    assert set(plan.rules) - {"sensitivity_case", "sensitivity_register", "compare_sensitivity"} <= REPORT
    assert plan.values("sensitivity_case", "case") == set(CASES)
    assert plan.values("sensitivity_register", "case") == registered


def test_another_threshold_of_acceptance_compares_again(study):
    study.replace(TINY, "compare:\n", "compare:\n  acceptance: {spearman: 0.3}\n")
    rules = set(study.plan().rules)
    assert "compare" in rules and rules <= {"compare", "compare_sensitivity"} | REPORT


def test_after_another_limit_nothing_is_left_to_run(study):
    study.replace(TINY, "register:\n", "register:\n  flags: {dice_after_below: 0.99}\n")
    study.snakemake("results/register/quality.tsv").require_success()
    assert set(study.plan().rules) == JUDGED_REPORT


def test_a_refusal_stops_what_waits_for_it(study):
    study.replace(TINY, "register:\n", "register:\n  refuse: {dice_after_below: 0.999}\n")
    refused = study.snakemake("results/register/sim001/qc.json")
    assert refused.returncode != 0 and "D805" in refused.output
    assert {"case": "sim001"} in study.plan().wildcards["register_quality"], "the report waits for it"
    crop = "results/crop/sim001/perfusion.nii.gz"
    study.path(crop).unlink()
    assert set(study.plan(crop).rules) == {"register_quality", "crop_spect"}, "a crop waits for it"
    study.replace(TINY, "refuse: {dice_after_below: 0.999}", "refuse: {dice_after_below: 0.999}\n  accept: [sim001]")
    study.snakemake(crop).require_success()
    assert "W805 accepted by register.accept: lung Dice" in study.path("results/register/sim001/qc.json").read_text()


def test_a_setting_of_a_registration_without_a_ct_concerns_no_other(study):
    study.replace(
        TINY, "register:\n", "register:\n  without_attenuation_ct: affine\n  frames: {agreement_limit: 0.6}\n"
    )
    assert set(study.plan().rules) == {"report"}, "the page shows the configuration"


def test_a_line_of_the_registration_reruns_it_and_what_follows(study):
    study.append("ct2vq/register/engine.py", "\nCHANGED = 1\n")
    plan = study.plan()
    assert not BEFORE_REGISTER & set(plan.rules)
    assert plan.values("register", "case") == set(CASES)
    assert {"register", "register_spect", "crop_spect", "train", "train_baseline", "synthesize"} < set(plan.rules)
    assert set(plan.rules) > LAST_STAGES


def test_a_comment_and_a_docstring_rerun_nothing(study):
    study.append("ct2vq/register/__init__.py", "\n# Why is explained here.\n")
    study.replace("ct2vq/metrics/agreement.py", '"""', '"""Told in other words. ')
    study.append("scripts/train.py", "\n\n# The end.\n")
    assert not study.plan().rules


def test_a_line_of_the_metrics_reruns_the_evaluation_and_what_follows(study):
    study.append("ct2vq/metrics/agreement.py", "\nCHANGED = 1\n")
    assert set(study.plan().rules) == LAST_STAGES


def test_a_line_of_a_script_reruns_its_rule_and_what_follows(study):
    study.append("scripts/compare.py", "\nCHANGED = 1\n")
    assert set(study.plan().rules) == {"compare", "report_figures", "report"}


def test_another_version_of_a_library_reruns_the_stages_that_use_it(study):
    pins = study.path("requirements.lock").read_text(encoding="utf-8").splitlines()
    pin = next(line for line in pins if line.startswith("antspyx=="))
    study.replace("requirements.lock", pin, "antspyx==0.0.1")
    plan = study.plan()
    assert not BEFORE_REGISTER & set(plan.rules)
    assert plan.values("register", "case") == set(CASES)


def test_a_replaced_slice_of_a_simulated_case_converts_this_image_again(study):
    _replace_slice(study, "results/simulate/sim002/dicom/ct")
    plan = study.plan()
    assert plan.wildcards["convert_ct"] == [{"case": "sim002", "volume": "ct"}]
    assert not {"simulate", "convert_spect", "split"} & set(plan.rules)
    assert plan.values("register", "case") == {"sim002"}


def test_an_excluded_case_leaves_the_study_and_the_others_keep_their_folds(study):
    folds = _folds(study)
    study.path("config/exclusions.tsv").write_text("case_id\tstage\treason\nsim004\tregister\tmotion\n")
    plan = study.plan()
    assert "sim004" not in plan.cases()
    assert not {"simulate", "convert_ct", "convert_spect", "segment", "register", "crop"} & set(plan.rules)
    assert {"split", "train", "evaluate", "report"} < set(plan.rules)
    study.snakemake("results/split/folds.tsv").require_success()
    assert _folds(study) == {case: fold for case, fold in folds.items() if case != "sim004"}
    study.path("config/exclusions.tsv").unlink()
    study.snakemake("results/split/folds.tsv").require_success()
    assert _folds(study) == folds


def _touch(path: Path, when: float) -> None:
    os.utime(path, (when, when))


def _replace_slice(study: Study, folder: str) -> None:
    """Another value in one voxel of one slice: the size stays, as in a repaired export."""
    path = next(files_under(study.path(folder)))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _folds(study: Study) -> dict[str, str]:
    lines = study.path("results/split/folds.tsv").read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    return {row["case_id"]: row["fold"] for row in rows}

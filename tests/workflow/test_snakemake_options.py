"""What users of Snakemake expect of a workflow: lint, report, targets, forced reruns, profiles."""

import json
import shutil
import zipfile

import pytest
import yaml
from studies import BIN, CASES, ROOT, Study

pytestmark = pytest.mark.workflow

#: libraries that take seconds to import: no cluster job may pay for them while it parses the Snakefile
HEAVY = ("torch", "ants", "SimpleITK", "pandas", "numpy", "scipy", "matplotlib", "pydicom", "monai", "skimage")
#: written by Python at its end, where a file of this name is found on PYTHONPATH
IMPORTED = """
import atexit, os, sys
atexit.register(lambda: open(os.environ["IMPORTED"], "w").write("\\n".join(sorted(sys.modules))))
"""


@pytest.mark.parametrize("options", [(), ("--configfile", "config/demo.yaml")])
def test_lint_is_clean_without_a_cohort_too(fresh, options):
    if not options:  # the configuration that a new checkout has, with its empty table
        for name in ("config.yaml", "cases.tsv"):
            shutil.copy(ROOT / "config" / name, fresh.path("config") / name)
    process = fresh.start(BIN / "snakemake", "--lint", *options)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "your workflow is in a good condition" in output


def test_a_dry_run_of_a_new_checkout_plans_every_stage_and_writes_no_result(fresh):
    plan = fresh.plan()
    stages = {path.stem for path in fresh.path("workflow/rules").glob("*.smk")}
    stages -= {"check", "sensitivity"}  # only when asked for; this study varies no SPECT
    assert {rule.split("_")[0] for rule in plan.rules} == stages
    assert plan.rules["simulate"] == len(CASES)
    assert not fresh.path("results").exists()


def test_snakemake_looks_for_new_jobs_when_one_has_ended_and_not_by_the_second(fresh):
    """Otherwise its own process has a fifth of a study's processor time (workflow/common.smk)."""
    run = fresh.snakemake("--verbose", "--until", "simulate").require_success()
    assert run.output.count("Ready jobs: ") == len(CASES), "a look for each job, and none while it runs"


def test_snakemakes_own_report_has_every_figure_and_table_in_its_category(finished, tmp_path):
    archive = tmp_path / "report.zip"
    finished.snakemake("--report", str(archive)).require_success()
    with zipfile.ZipFile(archive) as content:
        names = [name.rpartition("/")[2] for name in content.namelist()]
        page = next(name for name in content.namelist() if name.endswith("report.html"))
        text = content.read(page).decode("utf-8")
    assert {"metrics.tsv", "summary.tsv", "pairs.tsv", "metrics.png", "training.png", "cohort.png"} <= set(names)
    assert all(names.count(f"{case}.png") == 3 for case in CASES), "images, registration, normalised SPECT"
    categories, results = _variable(text, "categories"), _variable(text, "results")
    stages = {"Detection", "Training", "Cohort", "Cases", "Registration", "Normalisation", "Readers"}
    assert categories.keys() == {"Tables", "Results"} | stages
    listed = [name for groups in categories.values() for group in groups.values() for name in group]
    assert sorted(listed) == sorted(results)
    assert [name for name, result in results.items() if not (result["caption"] and result["labels"])] == []


def _variable(page: str, name: str) -> dict:
    """A JSON value that the report's page assigns to a variable."""
    return json.JSONDecoder().raw_decode(page.split(f'<script id="{name}">', 1)[1].split("=", 1)[1].lstrip())[0]


def test_until_a_stage_stops_there(fresh):
    assert set(fresh.plan("--until", "crop").rules) == {"simulate", "convert_ct", "segment", "crop"}


def test_a_forced_stage_runs_with_what_follows(finished):
    plan = finished.plan("--forcerun", "compare")
    assert set(plan.rules) == {"compare", "report_figures", "report"}


def test_a_profile_adds_to_the_workflows_own(finished, tmp_path):
    """`--profile` keeps profiles/default (its rerun triggers above all), and a site's resources reach the jobs."""
    _profile(tmp_path / "site", {"set-resources": {"compare": {"mem_mb": 4321}}})
    plan = finished.plan("--profile", str(tmp_path / "site"), "--forcerun", "compare")
    assert "mem_mb=4321" in plan.output
    assert set(plan.rules) == {"compare", "report_figures", "report"}


def test_a_workflow_profile_takes_the_place_of_the_workflows_own(finished, tmp_path):
    default = yaml.safe_load(finished.path("profiles/default/config.yaml").read_text(encoding="utf-8"))
    site = {"rerun-triggers": default["rerun-triggers"], "set-resources": {"compare": {"runtime": 77}}}
    _profile(tmp_path / "cluster", site)
    plan = finished.plan("--workflow-profile", str(tmp_path / "cluster"), "--forcerun", "compare")
    assert "runtime=77" in plan.output
    assert set(plan.rules) == {"compare", "report_figures", "report"}


def test_planning_imports_no_heavy_library(fresh, tmp_path):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(IMPORTED)
    without = Study(fresh.folder, environment={"PYTHONPATH": str(hook), "IMPORTED": str(tmp_path / "without")})
    process = without.start(BIN / "snakemake", "--help")
    process.communicate(timeout=60)
    study = Study(fresh.folder, environment={"PYTHONPATH": str(hook), "IMPORTED": str(tmp_path / "with")})
    study.plan()
    ours = _modules(tmp_path / "with")
    assert {"ct2vq.cohort", "ct2vq.digests", "ct2vq.study"} <= ours
    assert [name for name in HEAVY if name in ours - _modules(tmp_path / "without")] == []


def _modules(record) -> set[str]:
    return set(record.read_text(encoding="utf-8").splitlines())


def test_another_working_directory_holds_another_run(fresh, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    plan = fresh.plan("--directory", str(elsewhere), "results/simulate/sim001/manifest.json")
    assert plan.rules == {"simulate": 1}
    shutil.rmtree(elsewhere)
    assert not fresh.path("results").exists()


def _profile(folder, settings: dict) -> None:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

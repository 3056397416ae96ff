"""Profiles of engines other than Slurm: Snakemake reads each and plans the study with it.

Where the engine's plugin is not installed (no part of requirements.lock), the keys that only it knows are left out.
"""

import importlib.util

import pytest
import yaml
from snakemake.cli import get_argument_parser
from studies import ROOT

pytestmark = pytest.mark.workflow

ENGINES = ("htcondor", "kubernetes", "lsf", "sge")
PROFILES = ROOT / "workflow" / "profiles"
STORAGE = ("default-storage-provider", "default-storage-prefix")
#: what must hold wherever a study runs
EVERYWHERE = ("rerun-triggers", "rerun-incomplete", "show-failed-logs", "printshellcmds")


def _profile(engine: str) -> dict:
    return yaml.safe_load((PROFILES / engine / "config.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_study_is_planned_with_the_profile(fresh, engine):
    profile = _profile(engine)
    if importlib.util.find_spec(f"snakemake_executor_plugin_{engine}") is None:
        profile.pop("executor")
        profile = {key: value for key, value in profile.items() if not key.startswith(engine)}
    if importlib.util.find_spec("snakemake_storage_plugin_fs") is None:
        profile = {key: value for key, value in profile.items() if key not in STORAGE}
    folder = fresh.path("profile")
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    plan = fresh.plan("--workflow-profile", str(folder))
    assert plan.values("train", "model") == {"ddran", "ran_perfusion", "ran_ventilation"}
    described = plan.output.partition("rule train:")[2].partition("\n\n")[0]
    asked = described.partition("resources: ")[2].partition("\n")[0].split(", ")
    assert {"mem_mb=8500", "runtime=2880", "gpu=0"} <= set(asked)
    if engine == "htcondor":
        assert "htcondor_request_mem_mb=8000" in asked, "its plugin does not read mem_mb"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_profile_keeps_what_holds_everywhere(engine):
    profile, default = _profile(engine), _profile_of_a_workstation()
    assert profile["executor"] == engine
    assert {key: profile[key] for key in EVERYWHERE} == {key: default[key] for key in EVERYWHERE}
    assert profile["keep-going"] and profile["retries"] >= 1 and profile["latency-wait"] >= 60
    options = {text.removeprefix("--") for action in get_argument_parser()._actions for text in action.option_strings}
    assert {key for key in profile if key not in options} == set()


def _profile_of_a_workstation() -> dict:
    return yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text(encoding="utf-8"))

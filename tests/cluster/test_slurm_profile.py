"""The profile for Slurm beside the rules, without a cluster; and the cluster's script beside somebody else's Slurm."""

from __future__ import annotations

import re

import pytest
import slurm
import yaml
from studies import ROOT

#: not in a group, on purpose; a job of the last three draws some eight cases
ALONE = {"train", "all", "check", "check_cohort", "reader_pack", "reader_report"}
ALONE |= {"report_case", "report_crop", "report_registration"}


@pytest.fixture(scope="module")
def profile() -> dict:
    return yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text(encoding="utf-8"))


def _rules() -> set[str]:
    files = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return set(re.findall(r"^rule (\w+):", text, re.M)) | set(re.findall(r"^use rule \w+ as (\w+) with:", text, re.M))


def test_every_rule_has_a_group_or_is_alone_on_purpose(profile):
    assert set(profile["groups"]) == _rules() - ALONE
    assert set(profile["group-components"]) <= set(profile["groups"].values())


def test_the_profile_keeps_what_must_hold_everywhere(profile):
    local = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text(encoding="utf-8"))
    for of_one_machine in ("resources", "__use_yte__", "__definitions__"):
        del local[of_one_machine]
    assert {key: profile[key] for key in local} == local


def test_every_job_of_the_rules_grows_with_attempts():
    """Each `mem_mb` is a function of the attempt, and each `runtime` but a training's."""
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for name, value in re.findall(r"^ +(mem_mb|runtime)=(.+)$", file.read_text(encoding="utf-8"), re.M):
            assert value.startswith(("memory(", "minutes(", "lambda wildcards, attempt:")) or value in ("2880,",), (
                f"{file.name}: {name}={value}"
            )


def test_nothing_of_ours_needs_what_a_network_file_system_breaks():
    """No database in a file, and no locks but files of their own; those of GPUs lie in a node's memory."""
    for folder in ("ct2vq", "scripts", "workflow"):
        for file in (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".smk")):
            if file == ROOT / "ct2vq/gpus.py":
                continue
            found = re.findall(
                r"\b(?:import|from) (sqlite3|fcntl|filelock|portalocker)\b", file.read_text(encoding="utf-8")
            )
            assert not found, f"{file}: {found}"


def test_a_configuration_of_somebody_else_is_never_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "CONFIGURATION", tmp_path)
    monkeypatch.setattr(slurm, "_require_root_and_programs", lambda: None)
    theirs = tmp_path / "gres.conf"
    theirs.write_text("Name=gpu File=/dev/nvidia0\n", encoding="utf-8")
    cluster = slurm.Cluster(tmp_path / "state")
    with pytest.raises(slurm.ClusterError, match="not ours"):
        cluster.start()
    cluster.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["gres.conf"]
    assert theirs.read_text(encoding="utf-8") == "Name=gpu File=/dev/nvidia0\n"


def test_a_daemon_is_known_by_its_start_and_not_by_its_number_alone(tmp_path):
    cluster = slurm.Cluster(tmp_path)
    (tmp_path / "pids").mkdir()
    (tmp_path / "pids" / "munged").write_text('{"pid": 1, "created": 0.0}', encoding="utf-8")
    assert cluster.status() == dict.fromkeys(("munged", "mariadbd", "slurmdbd", "slurmctld", *slurm.NODES), False)

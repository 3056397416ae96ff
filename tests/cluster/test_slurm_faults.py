"""What goes wrong on a cluster: the study ends with the same bytes, or says plainly why it does not."""

from __future__ import annotations

import json
import time

import pytest
from on_slurm import EPOCHS, WEIGHTS, jobs_of, run, start, wait_for_checkpoint
from slurm import command
from studies import Study, contents

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

#: several rounds of asking for states
AWAY_S = 15


def _require_same_training(study: Study, trained: Study) -> dict:
    """The weights are those of a training that nothing disturbed; its record."""
    assert contents(study.path("results/train"), "weights.safetensors") == contents(
        trained.path("results/train"), "weights.safetensors"
    )
    return json.loads(study.path(WEIGHTS).with_name("run.json").read_text(encoding="utf-8"))


def test_a_training_whose_node_dies_goes_on_on_another(cluster, untrained, trained):
    process = start(untrained, WEIGHTS)
    number, node = wait_for_checkpoint(untrained, process)
    try:
        assert cluster.kill_node(node), "nothing ran on the node"
        Study.finish(process).require_success()
    finally:
        cluster.start_node(node)
    record = _require_same_training(untrained, trained)
    assert 0 < record["resumed_at_epoch"] < EPOCHS
    lives = jobs_of(untrained)
    assert [life.state for life in lives] == ["NODE_FAIL", "COMPLETED"]
    assert lives[0].number == number != lives[1].number, "submitted again by Snakemake, not by Slurm as well"
    assert lives[0].node == node != lives[1].node


def test_a_preempted_training_goes_on_when_its_turn_comes(cluster, untrained, trained):
    process = start(untrained, WEIGHTS, "--set-resources", "train:slurm_extra='--requeue'")
    number, node = wait_for_checkpoint(untrained, process)
    command("sbatch", "-p", "urgent", "-w", node, "-c", "2", "--mem=100", "-o", "/dev/null", "--wrap", "sleep 1")
    Study.finish(process).require_success()
    assert 0 < _require_same_training(untrained, trained)["resumed_at_epoch"] < EPOCHS
    lives = [life for life in jobs_of(untrained) if life.number == number]
    assert [life.state for life in lives] == ["PREEMPTED", "COMPLETED"]


def test_a_cancelled_training_is_submitted_again_and_goes_on(cluster, untrained, trained):
    process = start(untrained, WEIGHTS)
    number, _ = wait_for_checkpoint(untrained, process)
    command("scancel", number)
    result = Study.finish(process).require_success()
    assert f"SLURM-job '{number}' failed, SLURM status is: 'CANCELLED'" in result.output
    assert 0 < _require_same_training(untrained, trained)["resumed_at_epoch"] < EPOCHS
    assert [life.state.split()[0] for life in jobs_of(untrained)] == ["CANCELLED", "COMPLETED"]


def test_a_training_goes_on_while_the_controller_is_away(cluster, untrained, trained):
    process = start(untrained, WEIGHTS)
    wait_for_checkpoint(untrained, process)
    cluster.kill_controller()
    try:
        assert not cluster.status()["slurmctld"]
        time.sleep(AWAY_S)
        assert process.poll() is None, "Snakemake asks the accounting, which is still there"
    finally:
        cluster.start_controller()
    Study.finish(process).require_success()
    assert _require_same_training(untrained, trained)["resumed_at_epoch"] == 0


def test_a_job_that_exceeds_its_memory_gets_more(cluster, checkout, finished, tmp_path):
    study = checkout.copy(tmp_path / "study")
    target = "results/simulate/sim001/manifest.json"
    result = run(study, target, "--set-resources", "simulate:mem_mb=200*8**(attempt-1)").require_success()
    assert "exceeded memory limit" in result.output, "Snakemake shows why the first attempt failed"
    killed, done = jobs_of(study)
    assert (killed.state, killed.memory) in (("FAILED", "200M"), ("OUT_OF_MEMORY", "200M"))
    assert (done.state, done.memory) == ("COMPLETED", "1600M")
    folder = "results/simulate/sim001"
    assert contents(study.path(folder), "*") == contents(finished.path(folder), "*")


def test_two_processes_of_one_training_run_in_one_job(cluster, untrained):
    """`train.devices: 2` with two CPU processes; two GPUs are asked for in the same form."""
    untrained.replace("config/tiny.yaml", f"epochs: {EPOCHS}", "epochs: 2\n  devices: 2")
    local = untrained.copy(untrained.folder.with_name("local"))
    local.snakemake(WEIGHTS).require_success()
    run(untrained, WEIGHTS).require_success()
    assert _require_same_training(untrained, local)["devices"] == 2
    (job,) = jobs_of(untrained)
    assert "cpu=2" in job.asked


@pytest.mark.parametrize(
    ("devices", "said"),
    [(1, "no CUDA device is available"), (2, "Slurm started this job 2 times at once")],
    ids=["one", "two in a form that starts two trainings"],
)
def test_a_training_on_gpus_asks_slurm_for_them(cluster, untrained, devices, said):
    """This machine has none, and the training says so."""
    untrained.replace("config/tiny.yaml", "device: cpu", f"device: cuda\n  devices: {devices}")
    # a node of the tests has two cores for what would be two tasks
    result = run(untrained, WEIGHTS, "--retries", "0", "--set-resources", "train:cpus_per_task=1")
    assert result.returncode != 0
    assert said in result.output
    (job,) = jobs_of(untrained)
    assert f"gres/gpu={devices}" in job.asked


def test_the_forms_in_which_gpus_are_asked_for(cluster, checkout, tmp_path):
    study = checkout.copy(tmp_path / "study")
    study.path("gpus.smk").write_text(GPUS, encoding="utf-8")
    study = Study(study.folder, None)
    run(study, "--snakefile", "gpus.smk").require_success()
    seen = {name: study.path(f"{name}.txt").read_text().split() for name in ("number", "gres", "extra")}
    assert {name: tasks for name, (_, tasks) in seen.items()} == {"number": "1", "gres": "1", "extra": "1"}
    assert {seen["number"][0], seen["gres"][0]} <= {"0", "1"}
    assert seen["extra"][0] == "0,1"
    assert {job.account for job in jobs_of(study)} == {"study"}


GPUS = """
rule all:
    input: "number.txt", "gres.txt", "extra.txt"

rule number:
    output: "number.txt"
    resources: gpu=1, mem_mb=1000, slurm_account="study"
    shell: "echo $CUDA_VISIBLE_DEVICES $SLURM_NTASKS > {output}"

rule gres:
    output: "gres.txt"
    resources: gres="gpu:1", mem_mb=1000, slurm_account="study"
    shell: "echo $CUDA_VISIBLE_DEVICES $SLURM_NTASKS > {output}"

rule extra:
    output: "extra.txt"
    resources: slurm_extra="--gres=gpu:2", mem_mb=1000, slurm_account="study"
    shell: "echo $CUDA_VISIBLE_DEVICES $SLURM_NTASKS > {output}"
"""

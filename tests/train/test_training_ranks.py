"""Two processes train what one does, write once, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file
from trainings import run

from ct2vq.errors import TrainingError
from ct2vq.files import read_json, read_tsv, sha256_file

BOTH = {"batch_size": 3, "epochs": 3, "checkpoint_every": 1}


def start(folder: Path, cohort, changes: dict, **environment: str) -> subprocess.Popen:
    """A training of two processes in a process of its own, as a rule's script is."""
    here = Path(__file__).resolve().parents
    command = [sys.executable, str(Path(__file__).with_name("trainings.py"))]
    command += [json.dumps(part) for part in (str(folder), cohort, changes)]
    paths = f"{here[1]}{os.pathsep}{here[2]}"
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": paths} | environment, stderr=subprocess.PIPE, text=True
    )


def members(process: subprocess.Popen) -> list[psutil.Process]:
    """The other ranks of a training."""
    return [
        child
        for child in psutil.Process(process.pid).children()
        if any("spawn_main" in part for part in child.cmdline())
    ]


def wait_for_checkpoint(process: subprocess.Popen, folder: Path) -> None:
    while process.poll() is None and not list(folder.glob("work/*/latest.pt")):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]


def test_two_processes_make_the_steps_of_one(cohort, tmp_path: Path) -> None:
    """A batch of three cases is two and one: unequal shares must weigh what they hold."""
    one, two = (run(tmp_path / str(n), cohort, **BOTH, devices=n) for n in (1, 2))
    histories = [read_tsv(outputs["history"]) for outputs in (one, two)]
    for column in ("loss", "gradient_norm", "validation_loss", "validation_spearman"):
        np.testing.assert_allclose(*(history[column] for history in histories), rtol=1e-3, err_msg=column)
    weights = [load_file(outputs["weights"]) for outputs in (one, two)]
    for key in weights[0]:
        np.testing.assert_allclose(weights[1][key], weights[0][key], atol=2e-3, err_msg=key)
    assert read_json(two["record"])["devices"] == 2
    again = run(tmp_path / "again", cohort, **BOTH, devices=2)
    assert sha256_file(again["weights"]) == sha256_file(two["weights"])


def test_a_batch_with_nothing_for_the_second_process(cohort, tmp_path: Path) -> None:
    """Three cases in batches of two: the last one holds one."""
    one, two = (run(tmp_path / str(n), cohort, batch_size=2, epochs=2, devices=n) for n in (1, 2))
    losses = [read_tsv(outputs["history"])["loss"] for outputs in (one, two)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_a_killed_process_ends_the_whole_and_the_training_goes_on(cohort, tmp_path: Path) -> None:
    """Three processes: the order in which they are added up matters, other than with two."""
    long = BOTH | {"epochs": 6, "devices": 3}
    reference = run(tmp_path / "whole", cohort, **long)
    process = start(tmp_path / "killed", cohort, long)
    wait_for_checkpoint(process, tmp_path / "killed")
    members(process)[0].send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was ended by SIGKILL" in said
    assert not list((tmp_path / "killed").glob("*.out"))
    outputs = run(tmp_path / "killed", cohort, **long)
    assert read_json(outputs["record"])["resumed_at_epoch"] >= 1
    assert sha256_file(outputs["weights"]) == sha256_file(reference["weights"])


def test_no_process_outlives_the_first(cohort, tmp_path: Path) -> None:
    process = start(tmp_path, cohort, BOTH | {"epochs": 500, "devices": 2})
    wait_for_checkpoint(process, tmp_path)
    (other,) = members(process)
    process.kill()
    process.communicate()
    other.wait(timeout=20)


def test_the_cause_is_told_where_one_process_fails(cohort, tmp_path: Path) -> None:
    """A batch that only the second process cannot compute: its own words reach the user."""
    images, patients = cohort
    with pytest.raises(TrainingError, match=r"rank 1: .*c9"):
        _fail_in_the_second(tmp_path, images, patients)


def _fail_in_the_second(folder: Path, images: list[str], patients: dict[str, str]) -> None:
    from ct2vq.train import ranks

    with ranks.together(fails, "c9", "cpu", 2):
        from torch import distributed

        distributed.barrier()


def fails(case: str) -> None:
    """What a process of the test does (it must be found by name in another process)."""
    raise TrainingError(f"case {case} cannot be read")


def test_a_cluster_s_variables_do_not_confuse_it(cohort, tmp_path: Path) -> None:
    """Under Slurm Fabric would take the scheduler's tasks for its processes."""
    slurm = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NAME": "x"}
    process = start(tmp_path, cohort, BOTH | {"epochs": 1, "devices": 2}, **slurm)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert (tmp_path / "weights.out").exists()


def test_more_gpus_than_there_are(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match=r"train\.devices.*1 GPUs, not 4"):
        run(tmp_path, cohort, device="cuda", devices=4)

"""GPUs of a workstation: which are seen, and that two jobs never have the same one, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yte
from typer.testing import CliRunner

from ct2vq.cli import app
from ct2vq.errors import Ct2vqError
from ct2vq.gpus import Gpu, own_gpus, visible_gpus

ROOT = Path(__file__).resolve().parents[1]
ONE, TWO = "GPU-11111111-aaaa-aaaa-aaaa-111111111111", "GPU-22222222-bbbb-bbbb-bbbb-222222222222"
LISTED = f"GPU 0: NVIDIA RTX A5000 (UUID: {ONE})\nGPU 1: NVIDIA RTX A5000 (UUID: {TWO})\n"
DIVIDED = (
    f"GPU 0: NVIDIA A100 (UUID: {ONE})\n"
    "  MIG 1g.5gb      Device  0: (UUID: MIG-aaaa)\n"
    "  MIG 1g.5gb      Device  1: (UUID: MIG-bbbb)\n"
    f"GPU 1: NVIDIA A100 (UUID: {TWO})\n"
)
#: a job: takes GPUs, says which CUDA would see in it and in a process that it starts, and holds them until it is told
JOB = """
import os, subprocess, sys
from pathlib import Path
from ct2vq.gpus import own_gpus
with own_gpus("cuda", int(sys.argv[1]), patience=0.05) as gpus:
    assert "torch" not in sys.modules
    child = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    seen = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout.strip()
    print(os.environ["CUDA_VISIBLE_DEVICES"], seen, flush=True)
    sys.stdin.readline()
"""


def profile() -> dict:
    """Local settings, as Snakemake reads them."""
    text = (ROOT / "profiles" / "default" / "config.yaml").read_text(encoding="utf-8")
    return yte.process_yaml(text, require_use_yte=True)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Path:
    """A machine with two GPUs, as far as `nvidia-smi` tells."""
    fake = tmp_path / "bin" / "nvidia-smi"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ncat <<'LIST'\n{LISTED}LIST\n", encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CT2VQ_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


class Job:
    """A process that asks for GPUs."""

    def __init__(self, number: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=lambda: self._said.append(self.process.stdout.readline()))
        self._reader.start()

    def gpus(self, within: float = 60.0) -> set[str] | None:
        """What it has, None if it still waits; the processes that it starts see the same."""
        self._reader.join(within)
        if not self._said:
            return None
        mine, childs = self._said[0].split()
        assert mine == childs
        return set(mine.split(","))

    def end(self) -> None:
        """Let it come to its end."""
        self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0


@pytest.fixture
def jobs() -> Iterator[list[Job]]:
    started: list[Job] = []
    yield started
    for job in started:
        job.process.kill()
        job.process.wait()


def start(jobs: list[Job], number: int = 1) -> Job:
    jobs.append(Job(number))
    return jobs[-1]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, [ONE, TWO]),
        ("", []),
        ("1", [TWO]),
        ("1,0", [TWO, ONE]),
        ("0,7,1", [ONE]),
        ("-1", []),
        ("NoDevFiles", []),
        (TWO, [TWO]),
        ("GPU-2222", [TWO]),
        ("0,0", [ONE]),
        ("MIG-cccc", ["MIG-cccc"]),
    ],
)
def test_what_the_variable_names_is_seen(named, expected):
    environment = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    assert visible_gpus(environment, LISTED) == [Gpu(uuid) for uuid in expected]


def test_a_divided_gpu_is_seen_as_its_parts():
    assert visible_gpus({}, DIVIDED) == [Gpu("MIG-aaaa"), Gpu("MIG-bbbb"), Gpu(TWO)]


def test_what_a_scheduler_gives_counts_without_the_drivers_list():
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2,3"}, "") == [Gpu("2"), Gpu("3")]
    assert visible_gpus({}, "") == []


def test_two_jobs_have_two_gpus_and_a_third_waits_for_one(machine, jobs):
    first, second = start(jobs), start(jobs)
    assert len(first.gpus()) == len(second.gpus()) == 1
    assert first.gpus() | second.gpus() == {ONE, TWO}
    third = start(jobs)
    assert third.gpus(within=2.0) is None
    second.end()
    assert third.gpus() == second.gpus()


def test_the_gpu_of_a_job_that_was_killed_goes_to_another(machine, jobs):
    first, second = start(jobs), start(jobs)
    assert first.gpus() | second.gpus() == {ONE, TWO}
    third = start(jobs)
    assert third.gpus(within=2.0) is None
    os.kill(first.process.pid, signal.SIGKILL)
    assert third.gpus() == first.gpus()
    third.end()
    second.end()


def test_a_training_on_two_gpus_waits_for_both_and_is_not_overtaken(machine, jobs):
    first = start(jobs)
    first.gpus()
    both = start(jobs, 2)
    assert both.gpus(within=2.0) is None
    later = start(jobs)
    assert later.gpus(within=2.0) is None
    first.end()
    assert both.gpus() == {ONE, TWO}
    assert later.gpus(within=1.0) is None
    both.end()
    assert len(later.gpus()) == 1


def test_only_the_gpus_that_a_scheduler_gave_are_taken(machine, jobs, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    job, other = start(jobs), start(jobs)
    held = next(one for one in (job, other) if one.gpus(within=30.0))
    assert held.gpus() == {TWO}
    waiting = other if held is job else job
    held.end()
    assert waiting.gpus() == {TWO}


def test_the_variable_is_as_before_afterwards(machine, monkeypatch):
    with own_gpus("cuda"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ONE
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with own_gpus("cuda", 2) as gpus:
        assert [gpu.uuid for gpu in gpus] == [ONE, TWO]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_apply_takes_a_gpu_of_its_own(machine, monkeypatch, tmp_path):
    seen = []

    def applied(*_: object, **__: object) -> list[Path]:
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return []

    monkeypatch.setattr("ct2vq.apply.apply_model", applied)
    done = CliRunner().invoke(app, ["apply", "ct", str(tmp_path / "out"), "--device", "cuda"])
    assert done.exit_code == 0, done.output
    assert len(seen) == 1 and seen[0] in (ONE, TWO)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_without_cuda_nothing_is_taken(machine, device):
    with own_gpus(device, 4) as gpus:
        assert gpus == []
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not (machine / "locks").exists()


@pytest.mark.parametrize(("named", "limit"), [(None, 1), ("", 1), ("0,1,2", 3), ("GPU-aaaa", 1)])
def test_the_profile_lets_so_many_jobs_run_as_there_are_gpus(monkeypatch, named, limit):
    monkeypatch.setattr("glob.glob", lambda pattern: [])
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert profile()["resources"] == {"gpu": limit}


def test_the_profile_asks_the_driver_how_many_gpus_there_are(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("glob.glob", lambda pattern: ["a", "b"] if pattern == "/proc/driver/nvidia/gpus/*" else [])
    assert profile()["resources"] == {"gpu": 2}


def test_without_a_list_of_gpus_torch_looks_for_itself(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with own_gpus("cuda") as gpus:
        assert gpus == []
    assert "nvidia-smi lists no GPU" in caplog.text


def test_under_slurm_numbers_without_names_lock_nothing(monkeypatch, tmp_path):
    """Where each job's GPUs count from 0, two jobs of a node would wait for each other's."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("CT2VQ_GPU_LOCKS", str(tmp_path / "locks"))
    with own_gpus("cuda") as first, own_gpus("cuda") as second:
        assert first == second == []
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize(
    ("named", "number", "told"),
    [
        (None, 3, "3 GPUs are wanted, and 2 found on this machine"),
        ("1", 2, "2 GPUs are wanted, and 1 found among CUDA_VISIBLE_DEVICES `1`"),
        ("7", 1, "CUDA_VISIBLE_DEVICES is `7`, which names no GPU of this machine"),
    ],
)
def test_too_few_gpus_are_told(machine, monkeypatch, named, number, told):
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    with pytest.raises(Ct2vqError, match="GPU") as caught, own_gpus("cuda", number):
        pass
    assert told in str(caught.value)


def test_a_folder_that_holds_no_locks_is_told(machine, monkeypatch):
    (machine / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("CT2VQ_GPU_LOCKS", str(machine / "file" / "locks"))
    with pytest.raises(Ct2vqError, match="no locks of GPUs can be kept here") as caught, own_gpus("cuda"):
        pass
    assert "CT2VQ_GPU_LOCKS" in str(caught.value)

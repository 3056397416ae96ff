"""Whatever ends a training, it goes on to the same bytes; a checkpoint is whole or not there."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from trainings import RESULT, run

from ct2vq.errors import TrainingError
from ct2vq.files import read_json, sha256_file
from ct2vq.train import checkpoint, loop, progress
from ct2vq.train import run as entry
from ct2vq.train.checkpoint import LATEST, PREVIOUS, load_checkpoint, save_checkpoint
from ct2vq.train.loop import Training

#: `CT2VQ_KILL_TRIALS=20 pytest tests/train/test_training_resume.py -k random` is the campaign
TRIALS = int(os.environ.get("CT2VQ_KILL_TRIALS", "3"))
#: all that a checkpoint must bring back: dropout's random numbers, early stopping, deformations, averaged weights
LONG = {
    "epochs": 40,
    "checkpoint_every": 3,
    "checkpoint_seconds": 0,
    "early_stopping": {"patience": 50, "least_gain": 0},
    "augmentation": {"mirror": 0.5, "rotation_degrees": 5, "elastic_voxels": 1},
}


class Killed(BaseException):
    """What a signal raises: no `except Exception` sees it."""


def same(outputs: dict[str, Path], reference: dict[str, Path]) -> bool:
    return all(sha256_file(outputs[name]) == sha256_file(reference[name]) for name in RESULT)


@pytest.mark.parametrize(("at", "resumed"), [(2, 0), (4, 2)])
def test_a_training_that_was_stopped_goes_on_to_the_same_bytes(
    finished, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, resumed: int
) -> None:
    whole = Training.epoch

    def stopping(self, epoch: int) -> dict[str, float]:
        if epoch == at:
            raise Killed
        return whole(self, epoch)

    monkeypatch.setattr(Training, "epoch", stopping)
    with pytest.raises(Killed):
        run(tmp_path, cohort)
    monkeypatch.undo()
    outputs = run(tmp_path, cohort)
    assert read_json(outputs["record"])["resumed_at_epoch"] == resumed
    assert same(outputs, finished)


@pytest.mark.parametrize("change", [{"model": {"network": {"dropout": 0.2}}}, {"batch_size": 2, "micro_batch": 1}])
def test_dropout_and_pieces_go_on_to_the_same_bytes(cohort, tmp_path: Path, monkeypatch, change) -> None:
    from factories import NETWORK

    if "model" in change:
        change = {"model": {"network": NETWORK | change["model"]["network"]}}
    reference = run(tmp_path / "whole", cohort, **change)
    whole = Training.epoch

    def stopping(self, epoch: int) -> dict[str, float]:
        if epoch == 4:
            raise Killed
        return whole(self, epoch)

    monkeypatch.setattr(Training, "epoch", stopping)
    with pytest.raises(Killed):
        run(tmp_path / "stopped", cohort, **change)
    monkeypatch.undo()
    outputs = run(tmp_path / "stopped", cohort, **change)
    assert read_json(outputs["record"])["resumed_at_epoch"] == 2
    assert same(outputs, reference)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory, cohort) -> tuple[dict[str, Path], float]:
    """A longer training that nobody disturbed, and the seconds that its epochs took."""
    outputs = run(tmp_path_factory.mktemp("long"), cohort, **LONG)
    return outputs, read_json(outputs["record"])["machine"]["seconds_of_epochs"]


@pytest.mark.parametrize("trial", range(TRIALS))
def test_killed_at_a_random_moment_it_goes_on_to_the_same_bytes(long, cohort, tmp_path: Path, trial: int) -> None:
    reference, seconds = long
    command = [sys.executable, str(Path(__file__).with_name("trainings.py"))]
    command += [json.dumps(part) for part in (str(tmp_path), cohort, LONG)]
    here = Path(__file__).resolve().parents
    environment = os.environ | {"PYTHONPATH": f"{here[1]}{os.pathsep}{here[2]}"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while not list(tmp_path.glob(f"work/*/{LATEST}")) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(random.random() * seconds)
    process.kill()
    process.communicate()
    outputs = run(tmp_path, cohort, **LONG)
    print("went on after epoch", read_json(outputs["record"])["resumed_at_epoch"], process.returncode)
    assert same(outputs, reference)


def fill(folder: Path, epochs: int = 2) -> None:
    for epoch in range(1, epochs + 1):
        save_checkpoint({"epoch": epoch, "weights": torch.arange(1000.0)}, folder)


@pytest.mark.parametrize("damage", ["empty", "half", "one bit"])
def test_of_a_damaged_checkpoint_the_one_before_is_taken(tmp_path: Path, caplog, damage: str) -> None:
    fill(tmp_path)
    content = bytearray((tmp_path / LATEST).read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    (tmp_path / LATEST).write_bytes({"empty": b"", "half": content[: len(content) // 2]}.get(damage, content))
    assert load_checkpoint(tmp_path)["epoch"] == 1
    assert "latest.pt is damaged" in caplog.text
    (tmp_path / PREVIOUS).write_bytes(b"nothing")
    assert load_checkpoint(tmp_path) is None


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    finished, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "save_weights", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        run(tmp_path, cohort, checkpoint_seconds=0)
    monkeypatch.undo()
    (latest,) = tmp_path.glob(f"work/*/{LATEST}")
    latest.write_bytes(latest.read_bytes()[:-1])
    outputs = run(tmp_path, cohort, checkpoint_seconds=0)
    assert read_json(outputs["record"])["resumed_at_epoch"] == 2
    assert same(outputs, finished), "how often checkpoints are written changes nothing"


@pytest.mark.parametrize("at", ["write", "sync", "first move", "second move"])
def test_a_kill_while_a_checkpoint_is_written_leaves_a_whole_one(tmp_path: Path, monkeypatch, at: str) -> None:
    fill(tmp_path)
    moves = iter([at == "first move", at == "second move"])
    move = os.replace

    def die(*_):
        raise Killed

    monkeypatch.setattr(checkpoint.os, "replace", lambda *names: die() if next(moves) else move(*names))
    if at == "write":
        monkeypatch.setattr(checkpoint, "_write", die)
    if at == "sync":
        monkeypatch.setattr(checkpoint.os, "fsync", die)
    with pytest.raises(Killed):
        save_checkpoint({"epoch": 3}, tmp_path)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["epoch"] == 2


def test_a_full_disk_ends_the_training_and_keeps_the_last_checkpoint(
    finished, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = checkpoint._write, []

    def full(path: Path, content: memoryview) -> None:
        if written:
            path.write_bytes(content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        real(path, content)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(TrainingError, match=r"latest\.pt.*no space is left.*the last one is kept.*free \d+ MB"):
        run(tmp_path, cohort, checkpoint_seconds=0)
    monkeypatch.undo()
    (work,) = (tmp_path / "work").iterdir()
    assert sorted(path.name for path in work.iterdir()) == ["history.tsv", LATEST]
    outputs = run(tmp_path, cohort)
    assert read_json(outputs["record"])["resumed_at_epoch"] == 1
    assert same(outputs, finished)


def test_a_disk_that_is_full_for_the_history_is_told_too(
    finished, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_, path: Path) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded", str(path))

    monkeypatch.setattr(progress, "write_history", full)
    with pytest.raises(TrainingError, match=r"history\.tsv.*no space is left.*free some space.*goes on"):
        run(tmp_path, cohort)
    monkeypatch.undo()
    assert same(run(tmp_path, cohort), finished)


def test_another_error_of_the_disk_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, "_write", refuse)
    with pytest.raises(OSError, match="Permission denied"):
        save_checkpoint({}, tmp_path)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    save_checkpoint({"epoch": Path("x")}, tmp_path)
    assert load_checkpoint(tmp_path) is None


def test_the_checkpoint_of_another_training_is_not_taken(cohort, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(entry, "save_weights", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        run(tmp_path, cohort)
    monkeypatch.undo()
    for change in ({"code": "other"}, {"weight_decay": 0.1}, {"micro_batch": 1}):
        assert read_json(run(tmp_path, cohort, **change)["record"])["resumed_at_epoch"] == 0, change
    assert read_json(run(tmp_path, cohort, memory_mb=9000)["record"])["resumed_at_epoch"] == 2


def test_a_training_goes_on_with_the_pieces_that_it_began_with(cohort, tmp_path: Path, monkeypatch) -> None:
    """`micro_batch: auto` follows the memory of the machine; the bytes must not, once a training has begun."""
    chosen = {"batch_size": 2, "micro_batch": "auto"}
    monkeypatch.setattr(loop, "micro_batch", lambda *_: (1, {"rule": "by memory"}))
    reference = run(tmp_path / "whole", cohort, **chosen)
    monkeypatch.setattr(entry, "save_weights", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        run(tmp_path / "stopped", cohort, **chosen)
    monkeypatch.undo()
    outputs = run(tmp_path / "stopped", cohort, **chosen)
    record = read_json(outputs["record"])
    assert (record["micro_batch"], record["machine"]["micro_batch"]["rule"]) == (1, "as in the checkpoint")
    assert same(outputs, reference)

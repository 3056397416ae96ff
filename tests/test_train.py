"""A training gives the same bytes twice, and the same bytes after it was killed; what cannot go on says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import CROP, NETWORK, PREPARATION, TARGETS, TRAINING
from hypothesis import given, settings
from hypothesis import strategies as st

from ct2vq import train
from ct2vq.errors import TrainingError
from ct2vq.files import read_json, read_tsv, sha256_file
from ct2vq.synthesize import read_header
from ct2vq.train import CHECKPOINT, Sample, augment, stack, train_network

MODEL = {"kind": "ran", "targets": list(TARGETS), "network": NETWORK, "label": "DDRAN"}


@pytest.fixture(autouse=True)
def torch_as_before():
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def run(folder: Path, cohort: tuple[list[str], dict[str, str]], **changes: Any) -> dict[str, Path]:
    outputs = {name: folder / f"{name}.out" for name in ("weights", "history", "record")}
    model = MODEL | changes.pop("model", {})
    arguments = {"name": "ddran", "fold": 1, "seed": 3, "code": "abc", "simulated": True, "work": folder / "work"}
    arguments |= {key: changes.pop(key) for key in list(changes) if key in arguments}
    train_network(*cohort, model, TRAINING | changes, PREPARATION, outputs, **arguments)
    return outputs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cohort) -> dict[str, Path]:
    """A training that nobody disturbed."""
    return run(tmp_path_factory.mktemp("train"), cohort)


def test_the_same_bytes_twice(finished: dict[str, Path], cohort, tmp_path: Path) -> None:
    again = run(tmp_path, cohort)
    for name in ("weights", "history"):
        assert sha256_file(again[name]) == sha256_file(finished[name])
    assert not list((tmp_path / "work").iterdir()), "the checkpoint of a finished training is removed"


@pytest.mark.parametrize("change", [{"seed": 4}, {"fold": 2}, {"learning_rate": 0.02}])
def test_another_training_gives_other_weights(finished, cohort, tmp_path: Path, change: dict[str, Any]) -> None:
    assert sha256_file(run(tmp_path, cohort, **change)["weights"]) != sha256_file(finished["weights"])


def test_what_is_written(finished: dict[str, Path], cohort) -> None:
    record, history = read_json(finished["record"]), read_tsv(finished["history"])
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert np.isfinite(history["loss"]).all()
    assert record["final_loss"] == pytest.approx(history["loss"].iloc[-1])
    assert history["validation_loss"].notna().tolist() == [False, True, False, True]
    assert history["learning_rate"].max() <= TRAINING["learning_rate"]
    assert (record["resumed_at_epoch"], record["fold"], record["simulated"]) == (0, 1, True)
    header = read_header(finished["weights"])
    assert header["targets"] == list(TARGETS)
    assert header["in_channels"] == 5
    assert header["crop"]["window_hu"] == CROP["window_hu"]


def test_the_loss_goes_down(cohort, tmp_path: Path) -> None:
    history = read_tsv(run(tmp_path, cohort, epochs=12, checkpoint_every=12)["history"])
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    assert history["validation_spearman"].iloc[-1] > 0.3


class Killed(BaseException):
    """What a signal raises: no `except Exception` sees it."""


@pytest.mark.parametrize(("at", "resumed"), [(2, 0), (4, 2)])
def test_a_training_that_was_stopped_goes_on_to_the_same_bytes(
    finished, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, resumed: int
) -> None:
    whole = train._Run._epoch

    def stopping(self, epoch: int) -> dict[str, float]:
        if epoch == at:
            raise Killed
        return whole(self, epoch)

    monkeypatch.setattr(train._Run, "_epoch", stopping)
    with pytest.raises(Killed):
        run(tmp_path, cohort)
    monkeypatch.undo()
    outputs = run(tmp_path, cohort)
    assert read_json(outputs["record"])["resumed_at_epoch"] == resumed
    for name in ("weights", "history"):
        assert sha256_file(outputs[name]) == sha256_file(finished[name])


SIGKILLED = """
import json, os, signal, sys
from pathlib import Path
from ct2vq import train
save = train._Run._save
def save_and_die(self, path, epoch):
    save(self, path, epoch)
    os.kill(os.getpid(), signal.SIGKILL)
train._Run._save = save_and_die
folder, cohort = Path(sys.argv[1]), json.loads(sys.argv[2])
import test_train
test_train.run(folder, cohort)
"""


def test_a_training_that_was_killed_for_good_goes_on_to_the_same_bytes(finished, cohort, tmp_path: Path) -> None:
    here = Path(__file__).resolve()
    environment = os.environ | {"PYTHONPATH": f"{here.parent}{os.pathsep}{here.parents[1]}"}
    command = [sys.executable, "-c", SIGKILLED, str(tmp_path), json.dumps(cohort)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert len(list((tmp_path / "work").rglob(CHECKPOINT))) == 1
    assert not (tmp_path / "weights.out").exists()
    outputs = run(tmp_path, cohort)
    assert read_json(outputs["record"])["resumed_at_epoch"] == 2
    assert sha256_file(outputs["weights"]) == sha256_file(finished["weights"])


@pytest.mark.parametrize("damage", ["empty", "half"])
def test_a_damaged_checkpoint_is_no_loss(
    finished, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(train, "_save_weights", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        run(tmp_path, cohort)
    monkeypatch.undo()
    (checkpoint,) = (tmp_path / "work").rglob(CHECKPOINT)
    content = checkpoint.read_bytes()
    damaged = {"empty": b"", "half": content[: len(content) // 2]}[damage]
    checkpoint.write_bytes(damaged)
    outputs = run(tmp_path, cohort)
    assert read_json(outputs["record"])["resumed_at_epoch"] == 0
    assert sha256_file(outputs["weights"]) == sha256_file(finished["weights"])


def test_the_checkpoint_of_another_training_is_not_taken(cohort, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(train, "_save_weights", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        run(tmp_path, cohort)
    monkeypatch.undo()
    for change in ({"code": "other"}, {"weight_decay": 0.1}):
        assert read_json(run(tmp_path, cohort, **change)["record"])["resumed_at_epoch"] == 0, change


def test_who_watches_does_not_learn(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, patients = cohort
    together = patients | {"c3": patients["c2"]}
    seen: set[str] = set()
    step = train._Run._step
    monkeypatch.setattr(
        train._Run, "_step", lambda self, b, epoch: (seen.update(s.case_id for s in b), step(self, b, epoch))[1]
    )
    record = read_json(run(tmp_path, (images, together), epochs=2)["record"])
    assert seen == set(record["cases"])
    assert not {together[c] for c in record["cases"]} & {together[c] for c in record["validation_cases"]}
    assert sorted(record["cases"] + record["validation_cases"]) == sorted(together)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 8), st.integers(0, 99))
def test_held_out_patients_are_whole_and_somebody_is_left(patients: list[int], number: int, seed: int) -> None:
    of_case = {f"c{n}": f"p{patient}" for n, patient in enumerate(patients)}
    folders = [Path(case) for case in of_case]
    learn, watch = train._hold_out(folders, of_case, number, seed)
    assert sorted(learn + watch) == sorted(folders)
    learners, watchers = ({of_case[folder.name] for folder in part} for part in (learn, watch))
    assert learn
    assert not learners & watchers
    assert len(watchers) == min(number, len(set(patients)) - 1)


def test_nobody_is_held_out_where_the_settings_say_so(cohort, tmp_path: Path) -> None:
    outputs = run(tmp_path, cohort, validation_patients=0, epochs=2)
    assert read_json(outputs["record"])["validation_cases"] == []
    assert read_tsv(outputs["history"])["validation_loss"].isna().all()


def test_no_cuda_device_names_the_key(cohort, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(TrainingError, match=r"train\.device.*no CUDA device"):
        run(tmp_path, cohort, device="cuda")
    assert not (tmp_path / "weights.out").exists()


def test_no_case_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no case to train `ddran` on in fold 1"):
        run(tmp_path, ([], {}))


def test_a_loss_that_is_not_a_number(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = train.lung_loss
    monkeypatch.setattr(train, "lung_loss", lambda *arguments: loss(*arguments) * float("nan"))
    with pytest.raises(TrainingError, match=r"loss of epoch 1 is nan.*learning_rate"):
        run(tmp_path, cohort)
    assert not (tmp_path / "weights.out").exists()


def test_out_of_memory_says_what_to_lower(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(train, "lung_loss", full)
    with pytest.raises(TrainingError, match=r"out of memory.*batch_size"):
        run(tmp_path, cohort)


@pytest.mark.parametrize("batch_size", [2, 99])
def test_batches_of_any_size(cohort, tmp_path: Path, batch_size: int) -> None:
    history = read_tsv(run(tmp_path, cohort, batch_size=batch_size, epochs=2)["history"])
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("targets", [["perfusion"], ["ventilation"]])
def test_a_network_of_one_target(cohort, tmp_path: Path, targets: list[str]) -> None:
    outputs = run(tmp_path, cohort, model={"targets": targets}, epochs=1)
    assert read_header(outputs["weights"])["targets"] == targets


def sample(seed: int, shape: tuple[int, int, int] = (8, 9, 10), margin: int = 2) -> Sample:
    generator = np.random.default_rng(seed)
    lungs = np.zeros(shape, np.float32)
    lungs[(slice(margin, -margin or None),) * 3] = 1
    image, truth = (torch.from_numpy(generator.random((n, *shape)).astype(np.float32) * lungs) for n in (5, 2))
    return Sample("c", image, torch.from_numpy(lungs)[None], truth)


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(0, 3), st.integers(0, 6))
def test_augmentation_moves_everything_together_and_wraps_nothing_round(seed: int, margin: int, reach: int) -> None:
    before = sample(seed, margin=margin)
    chosen = {"shift_voxels": reach, "scale": 0.1, "noise": 0.05, "mirror": 0}
    after = augment(before, chosen, torch.Generator().manual_seed(seed))
    again = augment(before, chosen, torch.Generator().manual_seed(seed))
    assert torch.equal(after.image, again.image)
    assert after.lungs.sum() == before.lungs.sum()
    outside = after.lungs[0] == 0
    assert (after.image[:, outside] == 0).all()
    assert (after.truth[:, outside] == 0).all()
    for a, b in ((after.truth, before.truth), (after.image[2:], before.image[2:])):
        crops = [t[(slice(None), *box(s.lungs[0]))] for t, s in ((a, after), (b, before))]
        assert torch.equal(*crops), "the image was only shifted, not turned, mirrored or wrapped"


def box(lungs: torch.Tensor) -> tuple[slice, ...]:
    index = torch.nonzero(lungs)
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(index.amin(0), index.amax(0), strict=True))


def test_no_augmentation_changes_nothing() -> None:
    before = sample(0)
    after = augment(before, {"shift_voxels": 0, "scale": 0, "noise": 0, "mirror": 0}, torch.Generator())
    for name in ("image", "lungs", "truth"):
        assert torch.equal(getattr(after, name), getattr(before, name))


def test_mirroring_turns_left_and_right_of_everything() -> None:
    before, chosen = sample(0), {"shift_voxels": 0, "scale": 0, "noise": 0, "mirror": 1}
    after = augment(before, chosen, torch.Generator())
    for name in ("image", "lungs", "truth"):
        assert torch.equal(getattr(after, name), getattr(before, name).flip(3))
    half = [augment(before, chosen | {"mirror": 0.5}, torch.Generator().manual_seed(k)) for k in range(60)]
    mirrored = sum(not torch.equal(s.truth, before.truth) for s in half)
    assert 15 < mirrored < 45


def test_cases_of_several_sizes_in_one_batch() -> None:
    small, large = sample(0, (6, 9, 7)), sample(1, (8, 8, 10))
    image, lungs, truth = stack([small, large])
    assert image.shape == (2, 5, 8, 9, 10)
    assert (lungs.shape, truth.shape) == ((2, 1, 8, 9, 10), (2, 2, 8, 9, 10))
    assert torch.equal(image[0, :, :6, :9, :7], small.image)
    assert lungs[0].sum() == small.lungs.sum()
    assert image[0].sum() == pytest.approx(small.image.sum().item(), rel=1e-5)

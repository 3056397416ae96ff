"""A training gives the same bytes twice; what it leaves behind; what cannot go on says why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from factories import CROP, TARGETS, TRAINING
from trainings import OUTPUTS, RESULT, run

from ct2vq import forecast
from ct2vq.errors import TrainingError
from ct2vq.files import read_json, read_tsv, sha256_file
from ct2vq.synthesize.header import read_header
from ct2vq.train import batches, loop, progress
from ct2vq.train.loop import Training


def test_the_same_bytes_twice(finished: dict[str, Path], cohort, tmp_path: Path) -> None:
    again = run(tmp_path, cohort)
    for name in RESULT:
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
    assert header["in_channels"] == 8
    assert header["crop"]["window_hu"] == CROP["window_hu"]


def test_the_loss_goes_down(cohort, tmp_path: Path) -> None:
    history = read_tsv(run(tmp_path, cohort, epochs=12, checkpoint_every=12)["history"])
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    assert history["validation_spearman"].iloc[-1] > 0.3


def test_who_watches_does_not_learn(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, patients = cohort
    together = patients | {"c3": patients["c2"]}
    seen: set[str] = set()
    real = batches.apply
    monkeypatch.setattr(batches, "apply", lambda sample, change: (seen.add(sample.case_id), real(sample, change))[1])
    record = read_json(run(tmp_path, (images, together), epochs=2)["record"])
    assert seen == set(record["cases"])
    assert not {together[c] for c in record["cases"]} & {together[c] for c in record["validation_cases"]}
    assert sorted(record["cases"] + record["validation_cases"]) == sorted(together)


def test_nobody_is_held_out_where_the_settings_say_so(cohort, tmp_path: Path) -> None:
    outputs = run(tmp_path, cohort, validation_patients=0, epochs=2)
    assert read_json(outputs["record"])["validation_cases"] == []
    assert read_tsv(outputs["history"])["validation_loss"].isna().all()


def test_a_slow_training_says_so_after_its_first_epoch(cohort, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(forecast, "SLOW", 0.0)
    with caplog.at_level("WARNING"):
        run(tmp_path, cohort)
    (said,) = [record.getMessage() for record in caplog.records if "slow on the CPU" in record.getMessage()]
    assert f"{TRAINING['epochs'] - 1} more take about" in said


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
    loss = loop.lung_loss
    monkeypatch.setattr(loop, "lung_loss", lambda *arguments: loss(*arguments) * float("nan"))
    with pytest.raises(TrainingError, match=r"loss of epoch 1 is nan.*learning_rate"):
        run(tmp_path, cohort)
    assert not (tmp_path / "weights.out").exists()


def test_a_validation_loss_that_is_not_a_number(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Training, "_validated", lambda self: (float("nan"), 0.5))
    with pytest.raises(TrainingError, match=r"validation loss is nan.*checkpoint is kept"):
        run(tmp_path, cohort, validation_patients=1)
    assert not (tmp_path / "weights.out").exists()


def test_a_gradient_that_is_not_finite_ends_the_training_and_keeps_the_checkpoint(
    finished, cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Training._require_finite

    def exploding(self, norm: torch.Tensor, epoch: int) -> None:
        real(self, norm * (float("inf") if epoch == 3 else 1), epoch)

    monkeypatch.setattr(Training, "_require_finite", exploding)
    with pytest.raises(TrainingError, match=r"gradient of epoch 3 has the norm inf.*learning_rate.*checkpoint is kept"):
        run(tmp_path, cohort)
    monkeypatch.undo()
    outputs = run(tmp_path, cohort)
    assert read_json(outputs["record"])["resumed_at_epoch"] == 2
    assert sha256_file(outputs["weights"]) == sha256_file(finished["weights"])


def test_a_gradient_that_really_explodes_is_seen(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is finite, its derivative is not: the square root of nothing."""
    monkeypatch.setattr(loop, "lung_loss", lambda prediction, *_: torch.sqrt((prediction * 0).square().sum()))
    with pytest.raises(TrainingError, match="the gradient of epoch 1 has the norm nan"):
        run(tmp_path, cohort)


CPU_SAYS = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError(CPU_SAYS), MemoryError()])
def test_out_of_memory_says_what_to_lower(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error) -> None:
    def full(*_):
        raise error

    monkeypatch.setattr(loop, "lung_loss", full)
    with pytest.raises(TrainingError, match=r"out of memory on cpu.*micro_batch.*width.*spacing_mm"):
        run(tmp_path, cohort)


def test_another_runtime_error_stays_what_it_is(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "lung_loss", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        run(tmp_path, cohort)


@pytest.mark.parametrize("batch_size", [2, 99])
def test_batches_of_any_size(cohort, tmp_path: Path, batch_size: int) -> None:
    history = read_tsv(run(tmp_path, cohort, batch_size=batch_size, epochs=2)["history"])
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("targets", [["perfusion"], ["ventilation"]])
def test_a_network_of_one_target(cohort, tmp_path: Path, targets: list[str]) -> None:
    outputs = run(tmp_path, cohort, model={"targets": targets}, epochs=1)
    assert read_header(outputs["weights"])["targets"] == targets


def test_gradients_of_pieces_make_the_step_of_the_batch(cohort, tmp_path: Path) -> None:
    """Same data in one piece and in four: only the order of sums differs."""
    whole, pieces = (
        run(tmp_path / name, cohort, batch_size=3, validation_patients=1, micro_batch=size)
        for name, size in (("whole", 3), ("pieces", 1))
    )
    histories = [read_tsv(outputs["history"]) for outputs in (whole, pieces)]
    for column in ("loss", "gradient_norm", "validation_spearman"):
        np.testing.assert_allclose(*(history[column] for history in histories), rtol=1e-4)
    assert [read_json(outputs["record"])["micro_batch"] for outputs in (whole, pieces)] == [3, 1]


def test_clipping_bounds_the_step(cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    real = Training._require_finite

    def note(self, norm: torch.Tensor, epoch: int) -> None:
        real(self, norm, epoch)
        gradients = [p.grad.flatten() for p in self.network.parameters() if p.grad is not None]
        norms.append((float(norm), float(torch.cat(gradients).norm())))

    monkeypatch.setattr(Training, "_require_finite", note)
    run(tmp_path, cohort, gradient_clip=0.05, epochs=2)
    assert max(before for before, _ in norms) > 0.05
    assert all(after <= 0.05 * 1.001 for _, after in norms)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_follows_single_precision(cohort, tmp_path: Path, precision: str) -> None:
    """Loss within 0.1 % in the first epoch, within 6 % over twelve; validation Rs within 0.03."""
    chosen = {"epochs": 12, "checkpoint_every": 4}
    outputs = [run(tmp_path / name, cohort, **chosen, precision=name) for name in ("32-true", precision)]
    single, half = (read_tsv(made["history"]) for made in outputs)
    assert not half["loss"].equals(single["loss"])
    assert half["loss"][0] == pytest.approx(single["loss"][0], rel=1e-3)
    np.testing.assert_allclose(half["loss"], single["loss"], rtol=0.06)
    np.testing.assert_allclose(half["validation_spearman"], single["validation_spearman"], atol=0.03)
    assert read_json(outputs[1]["record"])["precision"] == "bf16-mixed", "on a CPU there is no 16-mixed"


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_has_the_same_keys_and_learns_the_same(finished, cohort, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    outputs = run(tmp_path, cohort, compile=True, epochs=4)
    plain, compiled = (load_file(made["weights"]) for made in (finished, outputs))
    assert plain.keys() == compiled.keys()
    losses = [read_tsv(made["history"])["loss"] for made in (finished, outputs)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_early_stopping_keeps_the_best_averaged_weights(cohort, tmp_path: Path, monkeypatch) -> None:
    losses = iter([0.5, 0.3, 0.4, 0.31, 0.1])
    weights = []

    def validated(self) -> tuple[float, float]:
        weights.append({key: value.clone() for key, value in self.averaged.items()})
        return next(losses), 0.5

    monkeypatch.setattr(Training, "_validated", validated)
    stopping = {"patience": 2, "least_gain": 0}
    outputs = run(tmp_path, cohort, epochs=10, checkpoint_every=1, early_stopping=stopping)
    from safetensors.torch import load_file

    record = read_json(outputs["record"])
    assert (record["epochs_made"], record["kept_epoch"]) == (4, 2)
    kept = load_file(outputs["weights"])
    assert all(torch.equal(kept[key], value) for key, value in weights[1].items())
    assert len(read_tsv(outputs["history"])) == 4


def test_early_stopping_needs_somebody_who_watches(cohort, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"early_stopping.patience.*validation_patients"):
        run(tmp_path, cohort, validation_patients=0, early_stopping={"patience": 2, "least_gain": 0})


def test_cases_that_do_not_fit_in_memory_give_the_same_bytes(finished, cohort, tmp_path: Path) -> None:
    outputs = run(tmp_path, cohort, cache_mb=0)
    assert read_json(outputs["record"])["machine"]["cases_on_disk"] == 4
    for name in RESULT:
        assert sha256_file(outputs[name]) == sha256_file(finished[name])


def test_tensorboard_has_the_curves(cohort, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outputs = run(tmp_path, cohort, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "ddran" / "fold1"))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("loss")]
    history = read_tsv(outputs["history"])
    assert [step for step, _ in told] == history["epoch"].tolist()
    np.testing.assert_allclose([value for _, value in told], history["loss"], rtol=1e-6)
    assert [event.step for event in events.Scalars("validation_spearman")] == [2, 4]


def test_libraries_of_options_are_not_imported_without_them(cohort, tmp_path: Path, monkeypatch) -> None:
    import sys

    for name in ("tensorboard", "torch.utils.tensorboard", "monai"):
        monkeypatch.setitem(sys.modules, name, None)
    run(tmp_path, cohort, epochs=1)


def test_the_model_card_says_what_it_must(finished) -> None:
    card = finished["card"].read_text(encoding="utf-8")
    for part in (
        "# Model card: ddran, fold 1",
        "The patients were simulated",
        "perfusion (99mTc-MAA SPECT), ventilation (Technegas SPECT)",
        "| learnt from | 3 patients, 3 cases |",
        "Not a medical device",
        "SPECT, `reference` | percentile",
    ):
        assert part in card
    assert "p1" not in card.split(), "no patient is named"


def test_the_record_has_versions_times_and_memory(finished) -> None:
    record = read_json(finished["record"])
    assert {"ct2vq", "torch", "lightning-fabric", "numpy", "python", "safetensors"} <= record["versions"].keys()
    assert record["machine"]["seconds_a_step"] > 0
    assert 100 < record["peak_memory_mb"] < 5000
    assert record["digest"]
    assert set(OUTPUTS) == finished.keys()


class Terminal:
    """A stream that keeps what it is told."""

    def __init__(self, is_terminal: bool) -> None:
        self.is_terminal, self.text = is_terminal, ""

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_a_terminal_gets_a_bar_and_the_log_no_control_characters(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    terminal, file = Terminal(True), Terminal(False)
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4, "validation_loss": 0.6, "validation_spearman": 0.7}]
    for stream in (terminal, file):
        shown = progress.Progress("ddran fold 1", 4, 0, tmp_path / "history.tsv", terminal=stream)
        for number in (1, 2):
            shown.tell(rows[:number], last=False)
        shown.close()
    assert (
        "ddran fold 1 [##########..........] 2/4 loss 0.4000, validation loss 0.6000, validation Rs 0.700"
        in terminal.text
    )
    assert terminal.text.endswith("\r\x1b[K")
    assert file.text == ""
    assert "epoch 2 of 4: loss 0.4000, validation loss 0.6000, validation Rs 0.700, 0:00 left" in caplog.text
    assert all(character.isprintable() for record in caplog.records for character in record.getMessage())
    assert read_tsv(tmp_path / "history.tsv")["epoch"].tolist() == [1, 2]

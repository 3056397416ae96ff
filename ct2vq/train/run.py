"""The entry of the stage: train one network on one fold and write what it leaves behind."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct2vq.config import TRAINING_WITHOUT_EFFECT
from ct2vq.errors import TrainingError
from ct2vq.files import sha256_file, sha256_text, write_json
from ct2vq.inputs import case_folders
from ct2vq.train.card import write_card
from ct2vq.train.checkpoint import full_disk_told
from ct2vq.train.data import Cases, hold_out
from ct2vq.train.loop import Training
from ct2vq.train.machine import prepare_torch
from ct2vq.train.memory import cache_budget, out_of_memory_told
from ct2vq.train.progress import write_history
from ct2vq.train.ranks import together
from ct2vq.train.record import run_record, save_weights, weights_header
from ct2vq.train.seeds import seed_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What every process of a training must know."""

    learn: tuple[Path, ...]
    watch: tuple[Path, ...]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    window_hu: Sequence[float]
    seed: int
    label: str
    work: Path
    key: str
    events: Path | None


def train_network(
    images: Sequence[str],
    patients: Mapping[str, str],
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    preparation: Mapping[str, Any],
    outputs: Mapping[str, Path],
    *,
    name: str,
    fold: int,
    seed: int,
    code: str,
    simulated: bool,
    work: Path = Path("work/train"),
) -> None:
    """Train one network on one fold.

    Args:
        images: cropped images of all training cases (`results/crop/<case>/...`).
        patients: patient of each training case.
        model: the model's config block (`kind`, `targets`, `network`).
        training: the model's training settings.
        preparation: config blocks `convert`, `segment` and `crop`, kept with the weights so that a new CT is prepared
            the same way.
        outputs: files to write: `weights` (safetensors), `history` (TSV), `record` (JSON), `card` (Markdown).
        name: the model's name.
        fold: the fold that is left out.
        seed: the study's seed.
        code: digest of the code, part of the checkpoint's key.
        simulated: whether the patients are simulated; kept with the weights.
        work: folder of the checkpoints; TensorBoard's files go to `tensorboard` beside it.

    Raises:
        TrainingError: no case to learn from, no such device, a loss or gradient that is not a number, no memory or
            no disk left, or another process of the training that ended.
    """
    start = time.monotonic()
    prepare_torch(training)
    folders = case_folders(images)
    learn, watch = hold_out(folders, patients, training["validation_patients"], seed, fold)
    _require_cases(learn, watch, training, name, fold)
    settings = {key: value for key, value in training.items() if key not in TRAINING_WITHOUT_EFFECT}
    key = _key([model, settings, preparation, name, fold, seed, code, simulated, dict(patients)], images)
    events = work.parent / "tensorboard" / name / f"fold{fold}" if training["tensorboard"] else None
    label, window = f"{name} fold {fold}", preparation["crop"]["window_hu"]
    job = Job(tuple(learn), tuple(watch), model, training, window, seed_of(seed, name, fold), label, work, key, events)
    with full_disk_told():
        with together(follow, job, training["device"], training["devices"]):
            done = _train(job)
        header = weights_header(done, preparation, simulated)
        save_weights(done, header, outputs["weights"])
        write_history(done.history, outputs["history"])
    of = [[patients[folder.name] for folder in part] for part in (learn, watch)]
    write_card(done, header, outputs["card"], name=name, fold=fold, learners=of[0], watchers=of[1])
    record = run_record(done) | {
        "name": name,
        "fold": fold,
        "digest": key,
        "code": code,
        "simulated": simulated,
        "cases": [folder.name for folder in learn],
        "validation_cases": [folder.name for folder in watch],
        "resumed_at_epoch": done.resumed,
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(record, outputs["record"])
    shutil.rmtree(work / key, ignore_errors=True)


def follow(job: Job) -> None:
    """What the other processes of a training do: the same, but they write nothing."""
    prepare_torch(job.training)
    _train(job)


def _train(job: Job) -> Training:
    """Read the cases and train, as one of the processes."""
    import torch.distributed

    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    store = job.work / job.key / f"cases{rank}"
    with out_of_memory_told(job.training["device"]):
        budget = cache_budget(job.training)
        learn = Cases(job.learn, job.model, job.window_hu, budget, store)
        watch = Cases(job.watch, job.model, job.window_hu, budget - learn.bytes_in_memory, store)
        training = Training(job.model, job.training, learn, watch, job.seed)
    if rank == 0:
        _tell(training)
    training.fit(job.work / job.key, job.label, job.events)
    return training


def _tell(training: Training) -> None:
    logger.info(
        "%d cases to learn from, %d to watch, %d of them on disk; batch %d on %d device(s), %d at once (%s)",
        len(training.learn),
        len(training.watch),
        training.learn.on_disk + training.watch.on_disk,
        training.training["batch_size"],
        training.training["devices"],
        training.batches.at_once,
        training.micro_batch_facts["rule"],
    )


def _require_cases(
    learn: Sequence[Path], watch: Sequence[Path], training: Mapping[str, Any], name: str, fold: int
) -> None:
    if not learn:
        raise TrainingError(f"no case to train `{name}` on in fold {fold}", hint="more cases, or fewer folds")
    if training["early_stopping"]["patience"] and not watch:
        raise TrainingError(
            f"`{name}` has no patient set aside in fold {fold} by whom to stop early",
            key="train.early_stopping.patience",
            hint="raise train.validation_patients, or set the patience to 0",
        )


def _key(settings: Sequence[Any], images: Sequence[str]) -> str:
    contents = [(image, sha256_file(image)) for image in images]
    return sha256_text(json.dumps([*settings, contents], sort_keys=True))[:24]

"""One trial: a model learns from all folds but one, and its images of that fold's cases are scored."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.baselines import train_baseline
from ct2vq.config import is_network, model_training
from ct2vq.digests import code_digest
from ct2vq.evaluate.images import CaseImages
from ct2vq.evaluate.scores import PairScores
from ct2vq.files import read_json, write_json, write_tsv
from ct2vq.inputs import read_cropped_case
from ct2vq.names import CEILINGS, REFERENCES
from ct2vq.synthesize.predict import predict
from training.study import REGIONS, Study, kept_images

METRICS = ("spearman", "ssim", "dice_low", "dice_high", "mae", "pearson")
COLUMNS = ["model", "seed", "fold", "case", "target", "reference", "region", "metric", "value"]


@dataclass(frozen=True)
class Trial:
    """A model, the seed of its training, and the fold that it does not see."""

    model: str
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.model}.seed{self.seed}.fold{self.fold}"


def run_trial(trial: Trial, study: Study, epochs: int | None) -> None:
    """Train, predict and score; writes the study's `scores/<name>.tsv` last, by which the trial counts as done.

    An interrupted training goes on from its checkpoint under `work`.

    Args:
        trial: what is tried.
        study: the study.
        epochs: of a network; a baseline has none.
    """
    state = study.state
    folder = state / "trainings" / trial.name
    folder.mkdir(parents=True, exist_ok=True)
    model = study.config["models"][trial.model]
    learn = [str(path) for case in study.learners(trial.fold) for path in study.images(case)]
    if is_network(model):
        _train(trial, study, epochs or 1, learn, folder, state / "work")
        _note_cost(folder, epochs or 1)
    else:
        train_baseline(learn, model, folder / "weights.safetensors", folder / "run.json", simulated=True)
    rows = [row for case in study.tested(trial.fold) for row in _scored(trial, study, case, folder)]
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), state / "scores" / f"{trial.name}.tsv")


def _train(trial: Trial, study: Study, epochs: int, images: list[str], folder: Path, work: Path) -> None:
    from ct2vq.train.run import train_network

    config = study.config
    names = {"weights": "weights.safetensors", "history": "history.tsv", "record": "run.json", "card": "model_card.md"}
    known = {key: value for key, value in config["models"][trial.model].items() if key not in ("label", "training")}
    train_network(
        images,
        {case: study.patients[case] for case in study.learners(trial.fold)},
        known,
        {**model_training(config, trial.model), "epochs": epochs},
        {stage: config[stage] for stage in ("convert", "segment", "crop")},
        {key: folder / name for key, name in names.items()},
        name=trial.model,
        fold=trial.fold,
        seed=trial.seed,
        code=code_digest("scripts/train.py"),
        simulated=True,
        work=work,
    )


def _note_cost(folder: Path, epochs: int) -> None:
    """What this process has cost so far, beside the training's own record."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    record = read_json(folder / "run.json")
    cost = {
        "processor_minutes": round((used.ru_utime + used.ru_stime) / 60, 3),
        "peak_memory_mib": round(used.ru_maxrss / 1024),
        "parameters": record["parameters"],
        "epochs": epochs,
        "interrupted": bool(record["resumed_at_epoch"]),
    }
    write_json(cost, folder / "cost.json")


def _scored(trial: Trial, study: Study, case: str, folder: Path) -> Iterator[list[Any]]:
    """Rows of one case."""
    made = predict(
        folder / "weights.safetensors",
        read_cropped_case(study.crop(case), ()),
        "cpu",
        study.config["synthesize"],
    )
    known = kept_images(study, case)
    for target, reference, row in scores(
        {(trial.model, target): image for target, image in made.items()}, known, study
    ):
        yield [trial.model, trial.seed, trial.fold, case, target, reference, row["region"], row["metric"], row["value"]]


def scores(
    made: Mapping[tuple[str, str], np.ndarray], known: CaseImages, study: Study
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Target, reference and row of each metric in each region, of images by (model, target)."""
    evaluate = study.config["evaluate"]
    settings = {**evaluate, "function_thresholds": evaluate["function_thresholds"][:1], "threshold_curve": []}
    for (model, target), image in made.items():
        beside = PairScores(known.regions, settings)
        references = {name: known.images[name, target] for name in REFERENCES}
        beside.add({(model, target): np.where(known.regions.inside, image, np.float32(0)), **references})
        pairs = {((model, target), name): REGIONS for name in references}
        for (_, reference), rows in beside.rows(pairs).items():
            yield from ((target, str(reference), row) for row in rows if _wanted(row))


def ceiling_rows(study: Study) -> Iterator[list[Any]]:
    """The same rows of the truth and of what a CT shows of it, as if they were models, against the SPECT."""
    for case, fold in study.folds.items():
        known = kept_images(study, case)
        for name, source in CEILINGS.items():
            made = {(name, target): image for (of, target), image in known.images.items() if of == source}
            for target, reference, row in scores(made, known, study):
                if reference == REFERENCES[0]:
                    yield [name, 0, fold, case, target, reference, row["region"], row["metric"], row["value"]]


def _wanted(row: Mapping[str, Any]) -> bool:
    return row["metric"] in METRICS and row["region"] in REGIONS

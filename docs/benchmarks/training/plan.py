"""How many epochs each model gets, so that all systems have the same processor minutes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2vq.config import model_training
from ct2vq.train.data import Cases
from ct2vq.train.loop import Training
from ct2vq.train.machine import prepare_torch
from training.study import Study, System

#: cases of the epochs that are timed, and how often each model is timed
CASES, ROUNDS = 8, 3


def seconds_a_case(study: Study, models: Sequence[str], work: Path) -> dict[str, float]:
    """Processor seconds that learning from one case once takes each model: the least of several, models in turn.

    An epoch of some cases after one that warms up, with all that an epoch does: augmentation, loss, optimiser, average.
    """
    folders = [study.crop(case) for case in sorted(study.folds)[:CASES]]
    window = study.config["crop"]["window_hu"]
    trainings = {}
    for name in models:
        training = dict(model_training(study.config, name))
        prepare_torch(training)
        model = study.config["models"][name]
        learn = Cases(folders, model, window, float("inf"), work)
        watch = Cases([], model, window, float("inf"), work)
        trainings[name] = Training(model, training, learn, watch, seed=0)
        trainings[name].epoch(1)
    least = dict.fromkeys(models, float("inf"))
    for number in range(ROUNDS):
        for name, training in trainings.items():
            start = time.process_time()
            training.epoch(2 + number)
            least[name] = min(least[name], (time.process_time() - start) / len(folders))
    return least


def epochs(systems: Sequence[System], seconds: Mapping[str, float], minutes: float, study: Study) -> dict[str, int]:
    """Epochs of each model: a system's minutes are shared evenly by its models.

    Args:
        systems: who competes.
        seconds: processor seconds a case.
        minutes: processor minutes of each system, fold and seed.
        study: its folds say how many cases an epoch has.
    """
    learners = _mean_learners(study)
    shares = {model: minutes * 60 / len(system.models) for system in systems for model in system.models}
    return {model: max(1, round(share / (seconds[model] * learners))) for model, share in shares.items()}


def _mean_learners(study: Study) -> float:
    folds: Mapping[str, Any] = study.folds
    numbers = sorted(set(folds.values()))
    return sum(len(study.learners(fold)) for fold in numbers) / len(numbers)

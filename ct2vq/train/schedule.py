"""What changes over a training by a rule: learning rate, averaged weights, early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def learning_rate(step: int, total: int, training: Mapping[str, Any]) -> float:
    """Learning rate of a step: a linear rise, then half a cosine to zero (`cosine`) or the peak (`constant`).

    Args:
        step: number of the step, from 0.
        total: steps of the whole training.
        training: keys `learning_rate`, `warm_up` (share of the steps) and `schedule`.
    """
    peak = training["learning_rate"]
    warm = max(1, round(training["warm_up"] * total))
    if step < warm:
        return peak * (step + 1) / warm
    if training["schedule"] == "constant":
        return peak
    share = (step - warm) / max(1, total - warm)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def average_into(averaged: dict[str, Tensor], current: Mapping[str, Tensor], decay: float, step: int) -> None:
    """Running average of the weights; the first steps count more, so that the random start is soon forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    for key, value in current.items():
        if value.dtype.is_floating_point:
            averaged[key].mul_(decay).add_(value.detach(), alpha=1 - decay)
        else:
            averaged[key].copy_(value)


class EarlyStopping:
    """Keeps the averaged weights with the lowest validation loss, and tells when waiting for better ones is over.

    Args:
        settings: config block `train.early_stopping`; patience 0 switches it off.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.patience = settings["patience"]
        self.least_gain = settings["least_gain"]
        self.best: dict[str, Any] | None = None
        self.waited = 0

    def see(self, epoch: int, loss: float, weights: Mapping[str, Tensor]) -> None:
        """Take note of a validation."""
        if not self.patience:
            return
        if self.best is None or loss < self.best["loss"] - self.least_gain:
            kept = {key: value.detach().clone() for key, value in weights.items()}
            self.best, self.waited = {"epoch": epoch, "loss": loss, "weights": kept}, 0
        else:
            self.waited += 1

    @property
    def is_over(self) -> bool:
        """Whether as many validations as the patience brought nothing better."""
        return bool(self.patience) and self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a checkpoint's state."""
        self.best, self.waited = state["best"], state["waited"]

"""The training itself: network, optimiser, averaged weights, history, and what makes them go on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ct2vq.errors import TrainingError
from ct2vq.forecast import slow_training
from ct2vq.losses import lung_loss
from ct2vq.networks.build import build_network
from ct2vq.networks.cost import parameters
from ct2vq.train.batches import Batches, Piece
from ct2vq.train.checkpoint import load_checkpoint, save_checkpoint
from ct2vq.train.data import Cases, stack
from ct2vq.train.machine import ahead, to_device
from ct2vq.train.memory import micro_batch, out_of_memory_told
from ct2vq.train.progress import Progress
from ct2vq.train.schedule import EarlyStopping, average_into, learning_rate
from ct2vq.train.seeds import seed_of

logger = logging.getLogger(__name__)

#: steps in a row that half precision may leave out while its scale comes down from 2**16
OVERFLOWS = 40


class Training:
    """The state of one training, in each of its processes.

    Args:
        model: the model's config block.
        training: the model's training settings.
        learn: cases to learn from.
        watch: cases of the patients that were set aside.
        seed: seed of this model and fold.
    """

    def __init__(
        self, model: Mapping[str, Any], training: Mapping[str, Any], learn: Cases, watch: Cases, seed: int
    ) -> None:
        self.training, self.learn, self.watch = training, learn, watch
        self.model, self.seed = model, seed
        self.fabric = _fabric(training)
        first = learn[0]
        torch.manual_seed(self.seed)
        self.in_channels = first.image.shape[0]
        network = build_network(model["kind"], model["targets"], model["network"], self.in_channels)
        self.parameters = parameters(network)
        at_once, self.micro_batch_facts = self._choose_micro_batch(network)
        ranks, rank = self.fabric.world_size, self.fabric.global_rank
        self.batches = Batches(learn, model, training, ranks, rank, at_once)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=training["learning_rate"], weight_decay=training["weight_decay"]
        )
        if training["compile"]:
            torch.use_deterministic_algorithms(True)  # tells the compiler, too
            network.compile()
        self.network, self.optimiser = self.fabric.setup(network, optimiser)
        self.averaged = {key: value.detach().clone() for key, value in self._weights().items()}
        self.stopping = EarlyStopping(training["early_stopping"])
        self.history: list[dict[str, float]] = []
        self.resumed, self.seconds, self.seconds_of_steps, self.overflows = 0, 0.0, 0.0, 0

    def _choose_micro_batch(self, network: torch.nn.Module) -> tuple[int, dict[str, Any]]:
        largest = self.learn[self.learn.largest]
        cached = self.learn.bytes_in_memory + self.watch.bytes_in_memory
        return micro_batch(self.training, network, largest.image[None], largest.lungs[None], cached)

    def fit(self, folder: Path, label: str, events: Path | None) -> None:
        """Train to the last epoch, or until early stopping; take up the last checkpoint in `folder`."""
        self._settle_buckets()
        self.resume(folder)
        start = saved = time.monotonic()
        before = self.seconds
        progress = None
        if self.fabric.is_global_zero:
            progress = Progress(label, self.training["epochs"], self.resumed, folder / "history.tsv", events)
        try:
            for epoch in range(self.resumed + 1, self.training["epochs"] + 1):
                if self.stopping.is_over:
                    break
                due = self._pass(epoch)
                self.seconds = before + time.monotonic() - start
                last = epoch == self.training["epochs"] or self.stopping.is_over
                if progress is not None:
                    progress.tell(self.history, last)
                    if epoch == self.resumed + 1:
                        self._tell_if_slow(self.seconds - before)
                    if not last and (due or time.monotonic() - saved > self.training["checkpoint_seconds"]):
                        self.save(folder, epoch)
                        saved = time.monotonic()
        finally:
            if progress is not None:
                progress.close()

    def _settle_buckets(self) -> None:
        """Let DDP put the gradients into the buckets that it keeps, by a step that changes nothing.

        After the first backward pass DDP sorts them anew, and the order in which three or more ranks are added up
        depends on the place in a bucket. Without this the first step after a resume would round differently.
        """
        if self.fabric.world_size == 1:
            return
        before = {key: value.detach().clone() for key, value in self._weights().items()}
        self.network.train()
        self._backward(self.batches.pieces([0], torch.Generator().manual_seed(self.seed))[0], is_last=True)
        self.optimiser.zero_grad()
        self.network.module.load_state_dict(before)

    def _tell_if_slow(self, seconds: float) -> None:
        said = slow_training(self.training["device"], seconds, self.training["epochs"] - len(self.history))
        if said:
            logger.warning("%s", said)

    def _pass(self, epoch: int) -> bool:
        """One epoch, with its validation if that is due; returns whether it was."""
        start = time.monotonic()
        row = self.epoch(epoch)
        self.seconds_of_steps += time.monotonic() - start
        due = epoch % self.training["checkpoint_every"] == 0
        if due or epoch == self.training["epochs"]:
            row |= self.validate()
            self.stopping.see(epoch, row["validation_loss"], self.averaged)
        self.history.append(row)
        return due

    def epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the cases; all that is random in it is a function of (seed, epoch)."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, "epoch", epoch))
        # dropout draws from torch's own generator; each process drops other units
        torch.manual_seed(seed_of(self.seed, "dropout", epoch, self.fabric.global_rank))
        losses, norms = [], []
        self.network.train()
        first = (epoch - 1) * self.batches.number
        total = self.training["epochs"] * self.batches.number
        with out_of_memory_told(str(self.fabric.device)):
            for step, pieces in enumerate(ahead(self.batches.of_epoch(generator), self.fabric.device), start=first):
                rate = learning_rate(step, total, self.training)
                for group in self.optimiser.param_groups:
                    group["lr"] = rate
                loss, norm = self.step(pieces, epoch)
                losses.append(loss)
                norms.append(norm)
                average_into(self.averaged, self._weights(), self.training["ema_decay"], step)
        return {
            "epoch": epoch,
            "learning_rate": rate,
            "loss": float(np.mean(losses)),
            "gradient_norm": float(np.max(norms)),
        }

    def step(self, pieces: Sequence[Piece], epoch: int) -> tuple[float, float]:
        """One step of the optimiser; returns the batch's loss and the gradient's norm before clipping.

        Raises:
            TrainingError: the loss or the gradient is not a number; the weights are as before the step.
        """
        self.optimiser.zero_grad()
        loss = torch.zeros((), device=self.fabric.device)
        for number, piece in enumerate(pieces, start=1):
            loss += self._backward(piece, is_last=number == len(pieces))
        if self.fabric.world_size > 1:
            loss = self.fabric.all_reduce(loss, reduce_op="mean")
        if not torch.isfinite(loss):
            raise self._fault(f"the loss of epoch {epoch} is {loss.item()}")
        norm = self.fabric.clip_gradients(
            self.network, self.optimiser, max_norm=self.training["gradient_clip"], error_if_nonfinite=False
        )
        self._require_finite(norm, epoch)
        self.optimiser.step()
        return float(loss), float(norm)

    def _backward(self, piece: Piece, is_last: bool) -> Tensor:
        """Gradient of a piece; processes exchange gradients after the last one only."""
        image, lungs, truth = to_device((piece.image, piece.lungs, piece.truth), self.fabric.device)
        waits = self.fabric.world_size > 1 and not is_last
        with self.fabric.no_backward_sync(self.network, enabled=waits):
            loss = self._loss(self.network(image, lungs), lungs, truth)
            loss = loss if piece.share == 1 else loss * piece.share
            self.fabric.backward(loss)
        return loss.detach()

    def _loss(self, prediction: Tensor, lungs: Tensor, truth: Tensor) -> Tensor:
        return lung_loss(prediction.float(), truth, lungs, self.training["loss"], self.model["targets"])

    def _require_finite(self, norm: Tensor, epoch: int) -> None:
        """Refuse a gradient that is not finite; half precision leaves out such a step and lowers its scale."""
        self.overflows = 0 if torch.isfinite(norm) else self.overflows + 1
        if self.overflows > (OVERFLOWS if self.training["precision"] == "16-mixed" else 0):
            raise self._fault(f"the gradient of epoch {epoch} has the norm {norm.item()}")

    def _fault(self, what: str) -> TrainingError:
        return TrainingError(
            what, hint="lower train.learning_rate, or use precision 32-true; the last checkpoint is kept"
        )

    def validate(self) -> dict[str, float]:
        """Loss and mean Spearman of the averaged weights on the patients that were set aside (made by rank 0)."""
        if not len(self.watch):
            return {"validation_loss": float("nan"), "validation_spearman": float("nan")}
        result = torch.zeros(2, dtype=torch.float64)
        if self.fabric.is_global_zero:
            with out_of_memory_told(str(self.fabric.device)):
                result = torch.tensor(self._validated(), dtype=torch.float64)
        loss, spearman = self.fabric.broadcast(result).tolist()
        if not math.isfinite(loss):
            raise self._fault(f"the validation loss is {loss}")
        return {"validation_loss": loss, "validation_spearman": spearman}

    def _validated(self) -> tuple[float, float]:
        from scipy.stats import spearmanr

        kept = {key: value.detach().clone() for key, value in self._weights().items()}
        self.network.module.load_state_dict(self.averaged)
        self.network.eval()
        losses, agreements = [], []
        with torch.no_grad(), self.fabric.autocast():
            for number in range(len(self.watch)):
                sample = self.watch[number]
                image, lungs, truth = to_device(stack([sample]), self.fabric.device)
                prediction = self.network.module(image, lungs).float()
                losses.append(float(self._loss(prediction, lungs, truth)))
                inside = sample.lungs[0].numpy() > 0
                for made, real in zip(prediction[0].cpu().numpy(), sample.truth.numpy(), strict=True):
                    agreements.append(spearmanr(made[inside], real[inside]).statistic)
        self.network.module.load_state_dict(kept)
        return float(np.mean(losses)), float(np.mean(agreements))

    def _weights(self) -> dict[str, Tensor]:
        return self.network.module.state_dict()

    def final_weights(self) -> dict[str, Tensor]:
        """The averaged weights: the last ones, or with early stopping the best ones."""
        kept = self.averaged if self.stopping.best is None else self.stopping.best["weights"]
        return {key: value.detach().cpu().contiguous() for key, value in kept.items()}

    def save(self, folder: Path, epoch: int) -> None:
        """Write a checkpoint: everything that the next epoch depends on."""
        state = {
            "epoch": epoch,
            "micro_batch": self.batches.at_once,
            "network": self._weights(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "stopping": self.stopping.state(),
            "history": self.history,
            "overflows": self.overflows,
            "seconds": self.seconds,
            "seconds_of_steps": self.seconds_of_steps,
        }
        save_checkpoint(state, folder)

    def resume(self, folder: Path) -> None:
        """Take up the last whole checkpoint: the same one in all processes, as none writes before all have read."""
        state = load_checkpoint(folder)
        self.fabric.barrier()
        if state is None:
            return
        self.network.module.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.averaged = {key: value.to(self.fabric.device) for key, value in state["averaged"].items()}
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.stopping.restore(state["stopping"])
        self.history, self.overflows, self.resumed = state["history"], state["overflows"], state["epoch"]
        self.seconds, self.seconds_of_steps = state["seconds"], state["seconds_of_steps"]
        if self.batches.at_once != state["micro_batch"]:  # chosen by the memory of another machine
            self.batches.at_once, self.micro_batch_facts = state["micro_batch"], {"rule": "as in the checkpoint"}
        logger.info("going on after epoch %d", self.resumed)


def _fabric(training: Mapping[str, Any]) -> Any:
    """Fabric for this process, within the group that `ct2vq.train.ranks` made if there are several."""
    from lightning_fabric import Fabric

    several = training["devices"] > 1
    fabric = Fabric(
        accelerator=training["device"],
        devices=training["devices"],
        precision=training["precision"],
        **({"strategy": "ddp", "plugins": [_own_processes()]} if several else {}),
    )
    if several:
        fabric.launch()
    return fabric


def _own_processes() -> Any:
    """One machine and our own processes, also where Fabric would see the variables of a cluster's scheduler."""
    from lightning_fabric.plugins.environments import LightningEnvironment

    return LightningEnvironment()

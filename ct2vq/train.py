"""Stage `train`: one network on one fold.

A training can be killed at any moment and goes on from its last checkpoint to the same bytes: every epoch draws its
order and its augmentation from a generator seeded by (seed, epoch), the schedule is a function of the step, and a
checkpoint holds weights, optimiser and averaged weights. Checkpoints live in `work/train/<digest>/`, where the digest
covers everything that determines the result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
import resource
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from ct2vq import __version__
from ct2vq.errors import TrainingError
from ct2vq.files import replacing, sha256_file, sha256_text, write_json, write_tsv
from ct2vq.inputs import CT_CHANNELS, case_folders, network_channels, read_cropped_case
from ct2vq.losses import lung_loss
from ct2vq.networks import build_network, parameter_count

logger = logging.getLogger(__name__)

#: share of the training over which the learning rate rises
WARM_UP = 0.15
#: checkpoint's file name in `work/train/<digest>/`
CHECKPOINT = "latest.pt"


@dataclass(frozen=True)
class Sample:
    """A case as tensors: `image (channel, z, y, x)`, `lungs (1, z, y, x)`, `truth (target, z, y, x)`."""

    case_id: str
    image: Tensor
    lungs: Tensor
    truth: Tensor


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
        model: the model's config block (`targets`, `network`).
        training: the model's training settings.
        preparation: config blocks `convert`, `segment` and `crop`, kept with the weights so that a new CT is prepared
            the same way.
        outputs: files to write: `weights` (safetensors), `history` (TSV), `record` (JSON).
        name: the model's name.
        fold: the fold that is left out.
        seed: the study's seed.
        code: digest of the code, part of the checkpoint's key.
        simulated: whether the patients are simulated; kept with the weights.
        work: folder of the checkpoints.

    Raises:
        TrainingError: no case to learn from, no such device, a loss that is not a number, or no memory left.
    """
    start = time.monotonic()
    _prepare_torch(training)
    folders = case_folders(images)
    key = _key([model, training, preparation, name, fold, seed, code, simulated, dict(patients)], images)
    learn, watch = _hold_out(folders, patients, training["validation_patients"], seed)
    samples = {folder.name: _sample(folder, model, preparation["crop"]["window_hu"]) for folder in folders}
    run = _Run(model, training, [samples[f.name] for f in learn], [samples[f.name] for f in watch], seed, name, fold)
    resumed = run.fit(work / key)
    _save_weights(run, model, preparation, simulated, outputs["weights"])
    write_tsv(run.history_table(), outputs["history"])
    record = run.record() | {
        "name": name,
        "fold": fold,
        "digest": key,
        "code": code,
        "simulated": simulated,
        "cases": [folder.name for folder in learn],
        "validation_cases": [folder.name for folder in watch],
        "resumed_at_epoch": resumed,
        "seconds": round(time.monotonic() - start, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    write_json(record, outputs["record"])
    shutil.rmtree(work / key, ignore_errors=True)


class _Run:
    """The state of one training: network, optimiser, averaged weights, history."""

    def __init__(
        self,
        model: Mapping[str, Any],
        training: Mapping[str, Any],
        learn: Sequence[Sample],
        watch: Sequence[Sample],
        seed: int,
        name: str,
        fold: int,
    ) -> None:
        from lightning_fabric import Fabric

        if not learn:
            raise TrainingError(f"no case to train `{name}` on in fold {fold}", hint="more cases, or fewer folds")
        self.training, self.learn, self.watch = training, learn, watch
        self.model, self.seed = model, _seed(seed, name, fold)
        self.fabric = Fabric(accelerator=training["device"], devices=1, precision=training["precision"])
        torch.manual_seed(self.seed)
        network = build_network(model["targets"], model["network"], learn[0].image.shape[0])
        self.parameters = parameter_count(network)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=training["learning_rate"], weight_decay=training["weight_decay"]
        )
        self.network, self.optimiser = self.fabric.setup(network, optimiser)
        self.averaged = {key: value.detach().clone() for key, value in self.network.module.state_dict().items()}
        self.history: list[dict[str, float]] = []
        self.steps_per_epoch = -(-len(learn) // training["batch_size"])

    def fit(self, folder: Path) -> int:
        """Train to the last epoch; returns the epoch at which a checkpoint was taken up (0: from the start)."""
        resumed = self._restore(folder / CHECKPOINT)
        for epoch in range(resumed + 1, self.training["epochs"] + 1):
            row = self._epoch(epoch)
            last = epoch == self.training["epochs"]
            if epoch % self.training["checkpoint_every"] == 0 or last:
                row |= self._validate()
                logger.info("epoch %d: %s", epoch, ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch"))
            self.history.append(row)
            if epoch % self.training["checkpoint_every"] == 0 and not last:
                self._save(folder / CHECKPOINT, epoch)
        return resumed

    def _epoch(self, epoch: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(_seed(self.seed, "epoch", epoch))
        order = torch.randperm(len(self.learn), generator=generator).tolist()
        losses = []
        self.network.train()
        for step in range(self.steps_per_epoch):
            rate = self._learning_rate((epoch - 1) * self.steps_per_epoch + step)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            chosen = order[step * self.training["batch_size"] : (step + 1) * self.training["batch_size"]]
            batch = [augment(self.learn[index], self.training["augmentation"], generator) for index in chosen]
            losses.append(self._step(batch, epoch))
            self._average((epoch - 1) * self.steps_per_epoch + step)
        return {"epoch": epoch, "learning_rate": rate, "loss": float(np.mean(losses))}

    def _step(self, batch: Sequence[Sample], epoch: int) -> float:
        image, lungs, truth = (tensor.to(self.fabric.device) for tensor in stack(batch))
        try:
            loss = lung_loss(self.network(image, lungs).float(), truth, lungs, self.training["loss"])
            self.optimiser.zero_grad()
            self.fabric.backward(loss)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"out of memory on {self.fabric.device}",
                hint="lower models.*.network.width or train.batch_size, or raise crop.spacing_mm",
            ) from error
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of epoch {epoch} is {loss.item()}",
                hint="lower train.learning_rate, or use precision 32-true; the last checkpoint is kept",
            )
        self.fabric.clip_gradients(self.network, self.optimiser, max_norm=self.training["gradient_clip"])
        self.optimiser.step()
        return float(loss.detach())

    def _average(self, step: int) -> None:
        """Running average of the weights; the first steps count more, so that the random start is soon forgotten."""
        decay = min(self.training["ema_decay"], (1 + step) / (10 + step))
        for key, value in self.network.module.state_dict().items():
            if value.dtype.is_floating_point:
                self.averaged[key].mul_(decay).add_(value.detach(), alpha=1 - decay)
            else:
                self.averaged[key].copy_(value)

    def _learning_rate(self, step: int) -> float:
        """Linear rise, then half a cosine to zero."""
        total = self.training["epochs"] * self.steps_per_epoch
        warm = max(1, round(WARM_UP * total))
        if step < warm:
            return self.training["learning_rate"] * (step + 1) / warm
        share = (step - warm) / max(1, total - warm)
        return self.training["learning_rate"] * 0.5 * (1 + math.cos(math.pi * share))

    def _validate(self) -> dict[str, float]:
        """Loss and mean Spearman of the averaged weights on the patients that were set aside."""
        if not self.watch:
            return {"validation_loss": float("nan"), "validation_spearman": float("nan")}
        kept = {key: value.detach().clone() for key, value in self.network.module.state_dict().items()}
        self.network.module.load_state_dict(self.averaged)
        self.network.eval()
        losses, agreements = [], []
        with torch.no_grad():
            for sample in self.watch:
                image, lungs, truth = (tensor.to(self.fabric.device) for tensor in stack([sample]))
                prediction = self.network(image, lungs).float()
                losses.append(float(lung_loss(prediction, truth, lungs, self.training["loss"])))
                inside = sample.lungs[0].numpy() > 0
                for made, real in zip(prediction[0].cpu().numpy(), sample.truth.numpy(), strict=True):
                    size = real.shape
                    agreements.append(spearmanr(made[tuple(map(slice, size))][inside], real[inside]).statistic)
        self.network.module.load_state_dict(kept)
        return {"validation_loss": float(np.mean(losses)), "validation_spearman": float(np.mean(agreements))}

    def _save(self, path: Path, epoch: int) -> None:
        state = {
            "epoch": epoch,
            "network": self.network.module.state_dict(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
            "history": self.history,
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def _restore(self, path: Path) -> int:
        if not path.is_file():
            return 0
        try:
            state = torch.load(path, map_location=self.fabric.device, weights_only=True)
        except Exception as error:  # whatever a damaged file makes the reader raise
            logger.warning("checkpoint %s cannot be read (%s): training starts again", path, error)
            return 0
        self.network.module.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.averaged = state["averaged"]
        self.history = state["history"]
        logger.info("going on after epoch %d", state["epoch"])
        return state["epoch"]

    def history_table(self) -> Any:
        """One row an epoch; validation is missing where it was not computed."""
        import pandas as pd

        columns = ["epoch", "learning_rate", "loss", "validation_loss", "validation_spearman"]
        return pd.DataFrame(self.history).reindex(columns=columns)

    def record(self) -> dict[str, Any]:
        """What the report says of this training."""
        device = torch.cuda.get_device_name() if self.training["device"] == "cuda" else platform.processor() or "cpu"
        return {
            "kind": self.model["kind"],
            "targets": list(self.model["targets"]),
            "parameters": self.parameters,
            "epochs": self.training["epochs"],
            "seed": self.seed,
            "device": device,
            "precision": self.training["precision"],
            "threads": self.training["threads"],
            "final_loss": self.history[-1]["loss"],
            "versions": {"ct2vq": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }


def augment(sample: Sample, settings: Mapping[str, Any], generator: torch.Generator) -> Sample:
    """A random shift of the whole sample, and a random gain and noise of its CT channels.

    Everything outside the lungs is 0 and the crop has a margin, so a shift within it wraps nothing round. With the
    probability `mirror` left and right change places; position channels are symmetric and stay true.
    """
    if settings["mirror"] and float(torch.rand(1, generator=generator)) < settings["mirror"]:
        sample = Sample(sample.case_id, *(t.flip(3) for t in (sample.image, sample.lungs, sample.truth)))
    reach = settings["shift_voxels"]
    shift = torch.randint(-reach, reach + 1, (3,), generator=generator).tolist() if reach else [0, 0, 0]
    shift = [_limited(step, sample.lungs[0], axis) for axis, step in enumerate(shift)]
    image, lungs, truth = (
        torch.roll(tensor, shift, dims=(1, 2, 3)) for tensor in (sample.image, sample.lungs, sample.truth)
    )
    gain = 1 + settings["scale"] * (2 * torch.rand(CT_CHANNELS, 1, 1, 1, generator=generator) - 1)
    noise = settings["noise"] * torch.randn((CT_CHANNELS, *image.shape[1:]), generator=generator)
    image = torch.cat([(image[:CT_CHANNELS] * gain + noise) * lungs, image[CT_CHANNELS:]])
    return Sample(sample.case_id, image, lungs, truth)


def _limited(step: int, lungs: Tensor, axis: int) -> int:
    """A shift cut down to the free margin on its side."""
    occupied = torch.nonzero(lungs.amax(dim=[other for other in range(3) if other != axis]) > 0).flatten()
    before, after = int(occupied[0]), lungs.shape[axis] - 1 - int(occupied[-1])
    return max(-before, min(after, step))


def stack(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Samples of several sizes as one batch, padded with 0 (outside the lungs) to the largest."""
    size = [max(sample.lungs.shape[axis] for sample in samples) for axis in (1, 2, 3)]

    def padded(tensor: Tensor) -> Tensor:
        missing = [n - m for n, m in zip(size, tensor.shape[1:], strict=True)]
        return torch.nn.functional.pad(tensor, (0, missing[2], 0, missing[1], 0, missing[0]))

    parts = zip(*((padded(s.image), padded(s.lungs), padded(s.truth)) for s in samples), strict=True)
    image, lungs, truth = (torch.stack(part) for part in parts)
    return image, lungs, truth


def _sample(folder: Path, model: Mapping[str, Any], window_hu: Sequence[float]) -> Sample:
    case = read_cropped_case(folder, model["targets"])
    return Sample(
        case.case_id,
        torch.from_numpy(network_channels(case, model["network"], window_hu)),
        torch.from_numpy(case.inside[None].astype(np.float32)),
        torch.from_numpy(np.stack([case.targets[target] for target in model["targets"]])),
    )


def _prepare_torch(training: Mapping[str, Any]) -> None:
    if training["device"] == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "no CUDA device is available", key="train.device", hint="set it to cpu, or run where a GPU is"
        )
    if training["device"] == "mps" and not torch.backends.mps.is_available():
        raise TrainingError("no MPS device is available", key="train.device", hint="set it to cpu")
    torch.set_num_threads(training["threads"])
    torch.use_deterministic_algorithms(True, warn_only=False)
    torch.backends.cudnn.benchmark = False


def _hold_out(
    folders: Sequence[Path], patients: Mapping[str, str], number: int, seed: int
) -> tuple[list[Path], list[Path]]:
    """Set some patients of the training folds aside, chosen by a hash; at least one is left to learn from."""
    everyone = sorted(set(patients.values()), key=lambda patient: sha256_text(f"{seed}:validation:{patient}"))
    aside = set(everyone[: min(number, len(everyone) - 1)])
    learn = [folder for folder in folders if patients[folder.name] not in aside]
    watch = [folder for folder in folders if patients[folder.name] in aside]
    return learn, watch


def _key(settings: Sequence[Any], images: Sequence[str]) -> str:
    contents = [(image, sha256_file(image)) for image in images]
    return sha256_text(json.dumps([*settings, contents], sort_keys=True))[:24]


def _seed(*parts: Any) -> int:
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _save_weights(
    run: _Run, model: Mapping[str, Any], preparation: Mapping[str, Any], simulated: bool, path: Path
) -> None:
    """Averaged weights as safetensors; one metadata entry, because the order of several is not fixed."""
    from safetensors.torch import save_file

    header = {
        "kind": model["kind"],
        "targets": list(model["targets"]),
        "network": dict(model["network"]),
        "in_channels": run.learn[0].image.shape[0],
        **{stage: dict(settings) for stage, settings in preparation.items()},
        "simulated": simulated,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in run.averaged.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"ct2vq": json.dumps(header, sort_keys=True)})

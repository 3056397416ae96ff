"""What a training leaves behind: weights, run record and model card."""

from __future__ import annotations

import json
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ct2vq import __version__
from ct2vq.files import replacing
from ct2vq.train.loop import Training

MEGABYTE = 1024**2


def weights_header(training: Training, preparation: Mapping[str, Any], simulated: bool) -> dict[str, Any]:
    """What is kept with the weights: all that applying them to a new CT needs."""
    model = training.model
    return {
        "kind": model["kind"],
        "targets": list(model["targets"]),
        "network": dict(model["network"]),
        "in_channels": training.in_channels,
        **({"mirrored": True} if training.training["augmentation"]["mirror"] else {}),
        **{stage: dict(settings) for stage, settings in preparation.items()},
        "simulated": simulated,
    }


def save_weights(training: Training, header: Mapping[str, Any], path: Path) -> None:
    """Averaged weights as safetensors; one metadata entry, because the order of several is not fixed."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file(training.final_weights(), temporary, metadata={"ct2vq": json.dumps(header, sort_keys=True)})


def run_record(training: Training) -> dict[str, Any]:
    """What the report says of a training. `machine`, `seconds` and `peak_memory_mb` differ from run to run."""
    settings, best = training.training, training.stopping.best
    on_gpu = settings["device"] == "cuda"
    return {
        "kind": training.model["kind"],
        "targets": list(training.model["targets"]),
        "parameters": training.parameters,
        "epochs": settings["epochs"],
        "epochs_made": int(training.history[-1]["epoch"]),
        "kept_epoch": int(training.history[-1]["epoch"]) if best is None else best["epoch"],
        "batch_size": settings["batch_size"],
        "micro_batch": training.batches.at_once,
        "seed": training.seed,
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or settings["device"],
        "devices": settings["devices"],
        # on a CPU Fabric takes bf16-mixed for 16-mixed
        "precision": training.fabric.strategy.precision.precision,
        "threads": settings["threads"],
        "final_loss": training.history[-1]["loss"],
        "versions": _versions(on_gpu),
        "peak_memory_mb": _peak_memory_mb(),
        "machine": _machine(training, on_gpu),
    }


def _versions(on_gpu: bool) -> dict[str, str]:
    import lightning_fabric
    import numpy
    import safetensors

    versions = {
        "ct2vq": __version__,
        "torch": torch.__version__,
        "lightning-fabric": lightning_fabric.__version__,
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
        "python": platform.python_version(),
    }
    return versions | (
        {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())} if on_gpu else {}
    )


def _peak_memory_mb() -> int:
    """Largest resident memory of this process so far, MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS tells bytes, Linux kilobytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE)


def _machine(training: Training, on_gpu: bool) -> dict[str, Any]:
    """Times and memory; those of the interrupted runs before this one are counted as far as their checkpoints."""
    steps = len(training.history) * training.batches.number
    return {
        "seconds_of_epochs": round(training.seconds, 1),
        "seconds_a_step": round(training.seconds_of_steps / steps, 4),
        "gpu_peak_memory_mb": round(torch.cuda.max_memory_allocated() / MEGABYTE) if on_gpu else None,
        "cases_in_memory_mb": round(training.learn.bytes_in_memory / MEGABYTE),
        "cases_on_disk": training.learn.on_disk + training.watch.on_disk,
        "micro_batch": training.micro_batch_facts,
    }

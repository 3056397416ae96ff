"""What will be slow on this machine, and about how long it takes: said before a run, and by a training on a CPU."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import yaml

from ct2vq.cohort import load_cohort
from ct2vq.config import complete_config, is_network, merged, model_training
from ct2vq.errors import Ct2vqError
from ct2vq.gpus import visible_gpus

#: a box round the lungs with its margin, mm (z, y, x): an adult's chest in breath-hold (assumption)
LUNGS_MM = (300.0, 230.0, 300.0)
#: side of the image on which a step is timed, voxels; the cost of larger ones grows with their voxels
SIDE = 32
#: voxels times passes of a study below which nothing is timed: torch's import would take longer than it is worth
WORTH_TIMING = 1e9
#: what is slow enough to be told, s
SLOW = 3600.0
#: keys that decide how long a training takes
SHORTER = "crop.spacing_mm (doubled, it is an eighth of the work), train.epochs, split.folds or the models' `network`"
#: options of Snakemake with which nothing is trained here, or with which the configuration is another one
NOT_HERE = (
    *("-n", "--dry-run", "--dryrun", "--unlock", "--lint", "--report", "--summary", "--dag", "--rulegraph", "--touch"),
    *("--executor", "-e", "--profile", "--workflow-profile", "--config", "-C", "--help", "-h", "--version", "-v"),
)


def forecast_lines(arguments: Sequence[str], folder: Path) -> list[str]:
    """What is to be said before Snakemake is started with some arguments; nothing if it trains nothing here.

    A configuration or a cohort that is wrong is left to Snakemake, which tells it.

    Args:
        arguments: of Snakemake.
        folder: its working directory.
    """
    if any(argument.split("=")[0] in NOT_HERE for argument in arguments):
        return []
    try:
        config = _configuration(arguments, folder)
        with chdir(folder):
            cases = {case.case_id: case.targets for case in load_cohort(config).cases}
    except (Ct2vqError, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError):
        return []
    missing = device_lines(config)
    slow = training_lines(config, list(cases.values()), _cores(arguments), without_gpu=bool(missing))
    return [*missing, *slow]


def device_lines(config: Mapping[str, Any]) -> list[str]:
    """That a GPU is asked for and none is there: before hours of registrations, not after them."""
    wanted = [model_training(config, name) for name, model in config["models"].items() if is_network(model)]
    most = max((training["devices"] for training in wanted if training["device"] == "cuda"), default=0)
    found = len(visible_gpus()) if most else 0
    if found >= most:
        return []
    if not found:
        return [
            "train.device is cuda, and nvidia-smi lists no GPU here: the run will stop at its first training. Without "
            "a GPU set train.device: cpu; what was made until then is kept."
        ]
    return [f"a training wants {most} GPUs and {found} can be used here: it will stop. Lower train.devices."]


def training_lines(
    config: Mapping[str, Any], cases: Sequence[Sequence[str]], cores: int, without_gpu: bool = False
) -> list[str]:
    """How long the trainings take on the CPU, if that is long: a step of every network is timed for it.

    Args:
        config: completed.
        cases: targets of every case.
        cores: of the run.
        without_gpu: there is no GPU for those that ask for one: how long they would take without.
    """
    slow = {}
    for name, model in config["models"].items():
        training = model_training(config, name)
        passes = _passes(model, training, cases, config["split"]["folds"])
        if is_network(model) and passes and (training["device"] == "cpu" or without_gpu):
            slow[name] = passes * math.prod(_image(config["crop"]["spacing_mm"]))
    if sum(slow.values()) < WORTH_TIMING:
        return []
    seconds = {name: work * seconds_a_voxel(config, name) for name, work in slow.items()}
    total = sum(seconds.values())
    folds = config["split"]["folds"]
    jobs = len(seconds) * folds
    # each training has threads of its own; one that was timed on one thread gains little from more
    side_by_side = min(jobs, max(1, cores // max(model_training(config, name)["threads"] for name in seconds)))
    took = total / side_by_side
    if took < SLOW:
        return []
    size = " x ".join(str(side) for side in _image(config["crop"]["spacing_mm"]))
    return [
        f"training on the CPU will be slow: {jobs} trainings take about {spoken(total)} of processor time, about "
        f"{spoken(took)} with {side_by_side} side by side (a step of each network was timed on {SIDE}^3 voxels; "
        f"assumed are images of {size} voxels). On a GPU set train.device: cuda; to make it shorter change {SHORTER}."
    ]


def slow_training(device: str, seconds_an_epoch: float, epochs: int) -> str | None:
    """What the log of a training on the CPU says after its first epoch, if it will take long.

    Args:
        device: `cpu`, `cuda` or `mps`.
        seconds_an_epoch: as it was measured.
        epochs: that are left.
    """
    left = seconds_an_epoch * epochs
    if device != "cpu" or left < SLOW:
        return None
    return (
        f"this is slow on the CPU: an epoch took {seconds_an_epoch:.0f} s, {epochs} more take about {spoken(left)}. "
        f"On a GPU set train.device: cuda; to make it shorter change {SHORTER}."
    )


def seconds_a_voxel(config: Mapping[str, Any], name: str) -> float:
    """Processor seconds of a network's forward and backward pass by voxel, as timed on one thread here.

    Args:
        config: completed.
        name: of the model.
    """
    import torch

    from ct2vq.inputs import channels
    from ct2vq.networks.build import build_network

    model = config["models"][name]
    number = channels(model["network"])
    torch.set_num_threads(1)
    network = build_network(model["kind"], model["targets"], model["network"], number)
    image, lungs = torch.randn(1, number, SIDE, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE, SIDE)
    took = []
    for _ in range(2):  # the first one also prepares
        start = time.process_time()
        network(image, lungs).sum().backward()
        took.append(time.process_time() - start)
    return min(took) / SIDE**3


def spoken(seconds: float) -> str:
    """A time as one says it: `40 minutes`, `7 hours`, `12 days`."""
    for unit, size in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0)):
        number = round(seconds / size)
        if number > 1 or unit == "minute":
            return f"{max(number, 1)} {unit}{'s' if number > 1 else ''}"
    raise AssertionError


def _passes(model: Mapping[str, Any], training: Mapping[str, Any], cases: Sequence[Sequence[str]], folds: int) -> float:
    """Images that all folds of a model see in all epochs: a case is seen in all folds but its own."""
    cases_of_model = sum(set(model["targets"]) <= set(targets) for targets in cases)
    return cases_of_model * (folds - 1) * training["epochs"]


def _image(spacing_mm: float) -> list[int]:
    return [round(side / spacing_mm) for side in LUNGS_MM]


def _configuration(arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    """The study's configuration: files of `--configfile`, the later over the earlier, else config/config.yaml."""
    files = [Path(name) for name in _values(arguments, ("--configfile", "--configfiles"))]
    config: dict[str, Any] = {}
    for file in files or [folder / "config" / "config.yaml"]:
        config = merged(config, yaml.safe_load(file.read_text(encoding="utf-8")))
    return complete_config(config)


def _cores(arguments: Sequence[str]) -> int:
    told = _values(arguments, ("--cores", "-c"))
    return int(told[-1]) if told and told[-1].isdecimal() else os.cpu_count() or 1


def _values(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """What follows an option, up to the next one."""
    found: list[str] = []
    inside = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("-"):
            inside = option in names and not equals
            found += [value] if option in names and equals else []
        elif inside:
            found.append(argument)
    return found

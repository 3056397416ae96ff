"""How much memory a training needs, and what is said when it was not enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ct2vq.devices import is_out_of_memory
from ct2vq.errors import TrainingError

MEGABYTE = 1024**2
#: what Python, torch and the other libraries take before there is any data, MB (measured: 420-600)
BASE_MB = 700
#: copies of the weights that a training holds: weights, gradient, two moments of AdamW, average, best average
COPIES = 6
#: peak memory of a step in units of the tensors that the forward pass keeps for the backward pass: their gradients and
#: the convolutions' workspace come on top (measured on networks of this project: docs/training.md)
WORKING = 2.5
#: share of a GPU's memory that is planned for
GPU_SHARE = 0.85
HINT = (
    "lower train.micro_batch (1 needs least), models.*.network.width or levels, use train.precision bf16-mixed, "
    "or raise crop.spacing_mm"
)


def cache_budget(training: Mapping[str, Any]) -> float:
    """Bytes of memory for cases in each process: `cache_mb`, or half of `memory_mb`, shared by the processes."""
    total = training["memory_mb"] / 2 if training["cache_mb"] == "auto" else training["cache_mb"]
    return total * MEGABYTE / training["devices"]


def micro_batch(
    training: Mapping[str, Any], network: nn.Module, image: Tensor, lungs: Tensor, cached: int
) -> tuple[int, dict[str, Any]]:
    """Cases that one process computes at once, and how that number came about.

    A number in the settings stands. With `auto` it is as many of the process's share of the batch as fit: in
    `memory_mb` on a CPU, in 85 % of the GPU's memory on a GPU. The need of a case is the size of the tensors that the
    largest one leaves for the backward pass in 32 bits, times 2.5.

    Args:
        training: the model's training settings.
        network: on the CPU.
        image: channels of the largest case, with a batch axis.
        lungs: its mask, likewise.
        cached: bytes of the cases in memory.
    """
    share = -(-training["batch_size"] // training["devices"])
    if training["micro_batch"] != "auto":
        return min(share, training["micro_batch"]), {"rule": "as set"}
    if share == 1:
        return 1, {"rule": "a process has one case"}
    need = WORKING * saved_bytes(network, image, lungs)
    room = _room(training, network, cached)
    facts = {
        "rule": "by memory",
        "memory_of_a_case_mb": round(need / MEGABYTE),
        "memory_free_mb": round(room / MEGABYTE),
    }
    return max(1, min(share, int(room // need))), facts


def _room(training: Mapping[str, Any], network: nn.Module, cached: int) -> float:
    """Bytes that are free for the tensors of a step."""
    weights = COPIES * sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if training["device"] == "cuda":
        return GPU_SHARE * torch.cuda.get_device_properties(0).total_memory - weights
    return training["memory_mb"] * MEGABYTE / training["devices"] - BASE_MB * MEGABYTE - cached - weights


def saved_bytes(network: nn.Module, image: Tensor, lungs: Tensor) -> int:
    """Bytes of the tensors that a forward pass keeps for the backward pass, weights not counted."""
    own = {value.untyped_storage().data_ptr() for value in network.state_dict().values()}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = tensor  # kept alive, so that no other tensor comes to lie in the same place
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(image, lungs)
    del output
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@contextmanager
def out_of_memory_told(where: str) -> Iterator[None]:
    """Turn what torch says of missing memory on `where` into a message that names the settings to lower.

    Raises:
        TrainingError: the block ran out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"out of memory on {where}", hint=HINT) from error

"""Devices for a training: made ready, and served without needless waiting."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ct2vq.devices import make_repeatable, require_device
from ct2vq.errors import TrainingError


def prepare_torch(training: dict[str, Any]) -> None:
    """Repeatable results on `train.threads` threads.

    Raises:
        TrainingError: there is no such device, or not as many.
    """
    require_device(training["device"], training["devices"], TrainingError)
    make_repeatable(training["threads"])


def to_device(tensors: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Tensors on a device; to a GPU from pinned memory, which the copy reads without a detour."""
    if device.type != "cuda":
        return tuple(tensor.to(device) for tensor in tensors)
    return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)


def ahead(items: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """The same items in the same order; for a GPU the next one is made in a thread while this one is computed."""
    if device.type != "cuda":
        yield from items
        return
    yield from one_ahead(items)


def one_ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items in the same order, each made while its predecessor is in use; errors come where they belong."""
    end = object()
    with ThreadPoolExecutor(1) as executor:
        coming = executor.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = executor.submit(next, items, end)
            yield item

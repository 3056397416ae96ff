"""Weights files of small networks that have learnt nothing, as the training writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from factories import DEFAULTS, NETWORK, PREPARATION, TARGETS
from safetensors.numpy import save_file

from ct2vq.inputs import channels
from ct2vq.networks.build import build_network

SYNTHESIZE = DEFAULTS["synthesize"]


def write_network(
    path: Path,
    seed: int = 0,
    targets: tuple[str, ...] = TARGETS,
    simulated: bool = True,
    kind: str = "ran",
    network: Mapping[str, Any] | None = None,
    **header: Any,
) -> Path:
    """Write freshly drawn weights; `network` goes over the tests' small network, `header` over the file's header."""
    settings = NETWORK | dict(network or {})
    torch.manual_seed(seed)
    tensors = {
        key: value.numpy()
        for key, value in build_network(kind, targets, settings, channels(settings)).state_dict().items()
    }
    told = {
        "kind": kind,
        "targets": list(targets),
        "network": settings,
        "in_channels": channels(settings),
        "simulated": simulated,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"ct2vq": json.dumps(told | PREPARATION | header)})
    return path

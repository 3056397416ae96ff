"""What a kind of network asks of its settings and of the image's size. Light: read while the DAG is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: peers from MONAI, each with the least `levels` that its layout has
PEERS = {"unet": 2, "attention_unet": 2, "dynunet": 3, "swin_unetr": 1}
#: kinds of models that are trained by gradient descent
NETWORK_KINDS = ("ran", *PEERS)
#: SwinUNETR halves the image five times, whatever `levels` says
SWIN_LEVELS = 6
#: its first stage has 3 heads, and a width is split over them and over the position encoding (Hatamizadeh 2022)
SWIN_WIDTH = 12
#: what weights say by not saying it: these settings came later, and there was no choice before
ONCE_FIXED = {
    "enhanced": True,
    "texture": False,
    "activation": "sigmoid",
    "encoder": "shared",
    "decoder_width": 1,
    "dropout": 0.0,
}


def complete_network(network: Mapping[str, Any]) -> dict[str, Any]:
    """A `network` block of weights that may be older than some of its settings."""
    return ONCE_FIXED | dict(network)


def multiple_of(kind: str, network: Mapping[str, Any]) -> int:
    """What the size of an image must be a multiple of along each axis; networks pad what is not.

    Args:
        kind: one of `NETWORK_KINDS`.
        network: config block `models.<name>.network`.
    """
    levels = SWIN_LEVELS if kind == "swin_unetr" else network["levels"]
    return network["stem"] * 2 ** (levels - 1)


def network_problems(kind: str, network: Mapping[str, Any]) -> list[str]:
    """What a kind cannot be built with, each as the name of the setting and the reason.

    Args:
        kind: one of `NETWORK_KINDS`.
        network: config block `models.<name>.network`.
    """
    problems = []
    if network["levels"] < PEERS.get(kind, 1):
        problems.append(f"levels`: {network['levels']} is too few; `{kind}` has at least {PEERS[kind]}")
    if kind == "swin_unetr" and network["width"] % SWIN_WIDTH:
        problems.append(f"width`: {network['width']} is not a multiple of {SWIN_WIDTH}, which `{kind}` needs")
    return problems

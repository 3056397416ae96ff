"""What a network costs: its parameters, and the multiply-adds of one image."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn


def parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def multiply_adds(network: nn.Module, shape: Sequence[int]) -> int:
    """Multiplications with an addition in convolutions and matrix products of one forward pass.

    Counted by `torch.utils.flop_counter` (two operations for each) on a copy without memory, so that nothing is
    computed; what normalises, activates or adds is not counted.

    Args:
        network: a network of `ct2vq.networks.build.build_network`.
        shape: size of the image `(z, y, x)` in voxels.
    """
    from torch.utils.flop_counter import FlopCounterMode

    empty = copy.deepcopy(network).to("meta").eval()
    image, lungs = (torch.empty((1, channels, *shape), device="meta") for channels in (network.in_channels, 1))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        empty(image, lungs)
    return counter.get_total_flops() // 2

"""One way to every network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ct2vq.networks.peers import Peer, peer_layout
from ct2vq.networks.ran import DualDecoderRAN
from ct2vq.networks.settings import complete_network, multiple_of

__all__ = ["build_network", "multiple_of"]


def build_network(kind: str, targets: Sequence[str], settings: Mapping[str, Any], in_channels: int) -> nn.Module:
    """A network with freshly drawn weights (torch's global generator).

    Its `forward(image, lungs)` takes `(batch, in_channels, z, y, x)` of any size and the mask `(batch, 1, z, y, x)`,
    and gives `(batch, targets, z, y, x)`: 0..1 in the lungs (with the activations `softplus` and `clamp` only in
    `eval()`), 0 outside.

    Args:
        kind: one of `ct2vq.networks.settings.NETWORK_KINDS`.
        targets: images to predict: a decoder for each (`ran`) or a channel for each (the peers).
        settings: config block `models.<name>.network`; what older weights do not know is completed.
        in_channels: channels of the input, the lung mask not counted.
    """
    settings = complete_network(settings)
    if kind != "ran":
        return Peer(
            peer_layout(kind, settings), in_channels, tuple(targets), settings, multiple=multiple_of(kind, settings)
        )
    return DualDecoderRAN(
        in_channels,
        tuple(targets),
        width=settings["width"],
        levels=settings["levels"],
        blocks=settings["blocks"],
        stem=settings["stem"],
        residual=settings["residual"],
        roi_attention=settings["roi_attention"],
        skip_attention=settings["skip_attention"],
        shared_encoder=settings["encoder"] == "shared",
        decoder_width=settings["decoder_width"],
        activation=settings["activation"],
        dropout=settings["dropout"],
    )

"""The residual attention network (RAN) and its dual-decoder form (DDRAN).

One encoder of residual blocks reads the CT; a decoder for each target rebuilds an image. RAN has one decoder, DDRAN
two on the shared encoder. Attention stands in two places, as in the lineage of the paper (fonc.2021.644703): a lung-ROI
attention at every scale of the encoder, and an attention gate on every skip connection (Oktay et al. 2018,
arXiv:1804.03999). Widths, depth and the attention parts are settings.

Only operations whose CUDA backward is deterministic: strided convolution down, transposed convolution up.
Tensors have axes `(batch, channel, z, y, x)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


def build_network(targets: Sequence[str], settings: Mapping[str, Any], in_channels: int) -> DualDecoderRAN:
    """A network with freshly drawn weights (torch's global generator).

    Args:
        targets: images to predict, one decoder for each.
        settings: config block `models.<name>.network`.
        in_channels: channels of the input, the lung mask not counted.
    """
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
    )


class DualDecoderRAN(nn.Module):
    """Shared residual encoder with ROI attention, and one decoder with gated skips for each target.

    Args:
        in_channels: channels of the input, the lung mask not counted.
        targets: names of the images to predict.
        width: channels at the first level, doubled at each level.
        levels: resolution levels; sizes must be multiples of `stem * 2 ** (levels - 1)`.
        blocks: residual blocks at each level of the encoder.
        stem: stride of the first convolution. The encoder works on a grid coarser by this factor, and the heads rebuild
            the finer voxels; SPECT is far smoother than the CT that it is predicted from.
        residual: residual connections in the blocks.
        roi_attention: lung-ROI attention at every scale.
        skip_attention: attention gates on the skip connections.
    """

    def __init__(
        self,
        in_channels: int,
        targets: tuple[str, ...],
        *,
        width: int,
        levels: int,
        blocks: int,
        stem: int,
        residual: bool,
        roi_attention: bool,
        skip_attention: bool,
    ) -> None:
        super().__init__()
        self.targets = targets
        widths = [width * 2**level for level in range(levels)]
        self.encoder = Encoder(in_channels + 1, widths, blocks, stem, residual, roi_attention)
        self.decoders = nn.ModuleDict({target: Decoder(widths, stem, residual, skip_attention) for target in targets})

    def forward(self, image: Tensor, lungs: Tensor) -> Tensor:
        """Predict all targets.

        Args:
            image: `(batch, in_channels, z, y, x)`.
            lungs: lung mask, 0 or 1, `(batch, 1, z, y, x)`.

        Returns:
            `(batch, targets, z, y, x)`, values 0..1 in the lungs and 0 outside.
        """
        features = self.encoder(image, lungs)
        images = [self.decoders[target](features) for target in self.targets]
        return torch.sigmoid(torch.cat(images, dim=1)) * lungs


class Encoder(nn.Module):
    """A strided stem, then residual blocks at each scale with strided convolutions between them."""

    def __init__(
        self, in_channels: int, widths: Sequence[int], blocks: int, stem: int, residual: bool, roi: bool
    ) -> None:
        super().__init__()
        self.stride = stem
        self.stem = nn.Conv3d(in_channels, widths[0], kernel_size=stem, stride=stem) if stem > 1 else nn.Identity()
        in_channels = widths[0] if stem > 1 else in_channels
        self.stages = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.attentions = nn.ModuleList()
        for level, width in enumerate(widths):
            before = in_channels if level == 0 else width
            stage = [ResidualBlock(before if n == 0 else width, width, residual) for n in range(blocks)]
            self.stages.append(nn.Sequential(*stage))
            self.attentions.append(ROIAttention(width) if roi else nn.Identity())
            if level + 1 < len(widths):
                self.downs.append(nn.Conv3d(width, widths[level + 1], kernel_size=2, stride=2))

    def forward(self, image: Tensor, lungs: Tensor) -> list[Tensor]:
        features = []
        current = self.stem(torch.cat([image, lungs], dim=1))
        mask = F.avg_pool3d(lungs, self.stride)  # the mask takes no gradient
        for level, (stage, attention) in enumerate(zip(self.stages, self.attentions, strict=True)):
            current = stage(current)
            current = attention(current, mask) if isinstance(attention, ROIAttention) else current
            features.append(current)
            if level < len(self.downs):
                current = self.downs[level](current)
                mask = F.avg_pool3d(mask, 2)
        return features


class Decoder(nn.Module):
    """Transposed convolutions up, each added to a (gated) skip connection from the encoder.

    Adding instead of concatenating leaves the first convolution of a stage half the channels; DDRAN has two decoders.
    """

    def __init__(self, widths: Sequence[int], stem: int, residual: bool, skip_attention: bool) -> None:
        super().__init__()
        self.ups = nn.ModuleList()
        self.gates = nn.ModuleList()
        self.stages = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.ups.append(nn.ConvTranspose3d(2 * width, width, kernel_size=2, stride=2))
            self.gates.append(AttentionGate(width) if skip_attention else nn.Identity())
            self.stages.append(ResidualBlock(width, width, residual))
        self.head = nn.ConvTranspose3d(widths[0], 1, kernel_size=stem, stride=stem)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        current = features[-1]
        for up, gate, stage, skip in zip(self.ups, self.gates, self.stages, reversed(features[:-1]), strict=True):
            current = up(current)
            skip = gate(skip, current) if isinstance(gate, AttentionGate) else skip
            current = stage(skip + current)
        return self.head(current)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with instance normalisation, added to the input (He et al. 2016)."""

    def __init__(self, in_channels: int, out_channels: int, residual: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
        self.first_norm = nn.InstanceNorm3d(out_channels, affine=True)
        self.second = nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False)
        self.second_norm = nn.InstanceNorm3d(out_channels, affine=True)
        self.shortcut: nn.Module | None = None
        if residual:
            same = in_channels == out_channels
            self.shortcut = nn.Identity() if same else nn.Conv3d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first_norm(self.first(x)), 0.01)
        y = self.second_norm(self.second(y))
        return F.leaky_relu(y if self.shortcut is None else y + self.shortcut(x), 0.01)


class ROIAttention(nn.Module):
    """Weights features by a map computed from them and the lung mask, so that capacity goes to the lungs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv3d(channels + 1, 1, kernel_size=1)

    def forward(self, x: Tensor, lungs: Tensor) -> Tensor:
        return x * (1 + torch.sigmoid(self.score(torch.cat([x, lungs], dim=1))) * lungs)


class AttentionGate(nn.Module):
    """Additive attention gate (Oktay et al. 2018): the coarser features decide what passes the skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.skip = nn.Conv3d(channels, inner, kernel_size=1, bias=False)
        self.gating = nn.Conv3d(channels, inner, kernel_size=1)
        self.score = nn.Conv3d(inner, 1, kernel_size=1)

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        return skip * torch.sigmoid(self.score(F.leaky_relu(self.skip(skip) + self.gating(gating), 0.01)))


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)

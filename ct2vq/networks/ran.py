"""The residual attention network (RAN) and its dual-decoder form (DDRAN).

    CT, lungs -> stem -> [residual blocks, ROI attention] -> down -> [residual blocks, ROI attention] -> ...   encoder
                                   |                                          |
    image <- head <- [block] <- + gate                <- up <-               end       one decoder for each target

One encoder of residual blocks reads the CT; a decoder for each target rebuilds an image. RAN has one decoder, DDRAN
two on the shared encoder. Attention stands in two places, as in the lineage of the paper (fonc.2021.644703): a lung-ROI
attention at every scale of the encoder, and an attention gate on every skip connection (Oktay et al. 2018,
arXiv:1804.03999). The paper's abstract says no more: widths, depth and every part are settings.

Only operations whose CUDA backward is deterministic: strided convolution down, transposed convolution up.
Tensors have axes `(batch, channel, z, y, x)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ct2vq.networks.parts import bounded, pad_to_multiple


class DualDecoderRAN(nn.Module):
    """Residual encoder with ROI attention, and one decoder with gated skips for each target.

    Args:
        in_channels: channels of the input, the lung mask not counted.
        targets: names of the images to predict.
        width: channels at the first level, doubled at each level.
        levels: resolution levels; an image is padded to a multiple of `stem * 2 ** (levels - 1)`.
        blocks: residual blocks at each level of the encoder.
        decoder_width: channels of a decoder relative to the encoder's at the same level.
        stem: stride of the first convolution. The encoder works on a grid coarser by this factor, and the heads rebuild
            the finer voxels; SPECT is far smoother than the CT that it is predicted from.
        residual: residual connections in the blocks.
        roi_attention: lung-ROI attention at every scale.
        skip_attention: attention gates on the skip connections.
        shared_encoder: one encoder for all decoders; else one for each, and only the loss is shared.
        activation: what bounds the images (`ct2vq.networks.parts.bounded`).
        dropout: share of channels set to 0 in each block (Tompson et al. 2015, arXiv:1411.4280) while training, and
            where `nn.Dropout3d` is switched on for Monte Carlo dropout.
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
        shared_encoder: bool = True,
        decoder_width: float = 1.0,
        activation: str = "sigmoid",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.targets, self.in_channels, self.activation = targets, in_channels, activation
        self.multiple = stem * 2 ** (levels - 1)
        widths = [width * 2**level for level in range(levels)]

        def encoder() -> Encoder:
            return Encoder(in_channels + 1, widths, blocks, stem, residual, roi_attention, dropout)

        def decoder() -> Decoder:
            return Decoder(widths, decoder_width, stem, residual, skip_attention, dropout)

        self.shared = shared_encoder
        self.encoder = encoder() if shared_encoder else _for_each(targets, encoder)
        self.decoders = _for_each(targets, decoder)

    def forward(self, image: Tensor, lungs: Tensor) -> Tensor:
        """Predict all targets.

        Args:
            image: `(batch, in_channels, z, y, x)`.
            lungs: lung mask, 0 or 1, `(batch, 1, z, y, x)`.

        Returns:
            `(batch, targets, z, y, x)`, values 0..1 in the lungs and 0 outside.
        """
        z, y, x = lungs.shape[2:]
        padded = pad_to_multiple(image, self.multiple), pad_to_multiple(lungs, self.multiple)
        features = self.encoder(*padded) if self.shared else None
        images = [
            self.decoders[target](features if self.shared else self.encoder[target](*padded)) for target in self.targets
        ]
        values = torch.cat(images, dim=1)[..., :z, :y, :x]
        return bounded(values, self.activation, self.training) * lungs


def _for_each(targets: Sequence[str], make: Callable[[], nn.Module]) -> nn.ModuleDict:
    return nn.ModuleDict({target: make() for target in targets})


class Encoder(nn.Module):
    """A strided stem, then residual blocks at each scale with strided convolutions between them."""

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        blocks: int,
        stem: int,
        residual: bool,
        roi: bool,
        dropout: float,
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
            stage = [ResidualBlock(before if n == 0 else width, width, residual, dropout) for n in range(blocks)]
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
    A decoder that is narrower than the encoder takes each skip connection through a 1x1x1 convolution.
    """

    def __init__(
        self,
        encoder: Sequence[int],
        relative_width: float,
        stem: int,
        residual: bool,
        skip_attention: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.ups = nn.ModuleList()
        self.skips = nn.ModuleList()
        self.gates = nn.ModuleList()
        self.stages = nn.ModuleList()
        below = encoder[-1]
        for skipped in reversed(encoder[:-1]):
            width = max(1, round(relative_width * skipped))
            self.ups.append(nn.ConvTranspose3d(below, width, kernel_size=2, stride=2))
            self.skips.append(nn.Identity() if width == skipped else nn.Conv3d(skipped, width, kernel_size=1))
            self.gates.append(AttentionGate(width) if skip_attention else nn.Identity())
            self.stages.append(ResidualBlock(width, width, residual, dropout))
            below = width
        self.head = nn.ConvTranspose3d(below, 1, kernel_size=stem, stride=stem)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        current = features[-1]
        parts = zip(self.ups, self.skips, self.gates, self.stages, reversed(features[:-1]), strict=True)
        for up, project, gate, stage, skipped in parts:
            current, skip = up(current), project(skipped)
            skip = gate(skip, current) if isinstance(gate, AttentionGate) else skip
            current = stage(skip + current)
        return self.head(current)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with instance normalisation, added to the input (He et al. 2016, arXiv:1512.03385).

    Dropout stands between the convolutions (Zagoruyko & Komodakis 2016, arXiv:1605.07146).
    """

    def __init__(self, in_channels: int, out_channels: int, residual: bool, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
        self.first_norm = nn.InstanceNorm3d(out_channels, affine=True)
        self.second = nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False)
        self.second_norm = nn.InstanceNorm3d(out_channels, affine=True)
        self.dropout = nn.Dropout3d(dropout) if dropout else nn.Identity()
        self.shortcut: nn.Module | None = None
        if residual:
            same = in_channels == out_channels
            self.shortcut = nn.Identity() if same else nn.Conv3d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.leaky_relu(self.first_norm(self.first(x)), 0.01))
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

"""Peers of the residual attention network: layouts of others, as MONAI builds them.

All see the same channels and mask, give one channel for each target, normalise each image by itself (instance norm,
because a batch holds one or two cases) and are bounded and masked like the RAN. Their settings say width and depth in
the RAN's terms, so that a study can give all of them the same grid and about the same budget.

Read for operations whose CUDA backward is not deterministic (MONAI 1.6.1): none of these layouts pools or
interpolates. UNet, AttentionUnet, DynUNet and SwinUNETR go down by strided convolutions (Swin by joining neighbours)
and up by transposed convolutions. DynUNet's deep supervision would interpolate and is off. SwinUNETR looks its
position encodings up by index; the backward of that adds in a fixed order once
`torch.use_deterministic_algorithms` is on. MONAI is imported only when a peer is built, because that takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ct2vq.networks.parts import bounded, pad_to_multiple

#: MONAI's name of the normalisation that all peers use
NORM = ("instance", {"affine": True})
#: heads of the four stages of SwinUNETR (Hatamizadeh et al. 2022, arXiv:2201.01266, with width 48)
SWIN_HEADS = (3, 6, 12, 24)

#: makes a body from its numbers of channels in and out
Layout = Callable[[int, int], nn.Module]


def peer_layout(kind: str, settings: Mapping[str, Any]) -> Layout:
    """What makes the body of a peer.

    Args:
        kind: one of `ct2vq.networks.settings.PEERS`.
        settings: config block `models.<name>.network`, complete.
    """
    layouts = {"unet": _unet, "attention_unet": _attention_unet, "dynunet": _dynunet, "swin_unetr": _swin_unetr}
    return lambda channels_in, channels_out: layouts[kind](channels_in, channels_out, settings)


class Peer(nn.Module):
    """A layout of others between the RAN's stem and its bounded, masked output.

    Args:
        layout: makes the body.
        in_channels: channels of the input, the lung mask not counted.
        targets: names of the images to predict; the head has a channel for each.
        settings: config block `models.<name>.network`, complete.
        multiple: images are padded with zeros to a multiple of this.
    """

    def __init__(
        self,
        layout: Layout,
        in_channels: int,
        targets: tuple[str, ...],
        settings: Mapping[str, Any],
        *,
        multiple: int,
    ) -> None:
        super().__init__()
        self.targets, self.in_channels, self.activation = targets, in_channels, settings["activation"]
        self.multiple, stem, width = multiple, settings["stem"], settings["width"]
        if stem == 1:
            self.stem, self.head = nn.Identity(), nn.Identity()
            self.body = layout(in_channels + 1, len(targets))
        else:
            self.stem = nn.Conv3d(in_channels + 1, width, kernel_size=stem, stride=stem)
            self.body = layout(width, width)
            self.head = nn.ConvTranspose3d(width, len(targets), kernel_size=stem, stride=stem)

    def forward(self, image: Tensor, lungs: Tensor) -> Tensor:
        """Predict all targets; arguments and result as in `DualDecoderRAN`."""
        z, y, x = lungs.shape[2:]
        padded = pad_to_multiple(torch.cat([image, lungs], dim=1), self.multiple)
        values = self.head(self.body(self.stem(padded)))[..., :z, :y, :x]
        return bounded(values, self.activation, self.training) * lungs


def _widths(settings: Mapping[str, Any]) -> list[int]:
    return [settings["width"] * 2**level for level in range(settings["levels"])]


def _unet(channels_in: int, channels_out: int, settings: Mapping[str, Any]) -> nn.Module:
    """MONAI's UNet with residual units (Kerfoot et al. 2019, doi 10.1007/978-3-030-12029-0_40)."""
    from monai.networks.nets import UNet

    widths = _widths(settings)
    return UNet(
        spatial_dims=3,
        in_channels=channels_in,
        out_channels=channels_out,
        channels=widths,
        strides=[2] * (len(widths) - 1),
        num_res_units=settings["blocks"],
        norm=NORM,
        dropout=settings["dropout"],
    )


def _attention_unet(channels_in: int, channels_out: int, settings: Mapping[str, Any]) -> nn.Module:
    """Attention U-Net (Oktay et al. 2018, arXiv:1804.03999); MONAI's batch norms become instance norms."""
    from monai.networks.nets import AttentionUnet

    widths = _widths(settings)
    network = AttentionUnet(
        spatial_dims=3,
        in_channels=channels_in,
        out_channels=channels_out,
        channels=widths,
        strides=[2] * (len(widths) - 1),
        dropout=settings["dropout"],
    )
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm3d):
                setattr(module, name, nn.InstanceNorm3d(child.num_features, affine=True))
    return network


def _dynunet(channels_in: int, channels_out: int, settings: Mapping[str, Any]) -> nn.Module:
    """nnU-Net's layout (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z), without deep supervision."""
    from monai.networks.nets import DynUNet

    widths = _widths(settings)
    strides = [1] + [2] * (len(widths) - 1)
    network = DynUNet(
        spatial_dims=3,
        in_channels=channels_in,
        out_channels=channels_out,
        kernel_size=[3] * len(widths),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=widths,
        norm_name=NORM,
        dropout=settings["dropout"],
        deep_supervision=False,
    )
    # its forward uses `skip_layers`, which hold the same blocks: under two names no weights file would take them
    for name in ("input_block", "downsamples", "bottleneck", "upsamples"):
        delattr(network, name)
    return network


def _swin_unetr(channels_in: int, channels_out: int, settings: Mapping[str, Any]) -> nn.Module:
    """Swin UNETR (Hatamizadeh et al. 2022, arXiv:2201.01266); `blocks` are pairs of plain and shifted windows."""
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(
        in_channels=channels_in,
        out_channels=channels_out,
        feature_size=settings["width"],
        depths=(2 * settings["blocks"],) * 4,
        num_heads=SWIN_HEADS,
        norm_name=NORM,
        drop_rate=settings["dropout"],
    )

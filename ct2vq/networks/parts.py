"""What all networks share: sizes made to fit, and values made an image."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def pad_to_multiple(tensor: Tensor, multiple: int) -> Tensor:
    """Zeros at the end of z, y and x, up to the next multiple.

    An image that is no longer than `multiple` along any axis would be one voxel at the coarsest level, which instance
    norm cannot normalise: it becomes twice as long along x.

    Args:
        tensor: `(batch, channel, z, y, x)`.
        multiple: what each size becomes a multiple of.
    """
    z, y, x = (-size % multiple for size in tensor.shape[2:])
    if max(tensor.shape[2:]) <= multiple:
        x += multiple
    return F.pad(tensor, (0, x, 0, y, 0, z)) if x or y or z else tensor


def bounded(values: Tensor, activation: str, training: bool) -> Tensor:
    """What a network says, as an image.

    Args:
        values: of any size.
        activation: `sigmoid`: 0..1 always. `softplus` (above 0) and `clamp` (as they are) are cut to 0..1 only outside
            of training, because a cut value has no gradient and would never come back.
        training: whether the network is being trained.
    """
    if activation == "sigmoid":
        return values.sigmoid()
    values = F.softplus(values) if activation == "softplus" else values
    return values if training else values.clamp(0, 1)

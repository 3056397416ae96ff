"""Test-time augmentation: the same CT seen shifted by whole voxels and mirrored, the answers turned back and averaged.

A strided network answers a shifted image not quite with the shifted answer; the mean over views is smoother and has
less of that pattern. Shifts are by whole voxels, so that nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ct2vq.errors import Ct2vqError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class View:
    """How an image is shown to the network: mirrored first (left and right change places), then shifted.

    Attributes:
        shift: whole voxels along `(z, y, x)`.
        mirrored: whether left and right change places.
    """

    shift: tuple[int, int, int] = (0, 0, 0)
    mirrored: bool = False

    def show(self, volume: Tensor) -> Tensor:
        """`(batch, channel, z, y, x)` as this view shows it. What leaves at one side comes in at the other."""
        turned = volume.flip(4) if self.mirrored else volume
        return turned.roll(self.shift, dims=(2, 3, 4)) if any(self.shift) else turned

    def undo(self, volume: Tensor) -> Tensor:
        """The way back of `show`."""
        back = volume.roll([-step for step in self.shift], dims=(2, 3, 4)) if any(self.shift) else volume
        return back.flip(4) if self.mirrored else back


def views_of(header: Mapping[str, Any], augmentation: Mapping[str, Any], inside: np.ndarray) -> list[View]:
    """The views that a model's images are averaged over, the plain one first.

    Args:
        header: of the weights.
        augmentation: config block `synthesize.test_time_augmentation`.
        inside: the lungs `(z, y, x)`.

    Raises:
        Ct2vqError: a shift would carry lung over the volume's border.
    """
    reach = augmentation["shift_voxels"]
    _require_room(inside, reach)
    steps = [(0, 0, 0)]
    if reach:
        steps += [tuple(sign * reach * (axis == other) for other in range(3)) for axis in range(3) for sign in (1, -1)]
    mirrored = (False, True) if _mirrors(header, augmentation["mirror"]) else (False,)
    return [View(step, mirror) for step in steps for mirror in mirrored]


def _mirrors(header: Mapping[str, Any], asked: bool) -> bool:
    """Whether the mirrored CT is shown: the model's own setting, or on request where it learnt from mirrored cases."""
    if header["network"]["mirror_average"]:
        return True
    return asked and header.get("mirrored", False)


def _require_room(inside: np.ndarray, reach: int) -> None:
    used: Sequence[np.ndarray] = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    room = min(
        (min(int(u[0]), n - 1 - int(u[-1])) for u, n in zip(used, inside.shape, strict=True) if u.size), default=0
    )
    if reach > room:
        raise Ct2vqError(
            f"a shift by {reach} voxels carries lung over the crop's border, which is {room} voxels away",
            key="synthesize.test_time_augmentation.shift_voxels",
            hint="lower it; a wider crop.margin_mm gives more room, but the models must be trained with it",
        )

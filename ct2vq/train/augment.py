"""Random changes of training images that keep the anatomy plausible.

What is random is drawn first (`draw`), then applied (`apply`): with several processes each draws for the whole batch,
so that all agree, and changes only its own cases. Everything happens on the CPU, whatever trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ct2vq.train.data import Sample

#: control points of the elastic deformation along each axis: with about 300 mm of lung, one each 75 mm, so that lobes
#: change and vessels stay. Assumption.
CONTROL_POINTS = 5
#: largest displacement in distances of control points. Below 1/6 the map cannot fold: each of the three derivatives of
#: a component is at most 2 * 0.16, so that the Jacobian matrix stays diagonally dominant.
WITHOUT_FOLDS = 0.16
#: how often a deformation that pushes lung out of the crop is halved before it is given up
ATTEMPTS = 4


@dataclass(frozen=True)
class Warp:
    """A deformation: angles `(z, y, x)` in radians, zoom factor, displacements `(3, 5, 5, 5)` in voxels or None."""

    angles: Tensor
    zoom: float
    elastic: Tensor | None

    def weaker(self, share: float) -> Warp:
        """The same deformation with a share of its strength."""
        elastic = None if self.elastic is None else self.elastic * share
        return Warp(self.angles * share, 1 + (self.zoom - 1) * share, elastic)


@dataclass(frozen=True)
class Change:
    """What was drawn for one sample: mirrored or not, shift in voxels, gain and noise of CT channels, deformation."""

    mirrored: bool
    shift: tuple[int, int, int]
    gain: Tensor
    noise: Tensor
    warp: Warp | None


def augment(sample: Sample, settings: Mapping[str, Any], generator: torch.Generator, from_ct: int) -> Sample:
    """A sample, randomly changed; its first `from_ct` channels are made from CT values."""
    return apply(sample, draw(sample.size, settings, generator, from_ct))


def draw(size: tuple[int, int, int], settings: Mapping[str, Any], generator: torch.Generator, from_ct: int) -> Change:
    """Draw a change of a sample of `(z, y, x)` voxels; settings: config block `train.augmentation`."""
    mirrored = bool(settings["mirror"]) and float(torch.rand(1, generator=generator)) < settings["mirror"]
    reach = settings["shift_voxels"]
    shift = torch.randint(-reach, reach + 1, (3,), generator=generator).tolist() if reach else [0, 0, 0]
    gain = 1 + settings["scale"] * (2 * torch.rand(from_ct, 1, 1, 1, generator=generator) - 1)
    noise = settings["noise"] * torch.randn((from_ct, *size), generator=generator)
    return Change(mirrored, tuple(shift), gain, noise, _draw_warp(size, settings, generator))


def _draw_warp(size: tuple[int, int, int], settings: Mapping[str, Any], generator: torch.Generator) -> Warp | None:
    """A deformation; None, and nothing drawn, where the settings ask for none."""
    if not (settings["rotation_degrees"] or settings["zoom"] or settings["elastic_voxels"]):
        return None
    angles = math.radians(settings["rotation_degrees"]) * (2 * torch.rand(3, generator=generator) - 1)
    zoom = 1 + settings["zoom"] * float(2 * torch.rand(1, generator=generator) - 1)
    elastic = None
    if settings["elastic_voxels"]:
        apart = torch.tensor([(n - 1) / (CONTROL_POINTS - 1) for n in size]).reshape(3, 1, 1, 1)
        reach = torch.clamp(WITHOUT_FOLDS * apart, max=settings["elastic_voxels"])
        elastic = reach * (2 * torch.rand((3, *[CONTROL_POINTS] * 3), generator=generator) - 1)
    return Warp(angles, zoom, elastic)


def apply(sample: Sample, change: Change) -> Sample:
    """Apply a change: mirror, deform, shift, then gain and noise of the CT channels.

    Everything outside the lungs is 0 and the crop has a margin, so a shift within it wraps nothing round. With `mirror`
    left and right change places; position channels are symmetric and stay true.
    """
    if change.mirrored:
        sample = Sample(sample.case_id, *(t.flip(3) for t in (sample.image, sample.lungs, sample.truth)))
    if change.warp is not None:
        sample = _deformed(sample, change.warp)
    shift = [_limited(step, sample.lungs[0], axis) for axis, step in enumerate(change.shift)]
    image, lungs, truth = (
        torch.roll(tensor, shift, dims=(1, 2, 3)) for tensor in (sample.image, sample.lungs, sample.truth)
    )
    from_ct = len(change.noise)
    image = torch.cat([(image[:from_ct] * change.gain + change.noise) * lungs, image[from_ct:]])
    return Sample(sample.case_id, image, lungs, truth)


def _limited(step: int, lungs: Tensor, axis: int) -> int:
    """A shift cut down to the free margin on its side."""
    occupied = torch.nonzero(lungs.amax(dim=[other for other in range(3) if other != axis]) > 0).flatten()
    before, after = int(occupied[0]), lungs.shape[axis] - 1 - int(occupied[-1])
    return max(-before, min(after, step))


def _deformed(sample: Sample, warp: Warp) -> Sample:
    """A sample deformed as far as no lung leaves the crop: halved until it fits, unchanged if it never does."""
    for attempt in range(ATTEMPTS):
        deformed = deform(sample, warp.weaker(0.5**attempt))
        if not _touches_a_face(deformed.lungs[0]):
            return deformed
    return sample


def _touches_a_face(lungs: Tensor) -> bool:
    return any(bool(lungs.select(axis, end).any()) for axis in range(3) for end in (0, -1))


def deform(sample: Sample, warp: Warp) -> Sample:
    """Resample image, lungs and truth together, once, by linear interpolation.

    Values come from lung voxels alone (interpolated values over the interpolated mask), because the zeros outside would
    darken the pleura; a voxel is lung where the interpolated mask is at least a half. Position channels go along with
    the tissue.
    """
    together = torch.cat([sample.image * sample.lungs, sample.truth * sample.lungs, sample.lungs])
    grid = _sampling_grid(sample.lungs[0], warp)
    moved = F.grid_sample(together[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=True)[0]
    share = moved[-1:]
    lungs = (share >= 0.5).float()
    values = moved[:-1] / share.clamp_min(0.5) * lungs
    image, truth = values.tensor_split((sample.image.shape[0],))
    return Sample(sample.case_id, image, lungs, truth)


def _sampling_grid(lungs: Tensor, warp: Warp) -> Tensor:
    """Where each voxel of the new image comes from, `(z, y, x, 3)`, in the coordinates (x, y, z) of `grid_sample`."""
    size = torch.tensor(lungs.shape, dtype=torch.float32)
    axes = [torch.arange(n, dtype=torch.float32) for n in lungs.shape]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    occupied = torch.nonzero(lungs).float()
    centre = (occupied.amin(0) + occupied.amax(0)) / 2
    source = (voxels - centre) @ (_rotation(warp.angles) / warp.zoom).T + centre
    if warp.elastic is not None:
        dense = F.interpolate(warp.elastic[None], size=tuple(lungs.shape), mode="trilinear", align_corners=True)[0]
        source = source + dense.movedim(0, -1)
    return (2 * source / (size - 1) - 1).flip(-1)


def _rotation(angles: Tensor) -> Tensor:
    """Rotation matrix on `(z, y, x)`: about the axis z, then y, then x, angles in radians."""
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles.tolist()):
        first, second = (other for other in range(3) if other != axis)
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix

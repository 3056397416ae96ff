"""A search for large motion inside each lung, before SyN refines it.

A full breath moves lung by up to 60 mm, several vessels' distances: gradient descent ends in another vessel, and
one smooth field over lungs and chest wall drags the lung along the ribs that it slides past. So each lung is searched
by itself: blocks of its voxels try all displacements of a lattice, and a smooth field is drawn from their costs by
coupled convex optimisation (Steinbruecker et al., ICCV 2009, "Large displacement optical flow computation without
warping"; Heinrich et al., WBIR 2014, doi:10.1007/978-3-319-08554-8_6). What is compared is local contrast (vessels,
fissures, textures; a lung that is denser because it holds less air compares equal) and the depth under the surface.

Positions and displacements are `(n, 3)` arrays in mm in the order `(z, y, x)` of the array axes, along the patient's
axes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.fields import grid_over, jacobian, positions
from ct2vq.lungs import LEFT, RIGHT, SIDES, grid_around, resample_labels, resample_smoothed
from ct2vq.volume import to_array

logger = logging.getLogger(__name__)

#: displacement in mm at positions in mm, both `(n, 3)` in the order `(z, y, x)`
Displacement = Callable[[np.ndarray], np.ndarray]

HU_RANGE = (-1000.0, 200.0)
AIR_HU = -1000.0
#: local contrast beyond this many standard deviations is a vessel's wall, and no better a landmark than its middle
CONTRAST_LIMIT = 3.0
#: depth under the surface, or height above it, beyond which all voxels compare equal, mm
SURFACE_REACH_MM = 15.0
#: blocks of nothing but air lie round the lattice of a lung, so that its spline goes on smoothly outside
_PADDING = 2
#: distance in mm over which one lung's displacement fades into the other's between them
_FADE_MM = 3.0
#: a lung's share in the displacement below which it is not asked for
_NO_SHARE = 1e-3
#: farther from the lungs everything moves as the nearest place within
_FAR_MM = 40.0
#: smallest local change of volume that the search may leave
_LEAST_JACOBIAN = 0.15
_UNFOLDING_ROUNDS = 30


@dataclass(frozen=True)
class LungFeatures:
    """What is compared of a pair of lungs, on an isotropic grid along the patient's axes.

    Attributes:
        labels: 1 right, 2 left, `(z, y, x)`.
        values: local contrast and depth of each side, `(2, z, y, x)`.
        origin: position of the first voxel in mm, `(z, y, x)`.
        spacing_mm: voxel size.
    """

    labels: np.ndarray
    values: Mapping[int, np.ndarray]
    origin: np.ndarray
    spacing_mm: float

    @classmethod
    def of(
        cls, ct: sitk.Image, lungs: sitk.Image, spacing_mm: float, margin_mm: float, contrast: Contrast
    ) -> LungFeatures:
        """Features of a CT in HU with its lungs' labels, on a grid round the lungs with a margin in mm."""
        grid = grid_around(lungs, spacing_mm, margin_mm)
        hu = np.clip(to_array(resample_smoothed(ct, grid, outside=AIR_HU)), *HU_RANGE).astype(np.float32)
        labels = to_array(resample_labels(lungs, grid))
        values = {}
        for side in SIDES:
            inside = labels == side
            if inside.any():
                values[side] = np.stack([contrast.of(hu, inside, spacing_mm), _depth(inside, spacing_mm)])
        return cls(labels, values, np.array(grid.GetOrigin()[::-1]), spacing_mm)

    def voxels(self, side: int) -> np.ndarray:
        """Indices `(n, 3)` of the voxels of a lung."""
        return np.argwhere(self.labels == side)

    def compared(self, side: int, positions: np.ndarray) -> np.ndarray:
        """Features `(2, n)` interpolated at positions."""
        index = ((positions - self.origin) / self.spacing_mm).T
        return np.stack(
            [ndimage.map_coordinates(v, index, order=1, mode="nearest", prefilter=False) for v in self.values[side]]
        )


@dataclass(frozen=True)
class Contrast:
    """Local contrast: HU less their mean, in standard deviations, both in a Gaussian window inside the lung.

    Attributes:
        sigma_mm: the window.
        floor_hu: added in quadrature to the standard deviation, so that noise is not blown up to vessels.
    """

    sigma_mm: float
    floor_hu: float

    def of(self, hu: np.ndarray, inside: np.ndarray, spacing_mm: float) -> np.ndarray:
        """Local contrast `(z, y, x)`, 0 outside."""
        sigma = self.sigma_mm / spacing_mm

        def mean(values: np.ndarray) -> np.ndarray:
            return ndimage.gaussian_filter(np.where(inside, values, 0).astype(np.float32), sigma) / weight

        weight = np.maximum(ndimage.gaussian_filter(inside.astype(np.float32), sigma), 1e-3)
        middle = mean(hu)
        variance = np.maximum(mean(hu * hu) - middle**2, 0)
        scaled = (hu - middle) / np.sqrt(variance + self.floor_hu**2)
        return np.where(inside, np.clip(scaled, -CONTRAST_LIMIT, CONTRAST_LIMIT), 0).astype(np.float32)


def _depth(inside: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Depth under the lung's surface, negative outside, limited to -1..1 at `SURFACE_REACH_MM`."""
    signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return np.clip(signed * (spacing_mm / SURFACE_REACH_MM), -1, 1).astype(np.float32)


def search_displacement(
    images: Mapping[str, sitk.Image], start: sitk.Transform, settings: Mapping[str, Any], spacing_mm: float
) -> sitk.Image:
    """Search each lung's displacement from the CT to the attenuation CT.

    Args:
        images: `ct`, `ct_lungs`, `attenuation_ct`, `attenuation_ct_lungs`.
        start: affine transform of points from CT to attenuation CT to begin with.
        settings: config block `register.search`.
        spacing_mm: voxel size of the field to make.

    Returns:
        Displacement field in mm (LPS) on a grid over the whole CT, without folds in the lungs; a lung that only one of
        the CTs has keeps the start.
    """
    found: dict[int, Displacement] = dict.fromkeys(SIDES, _displacement_of(start))
    contrast = Contrast(settings["contrast_mm"], settings["contrast_floor_hu"])
    for level in settings["levels"]:
        still = LungFeatures.of(images["ct"], images["ct_lungs"], level["spacing_mm"], 4.0, contrast)
        # where the lattice is coarse, the nearest of voxels half as wide as its steps is as good as interpolation
        coarse = level["step_mm"] >= level["spacing_mm"]
        voxel = level["step_mm"] / 2 if coarse else level["spacing_mm"]
        margin = max(level["reach_mm"]) + 2 * voxel
        moving = LungFeatures.of(images["attenuation_ct"], images["attenuation_ct_lungs"], voxel, margin, contrast)
        for side in SIDES:
            if side in still.values and side in moving.values:
                found[side] = _Level(still, moving, side, found[side], level, settings, coarse).solve()
        logger.info("search at %g mm in steps of %g mm", level["spacing_mm"], level["step_mm"])
    return unfolded(_joined(images, found, grid_over(images["ct"], spacing_mm)), images["ct_lungs"])


def _displacement_of(transform: sitk.Transform) -> Displacement:
    """An affine transform of points (LPS) as a displacement in array order."""
    corners = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    carried = np.array([transform.TransformPoint(corner) for corner in corners])
    offset, matrix = carried[0], (carried[1:] - carried[0]).T

    def displacement(positions: np.ndarray) -> np.ndarray:
        points = positions[:, ::-1]
        return (points @ matrix.T + offset - points)[:, ::-1]

    return displacement


class _Level:
    """One level of the search in one lung: costs of all displacements of all blocks, and a smooth field among them."""

    def __init__(
        self,
        still: LungFeatures,
        moving: LungFeatures,
        side: int,
        start: Displacement,
        level: Mapping[str, Any],
        settings: Mapping[str, Any],
        nearest: bool,
    ) -> None:
        self.still, self.moving, self.side, self.settings, self.nearest = still, moving, side, settings, nearest
        self.step = float(level["step_mm"])
        self.size = int(level["block_voxels"])
        voxels = still.voxels(side)
        self.first = voxels.min(axis=0)
        block = (voxels - self.first) // self.size
        self.shape = tuple(block.max(axis=0) + 1)
        flat = np.ravel_multi_index(block.T, self.shape)
        order = np.argsort(flat, kind="stable")
        self.voxels = voxels[order]
        self.blocks, self.begin, self.count = np.unique(flat[order], return_index=True, return_counts=True)
        self.positions = still.origin + self.voxels * still.spacing_mm
        self.begun = start(self.positions)
        self.axes = [np.arange(-n, n + 1) * self.step for n in (int(r // self.step) for r in level["reach_mm"])]
        self.lattice = np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)

    def solve(self) -> Displacement:
        """The displacement after this level."""
        costs = self._costs()
        before = np.stack([np.add.reduceat(self.begun[:, axis], self.begin) / self.count for axis in range(3)])
        smooth = np.zeros_like(before)
        for coupling in self.settings["coupling"]:
            distance = sum((self.lattice[:, axis, None] - smooth[axis]) ** 2 for axis in range(3))
            chosen = self._minimum(costs + coupling / self.step**2 * distance)
            smooth = self._smoothed(before + chosen) - before
        return self._spline(before + smooth)

    def _costs(self) -> np.ndarray:
        """Cost `(displacements, blocks)`: mean squared difference in and around each block."""
        weights = np.array([1.0, self.settings["surface_weight"]], dtype=np.float32)[:, None]
        here = self.still.values[self.side][(slice(None), *self.voxels.T)]
        costs = np.zeros((len(self.lattice), *self.shape), dtype=np.float32)
        flat = costs.reshape(len(self.lattice), -1)
        look = self._nearest() if self.nearest else self._interpolated
        for row, tried in zip(flat, self.lattice, strict=True):
            row[self.blocks] = np.add.reduceat((weights * (here - look(tried)) ** 2).sum(axis=0), self.begin)
        weight = self._over_blocks(self.count.astype(np.float32))
        sigma = self.settings["cost_sigma_blocks"]
        total = ndimage.gaussian_filter(costs, (0, sigma, sigma, sigma), mode="constant")
        mean = total / np.maximum(ndimage.gaussian_filter(weight, sigma, mode="constant"), 1e-3)
        mean = mean.reshape(len(self.lattice), -1)[:, self.blocks]
        return mean - mean.min(axis=0)

    def _interpolated(self, tried: np.ndarray) -> np.ndarray:
        """Features of the moving lung at all voxels' places, moved on by one displacement of the lattice."""
        return self.moving.compared(self.side, self.positions + self.begun + tried)

    def _nearest(self) -> Callable[[np.ndarray], np.ndarray]:
        """The same of the nearest voxels: a displacement of whole voxels is one step through the array."""
        values = self.moving.values[self.side]
        shape = np.array(values.shape[1:])
        begun = np.rint((self.positions + self.begun - self.moving.origin) / self.moving.spacing_mm).astype(np.intp)
        reach = np.rint([axis[-1] / self.moving.spacing_mm for axis in self.axes]).astype(np.intp)
        middle = np.ravel_multi_index(np.clip(begun, reach, shape - 1 - reach).T, tuple(shape))
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        flat = values.reshape(len(values), -1)

        def look(tried: np.ndarray) -> np.ndarray:
            offset = int(np.rint(tried / self.moving.spacing_mm).astype(np.intp) @ strides)
            return flat[:, middle + offset]

        return look

    def _over_blocks(self, values: np.ndarray) -> np.ndarray:
        """Values of the blocks `(..., blocks)` on the lattice of all blocks, 0 elsewhere."""
        full = np.zeros((*values.shape[:-1], int(np.prod(self.shape))), dtype=np.float32)
        full[..., self.blocks] = values
        return full.reshape(*values.shape[:-1], *self.shape)

    def _minimum(self, energy: np.ndarray) -> np.ndarray:
        """Displacement `(3, blocks)` of least energy, between the lattice's points by a parabola along each axis."""
        best = energy.argmin(axis=0)
        column = np.arange(energy.shape[1])
        steps = tuple(len(axis) for axis in self.axes)
        index = np.array(np.unravel_index(best, steps))
        grid = energy.reshape(*steps, -1)
        result = self.lattice[best].T.copy()
        for axis in range(3):
            low, high = index.copy(), index.copy()
            low[axis], high[axis] = np.maximum(index[axis] - 1, 0), np.minimum(index[axis] + 1, steps[axis] - 1)
            before, after = grid[(*low, column)], grid[(*high, column)]
            curvature = before + after - 2 * grid[(*index, column)]
            inner = (index[axis] > 0) & (index[axis] < steps[axis] - 1) & (curvature > 1e-9)
            part = np.clip(0.5 * (before - after) / np.where(inner, curvature, 1), -0.5, 0.5)
            result[axis] += np.where(inner, part, 0) * self.step
        return result

    def _smoothed(self, displacement: np.ndarray) -> np.ndarray:
        """Gaussian average `(3, blocks)` over the lung's blocks only: no lung beyond the pleura takes part."""
        sigma = self.settings["smoothing_blocks"]
        share = self._over_blocks(np.minimum(self.count / self.size**3, 1).astype(np.float32))
        weight = np.maximum(ndimage.gaussian_filter(share, sigma, mode="constant"), 1e-6)
        full = self._over_blocks(displacement)
        smooth = [ndimage.gaussian_filter(part * share, sigma, mode="constant") / weight for part in full]
        return np.stack(smooth).reshape(3, -1)[:, self.blocks]

    def _spline(self, displacement: np.ndarray) -> Displacement:
        """A cubic spline through the blocks' displacements, which goes on outside as at the nearest block."""
        inside = np.pad(self._over_blocks(np.ones(len(self.blocks))) > 0, _PADDING)
        full = np.pad(self._over_blocks(displacement), ((0, 0), *((_PADDING, _PADDING),) * 3))
        nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
        filled = [part[tuple(nearest)] for part in full]
        outside = [ndimage.gaussian_filter(part, 1.0) for part in filled]
        knots = [
            ndimage.spline_filter(np.where(inside, part, soft), order=3)
            for part, soft in zip(filled, outside, strict=True)
        ]
        pitch = self.size * self.still.spacing_mm
        middle = self.first + (self.size - 1) / 2
        origin = self.still.origin + middle * self.still.spacing_mm - _PADDING * pitch

        def at(positions: np.ndarray) -> np.ndarray:
            index = ((positions - origin) / pitch).T
            parts = [ndimage.map_coordinates(k, index, order=3, mode="nearest", prefilter=False) for k in knots]
            return np.stack(parts, axis=-1)

        return at


def _joined(images: Mapping[str, sitk.Image], found: Mapping[int, Displacement], grid: sitk.Image) -> sitk.Image:
    """Both lungs' displacements as one field on a grid; between the lungs one fades into the other."""
    labels = to_array(resample_labels(images["ct_lungs"], grid))
    far = float(np.linalg.norm(grid.GetSize())) * grid.GetSpacing()[0]
    right, left = (
        ndimage.distance_transform_edt(labels != side) * grid.GetSpacing()[0]
        if (labels == side).any()
        else np.full(labels.shape, far)
        for side in SIDES
    )
    shares = {RIGHT: 1 / (1 + np.exp(np.clip((right - left) / _FADE_MM, -50, 50)))}
    shares[LEFT] = 1 - shares[RIGHT]
    near = np.minimum(right, left) < _FAR_MM
    points = positions(grid).reshape(3, *labels.shape)
    joined = np.zeros((*labels.shape, 3))
    for side, share in shares.items():
        chosen = near & (share > _NO_SHARE)
        joined[chosen] += share[chosen, None] * found[side](points[::-1, chosen].T)[:, ::-1]
    nearest = ndimage.distance_transform_edt(~near, return_distances=False, return_indices=True)
    field = sitk.GetImageFromArray(joined[tuple(nearest)], isVector=True)
    field.CopyInformation(grid)
    return field


def unfolded(field: sitk.Image, lungs: sitk.Image) -> sitk.Image:
    """The field, smoothed where it squeezes lung to less than `_LEAST_JACOBIAN` of its volume, and only there."""
    inside = to_array(resample_labels(lungs, field)) > 0
    inside = ndimage.binary_dilation(inside, iterations=2)
    values = to_array(field)
    for _ in range(_UNFOLDING_ROUNDS):
        squeezed = inside & (jacobian(field) < _LEAST_JACOBIAN)
        if not squeezed.any():
            break
        share = np.minimum(3 * ndimage.gaussian_filter(squeezed.astype(np.float64), 1.5), 1)[..., None]
        soft = np.stack([ndimage.gaussian_filter(values[..., axis], 1.0) for axis in range(3)], axis=-1)
        values = share * soft + (1 - share) * values
        turned = sitk.GetImageFromArray(values, isVector=True)
        turned.CopyInformation(field)
        field = turned
    return field

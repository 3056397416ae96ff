"""What function, motion and SPECT need to know of a chest, whether it is drawn (`anatomy`) or a real CT's lung mask.

Positions are mm (LPS) in the reference state, arrays of points have shape (3, ...), signed distances are negative
inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from ct2vq.errors import GeometryError
from ct2vq.lungs import LEFT, RIGHT, bounding_box, grid_around, resample_smoothed
from ct2vq.simulate import anatomy
from ct2vq.simulate.anatomy import Body, Distances, smoothstep
from ct2vq.volume import to_array

#: voxel size at which a real chest's lungs and its body are kept, and how far around the lungs, mm
_LUNG_STEP_MM, _LUNG_MARGIN_MM = 3.0, 25.0
_BODY_STEP_MM, _BODY_MARGIN_MM = 6.0, 110.0
#: smoothing of signed distances, voxels
_MASK_SMOOTH = 0.7
#: where a lobe's bronchus and artery enter, as fractions of each lung's box: (medial to lateral, front to back, base
#: to apex); those of the drawn chest (`HUBS`), measured in its own boxes
_HUB_FRACTIONS = {
    1: (0.18, 0.52, 0.62),
    2: (0.18, 0.42, 0.46),
    3: (0.18, 0.60, 0.44),
    4: (0.16, 0.50, 0.62),
    5: (0.16, 0.62, 0.48),
}
#: where a lobe's bronchus and artery enter a drawn lung, mm at unit size
HUBS = {1: (-46, 10, 32), 2: (-46, -8, -2), 3: (-42, 24, -6), 4: (46, 0, 30), 5: (43, 28, 2)}
#: Hounsfield units above which a voxel belongs to the body or to the table
_BODY_HU = -400.0


class Chest(Protocol):
    """A chest in its reference state.

    Attributes:
        hubs: where each lobe's bronchus and artery enter, (3,) mm by lobe label.
        apex_z: the highest point of the lungs.
        base_z: the level of the lower diaphragm dome.
        middle_x: the midline.
        middle_y: the level halfway between front and back.
        half_width: half the chest's width.
    """

    hubs: dict[int, np.ndarray]
    apex_z: float
    base_z: float
    middle_x: float
    middle_y: float
    half_width: float

    def lung(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance to the nearer lung (mm) and its side (1 right, 2 left)."""

    def lobe(self, points: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Label of the lobe (see `ct2vq.lungs.LOBES`)."""

    def coordinates(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position from front (0) to back (1), and from base (0) to apex (1); unclipped."""

    def skin(self, points: np.ndarray) -> np.ndarray:
        """Signed distance to the skin, mm."""

    def lattice(self, step_mm: float) -> np.ndarray:
        """Points (3, nz, ny, nx) of a regular lattice that holds the lungs."""


@dataclass(frozen=True)
class Effusion:
    """Pleural fluid of one side (2 left, 1 right): it fills the hemithorax up to a level that rises at the wall."""

    side: int
    level_y: float
    top_z: float

    def distance(self, points: np.ndarray, wall: np.ndarray) -> np.ndarray:
        """Signed distance-like value (mm), negative in the fluid, of points inside the chest wall.

        Args:
            points: (3, ...) mm.
            wall: signed distance to the inner chest wall: near it the fluid climbs (the meniscus).
        """
        meniscus = 14.0 * np.exp(wall / np.float32(9.0))
        surface = self.level_y - meniscus + 0.35 * np.maximum(points[2] - self.top_z, 0)
        other = points[0] if self.side == RIGHT else -points[0]
        return np.maximum(surface - points[1], other)


@dataclass(frozen=True)
class DrawnChest:
    """A chest that `anatomy` describes, with the fluid that a case may have in its pleura."""

    body: Body
    effusions: tuple[Effusion, ...] = ()

    @cached_property
    def hubs(self) -> dict[int, np.ndarray]:
        """See `Chest`."""
        return {lobe: np.array(at, dtype=np.float32) * np.float32(self.body.size) for lobe, at in HUBS.items()}

    @property
    def apex_z(self) -> float:
        """See `Chest`."""
        return self.body.apex_z * self.body.size

    @property
    def base_z(self) -> float:
        """See `Chest`."""
        return min(self.body.dome_z) * self.body.size

    @property
    def middle_x(self) -> float:
        """See `Chest`."""
        return 0.0

    @property
    def middle_y(self) -> float:
        """See `Chest`."""
        return 0.0

    @property
    def half_width(self) -> float:
        """See `Chest`."""
        return self.body.half_width[0] * self.body.size

    def measure(self, points: np.ndarray) -> Distances:
        """All distances that shape the lungs; fluid is not lung."""
        shape = anatomy.measure(self.body, points)
        if not self.effusions:
            return shape
        return replace(shape, lung=np.maximum(shape.lung, -self.fluid(points, shape.wall)))

    def fluid(self, points: np.ndarray, wall: np.ndarray) -> np.ndarray:
        """Signed distance-like value of pleural fluid (mm); far from any where there is none."""
        values = [effusion.distance(points, wall) for effusion in self.effusions]
        return np.minimum.reduce(values) if values else np.full(wall.shape, 99.0, dtype=np.float32)

    def lung(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Chest`."""
        shape = self.measure(points)
        return shape.lung, shape.side

    def lobe(self, points: np.ndarray, side: np.ndarray) -> np.ndarray:
        """See `Chest`."""
        return anatomy.lobe_of(self.body, points, side)

    def coordinates(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Chest`."""
        return anatomy.lung_coordinates(self.body, points)

    def skin(self, points: np.ndarray) -> np.ndarray:
        """See `Chest`."""
        return anatomy.skin_distance(self.body, points)

    def lattice(self, step_mm: float) -> np.ndarray:
        """See `Chest`."""
        return anatomy.lattice(self.body, step_mm)


@dataclass(frozen=True)
class Sampled:
    """A field on a regular lattice along the patient's axes, read linearly at any point; beyond it its edge goes on."""

    values: np.ndarray
    origin: np.ndarray
    step: float

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Values (...) at points (3, ...) in mm; float32."""
        shape = (3, *([1] * (points.ndim - 1)))
        index = ((points - self.origin.reshape(shape)) / self.step).astype(np.float32)[::-1]
        return map_coordinates(self.values, index, order=1, mode="nearest", output=np.float32)


def lattice_points(low: np.ndarray, high: np.ndarray, step_mm: float) -> np.ndarray:
    """Points (3, z, y, x), float32 mm, of the lattice from corner `low` up to before corner `high`."""
    axes = [np.arange(a, b, step_mm, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return np.stack([x, y, z])


@dataclass(frozen=True)
class MaskedChest:
    """A real chest, known by signed distances on a lattice; lobes are cut by planes as they usually lie.

    `chest_from_ct` makes it in its CT's own state, `carried` takes it to another one. Distances are those of the mask
    it was made from: after a motion they are off by as much as it stretches.
    """

    right: Sampled
    left: Sampled
    body: Sampled
    boxes: dict[int, np.ndarray]
    hubs: dict[int, np.ndarray] = field(repr=False)
    base_z: float

    @property
    def apex_z(self) -> float:
        """See `Chest`."""
        return float(max(box[1, 2] for box in self.boxes.values()))

    @property
    def middle_x(self) -> float:
        """Halfway between the lungs' outer walls."""
        return float(self.boxes[LEFT][1, 0] + self.boxes[RIGHT][0, 0]) / 2

    @property
    def middle_y(self) -> float:
        """Halfway between the lungs' front and back."""
        return float(np.mean([box[:, 1].mean() for box in self.boxes.values()]))

    @property
    def half_width(self) -> float:
        """See `Chest`."""
        return float((self.boxes[LEFT][1, 0] - self.boxes[RIGHT][0, 0]) / 2)

    @property
    def box(self) -> np.ndarray:
        """Lowest and highest corner (2, 3) of both lungs, mm."""
        low = np.minimum(self.boxes[RIGHT][0], self.boxes[LEFT][0])
        return np.stack([low, np.maximum(self.boxes[RIGHT][1], self.boxes[LEFT][1])])

    def lung(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Chest`."""
        right, left = self.right(points), self.left(points)
        return np.minimum(right, left), np.where(right <= left, RIGHT, LEFT).astype(np.uint8)

    def lobe(self, points: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Lobe labels by the fissures' usual course; the CT's own fissures are not looked for.

        The oblique fissure rises from the front of the base to the back of the upper third, the horizontal one lies
        at half height in front.
        """
        lobe = np.zeros(side.shape, dtype=np.uint8)
        for number, box in self.boxes.items():
            here = side == number
            share = [(points[axis][here] - box[0, axis]) / (box[1, axis] - box[0, axis]) for axis in (1, 2)]
            below = share[1] < 0.08 + 0.62 * share[0]
            if number == RIGHT:
                lobe[here] = np.where(below, 3, np.where(share[1] < 0.48, 2, 1))
            else:
                lobe[here] = np.where(below, 5, 4)
        return lobe

    def coordinates(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Chest`."""
        low, high = self.box
        return (points[1] - low[1]) / (high[1] - low[1]), (points[2] - low[2]) / (high[2] - low[2])

    def skin(self, points: np.ndarray) -> np.ndarray:
        """See `Chest`."""
        return self.body(points)

    def lattice(self, step_mm: float) -> np.ndarray:
        """See `Chest`."""
        low, high = self.box
        return lattice_points(low - 10, high + 10, step_mm)

    def carried(self, back: Callable[[np.ndarray], np.ndarray], box: np.ndarray) -> MaskedChest:
        """This chest in another state.

        Args:
            back: where points (3, ...) of the other state lie in this one.
            box: lowest and highest corner (2, 3) of what holds the lungs in the other state, mm.
        """
        near = lattice_points(box[0] - _LUNG_MARGIN_MM, box[1] + _LUNG_MARGIN_MM, _LUNG_STEP_MM)
        wide = lattice_points(box[0] - _BODY_MARGIN_MM, box[1] + _BODY_MARGIN_MM, _BODY_STEP_MM)
        lung = back(near)
        body = Sampled(self.body(back(wide)), wide[:, 0, 0, 0], _BODY_STEP_MM)
        return _masked_chest(self.right(lung), self.left(lung), near[:, 0, 0, 0], body)


def chest_from_ct(ct: sitk.Image, lungs: sitk.Image) -> MaskedChest:
    """The chest of a real CT, in that CT's own state and coordinates.

    Args:
        ct: HU, any orientation.
        lungs: labels 1 right, 2 left on the CT's grid.

    Raises:
        GeometryError: a lung is missing.
    """
    grid = grid_around(lungs, _LUNG_STEP_MM, _LUNG_MARGIN_MM)
    fields = []
    for side, name in ((RIGHT, "right"), (LEFT, "left")):
        mask = resample_smoothed(sitk.Cast(lungs == side, sitk.sitkFloat32), grid, outside=0) > 0.5
        if not to_array(mask).any():
            hint = "a semi-synthetic case needs both lungs: labels 1 right, 2 left"
            raise GeometryError(f"the lung mask holds no {name} lung", hint=hint)
        fields.append(_signed_distance(mask))
    still = sitk.Transform(3, sitk.sitkIdentity)
    # what the CT does not reach looks as its nearest voxel: the body goes on beyond the first and the last slice
    wide = grid_around(lungs, _BODY_STEP_MM, _BODY_MARGIN_MM)
    hu = sitk.Resample(sitk.Cast(ct, sitk.sitkFloat32), wide, still, sitk.sitkLinear, -1000.0, sitk.sitkFloat32, True)
    body = Sampled(_signed_distance(_body(hu)), np.array(wide.GetOrigin(), dtype=np.float32), _BODY_STEP_MM)
    return _masked_chest(*fields, np.array(grid.GetOrigin()), body)


def _masked_chest(right: np.ndarray, left: np.ndarray, origin: np.ndarray, body: Sampled) -> MaskedChest:
    """A chest from the lungs' signed distances (z, y, x) on one lattice, and the body's."""
    origin = origin.astype(np.float32)
    boxes = {}
    for side, distance in ((RIGHT, right), (LEFT, left)):
        z, y, x = (np.array([axis.start, axis.stop - 1]) for axis in bounding_box(distance < 0))
        boxes[side] = origin + np.stack([x, y, z], axis=1) * np.float32(_LUNG_STEP_MM)
    fields = (Sampled(distance, origin, _LUNG_STEP_MM) for distance in (right, left))
    domes = [_dome_z(distance < 0, origin) for distance in (right, left)]
    return MaskedChest(*fields, body, boxes, _hubs(boxes), min(domes))


def _dome_z(lung: np.ndarray, origin: np.ndarray) -> float:
    """Level of the diaphragm under the middle of a lung (mask (z, y, x)), mm."""
    _z, y, x = bounding_box(lung)
    middle = tuple(
        slice(int(a.start + 0.35 * (a.stop - a.start)), int(a.start + 0.65 * (a.stop - a.start)) + 1) for a in (y, x)
    )
    columns = lung[(slice(None), *middle)]
    lowest = columns.argmax(axis=0)[columns.any(axis=0)]
    return float(origin[2] + _LUNG_STEP_MM * np.median(lowest))


def _signed_distance(mask: sitk.Image) -> np.ndarray:
    """Signed distance (z, y, x) in mm to a mask's surface, smoothed by less than a voxel."""
    distance = sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True)
    # ITK measures from the centres of the mask's outermost voxels; the surface lies half a voxel farther out
    half = np.float32(mask.GetSpacing()[0] / 2)
    return gaussian_filter(to_array(distance).astype(np.float32) - half, _MASK_SMOOTH)


def _body(hu: sitk.Image) -> sitk.Image:
    """The body without the table: the largest part denser than `_BODY_HU`, its holes filled slice by slice."""
    dense = sitk.BinaryOpeningByReconstruction(hu > _BODY_HU, [1, 1, 1])
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(dense), sortByObjectSize=True)
    slices = [sitk.BinaryFillhole(parts[:, :, k] == 1) for k in range(parts.GetSize()[2])]
    image = sitk.JoinSeries(slices, hu.GetOrigin()[2], hu.GetSpacing()[2])
    image.CopyInformation(hu)
    return image


def _hubs(boxes: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Where lobar bronchi and arteries enter, by the usual place in each lung's box."""
    hubs = {}
    for lobe, (lateral, back, up) in _HUB_FRACTIONS.items():
        box = boxes[RIGHT if lobe <= 3 else LEFT]
        share = np.array([1 - lateral if lobe <= 3 else lateral, back, up])
        hubs[lobe] = (box[0] + share * (box[1] - box[0])).astype(np.float32)
    return hubs


__all__ = [
    "HUBS",
    "Chest",
    "DrawnChest",
    "Effusion",
    "MaskedChest",
    "Sampled",
    "chest_from_ct",
    "lattice_points",
    "smoothstep",
]

"""V-Q difference, mismatched and matched defects, and which defects of a reference an image shows.

Arrays have axes `(z, y, x)`; V is ventilation, Q perfusion. Both are seen in units of their own mean over
well-ventilated, well-perfused lung: were they scaled to an equal mean over the lungs, a large loss of Q would raise Q
everywhere else and make reverse mismatch there that does not exist. A difference is used and no ratio, which has no
meaning where Q is small (the subtraction of normalised images: Reinartz et al. 2006, J Nucl Med 47:968).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ct2vq.lungs import bounding_box
from ct2vq.metrics.value import RegionValues

#: labels in a map of classes; 0 is everything else
CLASSES = {"mismatch": 1, "matched": 2, "reverse": 3}
#: voxels that touch by a face, an edge or a corner belong to one defect
CONNECTED = np.ones((3, 3, 3), dtype=bool)
#: with less of the lungs than this in good V and Q there is nothing to normalise on; independent images share 0.25 of
#: their upper halves (assumption)
LEAST_NORMAL = 0.05


@dataclass(frozen=True)
class DefectRule:
    """What a defect is (config `evaluate.defects`).

    Attributes:
        normal_percentile: normal lung lies above this percentile of the lungs in every image that is looked at.
        level: a voxel is low below this share of the mean over normal lung.
        difference: V and Q differ if they lie this far apart, in the same unit.
        open_mm: radius of the ball that must fit into a defect.
        min_ml: smallest defect in mL.
        found_overlap: share of a defect that must be low for it to be found.
    """

    normal_percentile: float
    level: float
    difference: float
    open_mm: float
    min_ml: float
    found_overlap: float

    def __str__(self) -> str:
        """What the tables say of it."""
        return (
            f"in units of the mean above percentile {self.normal_percentile:g} of V and Q, low below {self.level:g}, "
            f"V and Q {self.difference:g} apart, ball of {self.open_mm:g} mm, at least {self.min_ml:g} mL"
        )


def read_rule(settings: Mapping[str, Any]) -> DefectRule:
    """The rule of config `evaluate.defects`."""
    return DefectRule(**settings)


@dataclass(frozen=True)
class Relative:
    """Images in units of their means over normal lung.

    Attributes:
        images: by target, NaN outside the lungs; empty where there is a `reason`.
        normal: normal lung, booleans.
        reason: why there are none, or an empty string.
    """

    images: Mapping[str, np.ndarray]
    normal: np.ndarray
    reason: str = ""

    @property
    def difference(self) -> np.ndarray:
        """V - Q, NaN outside the lungs."""
        return self.images["ventilation"] - self.images["perfusion"]


def relative_to_normal(images: Mapping[str, np.ndarray], inside: np.ndarray, rule: DefectRule) -> Relative:
    """Give images in units of their own means over lung that is good in all of them.

    Args:
        images: `perfusion` and `ventilation`, or the only one that there is.
        inside: the lungs.
        rule: config `evaluate.defects`.
    """
    values = {target: RegionValues.of(image, inside) for target, image in images.items()}
    for one in values.values():
        if one.problem:
            return _without("constant image" if one.problem == "constant" else one.problem, inside)
    good = [one.values > np.percentile(one.values, rule.normal_percentile) for one in values.values()]
    shared = np.logical_and.reduce(good)
    if shared.mean() < LEAST_NORMAL:
        return _without("no normal lung: V and Q are good in different places", inside)
    means = {target: float(one.values[shared].mean()) for target, one in values.items()}
    if min(means.values()) <= 0:
        return _without("no function in the lungs", inside)
    normal = np.zeros(inside.shape, dtype=bool)
    normal[inside] = shared
    relative = {target: np.where(inside, image / means[target], np.nan) for target, image in images.items()}
    return Relative(relative, normal)


def _without(reason: str, inside: np.ndarray) -> Relative:
    return Relative({}, np.zeros(inside.shape, dtype=bool), reason)


def low_voxels(relative: np.ndarray, rule: DefectRule) -> np.ndarray:
    """Where a relative image is below the rule's level; NaN, the outside, is not low."""
    return relative < rule.level


def connected_defects(low: np.ndarray, rule: DefectRule, spacing_mm: Sequence[float]) -> np.ndarray:
    """The defects of a map of low function: connected pieces that are thick and large enough.

    At the lungs' border and along the fissures blur lowers function in a thin shell; it is no defect. Low function is
    therefore opened with a ball, and grown again by the same ball within itself, which gives wedges their edges back.

    Args:
        low: low function, booleans.
        rule: config `evaluate.defects`.
        spacing_mm: voxel size `(z, y, x)` in mm.

    Returns:
        int32 labels 1, 2, ... from the largest to the smallest defect, 0 elsewhere.
    """
    labels = np.zeros(low.shape, dtype=np.int32)
    if not low.any():
        return labels
    box = bounding_box(low)
    within, offsets = low[box], ball_offsets(rule.open_mm, spacing_mm)
    core = _grow(_erode(within, offsets), offsets)
    pieces, _ = ndimage.label(_grow(core, offsets) & within, CONNECTED)
    voxels = np.bincount(pieces.ravel())
    voxels[0] = 0
    large = np.flatnonzero((voxels > 0) & (voxels * _voxel_ml(spacing_mm) >= rule.min_ml))
    large = large[np.argsort(-voxels[large], kind="stable")]
    new = np.zeros(voxels.size, dtype=np.int32)
    new[large] = np.arange(1, large.size + 1)
    labels[box] = new[pieces]
    return labels


def vq_classes(relative: Relative, rule: DefectRule, spacing_mm: Sequence[float]) -> np.ndarray:
    """Where Q alone, both or V alone are low, as defects that are thick and large enough.

    Mismatch: Q is low and V is not, and V lies `rule.difference` above Q, lest noise at the level make a mismatch.
    Matched: both are low. Reverse: V is low and Q is not, and lies as far above V.

    Args:
        relative: perfusion and ventilation.
        rule: config `evaluate.defects`.
        spacing_mm: voxel size `(z, y, x)` in mm.

    Returns:
        uint8 labels as in `CLASSES`.
    """
    low_q, low_v = (low_voxels(relative.images[target], rule) for target in ("perfusion", "ventilation"))
    difference = relative.difference
    found = {
        "mismatch": low_q & ~low_v & (difference >= rule.difference),
        "matched": low_q & low_v,
        "reverse": low_v & ~low_q & (difference <= -rule.difference),
    }
    classes = np.zeros(low_q.shape, dtype=np.uint8)
    for name, voxels in found.items():
        classes[connected_defects(voxels, rule, spacing_mm) > 0] = CLASSES[name]
    return classes


@dataclass(frozen=True)
class Defect:
    """A defect of one image, and how much of it is low in another.

    Attributes:
        label: its label in the map of defects.
        volume_ml: its volume in mL.
        overlap: share of it that is low in the other image.
    """

    label: int
    volume_ml: float
    overlap: float


def overlaps(defects: np.ndarray, low: np.ndarray, spacing_mm: Sequence[float]) -> list[Defect]:
    """Each defect, with the share of it that is low in another image.

    Args:
        defects: labels of the defects of an image.
        low: low function of the other image, booleans.
        spacing_mm: voxel size `(z, y, x)` in mm.
    """
    voxels = np.bincount(defects.ravel())
    shared = np.bincount(defects[low], minlength=voxels.size)
    return [
        Defect(int(label), float(voxels[label] * _voxel_ml(spacing_mm)), float(shared[label] / voxels[label]))
        for label in np.flatnonzero(voxels)
        if label
    ]


def false_defects(
    defects: np.ndarray, reference_low: np.ndarray, rule: DefectRule, spacing_mm: Sequence[float]
) -> list[Defect]:
    """The defects of an image that the reference does not bear out: less of them than `found_overlap` is low there.

    Args:
        defects: labels of the defects of the image.
        reference_low: low function of the reference, booleans (not its defects: a real one that is a little too small
            to count makes no false one).
        rule: config `evaluate.defects`.
        spacing_mm: voxel size `(z, y, x)` in mm.
    """
    return [defect for defect in overlaps(defects, reference_low, spacing_mm) if defect.overlap < rule.found_overlap]


def ball_offsets(radius_mm: float, spacing_mm: Sequence[float]) -> np.ndarray:
    """Steps `(n, 3)` in voxels to all voxel centres within a radius, the centre itself included."""
    reach = [int(radius_mm // step) for step in spacing_mm]
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    return steps[np.linalg.norm(steps * np.asarray(spacing_mm), axis=1) <= radius_mm]


def _grow(mask: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Dilation with a ball, as shifted copies: many times faster than a general structuring element."""
    reach = np.abs(offsets).max(axis=0)
    padded = np.pad(mask, [(r, r) for r in reach])
    grown = np.zeros_like(mask)
    for offset in offsets:
        start = reach + offset
        grown |= padded[tuple(slice(s, s + n) for s, n in zip(start, mask.shape, strict=True))]
    return grown


def _erode(mask: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Erosion with a ball; what lies outside the array is not in the mask."""
    reach = np.abs(offsets).max(axis=0)
    padded = np.pad(~mask, [(r, r) for r in reach], constant_values=True)
    inner = tuple(slice(r, r + n) for r, n in zip(reach, mask.shape, strict=True))
    return ~_grow(padded, offsets)[inner]


def _voxel_ml(spacing_mm: Sequence[float]) -> float:
    return float(np.prod(spacing_mm)) / 1000

"""Stage `segment`: the right and the left lung on a CT.

Classic and without weights: air inside the body, minus the airways, split into two lungs, closed over their vessels.
Labels follow lungmask's R231: 1 right lung, 2 left lung. Work is done on a coarse copy (about 2 mm) turned to the
patient's axes, so that "up", "right" and a radius in mm mean the same for every scan; the border comes from the full
resolution. Arrays have axes `(z, y, x)`, z to the head, y to the back, x to the patient's left.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.errors import SegmentationError
from ct2vq.files import write_json
from ct2vq.lungs import LEFT, RIGHT
from ct2vq.volume import (
    affine,
    from_array,
    read_volume,
    require_same_grid,
    resample,
    to_array,
    voxel_volume_ml,
    write_volume,
)

logger = logging.getLogger(__name__)

NAMES = {RIGHT: "right", LEFT: "left"}

#: HU of the body's surface: fat is about -100, lung below -400
BODY_HU = -300.0
#: a piece of air at the edge of the image is the room (about -1000) and not a cut lung (median -700 to -900) below this
ROOM_AIR_HU = -920.0
#: table foam and blankets: light, but not as empty as the room's air
FOAM_HU = -850.0
#: pure gas (stomach, bowel) has nothing in it: its median lies below this, even emphysematous lung's above
GAS_HU = -960.0
#: the median of a piece of lung lies below this; higher ones are bubbles of a voxel or two
LUNG_HU = -500.0
#: the trachea's cross-section: 0.8 to 8 cm^2 covers 95 % of adults (Breatnach 1984: 13-27 mm wide) and tracheomegaly
TRACHEA_CM2 = (0.8, 8.0)
#: volume of trachea and main bronchi; more than this has leaked into a lung
AIRWAY_ML = 90.0
#: erosion in mm, step by step, until the lungs come apart
SPLIT_MM = (0.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0)
#: the lungs' centres lie farther apart than this from right to left, parts of one lung nearer
APART_MM = 50.0
#: thresholds for the airway's growth, from the strictest
AIRWAY_HU = (-950, -925, -900, -875, -850, -825, -800, -750, -700)


@dataclass
class Coarse:
    """The working copy: HU `(z, y, x)` along the patient's axes, and voxel sizes in mm in the same order."""

    image: sitk.Image
    hu: np.ndarray
    spacing: np.ndarray

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(np.prod(self.spacing)) / 1000.0

    def x_mm(self) -> np.ndarray:
        """The patient's x of each voxel in mm, broadcastable to `(z, y, x)`; larger to the left."""
        row = affine(self.image)[0]
        z, y, x = (np.arange(n) for n in self.hu.shape)
        return (row[3] + row[2] * z)[:, None, None] + (row[1] * y)[None, :, None] + (row[0] * x)[None, None, :]


def segment_case(ct: Path, labels: Path, record: Path, settings: dict, lung_mask: Path | None) -> None:
    """Segment one case, or check the user's own mask.

    Args:
        ct: the converted CT.
        labels: `*.nii.gz` to write, uint8: 1 right lung, 2 left lung, on the CT's grid.
        record: `*.json` to write: volumes, mean HU, warnings.
        settings: config block `segment`.
        lung_mask: the user's mask on the CT's grid (1 right, 2 left, or 1 for both, which is split), or None.

    Raises:
        SegmentationError: no plausible lungs.
        GeometryError: the mask does not share the CT's grid.
    """
    image = read_volume(ct)
    if lung_mask is None:
        found, facts = segment_lungs(image, settings)
    else:
        found, facts = _user_labels(image, Path(lung_mask), settings)
    for warning in facts["warnings"]:
        logger.warning("%s", warning)
    write_json(facts, record)
    write_volume(found, labels, "ct2vq lungs: 1 right, 2 left")
    logger.info("lungs: right %.0f mL, left %.0f mL", facts["volume_ml"]["right"], facts["volume_ml"]["left"])


def segment_lungs(ct: sitk.Image, settings: dict) -> tuple[sitk.Image, dict[str, Any]]:
    """Find both lungs.

    Steps: turn and coarsen; air inside the body; take out trachea and main bronchi; choose the lungs among the rest;
    split them where they touch; close over vessels; carry the labels to the CT's grid with the border from its HU.

    Args:
        ct: HU, any grid and direction.
        settings: config block `segment`.

    Returns:
        labels uint8 on the CT's grid (1 right, 2 left), and the record.

    Raises:
        SegmentationError: no plausible lungs.
    """
    coarse = _coarsen(ct, float(settings["working_spacing_mm"]))
    inside = _body(coarse)
    middle = _middle_mm(coarse, inside)
    air = inside & (coarse.hu < float(settings["threshold_hu"]))
    airway, notes = _airway(coarse, air, middle)
    lungs = _choose_lungs(coarse, air & ~airway, middle, settings)
    split = _split(lungs, coarse.x_mm(), coarse.spacing, middle)
    closed = _close(coarse, split, airway, inside, settings)
    labels = _refine(ct, coarse, closed, airway, settings)
    return labels, _record(ct, labels, settings, "thresholding", notes)


# --- working copy --------------------------------------------------------------------------------------------------


def _coarsen(ct: sitk.Image, spacing_mm: float) -> Coarse:
    """Turn to the nearest patient axes and average whole blocks of voxels, up to `spacing_mm` wide."""
    image = sitk.DICOMOrient(ct, "LPS")
    factors = [max(1, int(spacing_mm / spacing + 0.05)) for spacing in image.GetSpacing()]
    # Blocks need a whole number of voxels: the rest at the far side is filled by repeating the edge.
    rest = [-size % factor for size, factor in zip(image.GetSize(), factors, strict=True)]
    if any(rest):
        image = sitk.ZeroFluxNeumannPad(image, [0, 0, 0], rest)
    image = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors)
    return Coarse(image, sitk.GetArrayFromImage(image), np.array(image.GetSpacing()[::-1]))


def _ball(mask: np.ndarray, spacing: np.ndarray, radius_mm: float, *, grow: bool) -> np.ndarray:
    """Dilate or erode by a ball of `radius_mm`, by distance transform (its cost does not grow with the radius)."""
    box = _box(mask, np.ceil(radius_mm / spacing).astype(int) + 1)
    part = mask[box]
    result = np.zeros_like(mask)
    if grow:
        result[box] = ndimage.distance_transform_edt(~part, spacing) <= radius_mm if part.any() else part
    else:
        result[box] = ndimage.distance_transform_edt(part, spacing) > radius_mm
    return result


def _box(mask: np.ndarray, margin: np.ndarray | int = 0) -> tuple[slice, ...]:
    """The bounding box of a mask with a margin in voxels, inside the array; everything if the mask is empty."""
    margin = np.broadcast_to(margin, mask.ndim)
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if used.size == 0:
            return tuple(slice(None) for _ in range(mask.ndim))
        box.append(slice(max(0, used[0] - margin[axis]), used[-1] + 1 + margin[axis]))
    return tuple(box)


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected component."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


# --- body ----------------------------------------------------------------------------------------------------------


def _body(coarse: Coarse) -> np.ndarray:
    """The patient with everything inside, without the table and the room.

    In each axial slice, what is not body and touches the side of the image is the room if most of it is as empty as
    air, or is light (table foam) and not enclosed by the body; otherwise it is a lung that the field of view cuts.
    """
    solid = _largest(_ball(coarse.hu > BODY_HU, coarse.spacing, 3.0, grow=False))
    if not solid.any():
        raise SegmentationError("no body found in the CT", hint="are the values HU?")
    body = _ball(solid, coarse.spacing, 4.0, grow=True) & (coarse.hu > BODY_HU)
    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[1, 1, :] = in_plane[1, :, 1] = True
    rest, count = ndimage.label(~body, structure=in_plane)
    size = np.bincount(rest.ravel(), minlength=count + 1)
    empty = np.bincount(rest[coarse.hu < ROOM_AIR_HU], minlength=count + 1)
    light = np.bincount(rest[coarse.hu < FOAM_HU], minlength=count + 1)
    enclosed = np.bincount(rest[_enclosed(body)], minlength=count + 1)
    edge = np.zeros(count + 1, dtype=bool)
    for side in (rest[:, 0], rest[:, -1], rest[:, :, 0], rest[:, :, -1]):
        edge[np.unique(side)] = True
    room = edge & ((empty > 0.5 * size) | ((light > 0.5 * size) & (enclosed < 0.5 * size)))
    room[0] = False
    return ~room[rest]


def _enclosed(body: np.ndarray) -> np.ndarray:
    """Voxels with body on at least three of their four sides in the axial plane."""
    sides = np.zeros(body.shape, dtype=np.uint8)
    for axis in (1, 2):
        sides += np.logical_or.accumulate(body, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
    return sides >= 3


def _middle_mm(coarse: Coarse, inside: np.ndarray) -> float:
    """The patient's x of the body's middle in mm."""
    columns = coarse.x_mm() * inside
    return float(columns.sum() / inside.sum())


# --- airways -------------------------------------------------------------------------------------------------------


def _airway(coarse: Coarse, air: np.ndarray, middle: float) -> tuple[np.ndarray, list[str]]:
    """Trachea and main bronchi with their wall: grown from the trachea, stopped before they leak into a lung."""
    trachea = _trachea(coarse, air, middle)
    if not trachea.any():
        return trachea, ["no trachea found: central airways may be counted as lung"]
    seed = np.unravel_index(np.where(trachea, coarse.hu, np.inf).argmin(), air.shape)
    notes = []
    grown = np.zeros_like(air)
    for threshold in AIRWAY_HU:
        labels, _ = ndimage.label(air & (coarse.hu < threshold))
        candidate = labels == labels[seed] if labels[seed] else np.zeros_like(air)
        volume = candidate.sum() * coarse.voxel_ml
        # A jump in volume is a leak through the wall of a bronchus.
        if volume > AIRWAY_ML or (grown.any() and volume > 2 * grown.sum() * coarse.voxel_ml and volume > 30):
            break
        grown = candidate
    if not grown.any():
        notes = ["the main bronchi could not be told from the lungs: they may be counted as lung"]
    # The wall and the partial volume around it belong to the airway.
    wall = max(2.5, float(coarse.spacing[1:].max()))
    return _ball(grown | trachea, coarse.spacing, wall, grow=True), notes


def _trachea(coarse: Coarse, air: np.ndarray, middle: float) -> np.ndarray:
    """The trachea's upper part.

    In the top part of the body's air, it is the round piece nearest to the middle, with a cross-section of
    `TRACHEA_CM2`, that goes on for at least 10 mm.
    """
    trachea = np.zeros_like(air)
    slices = np.flatnonzero(air.any(axis=(1, 2)))
    top = slices[int(len(slices) * 0.6) :]
    pixel_cm2 = float(coarse.spacing[1] * coarse.spacing[2]) / 100.0
    x_mm = np.broadcast_to(coarse.x_mm(), air.shape)
    pieces: dict[int, tuple[float, np.ndarray]] = {}
    for z in top:
        labels, count = ndimage.label(air[z])
        area = np.bincount(labels.ravel(), minlength=count + 1) * pixel_cm2
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            if not TRACHEA_CM2[0] <= area[label] <= TRACHEA_CM2[1]:
                continue
            piece = labels[box] == label
            extent = np.array(piece.shape) * coarse.spacing[1:]
            aside = abs(float(x_mm[z][box][piece].mean()) - middle)
            is_round = extent.max() < 2.5 * extent.min() and piece.mean() > 0.5
            if is_round and aside < 50 and (z not in pieces or aside < pieces[z][0]):
                pieces[z] = (aside, labels == label)
    if pieces:
        found = np.array(sorted(pieces))
        run = max(np.split(found, np.flatnonzero(np.diff(found) > 2) + 1), key=len)
        if len(run) * coarse.spacing[0] >= 10:
            for z in run:
                trachea[z] = pieces[z][1]
    return trachea


# --- lungs ---------------------------------------------------------------------------------------------------------


def _choose_lungs(coarse: Coarse, air: np.ndarray, middle: float, settings: dict) -> np.ndarray:
    """The air pieces that are lung: large, not pure gas, with what is cut off from them.

    Raises:
        SegmentationError: nothing as large as `min_lung_ml`.
    """
    labels, count = ndimage.label(air)
    volume = np.bincount(labels.ravel(), minlength=count + 1) * coarse.voxel_ml
    volume[0] = 0
    large = [label for label in np.argsort(-volume)[:6] if volume[label] >= 0.25 * float(settings["min_lung_ml"])]
    lungs = [label for label in large if float(np.median(coarse.hu[labels == label])) > GAS_HU]
    if not lungs or volume[lungs].sum() < float(settings["min_lung_ml"]):
        raise SegmentationError(
            f"no plausible lungs: the largest piece of lung-like air has {volume[lungs].max() if lungs else 0:.0f} mL, "
            f"at least {settings['min_lung_ml']} mL expected",
            key="segment: min_lung_ml",
            hint="is this a chest CT in HU? give a lung_mask in the cohort table otherwise",
        )
    chosen = np.isin(labels, [label for label in lungs if volume[label] > 0.02 * volume[lungs[0]]])
    return chosen | _detached(coarse, labels, volume, chosen, middle)


def _detached(coarse: Coarse, labels: np.ndarray, volume: np.ndarray, chosen: np.ndarray, middle: float) -> np.ndarray:
    """Pieces of lung that consolidation or a fissure cuts off from the rest.

    Gas of bowel and stomach lies low and in the front, gas of the oesophagus in the middle: a low piece must nearly
    touch the lungs, a high one must be larger than a gullet's bubble and lie aside.
    """
    heights = np.flatnonzero(chosen.any(axis=(1, 2)))
    upper = heights[0] + 0.4 * (heights[-1] - heights[0])
    x_mm = np.broadcast_to(coarse.x_mm(), chosen.shape)
    result = np.zeros_like(chosen)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if volume[label] < 1.0 or box[0].stop - 1 < heights[0] or chosen[box][labels[box] == label].any():
            continue
        piece = labels[box] == label
        if not GAS_HU < float(np.median(coarse.hu[box][piece])) < LUNG_HU:
            continue
        aside = abs(float(x_mm[box][piece].mean()) - middle)
        high = box[0].start >= upper and volume[label] >= 5.0 and aside > 20.0
        near = tuple(slice(max(0, side.start - 2), side.stop + 2) for side in box)
        grown = ndimage.binary_dilation(labels[near] == label, iterations=2)
        if high or (box[0].stop - 1 <= heights[-1] and (grown & chosen[near]).any()):
            result[box] |= piece
    return result


def _split(lungs: np.ndarray, x_mm: np.ndarray, spacing: np.ndarray, middle: float) -> np.ndarray:
    """Labels 1 (right) and 2 (left): separate the lungs where they touch.

    Lungs that touch (in front of the heart, behind the oesophagus) hold together by a thin bridge: eroding the mask
    step by step until two large parts stand side by side gives seeds, and each voxel goes to its seed by a watershed
    on the depth.

    Args:
        lungs: mask `(z, y, x)`.
        x_mm: the patient's x of each voxel, broadcastable.
        spacing: mm in the mask's order.
        middle: the patient's x of the body's middle.
    """
    box = _box(lungs, 1)
    part = lungs[box]
    x_mm = np.broadcast_to(x_mm, lungs.shape)[box]
    depth = ndimage.distance_transform_edt(part, spacing)
    result = np.zeros(lungs.shape, dtype=np.uint8)
    for margin in SPLIT_MM:
        seeds = _seeds(depth > margin, x_mm, part.sum())
        if seeds is not None:
            result[box] = _watershed(depth, seeds, part)
            return result
    # One lung, or a bridge as thick as a lung.
    side = np.where(x_mm < middle, RIGHT, LEFT)
    share = float((side[part] == LEFT).mean())
    if min(share, 1 - share) < 0.2:
        side = np.full(part.shape, LEFT if share > 0.5 else RIGHT)
    result[box] = np.where(part, side, 0)
    return result


def _seeds(core: np.ndarray, x_mm: np.ndarray, total: int) -> np.ndarray | None:
    """Labels of a right and a left part in an eroded mask, None if there are no two lungs side by side."""
    labels, count = ndimage.label(core)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    if count < 2 or sizes.sum() < 0.2 * total:
        return None
    order = np.argsort(-sizes, kind="stable")[: min(8, count)]
    x = ndimage.mean(x_mm, labels, order)
    apart = np.flatnonzero((np.abs(x - x[0]) > APART_MM) & (sizes[order] > 0.05 * sizes.sum()))
    if apart.size == 0:
        return None
    between = (x[0] + x[apart[0]]) / 2
    seeds = np.zeros(core.shape, dtype=np.uint8)
    for label, place in zip(order, x, strict=True):
        seeds[labels == label] = RIGHT if place < between else LEFT
    return seeds


def _watershed(depth: np.ndarray, seeds: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Each voxel of the mask to the seed that it is joined to through the deepest way."""
    relief = sitk.GetImageFromArray((-depth).astype(np.float32))
    marked = sitk.MorphologicalWatershedFromMarkers(
        relief, sitk.GetImageFromArray(seeds), markWatershedLine=False, fullyConnected=False
    )
    return np.where(mask, sitk.GetArrayFromImage(marked), 0).astype(np.uint8)


def _close(coarse: Coarse, split: np.ndarray, airway: np.ndarray, inside: np.ndarray, settings: dict) -> np.ndarray:
    """Close each lung over its vessels and over tumour at the wall, fill its holes, keep off airway and other lung."""
    radius = float(settings["closing_mm"])
    result = np.zeros_like(split)
    for label in (RIGHT, LEFT):
        lung = split == label
        if not lung.any():
            continue
        box = _box(lung, np.ceil(radius / coarse.spacing).astype(int) + 2)
        # Beyond the image's end the lung goes on: repeating the edge keeps the closing from eating it there.
        pad = [(int(n), int(n)) for n in np.ceil(radius / coarse.spacing) + 1]
        padded = np.pad(lung[box], pad, mode="edge")
        grown = ndimage.distance_transform_edt(~padded, coarse.spacing) <= radius
        closed = ndimage.distance_transform_edt(grown, coarse.spacing) > radius
        closed = closed[tuple(slice(before, -after) for before, after in pad)] | lung[box]
        closed = ndimage.binary_fill_holes(closed) & inside[box] & ~airway[box]
        free = (split[box] == 0) | (split[box] == label)
        result[box][closed & free & (result[box] == 0)] = label
    return result


# --- full resolution -----------------------------------------------------------------------------------------------


def _refine(ct: sitk.Image, coarse: Coarse, closed: np.ndarray, airway: np.ndarray, settings: dict) -> sitk.Image:
    """Carry the labels to the CT's grid.

    Each lung is interpolated linearly and cut at one half. Within about one coarse voxel of that border the CT's own
    HU decides instead, so that blocks leave no steps.
    """
    hu = sitk.GetArrayViewFromImage(ct)
    light = hu < float(settings["threshold_hu"])
    labels = np.zeros(hu.shape, dtype=np.uint8)
    for label in (RIGHT, LEFT):
        soft = sitk.Cast(from_array((closed == label).astype(np.uint8), coarse.image), sitk.sitkFloat32)
        share = to_array(resample(soft, ct))
        labels[(share > 0.9) | ((share > 0.25) & light & (labels == 0)) | ((share > 0.5) & light)] = label
    return from_array(labels, ct)


# --- user's mask ---------------------------------------------------------------------------------------------------


def _user_labels(ct: sitk.Image, path: Path, settings: dict) -> tuple[sitk.Image, dict[str, Any]]:
    """The user's mask as labels 1 and 2 on the CT's grid.

    Raises:
        SegmentationError: other labels, or an empty mask.
        GeometryError: another grid.
    """
    mask = read_volume(path)
    require_same_grid(ct, mask, "the CT", "the lung mask")
    values = sitk.GetArrayFromImage(mask)
    found = set(np.unique(values).tolist()) - {0}
    if not found or not found <= {RIGHT, LEFT}:
        raise SegmentationError(
            f"labels {sorted(found)}, expected 1 (right) and 2 (left), or 1 for both lungs",
            path=path,
            key="lung_mask",
        )
    values = values.astype(np.uint8)
    if found == {RIGHT}:
        values = _split_full(ct, values > 0, settings)
    labels = from_array(values, ct)
    return labels, _record(ct, labels, settings, "user", [])


def _split_full(ct: sitk.Image, lungs: np.ndarray, settings: dict) -> np.ndarray:
    """Split a mask on the CT's grid into right and left."""
    coarse = _coarsen(ct, float(settings["working_spacing_mm"]))
    middle = _middle_mm(coarse, _body(coarse))
    full = Coarse(ct, lungs, np.array(ct.GetSpacing()[::-1]))
    return _split(lungs, full.x_mm(), full.spacing, middle)


# --- record --------------------------------------------------------------------------------------------------------


def _record(ct: sitk.Image, labels: sitk.Image, settings: dict, method: str, notes: list[str]) -> dict[str, Any]:
    """Volumes, mean HU and everything that a reader should know about the lungs.

    Raises:
        SegmentationError: the lungs together are smaller than `min_lung_ml`.
    """
    hu, array = sitk.GetArrayViewFromImage(ct), sitk.GetArrayViewFromImage(labels)
    ml = voxel_volume_ml(ct)
    volume = {NAMES[label]: round(float((array == label).sum()) * ml, 1) for label in NAMES}
    mean = {
        NAMES[label]: round(float(hu[array == label].mean()), 1) if volume[NAMES[label]] else None for label in NAMES
    }
    if sum(volume.values()) < float(settings["min_lung_ml"]):
        raise SegmentationError(f"no plausible lungs: {sum(volume.values()):.0f} mL in all", key="segment: min_lung_ml")
    warnings = list(notes) + _border_notes(ct, array)
    for name, value in volume.items():
        if value < float(settings["min_lung_ml"]):
            warnings.append(f"the {name} lung has only {value:.0f} mL (collapsed, removed, or missed)")
    return {
        "method": method,
        "labels": {str(label): f"{name} lung" for label, name in NAMES.items()},
        "volume_ml": volume,
        "mean_hu": mean,
        "warnings": warnings,
    }


def _border_notes(ct: sitk.Image, array: np.ndarray) -> list[str]:
    """Which faces of the image the lungs reach with more than 1 cm^2: there the field of view cuts them."""
    spacing = np.array(ct.GetSpacing()[::-1])
    axes = np.reshape(ct.GetDirection(), (3, 3)).T[::-1]
    names = (("right", "left"), ("front", "back"), ("feet", "head"))
    notes = []
    for axis in range(3):
        cm2 = float(np.prod(np.delete(spacing, axis))) / 100.0
        patient = int(np.abs(axes[axis]).argmax())
        for end, index in ((0, 0), (1, -1)):
            area = float((np.take(array, index, axis=axis) > 0).sum()) * cm2
            if area > 1.0:
                positive = (axes[axis][patient] > 0) == (end == 1)
                side = names[patient][int(positive)]
                notes.append(
                    f"the lungs touch the image's border on the {side} side ({area:.0f} cm2): truncated field of view"
                )
    return notes

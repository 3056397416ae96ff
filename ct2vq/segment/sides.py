"""Which of it is the right lung and which the left: lungs that touch are separated."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.lungs import LEFT, RIGHT
from ct2vq.segment.working import box

#: erosion in mm, step by step, until the lungs come apart
SPLIT_MM = (0.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0)
#: the lungs' centres lie farther apart than this from right to left, parts of one lung nearer
APART_MM = 50.0


#: the cut through two lungs that touch is smaller than this share of either lung's largest sagittal section
BRIDGE = 0.5
#: thickness of the sagittal sections
SECTION_MM = 6.0
#: a lung that lies less than this share beyond the midline is one lung
BEYOND = 0.2


def split(lungs: np.ndarray, x_mm: np.ndarray, spacing: np.ndarray, middle: float) -> tuple[np.ndarray, list[str]]:
    """Labels 1 (right) and 2 (left): separate the lungs where they touch.

    Lungs that touch (in front of the heart, behind the oesophagus) hold together by a thin bridge: eroding the mask
    step by step until two large parts stand side by side gives seeds, and each voxel goes to its seed by a watershed
    on the depth.

    Args:
        lungs: mask `(z, y, x)`.
        x_mm: the patient's x of each voxel, broadcastable.
        spacing: mm in the mask's order.
        middle: the patient's x of the body's middle.

    Returns:
        labels, and warnings.
    """
    bounds = box(lungs, 1)
    part = lungs[bounds]
    x_mm = np.broadcast_to(x_mm, lungs.shape)[bounds]
    depth = ndimage.distance_transform_edt(part, spacing)
    result = np.zeros(lungs.shape, dtype=np.uint8)
    for margin in SPLIT_MM:
        seeds = _seeds(depth > margin, x_mm, part.sum())
        if seeds is not None:
            result[bounds] = _watershed(depth, seeds, part)
            return result, []
    result[bounds][part], notes = _by_midline(x_mm[part] - middle)
    return result, notes


def _by_midline(aside: np.ndarray) -> tuple[np.ndarray | int, list[str]]:
    """Side labels of voxels that no erosion separates, by their mm left of the midline: one lung, or a wide bridge."""
    share = float((aside >= 0).mean())
    larger, name = (LEFT, "left") if share > 0.5 else (RIGHT, "right")
    if min(share, 1 - share) < BEYOND:
        return larger, []
    sections = np.round(aside / SECTION_MM).astype(int)
    lowest = int(sections.min())
    areas = np.bincount(sections - lowest)
    if areas[-lowest] < BRIDGE * min(areas[:-lowest].max(initial=0), areas[1 - lowest :].max(initial=0)):
        return np.where(aside < 0, RIGHT, LEFT), ["W706 the lungs are joined by a wide bridge: cut at the midline"]
    return larger, [f"W706 one lung reaches over the midline: not cut at the midline, all of it is the {name} lung"]


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

"""Which pieces of air are lung."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ct2vq.errors import SegmentationError
from ct2vq.segment.working import Coarse

#: pure gas (stomach, bowel) has nothing in it: its median lies below this, even emphysematous lung's above
GAS_HU = -960.0
#: the median of a piece of lung lies below this; higher ones are bubbles of a voxel or two
LUNG_HU = -500.0


def choose_lungs(coarse: Coarse, air: np.ndarray, middle: float, settings: dict) -> np.ndarray:
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
            "D702",
            f"no plausible lungs: the largest piece of lung-like air has {volume[lungs].max() if lungs else 0:.0f} mL, "
            f"at least {settings['min_lung_ml']} mL expected",
            key="segment: min_lung_ml",
            hint="is this a chest CT in HU? otherwise give a mask of your own for this CT in the cohort table",
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

"""Each lung over its vessels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ct2vq.lungs import LEFT, RIGHT
from ct2vq.segment.working import Coarse, box


def close(coarse: Coarse, split: np.ndarray, airway: np.ndarray, inside: np.ndarray, radius_mm: float) -> np.ndarray:
    """Close each lung over its vessels, fill its holes, keep off airway and other lung.

    Args:
        coarse: the working copy.
        split: side labels `(z, y, x)`.
        airway: central airways.
        inside: the body.
        radius_mm: radius of the ball.
    """
    result = np.zeros_like(split)
    for label in (RIGHT, LEFT):
        lung = split == label
        if not lung.any():
            continue
        bounds = box(lung, np.ceil(radius_mm / coarse.spacing).astype(int) + 2)
        # Beyond the image's end the lung goes on: repeating the edge keeps the closing from eating it there.
        pad = [(int(n), int(n)) for n in np.ceil(radius_mm / coarse.spacing) + 1]
        padded = np.pad(lung[bounds], pad, mode="edge")
        grown = ndimage.distance_transform_edt(~padded, coarse.spacing) <= radius_mm
        closed = ndimage.distance_transform_edt(grown, coarse.spacing) > radius_mm
        closed = closed[tuple(slice(before, -after) for before, after in pad)] | lung[bounds]
        closed = ndimage.binary_fill_holes(closed) & inside[bounds] & ~airway[bounds]
        free = (split[bounds] == 0) | (split[bounds] == label)
        result[bounds][closed & free & (result[bounds] == 0)] = label
    return result

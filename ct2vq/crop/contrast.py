"""Contrast enhancement inside the lungs, which a network sees beside the HU window.

Every method looks at the lungs of the one case only, so nothing is learnt from other cases and no test case can leak
into training. All give about the same units: 0 at (or near) the middle of the lungs' densities, their middle half
within about 1, and 0 outside the lungs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ct2vq.lungs import bounding_box, fill_from_inside

#: a standardised density beyond this many interquartile ranges is a vessel, a wall or an artefact
ENHANCED_LIMIT = 3.0
#: grey levels of the adaptive equalisation: HU in the lungs span some 1000
_LEVELS = 1024


def enhance(hu: np.ndarray, inside: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """Contrast enhancement inside the lungs.

    Args:
        hu: CT `(z, y, x)` in HU.
        inside: the lungs.
        settings: config block `crop`: `enhance` (one of `METHODS`), and what the method reads.

    Returns:
        float32 `(z, y, x)`, 0 outside the lungs.
    """
    return np.where(inside, METHODS[settings["enhance"]](hu, inside, settings), 0).astype(np.float32)


def _none(hu: np.ndarray, _inside: np.ndarray, _settings: Mapping[str, Any]) -> np.ndarray:
    return np.zeros_like(hu, dtype=np.float32)


def _standardised(hu: np.ndarray, inside: np.ndarray, _settings: Mapping[str, Any]) -> np.ndarray:
    """`(hu - median) / (p75 - p25)`, limited to +-`ENHANCED_LIMIT`: robust standardisation (Huber, Robust Statistics).

    Inflation and calibration, which act like a gain and an offset on the densities, drop out.
    """
    low, middle, high = np.percentile(hu[inside], [25, 50, 75])
    return np.clip((hu - middle) / max(high - low, 1.0), -ENHANCED_LIMIT, ENHANCED_LIMIT)


def _stretched(hu: np.ndarray, inside: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """`2 (hu - low) / (high - low) - 1` between two percentiles of the lungs, limited to -1..1: a contrast stretch.

    Gonzalez and Woods, Digital Image Processing, 4th ed., section 3.2.
    """
    low, high = np.percentile(hu[inside], settings["stretch_percentiles"])
    if high - low < 1:
        return np.zeros(hu.shape)
    return np.clip(2 * (hu - low) / (high - low) - 1, -1, 1)


def _equalised(hu: np.ndarray, inside: np.ndarray, _settings: Mapping[str, Any]) -> np.ndarray:
    """`(2 rank - 1) / n - 1`, equal densities sharing their mean rank: histogram equalisation by exact ranks.

    Any monotonic change of the densities drops out (Gonzalez and Woods, section 3.3). Uniform on -1..1, whose
    interquartile range is 1.
    """
    from scipy.stats import rankdata

    enhanced = np.zeros(hu.shape)
    number = int(inside.sum())
    enhanced[inside] = (2 * rankdata(hu[inside]) - 1) / number - 1
    return enhanced


def _adaptive(hu: np.ndarray, inside: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation in 3D of the stretched densities, mapped to -1..1.

    Zuiderveld, Graphics Gems IV (1994), 474. Outside the lungs the nearest density inside is continued, so that chest
    wall and heart enter no histogram.
    """
    from skimage.exposure import equalize_adapthist

    box = bounding_box(inside)
    filled = fill_from_inside(_stretched(hu, inside, settings)[box], inside[box])
    if not np.ptp(filled):
        return np.zeros(hu.shape)
    kernel = max(round(settings["clahe"]["kernel_mm"] / settings["spacing_mm"]), 2)
    sizes = [min(kernel, n) for n in filled.shape]
    clip_limit = settings["clahe"]["clip_limit"]
    enhanced = np.zeros(hu.shape)
    enhanced[box] = 2 * equalize_adapthist((filled + 1) / 2, sizes, clip_limit, nbins=_LEVELS) - 1
    return enhanced


#: by the names of `crop.enhance`
METHODS: dict[str, Callable[[np.ndarray, np.ndarray, Mapping[str, Any]], np.ndarray]] = {
    "lung_standardised": _standardised,
    "lung_stretched": _stretched,
    "lung_equalised": _equalised,
    "lung_adaptive": _adaptive,
    "none": _none,
}

"""SSIM of two images as `evaluate` computes it, in one call."""

from __future__ import annotations

import numpy as np

from ct2vq.metrics.similarity import SsimRegion
from ct2vq.metrics.value import Value


def ssim(image: np.ndarray, reference: np.ndarray, inside: np.ndarray, *, sigma_voxels: float, **known: float) -> Value:
    """SSIM of two images `(z, y, x)` in a region."""
    region = SsimRegion(inside, sigma_voxels)
    return region.compare(region.moments(image), region.moments(reference), **known)


def ssim_crop(image: np.ndarray, reference: np.ndarray, **window: float) -> Value:
    """SSIM over the whole crop, background included."""
    return ssim(image, reference, np.ones(image.shape, dtype=bool), **window)

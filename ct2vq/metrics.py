"""Metrics of agreement between two images in the lungs. Arrays have axes `(z, y, x)`; `inside` is the lung mask.

A metric that cannot be computed (an empty region, a constant image, values that are not finite) is missing, with a
reason, and never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata

from ct2vq.lungs import dice

#: extent of the Gaussian window in standard deviations (Wang et al. 2004 use 11 voxels at sigma 1.5)
SSIM_TRUNCATE = 3.5


@dataclass(frozen=True)
class Value:
    """A metric's value, or NaN with the reason why it is missing."""

    number: float
    reason: str = ""


def missing_because(image: np.ndarray, reference: np.ndarray, inside: np.ndarray) -> str:
    """Why two images cannot be compared in a region, or an empty string."""
    if inside.sum() < 2:
        return "empty region"
    if not (np.isfinite(image[inside]).all() and np.isfinite(reference[inside]).all()):
        return "values that are not finite"
    if np.ptp(image[inside]) == 0:
        return "constant image"
    if np.ptp(reference[inside]) == 0:
        return "constant reference"
    return ""


def spearman(image: np.ndarray, reference: np.ndarray, inside: np.ndarray) -> Value:
    """Spearman's rank correlation over the voxels of a region (ties take mean ranks)."""
    reason = missing_because(image, reference, inside)
    if reason:
        return Value(np.nan, reason)
    ranks = [rankdata(values[inside]) for values in (image, reference)]
    return Value(float(np.corrcoef(*ranks)[0, 1]))


def ssim(
    image: np.ndarray,
    reference: np.ndarray,
    inside: np.ndarray,
    *,
    sigma_voxels: float,
    data_range: float,
    k1: float,
    k2: float,
) -> Value:
    """Structural similarity (Wang et al. 2004, IEEE TIP 13:600), three-dimensional, averaged in a region.

    The Gaussian window is cut off at the region's border and renormalised, so that voxels outside it count nowhere;
    variances are the window's population variances.
    """
    reason = missing_because(image, reference, inside)
    if reason:
        return Value(np.nan, reason)
    x, y = (np.where(inside, values, 0).astype(np.float64) for values in (image, reference))

    def blur(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, sigma_voxels, mode="constant", truncate=SSIM_TRUNCATE)

    weight = blur(inside.astype(np.float64))
    weight = np.where(inside, weight, 1.0)
    mean_x, mean_y = blur(x) / weight, blur(y) / weight
    variance_x = np.maximum(blur(x * x) / weight - mean_x**2, 0)
    variance_y = np.maximum(blur(y * y) / weight - mean_y**2, 0)
    covariance = blur(x * y) / weight - mean_x * mean_y
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return Value(float(similarity[inside].mean()))


@dataclass(frozen=True)
class Overlap:
    """Overlap of a functional region of an image and of its reference, as voxel fractions of the lungs."""

    dice: Value
    chance: Value
    image_fraction: float
    reference_fraction: float


def functional_overlap(
    image: np.ndarray, reference: np.ndarray, inside: np.ndarray, percentile: float, *, low: bool
) -> Overlap:
    """Dice of low or high function, each image cut at its own percentile in the lungs.

    Low function lies at or below the percentile, high function above it. Dice expected by chance is that of two
    independent regions of the same sizes a and b (as fractions): `2ab / (a + b)`.
    """
    reason = missing_because(image, reference, inside)
    if reason:
        return Overlap(Value(np.nan, reason), Value(np.nan, reason), np.nan, np.nan)
    regions = []
    for values in (image[inside], reference[inside]):
        cut = np.percentile(values, percentile)
        regions.append(values <= cut if low else values > cut)
    a, b = (float(region.mean()) for region in regions)
    if a + b == 0:
        return Overlap(Value(np.nan, "both regions are empty"), Value(np.nan, "both regions are empty"), a, b)
    return Overlap(Value(dice(*regions)), Value(2 * a * b / (a + b)), a, b)

"""Voxel-wise agreement of two images in a region."""

from __future__ import annotations

import numpy as np

from ct2vq.metrics.value import RegionValues, Value, missing, missing_because


def spearman(image: RegionValues, reference: RegionValues) -> Value:
    """Spearman's rank correlation over the voxels of a region (ties take mean ranks)."""
    reason = missing_because(image, reference)
    return missing(reason) if reason else Value(_cosine(image.centred_ranks, reference.centred_ranks))


def pearson(image: RegionValues, reference: RegionValues) -> Value:
    """Pearson's product-moment correlation over the voxels of a region."""
    reason = missing_because(image, reference)
    return missing(reason) if reason else Value(_cosine(image.centred, reference.centred))


def mae(image: RegionValues, reference: RegionValues) -> Value:
    """Mean absolute error over the voxels of a region, in the images' unit."""
    reason = missing_because(image, reference)
    return missing(reason) if reason else Value(float(np.abs(image.values - reference.values).mean()))


def rmse(image: RegionValues, reference: RegionValues) -> Value:
    """Root of the mean squared error over the voxels of a region, in the images' unit."""
    reason = missing_because(image, reference)
    return missing(reason) if reason else Value(float(np.sqrt(_mean_square(image, reference))))


def psnr(image: RegionValues, reference: RegionValues, *, data_range: float) -> Value:
    """Peak signal-to-noise ratio in dB, `10 log10(range^2 / MSE)`, over the voxels of a region.

    Args:
        image: the image.
        reference: what it is compared with.
        data_range: one range for the whole cohort; each image's own maximum would reward a hot spot.
    """
    reason = missing_because(image, reference)
    if reason:
        return missing(reason)
    error = _mean_square(image, reference)
    return Value(float(10 * np.log10(data_range**2 / error))) if error else missing("identical images: infinite")


def _mean_square(image: RegionValues, reference: RegionValues) -> float:
    return float(np.square(image.values - reference.values).mean())


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    # sums by numpy, not by BLAS, whose threads would change the last bit
    scale = np.sqrt(np.square(a).sum()) * np.sqrt(np.square(b).sum())
    return float(np.clip((a * b).sum() / scale, -1.0, 1.0))

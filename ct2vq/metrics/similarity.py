"""Structural similarity (SSIM; Wang et al. 2004, IEEE TIP 13:600), three-dimensional, in a region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct2vq.lungs import bounding_box
from ct2vq.metrics.value import RegionValues, Value, missing, missing_because

#: extent of the Gaussian window in standard deviations (Wang et al. 2004 use 11 voxels at sigma 1.5)
SSIM_TRUNCATE = 3.5


@dataclass(frozen=True)
class LocalMoments:
    """An image as SSIM sees it in one region.

    Attributes:
        image: the image in the region's box, 0 outside the region.
        mean: the window's mean around each voxel of the region.
        variance: the window's population variance.
        values: the image's values in the region.
    """

    image: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    values: RegionValues


class SsimRegion:
    """A region in which many images are compared: each image's moments are computed once.

    The Gaussian window is cut off at the region's border and renormalised, so that voxels outside it count nowhere.
    """

    def __init__(self, inside: np.ndarray, sigma_voxels: float) -> None:
        """Prepare a region.

        Args:
            inside: the region, booleans `(z, y, x)`.
            sigma_voxels: standard deviation of the Gaussian window in voxels.
        """
        self.box = bounding_box(inside) if inside.any() else (slice(0, 1),) * 3
        self.inside = inside[self.box]
        self._windows = [gaussian_window(length, sigma_voxels) for length in self.inside.shape]
        self.weight = self._blur(self.inside.astype(np.float64))[self.inside]

    def moments(self, image: np.ndarray, values: RegionValues | None = None) -> LocalMoments:
        """The moments of an image `(z, y, x)`; its `values` in the region are read from it where not given."""
        cut = np.where(self.inside, image[self.box], 0).astype(np.float64)
        mean = self.average(cut)
        variance = np.maximum(self.average(cut * cut) - mean**2, 0)
        return LocalMoments(cut, mean, variance, values or RegionValues.of(cut, self.inside))

    def average(self, cut: np.ndarray) -> np.ndarray:
        """The window's mean of an array in the region's box, around each voxel of the region."""
        return self._blur(cut)[self.inside] / self.weight

    def _blur(self, cut: np.ndarray) -> np.ndarray:
        # products with small matrices: twice as fast as a convolution at these sizes
        z, y, x = self._windows
        along_z = (z @ cut.reshape(len(cut), -1)).reshape(cut.shape)
        return np.matmul(np.matmul(y, along_z), x)

    def compare(self, x: LocalMoments, y: LocalMoments, *, data_range: float, k1: float, k2: float) -> Value:
        """SSIM averaged over the voxels of the region.

        Args:
            x: moments of the image in this region.
            y: moments of its reference.
            data_range: one range for the whole cohort.
            k1: constant of the term of means.
            k2: constant of the term of variances.
        """
        reason = missing_because(x.values, y.values)
        return missing(reason) if reason else Value(float(self.similarity(x, y, data_range, k1, k2).mean()))

    def similarity(self, x: LocalMoments, y: LocalMoments, data_range: float, k1: float, k2: float) -> np.ndarray:
        """SSIM around each voxel of the region, in the order of `image[inside]`; arguments as in `compare`."""
        covariance = self.average(x.image * y.image) - x.mean * y.mean
        c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
        similarity = (2 * x.mean * y.mean + c1) * (2 * covariance + c2)
        return similarity / ((x.mean**2 + y.mean**2 + c1) * (x.variance + y.variance + c2))


def gaussian_window(length: int, sigma: float) -> np.ndarray:
    """The matrix that blurs a line of voxels; beyond its ends there is nothing.

    Args:
        length: number of voxels of the line.
        sigma: standard deviation in voxels; the window ends at `SSIM_TRUNCATE` of them and sums to 1.

    Returns:
        Symmetric array `(length, length)`.
    """
    reach = int(SSIM_TRUNCATE * sigma + 0.5)
    shape = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    shape /= shape.sum()
    offset = np.subtract.outer(np.arange(length), np.arange(length))
    return np.where(np.abs(offset) <= reach, shape[np.clip(offset + reach, 0, 2 * reach)], 0.0)

"""Where the activity lies against a pair of lungs, by the images alone: what headers say is checked against it.

A SPECT without its defects, hot spots and gradients is a blurred picture of the lungs. Its counts are therefore cut off
at half of what well supplied lung shows, and the shift is sought that brings the result closest to the blurred lungs.
Closeness is the normalised cross-correlation in a window round the lungs, for all shifts at once by Fourier transforms
(Padfield, IEEE Trans Image Process 2012;21:2706).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.lungs import grid_around
from ct2vq.volume import resample, to_array

#: resolution of a lung SPECT, breathing included: the lungs are blurred to it
SPECT_FWHM_MM = 14.0
FWHM_PER_SIGMA = 2.3548
SPACING_MM = 6.0
SEARCH_MM = 48.0
#: the window of the correlation reaches this far beyond the lungs: their edge is what tells where they are
WINDOW_MM = 24.0
#: counts are cut off at this share of the upper quartile in the lungs, so that half supplied lung counts as lung
SATURATION = 0.5
WELL_SUPPLIED_PERCENTILE = 75
#: a shift that gains less than this is the breadth of a flat optimum, no displacement
WORTHWHILE_GAIN = 0.02


@dataclass(frozen=True)
class Content:
    """How well activity and lungs agree as they lie, and how they would after the best shift.

    Attributes:
        shift_mm: from the lungs to the activity (LPS).
        agreement: normalised cross-correlation as they lie, -1 to 1.
        agreement_shifted: the same after the shift.
    """

    shift_mm: tuple[float, float, float]
    agreement: float
    agreement_shifted: float

    @property
    def gain(self) -> float:
        """What the shift adds to the agreement."""
        return self.agreement_shifted - self.agreement

    @property
    def distance_mm(self) -> float:
        """Length of the shift; 0 if it gains nothing."""
        return float(np.linalg.norm(self.shift_mm)) if self.gain >= WORTHWHILE_GAIN else 0.0

    def record(self) -> dict[str, Any]:
        """The figures for `qc.json`."""
        return {
            "content_shift_mm": self.distance_mm,
            "content_shift_vector_mm": list(self.shift_mm),
            "content_agreement": self.agreement,
            "content_agreement_shifted": self.agreement_shifted,
        }


def compare_content(
    spects: Sequence[sitk.Image], lungs: sitk.Image, transform: sitk.Transform | None = None
) -> Content:
    """Compare the activity of SPECT images with a pair of lungs.

    Args:
        spects: images that lie to each other as scanned; their saturated counts are added up.
        lungs: labels, any grid.
        transform: maps points of the lungs to points of the SPECT (mm, LPS); identity if None.
    """
    grid = grid_around(lungs, SPACING_MM, SEARCH_MM)
    share = to_array(resample(sitk.Cast(lungs > 0, sitk.sitkFloat32), grid))
    blurred = ndimage.gaussian_filter(share, SPECT_FWHM_MM / FWHM_PER_SIGMA / SPACING_MM)
    inside = blurred > 0.5
    window = ndimage.distance_transform_edt(~inside) <= WINDOW_MM / SPACING_MM
    activity = sum(_saturated(spect, grid, transform, inside) for spect in spects)
    return _best_shift(_correlation(blurred, window, activity))


def _saturated(spect: sitk.Image, grid: sitk.Image, transform: sitk.Transform | None, inside: np.ndarray) -> np.ndarray:
    counts = np.maximum(to_array(resample(sitk.Cast(spect, sitk.sitkFloat32), grid, transform)), 0)
    supplied = float(np.percentile(counts[inside], WELL_SUPPLIED_PERCENTILE)) if inside.any() else 0.0
    # a SPECT that lies quite elsewhere has no counts in the lungs
    return saturate(counts, supplied if supplied > 0 else float(counts.max()))


def saturate(counts: np.ndarray, supplied: float) -> np.ndarray:
    """Counts relative to what passes for lung, 0 to 1, by those of well supplied lung; as they are if these are 0."""
    return np.minimum(counts / (SATURATION * supplied), 1) if supplied > 0 else counts


def well_supplied(counts: np.ndarray, lung_voxels: int) -> float:
    """Counts of well supplied lung wherever it lies: the upper quartile of as many of the hottest voxels as lungs have.

    Args:
        counts: a whole SPECT.
        lung_voxels: how many of its voxels would fill the CT's lungs.
    """
    number = min(max(lung_voxels, 1), counts.size)
    return float(np.percentile(np.partition(counts.ravel(), -number)[-number:], WELL_SUPPLIED_PERCENTILE))


def _correlation(lungs: np.ndarray, window: np.ndarray, activity: np.ndarray) -> np.ndarray:
    """Correlation in the window for every cyclic shift of the activity, `(z, y, x)`, no shift at index 0."""

    def correlate(kernel: np.ndarray, image: np.ndarray) -> np.ndarray:
        return np.fft.irfftn(np.conj(np.fft.rfftn(kernel)) * np.fft.rfftn(image), image.shape, (0, 1, 2))

    number = window.sum()
    template = np.where(window, lungs - lungs[window].mean(), 0)
    mask = window.astype(float)
    mean = correlate(mask, activity) / number
    variance = np.maximum(correlate(mask, activity**2) / number - mean**2, 1e-9)
    spread = np.sqrt((template**2).sum() / number * variance)
    return correlate(template, activity) / number / np.maximum(spread, 1e-9)


def _best_shift(correlation: np.ndarray) -> Content:
    """The shift of highest correlation within the search range, refined by a parabola along each axis."""
    reach = min(int(SEARCH_MM / SPACING_MM) - 1, (min(correlation.shape) - 1) // 2)
    around = np.arange(-reach, reach + 1)
    near = correlation[np.ix_(around, around, around)]
    peak = np.array(np.unravel_index(near.argmax(), near.shape))
    shift = [(position - reach + _offset(near, peak, axis)) * SPACING_MM for axis, position in enumerate(peak)]
    return Content(tuple(float(v) for v in reversed(shift)), float(correlation[0, 0, 0]), float(near.max()))


def _offset(near: np.ndarray, peak: np.ndarray, axis: int) -> float:
    """Where the parabola through the peak and its two neighbours has its vertex, in voxels from the peak."""
    if not 0 < peak[axis] < near.shape[axis] - 1:
        return 0.0
    step = np.eye(3, dtype=int)[axis]
    before, here, after = (near[tuple(peak + sign * step)] for sign in (-1, 0, 1))
    curvature = before - 2 * here + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0

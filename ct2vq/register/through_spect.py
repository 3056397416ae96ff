"""Without an attenuation CT: rigid, on the SPECT images against the CT's lungs blurred to their resolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.config import TARGETS
from ct2vq.lungs import grid_around, resample_smoothed
from ct2vq.register.engine import run_ants
from ct2vq.volume import from_array, resample, to_array

#: resolution of the SPECT that the lung mask is blurred to
SPECT_FWHM_MM = 12.0
FWHM_PER_SIGMA = 2.3548


def register_through_spect(
    images: Mapping[str, sitk.Image], settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform]:
    """Rigid, on the sum of the SPECT images (each scaled by its own mean) against the lungs blurred to SPECT.

    The sum is on the grid of the first.
    """
    grid = grid_around(images["ct_lungs"], settings["spacing_mm"], 2 * settings["margin_mm"])
    mask = to_array(resample_smoothed(images["ct_lungs"] > 0, grid, outside=0))
    sigma = SPECT_FWHM_MM / FWHM_PER_SIGMA / settings["spacing_mm"]
    fixed = from_array(ndimage.gaussian_filter(mask, sigma), grid)
    spects = [sitk.Cast(images[name], sitk.sitkFloat32) for name in images if name in TARGETS]
    reference = spects[0]
    total = sum(to_array(resample(spect, reference)) / max(float(to_array(spect).mean()), 1e-9) for spect in spects)
    moving = from_array(np.minimum(total, np.percentile(total, 99.5)).astype(np.float32), reference)
    return run_ants(fixed, moving, None, None, ["Rigid"], settings, seed)

"""Without an attenuation CT: on the SPECT images against the CT's lungs blurred to their resolution.

Rigid unless the study asks for more. Anything softer may take a defect at the border of the lung for motion: the
deformable kind is therefore held stiff, and docs/registration.md tells what it still does to defects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.lungs import grid_around, resample_smoothed
from ct2vq.register.content import FWHM_PER_SIGMA, SPECT_FWHM_MM, saturate, well_supplied
from ct2vq.register.engine import run_ants
from ct2vq.register.frames import spects_of
from ct2vq.volume import from_array, resample, to_array, voxel_volume_ml

STAGES = {"rigid": ["Rigid"], "affine": ["Rigid", "Affine"], "deformable": ["Rigid", "Affine", "SyNOnly"]}


def register_through_spect(
    images: Mapping[str, sitk.Image], settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform]:
    """Register the blurred lungs to the sum of the SPECT images, on the first one's grid.

    Counts are cut off at half of what well supplied lung shows, as `ct2vq.register.content` does: hot spots and
    gradients would draw the fit, and half supplied lung is lung.

    Args:
        images: `ct_lungs` and the SPECT images, which share a frame of reference.
        settings: config block `register`; `without_attenuation_ct` names the last stage.
        seed: seed of ANTs' random sampling.

    Returns:
        The transforms of points from CT to SPECT and back.
    """
    kind = settings["without_attenuation_ct"]
    grid = grid_around(images["ct_lungs"], settings["spacing_mm"], 2 * settings["margin_mm"])
    share = to_array(resample_smoothed(images["ct_lungs"] > 0, grid, outside=0))
    sigma = SPECT_FWHM_MM / FWHM_PER_SIGMA / settings["spacing_mm"]
    fixed = from_array(ndimage.gaussian_filter(share, sigma), grid)
    mask = _near_lungs(share, grid, settings) if kind == "deformable" else None
    stiff = settings | settings["without_attenuation_ct_smoothing"]
    return run_ants(fixed, _activity(images), mask, None, STAGES[kind], stiff, seed)


def _near_lungs(share: np.ndarray, grid: sitk.Image, settings: Mapping[str, Any]) -> sitk.Image:
    """The lungs with the margin that the deformable metric is computed in."""
    distance = ndimage.distance_transform_edt(share < 0.5) * grid.GetSpacing()[0]
    return from_array((distance <= settings["lung_margin_mm"]).astype(np.float32), grid)


def _activity(images: Mapping[str, sitk.Image]) -> sitk.Image:
    lungs = images["ct_lungs"]
    lung_ml = np.count_nonzero(to_array(lungs)) * voxel_volume_ml(lungs)
    spects = [_saturated(sitk.Cast(image, sitk.sitkFloat32), lung_ml) for image in spects_of(images)]
    total = sum(to_array(resample(spect, spects[0])) for spect in spects)
    return from_array(total.astype(np.float32), spects[0])


def _saturated(spect: sitk.Image, lung_ml: float) -> sitk.Image:
    counts = np.maximum(to_array(spect), 0)
    supplied = well_supplied(counts, round(lung_ml / voxel_volume_ml(spect)))
    return from_array(saturate(counts, supplied), spect)

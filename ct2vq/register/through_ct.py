"""CT to attenuation CT: the camera's own CT shows where the lungs were while the SPECT was taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.lungs import grid_around, resample_labels, resample_smoothed
from ct2vq.register.engine import run_ants
from ct2vq.volume import from_array, to_array

#: lung, water and soft tissue guide the registration; bone and metal beyond this would dominate a squared difference
HU_RANGE = (-1000.0, 200.0)
AIR_HU = -1000.0


def register_through_ct(
    images: Mapping[str, sitk.Image], settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform]:
    """CT to attenuation CT: lungs' centres, then rigid, affine and SyN round the lungs."""
    fixed, fixed_mask = _prepared(images["ct"], images["ct_lungs"], settings)
    moving, moving_mask = _prepared(images["attenuation_ct"], images["attenuation_ct_lungs"], settings)
    stages = {"rigid": ["Rigid"], "affine": ["Rigid", "Affine"], "deformable": ["Rigid", "Affine", "SyNOnly"]}
    return run_ants(fixed, moving, fixed_mask, moving_mask, stages[settings["transform"]], settings, seed)


def _prepared(ct: sitk.Image, lungs: sitk.Image, settings: Mapping[str, Any]) -> tuple[sitk.Image, sitk.Image]:
    """The region round the lungs at the registration's resolution, HU limited, and the dilated lungs as its mask."""
    grid = grid_around(lungs, settings["spacing_mm"], settings["margin_mm"])
    region = np.clip(to_array(resample_smoothed(ct, grid, outside=AIR_HU)), *HU_RANGE).astype(np.float32)
    labels = to_array(resample_labels(lungs, grid)) > 0
    reach = settings["lung_margin_mm"] / settings["spacing_mm"]
    mask = ndimage.distance_transform_edt(~labels) <= reach
    return from_array(region, grid), from_array(mask.astype(np.float32), grid)

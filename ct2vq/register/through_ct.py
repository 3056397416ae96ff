"""CT to attenuation CT: the camera's own CT shows where the lungs were while the SPECT was taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.fields import as_transform, displacements, grid_over, inverse_of
from ct2vq.lungs import grid_around, resample_labels, resample_smoothed
from ct2vq.register.engine import run_ants
from ct2vq.register.search import search_displacement, unfolded
from ct2vq.volume import from_array, resample, to_array

#: lung, water and soft tissue guide the registration; bone and metal beyond this would dominate a squared difference
HU_RANGE = (-1000.0, 200.0)
AIR_HU = -1000.0
#: beyond this distance from the lungs' surface all voxels look the same to the linear stages, mm
SURFACE_REACH_MM = 15.0
LINEAR = {"rigid": ["Rigid"], "affine": ["Rigid", "Affine"], "deformable": ["Rigid", "Affine"]}


def register_through_ct(
    images: Mapping[str, sitk.Image], settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform]:
    """CT to attenuation CT: rigid, affine, a search inside each lung, SyN round the lungs.

    The attenuation CT is carried through what was found so far before SyN begins, so that SyN only adds what is left;
    both displacements become one.

    Args:
        images: `ct`, `ct_lungs`, `attenuation_ct`, `attenuation_ct_lungs`.
        settings: config block `register`.
        seed: seed of ANTs' random sampling.

    Returns:
        The transforms of points from CT to attenuation CT and back.
    """
    start, back = _linear(images, settings, seed)
    if settings["transform"] != "deformable":
        return start, back
    grid = grid_over(images["ct"], settings["field_spacing_mm"])
    if settings["search"]["levels"]:
        start = as_transform(search_displacement(images, start, settings["search"], settings["field_spacing_mm"]))
    found = unfolded(displacements(_refined(images, start, settings, seed), grid), images["ct_lungs"])
    other = grid_over(images["attenuation_ct"], settings["field_spacing_mm"])
    return as_transform(found), as_transform(inverse_of(found, other))


def _linear(
    images: Mapping[str, sitk.Image], settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform]:
    """Rigid and affine, guided by the lungs' surfaces or by intensity."""
    regions = [
        _prepared(images[ct], images[f"{ct}_lungs"], settings, settings["linear_spacing_mm"], settings["linear_guide"])
        for ct in ("ct", "attenuation_ct")
    ]
    (fixed, fixed_mask), (moving, moving_mask) = regions
    metric = "meansquares" if settings["linear_guide"] == "surfaces" else "mattes"
    stages = LINEAR[settings["transform"]]
    return run_ants(fixed, moving, fixed_mask, moving_mask, stages, {**settings, "linear_metric": metric}, seed)


def _refined(
    images: Mapping[str, sitk.Image], start: sitk.Transform, settings: Mapping[str, Any], seed: int
) -> sitk.Transform:
    """SyN between the CT and the attenuation CT as `start` carries it, after `start`."""
    if not any(settings["deformable_iterations"]):
        return start
    fixed, fixed_mask = _prepared(images["ct"], images["ct_lungs"], settings, settings["spacing_mm"], "intensity")
    carried = resample(images["attenuation_ct"], fixed, start, outside=AIR_HU)
    lungs = resample(images["attenuation_ct_lungs"], fixed, start, linear=False)
    moving = from_array(np.clip(to_array(carried), *HU_RANGE).astype(np.float32), fixed)
    moving_mask = _near(to_array(lungs) > 0, fixed, settings["lung_margin_mm"])
    added, _ = run_ants(fixed, moving, fixed_mask, moving_mask, ["SyNOnly"], settings, seed, aligned=True)
    return sitk.CompositeTransform([start, added])


def _prepared(
    ct: sitk.Image, lungs: sitk.Image, settings: Mapping[str, Any], spacing_mm: float, guide: str
) -> tuple[sitk.Image, sitk.Image]:
    """The region round the lungs at the registration's resolution, and the dilated lungs as its mask.

    What guides is the HU, limited (`intensity`), or the depth under the lungs' surface (`surfaces`), which a change of
    the lungs' density leaves alone.
    """
    grid = grid_around(lungs, spacing_mm, settings["margin_mm"])
    labels = to_array(resample_labels(lungs, grid)) > 0
    mask = _near(labels, grid, settings["lung_margin_mm"])
    if guide == "surfaces":
        depth = ndimage.distance_transform_edt(labels) - ndimage.distance_transform_edt(~labels)
        region = np.clip(depth * spacing_mm, -SURFACE_REACH_MM, SURFACE_REACH_MM)
    else:
        region = np.clip(to_array(resample_smoothed(ct, grid, outside=AIR_HU)), *HU_RANGE)
    return from_array(region.astype(np.float32), grid), mask


def _near(labels: np.ndarray, grid: sitk.Image, margin_mm: float) -> sitk.Image:
    """The lungs with a margin, as a mask for ANTs."""
    return from_array(
        (ndimage.distance_transform_edt(~labels) * grid.GetSpacing()[0] <= margin_mm).astype(np.float32), grid
    )

"""How far a registration is from the known truth: figures of one case.

*Target registration error* (TRE): the distance in mm between where the registration puts a point of the CT's lung and
where it truly lies; over all lung voxels, over those near the diaphragm, and at landmarks.

*Preserved defect volume*, twice, on the CT's grid. `label`: the true label of a defect, drawn in the other state,
carried onto the CT by the registration and counted in the CT's true lungs, over the same label carried by the true
displacement: both pass through the same grids. It says whether the transform shrinks a defect. `image`: the noise-free
image at the SPECT's resolution carried as a study's SPECT is (one linear interpolation), counted below a threshold in
the defect's neighbourhood within the lungs, over the same count with the true displacement; it says what a reader or a
metric sees. The threshold lies halfway between the defect's mean and that of the healthy lung round it, both in the
image carried by the truth: both counts use the same one, and the image's own blur is in both and cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.fields import displacements
from ct2vq.lungs import dice, fill_from_inside
from ct2vq.volume import resample, to_array, voxel_volume_ml
from registration.cases import DEFECT_ML, BenchmarkCase, pull_image

#: lung so near a defect is its neighbourhood: about the SPECT's resolution
NEIGHBOURHOOD_MM = 15.0
#: a defect counts in the image only if it is this much darker than its neighbourhood
LEAST_CONTRAST = 0.2


def evaluate(forward: sitk.Transform, inverse: sitk.Transform | None, case: BenchmarkCase) -> dict[str, Any]:
    """Figures of a registration of one case.

    Args:
        forward: points of the CT (mm, LPS) to points of the attenuation CT.
        inverse: the way back, or None where a program gives none.
        case: the case.

    Returns:
        `lung_dice_true`, `lung_dice_segmented`, `lung_dice_mixed` (the true lungs on both sides: the registration
        alone; the segmented ones: what a study without truth sees; true lungs of the CT, segmented ones of the other),
        `folding_percent`, `jacobian_min`, `inverse_mean`, `inverse_p95` (mm), and for each reference of
        the case `truth_<reference>`: `tre_mean`, `tre_p95`, `tre_diaphragm_mean`, `tre_diaphragm_p95`,
        `landmarks_mean`, `landmarks_p95` (mm) and `defects`: a list of `true_ml`, `label_ratio`, `image_ratio`.
    """
    field = displacements(forward, case.lungs)
    found, inside = to_array(field), case.inside
    jacobian = to_array(sitk.DisplacementFieldJacobianDeterminant(field))[inside]
    figures: dict[str, Any] = {
        **_lung_dice(forward, case),
        "folding_percent": float((jacobian <= 0).mean() * 100),
        "jacobian_min": float(jacobian.min()),
    }
    if inverse is not None:
        back = to_array(displacements(sitk.CompositeTransform([inverse, forward]), case.lungs))
        figures |= _mean_and_p95("inverse", np.linalg.norm(back, axis=-1)[inside])
    for reference, true in case.truths.items():
        figures[f"truth_{reference}"] = {
            **_errors(np.linalg.norm(found - true, axis=-1), case),
            **_landmark_errors(forward, case, reference),
            "defects": list(_defect_volumes(forward, case, reference)),
        }
    return figures


def _mean_and_p95(name: str, values: np.ndarray) -> dict[str, float]:
    return {f"{name}_mean": float(values.mean()), f"{name}_p95": float(np.percentile(values, 95))}


def _lung_dice(forward: sitk.Transform, case: BenchmarkCase) -> dict[str, float]:
    """Overlap of the CT's lungs with those of the attenuation CT, carried onto the grid of measurement."""

    def here(name: str, transform: sitk.Transform | None = None) -> np.ndarray:
        return to_array(resample(case.images[name], case.lungs, transform, linear=False)) > 0

    segmented = here("attenuation_ct_lungs", forward)
    true = to_array(resample(case.lungs_there, case.lungs, forward, linear=False)) > 0
    return {
        "lung_dice_true": dice(case.inside, true),
        "lung_dice_segmented": dice(here("ct_lungs"), segmented),
        "lung_dice_mixed": dice(case.inside, segmented),
    }


def _errors(distance: np.ndarray, case: BenchmarkCase) -> dict[str, float]:
    """TRE in the lungs and near the diaphragm."""
    low = case.near_diaphragm
    return _mean_and_p95("tre", distance[case.inside]) | _mean_and_p95("tre_diaphragm", distance[low])


def _landmark_errors(forward: sitk.Transform, case: BenchmarkCase, reference: str) -> dict[str, float]:
    """TRE at the landmarks; nothing where there are none."""
    if case.landmarks.empty:
        return {}
    here, there = (
        case.landmarks[[f"{axis}_{state}_mm" for axis in "xyz"]].to_numpy(dtype=float) for state in ("ct", reference)
    )
    found = np.array([forward.TransformPoint(point) for point in here.tolist()])
    return _mean_and_p95("landmarks", np.linalg.norm(found - there, axis=1))


def _defect_volumes(forward: sitk.Transform, case: BenchmarkCase, reference: str) -> Iterator[dict[str, float]]:
    """The ratios of volume of each defect; `image_ratio` only where the image shows the defect."""
    if case.defects is None or not to_array(case.defects).any():
        return
    labels, ml, inside = to_array(case.defects), voxel_volume_ml(case.defects), case.inside
    truth = true_transform(case, reference)
    warped, expected = (
        to_array(resample(case.defects_there[reference], case.lungs, way, linear=False)) for way in (forward, truth)
    )
    image = case.perfusion_there[reference]
    seen = to_array(resample(image, case.lungs, forward))
    due = to_array(resample(image, case.lungs, truth))
    for number in range(1, int(labels.max()) + 1):
        here = labels == number
        yield {
            "true_ml": float(here.sum() * ml),
            "label_ratio": float((warped == number)[inside].sum() / (expected == number)[inside].sum()),
            **_thresholded(seen, due, here, labels == 0, case),
        }


def _thresholded(
    seen: np.ndarray, due: np.ndarray, defect: np.ndarray, healthy: np.ndarray, case: BenchmarkCase
) -> dict[str, float]:
    """Volume under the threshold round a defect: by the registration over by the truth."""
    distance = ndimage.distance_transform_edt(~defect, case.lungs.GetSpacing()[::-1])
    near = (distance <= NEIGHBOURHOOD_MM) & case.inside
    beside = near & healthy
    if not beside.any():
        return {}
    inner, outer = float(due[defect].mean()), float(due[beside].mean())
    expected = int((due[near] < (inner + outer) / 2).sum())
    if outer - inner < LEAST_CONTRAST * outer or expected * voxel_volume_ml(case.lungs) < DEFECT_ML:
        return {}
    return {"image_ratio": float((seen[near] < (inner + outer) / 2).sum() / expected)}


def true_transform(case: BenchmarkCase, reference: str) -> sitk.Transform:
    """The true displacement as a transform; outside the lungs that of the nearest lung."""
    inside = case.inside
    values = np.stack([fill_from_inside(case.truths[reference][..., i], inside) for i in range(3)], axis=-1)
    return sitk.DisplacementFieldTransform(pull_image(values, case.lungs))

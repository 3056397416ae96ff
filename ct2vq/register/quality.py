"""How good a registration is, without knowing the truth: figures and flags. A case is flagged, never dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.fields import as_transform, grid_of, inverse_error
from ct2vq.lungs import dice, resample_labels
from ct2vq.volume import resample, to_array


def measure_quality(
    images: Mapping[str, sitk.Image], forward: sitk.Image, inverse: sitk.Image, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Figures of quality in the CT's lungs, and flags; a case is flagged, never dropped."""
    through_ct = "attenuation_ct" in images
    inside = to_array(resample_labels(images["ct_lungs"], grid_of(forward))) > 0
    jacobian = to_array(sitk.DisplacementFieldJacobianDeterminant(forward))[inside]
    error = inverse_error(forward, inverse, inside)
    record: dict[str, Any] = {
        "method": f"{settings['transform']} through the attenuation CT" if through_ct else "rigid on the SPECT images",
        "dice_before": None,
        "dice_after": None,
        "jacobian_min": float(jacobian.min()),
        "jacobian_max": float(jacobian.max()),
        "folding_percent": float((jacobian <= 0).mean() * 100),
        "inverse_consistency_mean_mm": float(error.mean()),
        "inverse_consistency_p95_mm": float(np.percentile(error, 95)),
        "displacement_mean_mm": float(np.linalg.norm(to_array(forward), axis=-1)[inside].mean()),
    }
    if through_ct:
        record["dice_before"] = _lung_dice(images, None)
        record["dice_after"] = _lung_dice(images, as_transform(forward))
    record["flags"] = _flags(record, settings)
    return record


def _flags(record: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    flags = []
    if record["dice_after"] is None:
        flags.append("no attenuation CT: rigid only, breathing motion at the diaphragm is not corrected")
    elif record["dice_after"] < settings["dice_flag"]:
        flags.append(f"lung Dice {record['dice_after']:.3f} after registration, below {settings['dice_flag']}")
    if record["folding_percent"] > 0:
        flags.append(f"{record['folding_percent']:.2f} % of the lungs are folded")
    return flags


def _lung_dice(images: Mapping[str, sitk.Image], transform: sitk.Transform | None) -> float:
    """Dice of the lungs of both CTs on the CT's grid."""
    moved = resample(images["attenuation_ct_lungs"], images["ct_lungs"], transform, linear=False)
    return dice(to_array(images["ct_lungs"]) > 0, to_array(moved) > 0)

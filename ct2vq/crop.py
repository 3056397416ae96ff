"""Stage `crop`: from volumes in patient space to what a network reads, and the way back.

The network's grid is isotropic, along the patient's axes, round the lungs with a margin. The CT is averaged onto it;
the SPECT is interpolated once, from its own grid through the registration's transform.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.errors import Ct2vqError
from ct2vq.fields import read_transform
from ct2vq.files import write_json
from ct2vq.lungs import grid_around, resample_labels, resample_smoothed
from ct2vq.volume import from_array, read_volume, require_same_grid, resample, to_array, voxel_volume_ml, write_volume

AIR_HU = -1000.0
#: a standardised density beyond this many interquartile ranges is a vessel, a wall or an artefact
ENHANCED_LIMIT = 3.0


def crop_ct(
    ct: sitk.Image, lungs: sitk.Image, settings: Mapping[str, Any]
) -> tuple[sitk.Image, sitk.Image, sitk.Image, dict[str, Any]]:
    """The CT on the network's grid.

    Args:
        ct: CT in HU.
        lungs: labels on the CT's grid (1 right, 2 left).
        settings: config block `crop`.

    Returns:
        CT in HU, enhanced CT and lung labels on the network's grid, and a record of what was done.

    Raises:
        GeometryError: the grids of CT and labels differ, or there are no lungs.
    """
    require_same_grid(ct, lungs, "ct", "lungs")
    grid = grid_around(lungs, settings["spacing_mm"], settings["margin_mm"], settings["multiple"])
    small_lungs = resample_labels(lungs, grid)
    small_ct = resample_smoothed(ct, grid, outside=AIR_HU)
    hu, inside = to_array(small_ct), to_array(small_lungs) > 0
    if not inside.any():
        raise Ct2vqError(f"no lung is left at {settings['spacing_mm']} mm", key="crop.spacing_mm", hint="lower it")
    quartiles = [float(q) for q in np.percentile(hu[inside], [25, 50, 75])]
    enhanced = from_array(enhance(hu, inside, settings["enhance"]), small_ct)
    record = {
        "size": grid.GetSize(),
        "spacing_mm": grid.GetSpacing(),
        "origin_mm": grid.GetOrigin(),
        "direction": grid.GetDirection(),
        "ct_size": ct.GetSize(),
        "ct_spacing_mm": ct.GetSpacing(),
        "ct_origin_mm": ct.GetOrigin(),
        "ct_direction": ct.GetDirection(),
        "lung_volume_ml": float(inside.sum() * voxel_volume_ml(grid)),
        "lung_quartiles_hu": quartiles,
        "enhance": settings["enhance"],
        "window_hu": settings["window_hu"],
    }
    return small_ct, enhanced, small_lungs, record


def enhance(hu: np.ndarray, inside: np.ndarray, method: str) -> np.ndarray:
    """Contrast enhancement inside the lungs.

    Args:
        hu: CT `(z, y, x)` in HU.
        inside: the lungs.
        method: `lung_standardised` (difference from the lungs' median in interquartile ranges, limited to
            +-`ENHANCED_LIMIT`, which inflation and calibration leave alone) or `none` (zeros).

    Returns:
        float32 `(z, y, x)`, 0 outside the lungs.
    """
    if method == "none":
        return np.zeros_like(hu, dtype=np.float32)
    low, middle, high = np.percentile(hu[inside], [25, 50, 75])
    standardised = np.clip((hu - middle) / max(high - low, 1.0), -ENHANCED_LIMIT, ENHANCED_LIMIT)
    return np.where(inside, standardised, 0).astype(np.float32)


def window(hu: np.ndarray, inside: np.ndarray, window_hu: tuple[float, float]) -> np.ndarray:
    """HU window mapped to 0..1 in the lungs; 0 outside; float32 `(z, y, x)`."""
    low, high = window_hu
    return np.where(inside, np.clip((hu - low) / (high - low), 0, 1), 0).astype(np.float32)


def crop_case(ct: Path, lungs: Path, outputs: Mapping[str, Path], settings: Mapping[str, Any]) -> None:
    """Crop a case's CT; writes `outputs` `ct` (HU), `enhanced`, `lungs` and the record `record`."""
    small_ct, enhanced, small_lungs, record = crop_ct(read_volume(ct), read_volume(lungs), settings)
    write_volume(small_ct, outputs["ct"])
    write_volume(enhanced, outputs["enhanced"])
    write_volume(small_lungs, outputs["lungs"])
    write_json(record, outputs["record"])


def normalise_spect(values: np.ndarray, inside: np.ndarray, percentile: float) -> tuple[np.ndarray, dict[str, Any]]:
    """Divide by a robust reference in the lungs and limit to 0..1.

    Args:
        values: counts or concentrations `(z, y, x)`.
        inside: the lungs.
        percentile: percentile of the values in the lungs that becomes 1. Never the maximum: Technegas and MAA clump
            in central airways.

    Returns:
        float32 `(z, y, x)`, 0 outside the lungs, and a record (reference, clipped fraction).

    Raises:
        Ct2vqError: there is no activity in the lungs.
    """
    reference = float(np.percentile(values[inside], percentile))
    if not reference > 0:
        raise Ct2vqError(
            f"the {percentile}th percentile of the SPECT in the lungs is {reference}",
            hint="there is no activity in the lungs: wrong series, or a failed registration",
        )
    scaled = values / reference
    record = {
        "percentile": percentile,
        "reference": reference,
        "clipped_fraction": float((scaled[inside] > 1).mean()),
        "maximum_over_reference": float(scaled[inside].max()),
        "counts_in_lungs": float(values[inside].sum(dtype=np.float64)),
    }
    return np.where(inside, np.clip(scaled, 0, 1), 0).astype(np.float32), record


def crop_spect(spect: Path, ct_to_spect: Path, lungs: Path, output: Path, record: Path, percentile: float) -> None:
    """Carry a SPECT onto the network's grid in one interpolation, normalise it, write it and its record.

    Raises:
        Ct2vqError: there is no activity in the lungs.
    """
    labels = read_volume(lungs)
    image = sitk.Cast(read_volume(spect), sitk.sitkFloat32)
    carried = to_array(resample(image, labels, read_transform(ct_to_spect)))
    try:
        normalised, facts = normalise_spect(carried, to_array(labels) > 0, percentile)
    except Ct2vqError as error:
        raise Ct2vqError(error.message, path=spect, hint=error.hint) from None
    write_volume(from_array(normalised, labels), output)
    write_json(facts, record)

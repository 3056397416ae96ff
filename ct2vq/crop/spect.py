"""The SPECT on the network's grid: carried once, freed of hot spots, divided by a robust reference in the lungs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.crop.grid import averaged, require_finite
from ct2vq.crop.hot_spots import HotSpots, find_hot_spots, remove_hot_spots
from ct2vq.errors import CropError
from ct2vq.fields import as_transform, carry
from ct2vq.files import write_json
from ct2vq.volume import from_array, read_volume, resample, to_array, write_volume

logger = logging.getLogger(__name__)


def crop_spect(
    spect: Path,
    ct_to_spect: Path,
    lungs: Path,
    output: Path,
    record: Path,
    settings: Mapping[str, Any],
    *,
    modulate: bool = False,
) -> None:
    """Carry a SPECT onto the network's grid in one interpolation, free it of hot spots, normalise and write it.

    Args:
        spect: counts or concentrations on the camera's grid.
        ct_to_spect: displacement field of the registration.
        lungs: labels on the network's grid.
        output: the normalised image to write, 0..1 in the lungs and 0 outside.
        record: JSON to write: reference, hot spots, what was clipped, what lies outside the SPECT.
        settings: config block `crop.spect`.
        modulate: multiply by the Jacobian determinant (config `register.modulate`).

    Raises:
        CropError: D905 values that are no numbers, D906 no activity in the lungs, D907 lungs outside the SPECT.
    """
    labels, field = read_volume(lungs), read_volume(ct_to_spect)
    image = sitk.Cast(read_volume(spect), sitk.sitkFloat32)
    inside, spacing_mm = to_array(labels) > 0, float(labels.GetSpacing()[0])
    try:
        outside = share_unseen(image, labels, field, settings["outside_limit"])
        carried = carry_spect(image, labels, field, modulate)
        normalised, facts = normalise_spect(carried, inside, spacing_mm, settings)
    except CropError as error:
        raise CropError(error.code, error.message, path=spect, key=error.key, hint=error.hint) from None
    facts["outside_fraction"] = round(outside, 4)
    facts["modulated"] = modulate
    facts["warnings"] = _warnings(facts, settings)
    for spot in facts["hot_spots"]["spots"]:
        spot["position_mm"] = [round(v, 1) for v in labels.TransformIndexToPhysicalPoint(spot.pop("index")[::-1])]
    for warning in facts["warnings"]:
        logger.warning("%s: %s", spect, warning)
    write_volume(from_array(normalised, labels), output)
    write_json(facts, record)


def carry_spect(spect: sitk.Image, grid: sitk.Image, field: sitk.Image, modulate: bool) -> np.ndarray:
    """A SPECT on the network's grid in one interpolation, averaged first where its own voxels are finer.

    Voxels of 8 mm would alias what a camera of 10 mm resolution resolves, and its noise more so; voxels of 4 mm are
    smaller than the camera's, and nothing is averaged.

    Args:
        spect: float32 counts or concentrations.
        grid: any volume on the network's isotropic grid.
        field: displacement from points of the grid to points of the SPECT.
        modulate: multiply by the Jacobian determinant.

    Returns:
        `(z, y, x)`, 0 outside the SPECT.
    """
    return to_array(carry(averaged(spect, float(grid.GetSpacing()[0])), grid, field, modulate))


def share_unseen(spect: sitk.Image, lungs: sitk.Image, field: sitk.Image, limit: float) -> float:
    """Share of the lungs that the SPECT's field of view leaves out.

    Args:
        spect: the SPECT.
        lungs: labels on the network's grid.
        field: displacement from points of the lungs to points of the SPECT.
        limit: largest share that is accepted.

    Raises:
        CropError: D907.
    """
    ones = sitk.Image(spect.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(spect)
    seen = to_array(resample(ones, lungs, as_transform(field), linear=False))
    share = float((seen[to_array(lungs) > 0] == 0).mean())
    if share > limit:
        raise CropError(
            "D907",
            f"{share:.0%} of the lungs lie outside the SPECT; the limit is {limit:.0%}",
            key="crop.spect.outside_limit",
            hint="look at the registration's figure: wrong series, failed registration, or a cut-off SPECT",
        )
    return share


def normalise_spect(
    values: np.ndarray, inside: np.ndarray, spacing_mm: float, settings: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Replace hot spots, divide by a robust reference in the lungs and limit to 0..1.

    Args:
        values: counts or concentrations `(z, y, x)`.
        inside: the lungs.
        spacing_mm: voxel size of the isotropic grid.
        settings: config block `crop.spect`.

    Returns:
        float32 `(z, y, x)`, 0 outside the lungs; and a record: `reference` (what becomes 1, in the image's units), the
        clipped fraction, the same before hot spots were handled, and the hot spots.

    Raises:
        CropError: D905 values that are no numbers, D906 no activity in the lungs.
    """
    require_finite(values[inside], "SPECT in the lungs")
    before = reference_of(values[inside], settings)
    _require_activity(before, values[inside], settings)
    found = HotSpots(np.zeros(inside.shape, np.int32), [])
    if settings["hot_spots"]["method"] != "none":
        found = find_hot_spots(values, inside, spacing_mm, settings["hot_spots"])
    cleaned = remove_hot_spots(values, inside, found, settings["hot_spots"]["method"])
    reference = reference_of(cleaned[inside], settings)
    scaled = cleaned / reference
    record = {
        "reference_method": settings["reference"],
        "reference": reference,
        "reference_before": before,
        "clipped_fraction": float((scaled[inside] > 1).mean()),
        "clipped_fraction_before": float((values[inside] > before).mean()),
        "maximum_over_reference": float(scaled[inside].max()),
        "maximum_over_reference_before": float(values[inside].max() / before),
        "counts_in_lungs": float(cleaned[inside].sum(dtype=np.float64)),
        "counts_in_lungs_before": float(values[inside].sum(dtype=np.float64)),
        "hot_spots": _hot_spot_facts(values, cleaned, inside, found, spacing_mm, settings["hot_spots"]["method"]),
    }
    return np.where(inside, np.clip(scaled, 0, 1), 0).astype(np.float32), record


def reference_of(values: np.ndarray, settings: Mapping[str, Any]) -> float:
    """What becomes 1.

    Args:
        values: the image's values in the lungs.
        settings: config block `crop.spect`; `reference` is one of `REFERENCES`.
    """
    return float(REFERENCES[settings["reference"]](values.astype(np.float64), settings))


def _percentile(values: np.ndarray, settings: Mapping[str, Any]) -> float:
    return np.percentile(values, settings["percentile"])


def _mean(values: np.ndarray, settings: Mapping[str, Any]) -> float:
    return settings["mean_multiple"] * values.mean()


def _count_share(values: np.ndarray, settings: Mapping[str, Any]) -> float:
    """The highest value t so that the voxels of t and more hold the share `count_share` of all counts."""
    falling = np.sort(np.maximum(values, 0))[::-1]
    held = np.cumsum(falling)
    return falling[min(int(np.searchsorted(held, settings["count_share"] * held[-1])), len(falling) - 1)]


#: by the names of `crop.spect.reference`
REFERENCES: dict[str, Callable[[np.ndarray, Mapping[str, Any]], float]] = {
    "percentile": _percentile,
    "mean": _mean,
    "count_share": _count_share,
}


def _require_activity(reference: float, values: np.ndarray, settings: Mapping[str, Any]) -> None:
    if not reference > 0:
        raise CropError(
            "D906",
            f"there is no activity in the lungs: their reference ({settings['reference']}) is {reference:.4g}, their "
            f"values run from {values.min():.4g} to {values.max():.4g}",
            hint="wrong series, or a failed registration",
        )


def _hot_spot_facts(
    values: np.ndarray, cleaned: np.ndarray, inside: np.ndarray, found: HotSpots, spacing_mm: float, method: str
) -> dict[str, Any]:
    counts = values[inside].sum(dtype=np.float64)
    removed = (values - cleaned)[inside].sum(dtype=np.float64)
    return {
        "method": method,
        "number": len(found.spots),
        "volume_ml": round(float(found.mask.sum()) * spacing_mm**3 / 1000, 3),
        "count_fraction": float(removed / counts) if counts > 0 else 0.0,
        "spots": [dict(spot) for spot in found.spots],
    }


def _warnings(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    warnings = []
    if facts["outside_fraction"] > settings["outside_flag"]:
        warnings.append(f"W902 {facts['outside_fraction']:.1%} of the lungs lie outside the SPECT and count as empty")
    spots = facts["hot_spots"]
    if spots["count_fraction"] > settings["hot_spots"]["flag_fraction"]:
        warnings.append(
            f"W903 {spots['number']} hot spots held {spots['count_fraction']:.1%} of the counts in the lungs; they are "
            f"handled by {spots['method']}"
        )
    return warnings

"""The CT on the network's grid, and the record that leads back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.crop.contrast import enhance
from ct2vq.crop.grid import averaged, network_grid, require_finite, share_outside
from ct2vq.crop.texture import texture
from ct2vq.errors import CropError
from ct2vq.files import write_json
from ct2vq.volume import (
    from_array,
    from_components,
    read_volume,
    require_same_grid,
    resample,
    to_array,
    voxel_volume_ml,
    write_volume,
)

logger = logging.getLogger(__name__)

AIR_HU = -1000.0


@dataclass(frozen=True)
class CroppedCT:
    """A CT on the network's grid.

    Attributes:
        ct: HU; air where the grid reaches beyond the CT.
        enhanced: with enhanced contrast, 0 outside the lungs.
        texture: a vector of `ct2vq.crop.texture.TEXTURES` in each voxel, 0 outside the lungs.
        lungs: labels.
        record: what was done, and the way back.
    """

    ct: sitk.Image
    enhanced: sitk.Image
    texture: sitk.Image
    lungs: sitk.Image
    record: dict[str, Any]


def crop_ct(ct: sitk.Image, lungs: sitk.Image, settings: Mapping[str, Any]) -> CroppedCT:
    """The CT on the network's grid.

    Args:
        ct: CT in HU.
        lungs: labels on the CT's grid (1 right, 2 left).
        settings: config block `crop`.

    Raises:
        GeometryError: the grids of CT and labels differ.
        CropError: D901 to D904, no lungs that a grid of this spacing can hold; D905 values that are no numbers.
    """
    require_same_grid(ct, lungs, "ct", "lungs")
    require_finite(sitk.GetArrayViewFromImage(ct), "CT")
    small_lungs = network_grid(lungs, settings)
    small_ct = resample(averaged(ct, settings["spacing_mm"], small_lungs), small_lungs, outside=AIR_HU)
    hu, inside = to_array(small_ct), to_array(small_lungs) > 0
    enhanced = from_array(enhance(hu, inside, settings), small_ct)
    textures = from_components(texture(ct, lungs, small_lungs, settings["texture"]), small_ct)
    beyond = share_outside(ct, small_lungs)
    record = {
        **_way_back(small_lungs, ct),
        "lung_volume_ml": float(inside.sum() * voxel_volume_ml(small_lungs)),
        "lung_quartiles_hu": [float(q) for q in np.percentile(hu[inside], [25, 50, 75])],
        "beyond_ct_fraction": round(beyond, 4),
        "beyond_ct_hu": AIR_HU,
        "enhance": settings["enhance"],
        "window_hu": settings["window_hu"],
        "texture": settings["texture"],
        "warnings": _warnings(beyond),
    }
    return CroppedCT(small_ct, enhanced, textures, small_lungs, record)


def _way_back(grid: sitk.Image, ct: sitk.Image) -> dict[str, Any]:
    """Both grids; positions in mm (LPS)."""
    geometry = {}
    for prefix, image in (("", grid), ("ct_", ct)):
        geometry[f"{prefix}size"] = image.GetSize()
        geometry[f"{prefix}spacing_mm"] = image.GetSpacing()
        geometry[f"{prefix}origin_mm"] = image.GetOrigin()
        geometry[f"{prefix}direction"] = image.GetDirection()
    return geometry


def _warnings(beyond: float) -> list[str]:
    if not beyond:
        return []
    return [f"W901 {beyond:.1%} of the network's grid lie beyond the CT and are filled with air ({AIR_HU:.0f} HU)"]


def crop_case(
    ct: Path,
    lungs: Path,
    outputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    volumes: tuple[sitk.Image, sitk.Image] | None = None,
) -> None:
    """Crop a case's CT; writes `outputs` `ct` (HU), `enhanced`, `texture`, `lungs` and what was done, `record`.

    Args:
        ct: in HU.
        lungs: labels on its grid.
        outputs: paths by name.
        settings: config block `crop`.
        volumes: what the two files hold, where they were read before.

    Raises:
        GeometryError, CropError: see `crop_ct`.
    """
    try:
        cropped = crop_ct(*(volumes or (read_volume(ct), read_volume(lungs))), settings)
    except CropError as error:
        path = ct if error.code == "D905" else lungs
        raise CropError(error.code, error.message, path=path, key=error.key, hint=error.hint) from None
    for warning in cropped.record["warnings"]:
        logger.warning("%s: %s", ct, warning)
    for name in ("ct", "enhanced", "texture", "lungs"):
        write_volume(getattr(cropped, name), outputs[name])
    write_json(cropped.record, outputs["record"])

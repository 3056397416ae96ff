"""Finds the transforms of one case and says what was done; `ct2vq.register.judge` says how good it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ct2vq.errors import CodedError, Ct2vqError, RegistrationError
from ct2vq.fields import displacements, grid_over
from ct2vq.files import write_json
from ct2vq.register.content import compare_content
from ct2vq.register.frames import Frames, check_cts, check_spect, spects_of
from ct2vq.register.refusals import require_content, require_finite
from ct2vq.register.through_ct import register_through_ct
from ct2vq.register.through_spect import register_through_spect
from ct2vq.volume import read_volume, require_same_grid, write_volume

#: what a registration without an attenuation CT leaves undone, by what it was
RISKS = {
    "as scanned": "CT and SPECT are used as they lie: breathing between them is not corrected",
    "rigid": "rigid only: breathing motion is not corrected, so that at the diaphragm the SPECT can lie centimetres "
    "from the lung that it shows",
    "affine": "affine only: breathing is corrected as one stretch of the whole chest, and a defect at the base can be "
    "stretched over as if it were motion",
    "deformable": "deformed on the SPECT's own counts: a real perfusion defect can be closed",
}


def register_case(
    volumes: Mapping[str, Path],
    sidecars: Mapping[str, Path],
    ct_to_spect: Path,
    spect_to_ct: Path,
    record: Path,
    settings: Mapping[str, Any],
    seed: int,
    case: str,
) -> None:
    """Register one case and write both displacement fields and the record of what was done.

    Args:
        volumes: NIfTI files `ct` and `ct_lungs`; `attenuation_ct` with `attenuation_ct_lungs`, if there is one; SPECT
            images `perfusion`, `ventilation`. With an attenuation CT they must only hold counts; without one the first
            is registered, and another helps if it shares its frame.
        sidecars: JSON files of `convert`: of `attenuation_ct`, if there is one, of the SPECT images, and of `ct`.
        ct_to_spect: displacement field to write, on a grid over the CT.
        spect_to_ct: the inverse, on a grid over the SPECT side.
        record: JSON record to write: `method`, `risk`, `registered_to`, relations of the frames of reference.
        settings: config block `register`; what concerns another kind of registration, quality or carrying may be
            missing.
        seed: the study's seed.
        case: the case's id, which ANTs' random sampling is seeded by as well.

    Raises:
        GeometryError: a lung mask does not share its CT's grid.
        RegistrationError: D801, D802, D804 (images that cannot be registered), D806, D807 (ANTs failed).
    """
    frames = Frames.of(sidecars)
    images = {name: read_volume(path) for name, path in volumes.items() if name not in frames.strangers}
    _require_grids(images)
    require_content(images)
    forward, inverse, facts = _registered(images, frames, settings, case_seed(seed, case))
    fields = (
        displacements(forward, grid_over(images["ct"], settings["field_spacing_mm"])),
        displacements(inverse, grid_over(_moving(images), settings["field_spacing_mm"])),
    )
    require_finite(fields)
    for field, path in zip(fields, (ct_to_spect, spect_to_ct), strict=True):
        write_volume(sitk.Cast(field, sitk.sitkVectorFloat32), path, "displacement in mm, LPS")
    write_json(facts | {"registered_to": frames.of_what, "frame_of_reference": dict(frames.relations)}, record)


def case_seed(seed: int, case: str) -> int:
    """A seed of a case's own; 31 bits, because ANTs reads a signed number."""
    digest = hashlib.sha256(f"{seed}:register:{case}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _require_grids(images: Mapping[str, sitk.Image]) -> None:
    require_same_grid(images["ct"], images["ct_lungs"], "ct", "ct_lungs")
    if "attenuation_ct" in images:
        require_same_grid(images["attenuation_ct"], images["attenuation_ct_lungs"], "attenuation_ct", "its lungs")


def _moving(images: Mapping[str, sitk.Image]) -> sitk.Image:
    """What the CT is registered to."""
    return images["attenuation_ct"] if "attenuation_ct" in images else spects_of(images)[0]


def _registered(
    images: Mapping[str, sitk.Image], frames: Frames, settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform, dict[str, Any]]:
    """The transforms from CT to camera and back, and what was done and why, for the record."""
    try:
        if "attenuation_ct" in images:
            facts = {
                "method": f"{settings['transform']} through the attenuation CT",
                "risk": None,
                "ct_frame_of_reference": check_cts(frames.ct, images),
            }
            return *register_through_ct(images, settings, seed), facts
        return _registered_without_ct(images, frames, settings, seed)
    except CodedError:
        raise
    except Ct2vqError as error:
        hint = error.hint or "look at the lung masks"
        raise RegistrationError("D806", error.message, path=error.path, key=error.key, hint=hint) from error


def _registered_without_ct(
    images: Mapping[str, sitk.Image], frames: Frames, settings: Mapping[str, Any], seed: int
) -> tuple[sitk.Transform, sitk.Transform, dict[str, Any]]:
    content = compare_content(spects_of(images), images["ct_lungs"])
    found = check_spect(frames.ct, content, settings["frames"])
    if found["used_as_scanned"]:
        stays = sitk.Transform(3, sitk.sitkIdentity)
        method = "as scanned, in the CT's own frame of reference"
        return stays, stays, {"method": method, "risk": RISKS["as scanned"], "ct_frame_of_reference": found}
    kind = settings["without_attenuation_ct"]
    facts = {"method": f"{kind} on the SPECT images", "risk": RISKS[kind], "ct_frame_of_reference": found}
    return *register_through_spect(images, settings, seed), facts

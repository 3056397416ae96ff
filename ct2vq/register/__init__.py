"""Stage `register`: where in the SPECT each point of the CT lies.

With the camera's own CT: rigid, affine and SyN (Avants et al., Med Image Anal 2008;12:26, in ANTs) from the CT to the
attenuation CT round the lungs; the SPECT, which shares the attenuation CT's frame of reference, is carried along.
Without one, a SPECT that shares the CT's frame of reference is used as it lies, if the images bear that out. Else the
registration is rigid, on the SPECT against the blurred lungs: deforming on SPECT intensities could close a real
perfusion defect. The record says what was done, and what that leaves undone.

Images lie as scanned to each other only in one frame of reference (DICOM PS3.3 C.7.4.1). Two SPECT images are added up
only in one; a SPECT that does not share its attenuation CT's is carried along nevertheless, and flagged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ct2vq.errors import CodedError, Ct2vqError, RegistrationError
from ct2vq.fields import carry, displacements, grid_over
from ct2vq.files import write_json
from ct2vq.register.content import compare_content
from ct2vq.register.figures import breaches, require_plausible
from ct2vq.register.frames import Frames, check_cts, check_spect, frame_flags, spects_of
from ct2vq.register.landmarks import read_landmarks
from ct2vq.register.quality import measure_quality
from ct2vq.register.refusals import require_content, require_finite
from ct2vq.register.through_ct import register_through_ct
from ct2vq.register.through_spect import register_through_spect
from ct2vq.volume import read_volume, require_same_grid, write_volume

logger = logging.getLogger(__name__)

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
    qc: Path,
    settings: Mapping[str, Any],
    seed: int,
    landmarks: Path | None = None,
) -> None:
    """Register one case and write both displacement fields and the quality record.

    Args:
        volumes: NIfTI files `ct` and `ct_lungs`; `attenuation_ct` with `attenuation_ct_lungs`, if there is one; SPECT
            images `perfusion`, `ventilation`. With an attenuation CT they are only judged; without one the first is
            registered, and another helps if it shares its frame.
        sidecars: JSON files of `convert`: of `attenuation_ct`, if there is one, of the SPECT images, and of `ct`.
        ct_to_spect: displacement field to write, on a grid over the CT.
        spect_to_ct: the inverse, on a grid over the SPECT side.
        qc: JSON record to write.
        settings: config block `register`.
        seed: seed of ANTs' random sampling.
        landmarks: table of points that belong together (`ct2vq.register.landmarks`); only measured with.

    Raises:
        GeometryError: a lung mask does not share its CT's grid.
        RegistrationError: 8xx of docs/errors.md: images that cannot be registered or do not belong together, and
            transforms that cannot be breathing.
    """
    points = None if landmarks is None else read_landmarks(landmarks)
    frames = Frames.of(sidecars)
    images = {name: read_volume(path) for name, path in volumes.items() if name not in frames.strangers}
    _require_grids(images)
    require_content(images)
    forward, inverse, facts = _registered(images, frames, settings, seed)
    fields = (
        displacements(forward, grid_over(images["ct"], settings["field_spacing_mm"])),
        displacements(inverse, grid_over(_moving(images), settings["field_spacing_mm"])),
    )
    require_finite(fields)
    record = measure_quality(images, *fields, points)
    require_plausible(record, settings["refuse"])
    record |= facts | {"frame_of_reference": dict(frames.relations)}
    record["flags"] = _flags(record, frames, settings["flags"])
    for flag in record["flags"]:
        logger.warning("%s", flag)
    for field, path in zip(fields, (ct_to_spect, spect_to_ct), strict=True):
        write_volume(sitk.Cast(field, sitk.sitkVectorFloat32), path, "displacement in mm, LPS")
    write_json(record, qc)


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


def _flags(record: Mapping[str, Any], frames: Frames, limits: Mapping[str, float | None]) -> list[str]:
    """Everything a user should look at; a case is flagged, never dropped."""
    flags = [] if record["risk"] is None else [f"W801 no attenuation CT: {record['risk']}"]
    flags += frames.flags() + frame_flags(record["ct_frame_of_reference"])
    for breach in breaches(record, limits):
        code = "W803" if breach.name.startswith("content_") else "W804"
        flags.append(f"{code} {breach.text}")
    return flags


def warp_spect(spect: Path, ct: Path, ct_to_spect: Path, output: Path, modulate: bool = False) -> None:
    """Carry a SPECT onto the CT's grid in one interpolation.

    Args:
        spect: NIfTI volume to carry.
        ct: NIfTI volume whose grid the result takes.
        ct_to_spect: displacement field.
        output: NIfTI volume to write.
        modulate: multiply by the Jacobian determinant, so that counts are kept and not concentrations.
    """
    write_volume(carry(read_volume(spect), read_volume(ct), read_volume(ct_to_spect), modulate), output)

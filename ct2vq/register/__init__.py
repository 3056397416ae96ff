"""Stage `register`: where in the SPECT each point of the CT lies.

With the camera's own CT: rigid, affine and SyN (Avants et al., Med Image Anal 2008;12:26, in ANTs) from the CT to the
attenuation CT round the lungs; the SPECT, which shares the attenuation CT's frame of reference, is carried along.
Deforming on SPECT intensities instead could close a real perfusion defect, so without such a CT the registration is
rigid, on the SPECT against the blurred lungs, and the record says what that leaves undone.

Images lie as scanned to each other only in one frame of reference (DICOM PS3.3 C.7.4.1). Two SPECT images are added up
only in one; a SPECT that does not share its attenuation CT's is carried along nevertheless, and flagged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ct2vq.config import TARGETS
from ct2vq.fields import displacements, grid_over, read_transform
from ct2vq.files import write_json
from ct2vq.register.frames import Frames
from ct2vq.register.quality import measure_quality
from ct2vq.register.through_ct import register_through_ct
from ct2vq.register.through_spect import register_through_spect
from ct2vq.volume import read_volume, require_same_grid, resample, write_volume

logger = logging.getLogger(__name__)


def register_case(
    volumes: Mapping[str, Path],
    sidecars: Mapping[str, Path],
    ct_to_spect: Path,
    spect_to_ct: Path,
    qc: Path,
    settings: Mapping[str, Any],
    seed: int,
) -> None:
    """Register one case and write both displacement fields and the quality record.

    Args:
        volumes: NIfTI files `ct`, `ct_lungs` and either `attenuation_ct` with `attenuation_ct_lungs`, or at least
            one of `perfusion`, `ventilation`: the first is registered, another helps if it shares its frame.
        sidecars: JSON files of `convert`: of `attenuation_ct`, if there is one, and of the SPECT images.
        ct_to_spect: displacement field to write, on a grid over the CT.
        spect_to_ct: the inverse, on a grid over the SPECT side.
        qc: JSON record to write.
        settings: config block `register`.
        seed: seed of ANTs' random sampling.

    Raises:
        GeometryError: a lung mask does not share its CT's grid.
        Ct2vqError: ANTs fails.
    """
    frames = Frames.of(sidecars)
    images = {name: read_volume(path) for name, path in volumes.items() if name not in frames.strangers}
    require_same_grid(images["ct"], images["ct_lungs"], "ct", "ct_lungs")
    if "attenuation_ct" in images:
        require_same_grid(images["attenuation_ct"], images["attenuation_ct_lungs"], "attenuation_ct", "its lungs")
        forward, inverse = register_through_ct(images, settings, seed)
        moving = images["attenuation_ct"]
    else:
        forward, inverse = register_through_spect(images, settings, seed)
        moving = next(image for name, image in images.items() if name in TARGETS)
    fields = (
        displacements(forward, grid_over(images["ct"], settings["field_spacing_mm"])),
        displacements(inverse, grid_over(moving, settings["field_spacing_mm"])),
    )
    record = measure_quality(images, *fields, settings)
    record |= {"frame_of_reference": frames.relations, "flags": record["flags"] + frames.flags()}
    for flag in record["flags"]:
        logger.warning("%s", flag)
    for field, path in zip(fields, (ct_to_spect, spect_to_ct), strict=True):
        write_volume(sitk.Cast(field, sitk.sitkVectorFloat32), path, "displacement in mm, LPS")
    write_json(record, qc)


def warp_spect(spect: Path, ct: Path, ct_to_spect: Path, output: Path) -> None:
    """Carry a SPECT onto the CT's grid in one interpolation (concentrations: no Jacobian factor)."""
    warped = resample(read_volume(spect), read_volume(ct), read_transform(ct_to_spect))
    write_volume(warped, output)

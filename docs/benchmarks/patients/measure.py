"""What is measured on a pair: a patient's CT, and the camera's images of the same patient or of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk

from ct2vq.config import TARGETS
from ct2vq.errors import RegistrationError
from ct2vq.fields import displacements, grid_over
from ct2vq.register.case import case_seed
from ct2vq.register.content import compare_content
from ct2vq.register.figures import breaches
from ct2vq.register.quality import measure_quality
from ct2vq.register.refusals import require_content
from ct2vq.register.through_ct import register_through_ct
from ct2vq.register.through_spect import register_through_spect
from ct2vq.volume import read_volume
from patients.scans import Scan

#: figures of a registration that the table keeps
KEPT = ("lung_detail_after", "mutual_information_after", "dice_after", "lung_volume_ratio", "jacobian_p1")
KEPT_OF_SPECT = ("content_agreement", "counts_inside_after")
CTS, SPECT, AS_SCANNED = "attenuation CT", "SPECT, rigid", "SPECT, as scanned"


@dataclass(frozen=True)
class Meeting:
    """A CT and a camera's images that meet.

    Attributes:
        arm: `attenuation CT` and the voxel of the registration; `SPECT, rigid`; or `SPECT, as scanned`.
        ct: whose CT.
        camera: whose camera.
        settings: config block `register`.
        seed: the study's seed.
    """

    arm: str
    ct: Scan
    camera: Scan
    settings: Mapping[str, Any]
    seed: int

    @property
    def inputs(self) -> dict[str, Any]:
        """The files that the figures are made of, by the registration's names."""
        if self.arm == AS_SCANNED:
            lungs = {"attenuation_ct_lungs": self.ct.files["attenuation_ct_lungs"]}
            return lungs | {name: self.camera.files[name] for name in TARGETS}
        ct = {name: self.ct.files[name] for name in ("ct", "ct_lungs")}
        names = TARGETS if self.arm == SPECT else ("attenuation_ct", "attenuation_ct_lungs")
        return ct | {name: self.camera.files[name] for name in names}


def figures_of(meeting: Meeting) -> dict[str, dict[str, float]]:
    """Figures of a pair: by target, or under an empty name those of both CTs.

    `refused` and `flagged` are 1 if a figure lies beyond a limit of `register.refuse` or `register.flags`. A pair that
    stops before it has figures has only `refused`.
    """
    images = {name: read_volume(path) for name, path in meeting.inputs.items()}
    if meeting.arm == AS_SCANNED:
        lungs = images.pop("attenuation_ct_lungs")
        found = {target: compare_content([image], lungs).agreement for target, image in images.items()}
        return {target: {"content_agreement": agreement} for target, agreement in found.items()}
    try:
        require_content(images)
        quality = _registered(meeting, images)
    except RegistrationError:
        return {"": {"refused": 1.0}}
    limits = {"refused": meeting.settings["refuse"], "flagged": meeting.settings["flags"]}
    figures = {name: float(any(breaches(quality, limit))) for name, limit in limits.items()}
    figures |= {name: quality[name] for name in KEPT if quality[name] is not None}
    spects = {target: {name: facts[name] for name in KEPT_OF_SPECT} for target, facts in quality["spect"].items()}
    return {"": figures} | spects


def _registered(meeting: Meeting, images: Mapping[str, sitk.Image]) -> dict[str, Any]:
    """The quality of the registration that a study would make of these images."""
    register = register_through_spect if meeting.arm == SPECT else register_through_ct
    moving = images["perfusion" if meeting.arm == SPECT else "attenuation_ct"]
    ways = register(images, meeting.settings, case_seed(meeting.seed, meeting.ct.patient.rpartition("/")[2]))
    fields = [
        sitk.Cast(displacements(way, grid_over(image, meeting.settings["field_spacing_mm"])), sitk.sitkVectorFloat32)
        for way, image in zip(ways, (images["ct"], moving), strict=True)
    ]
    return measure_quality(images, *fields)

"""Whether images lie to each other as they were scanned: only in one frame of reference (DICOM PS3.3 C.7.4.1).

What a header says of its frame is believed unless the images deny it: a patient may have moved between two scans of one
session, and a workstation may have given one UID to images that it never moved onto each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ct2vq.config import TARGETS
from ct2vq.files import read_json
from ct2vq.lungs import dice, grid_around
from ct2vq.register.content import Content
from ct2vq.volume import resample, to_array

SHARED, DIFFERENT, UNKNOWN = "shared", "different", "unknown"
CHECK_MM = 6.0
CHECK_MARGIN_MM = 60.0
#: a frame is borne out if the lungs overlap as they lie nearly as well as they do centre on centre
DICE_TOLERANCE = 0.05


@dataclass(frozen=True)
class Frames:
    """Whether images share the frame of reference of what is registered.

    Attributes:
        of_what: `attenuation_ct`, or the SPECT that is registered without one.
        relations: `shared`, `different` or `unknown` of each other SPECT; unknown where a header names no frame.
        ct: the same of the CT; unknown if its sidecar is not given.
    """

    of_what: str
    relations: Mapping[str, str]
    ct: str = UNKNOWN

    @classmethod
    def of(cls, sidecars: Mapping[str, Path]) -> Frames:
        """By the sidecars' keyed hashes of FrameOfReferenceUID, against the attenuation CT's, or the first SPECT's."""
        frames = {name: read_json(path)["frame_of_reference"] for name, path in sidecars.items()}
        camera = [name for name in frames if name != "ct"]
        of_what = "attenuation_ct" if "attenuation_ct" in frames else camera[0]
        others = {name: _relation(frames[name], frames[of_what]) for name in camera if name != of_what}
        return cls(of_what, others, _relation(frames.get("ct"), frames[of_what]))

    @property
    def strangers(self) -> list[str]:
        """SPECT images that must not be added to the one that is registered."""
        if self.of_what == "attenuation_ct":
            return []
        return [name for name, relation in self.relations.items() if relation != SHARED]

    def flags(self) -> list[str]:
        """What was assumed, or left out, for want of a common frame of reference."""
        flags = []
        for name, relation in self.relations.items():
            if relation == SHARED:
                continue
            other = "another" if relation == DIFFERENT else "perhaps another"
            if self.of_what == "attenuation_ct":
                consequence = "its attenuation CT: that both lie as they were scanned is only assumed"
            else:
                consequence = f"{self.of_what}: it does not help the registration"
            flags.append(f"W802 {name} has {other} frame of reference than {consequence}")
        return flags


def _relation(one: str | None, other: str | None) -> str:
    if one is None or other is None:
        return UNKNOWN
    return SHARED if one == other else DIFFERENT


def check_cts(relation: str, images: Mapping[str, sitk.Image]) -> dict[str, Any]:
    """Whether CT and attenuation CT lie as one frame of reference says, by the overlap of their lungs.

    The registration starts from the lungs' centres in any case: this is for the record.

    Args:
        relation: what the headers say.
        images: `ct_lungs` and `attenuation_ct_lungs`.
    """
    fixed, moving = images["ct_lungs"], images["attenuation_ct_lungs"]
    grid = grid_around(fixed, CHECK_MM, CHECK_MARGIN_MM)
    inside = to_array(resample(fixed, grid, linear=False)) > 0
    shift = [b - a for a, b in zip(_centre(fixed), _centre(moving), strict=True)]
    overlaps = [
        dice(inside, to_array(resample(moving, grid, transform, linear=False)) > 0)
        for transform in (None, sitk.TranslationTransform(3, shift))
    ]
    agrees = overlaps[0] >= overlaps[1] - DICE_TOLERANCE
    return {
        "relation": relation,
        "dice_as_scanned": overlaps[0],
        "dice_centred": overlaps[1],
        "borne_out": agrees if relation == SHARED else None,
    }


def _centre(lungs: sitk.Image) -> tuple[float, ...]:
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(sitk.Cast(lungs > 0, sitk.sitkUInt8))
    return statistics.GetCentroid(1)


def check_spect(relation: str, content: Content, limits: Mapping[str, float]) -> dict[str, Any]:
    """Whether the SPECT lies on the CT as one frame of reference says, by its activity; and what follows.

    A frame that the headers share is used unless the images deny it: the activity fits the lungs poorly as it lies and
    far better elsewhere, or does not meet them at all. Lost bases or a lost lung fit poorly too, but nowhere much
    better.

    Args:
        relation: what the headers of CT and SPECT say.
        content: activity against the CT's lungs, as they lie.
        limits: config block `register.frames`.
    """
    fits = content.agreement >= limits["agreement_limit"]
    denied = _denied(content, limits)
    if relation != SHARED:
        why = f"registered: the headers name {'different frames' if relation == DIFFERENT else 'no common frame'}"
    elif denied:
        why = f"registered in spite of one frame of reference: {_fit(content)}: movement, or a moved image"
    elif fits:
        why = f"used as scanned: one frame of reference, and {_fit(content)}"
    else:
        why = f"used as scanned: one frame of reference, although {_fit(content)}: a large defect, or movement"
    return {
        "relation": relation,
        "borne_out": fits if relation == SHARED else None,
        "used_as_scanned": relation == SHARED and not denied,
        "why": why,
    } | content.record()


def _denied(content: Content, limits: Mapping[str, float]) -> bool:
    """Whether the images cannot lie as one frame of reference says, whatever defects there are."""
    if content.agreement < limits["agreement_least"]:
        return True
    elsewhere = content.distance_mm > limits["shift_limit_mm"] and content.gain >= limits["gain_limit"]
    return content.agreement < limits["agreement_limit"] and elsewhere


def _fit(content: Content) -> str:
    return (
        f"the activity agrees with the CT's lungs by {content.agreement:.2f} as it lies and by "
        f"{content.agreement_shifted:.2f} if moved by {content.distance_mm:.0f} mm"
    )


def frame_flags(record: Mapping[str, Any]) -> list[str]:
    """Flag a frame of reference that CT and camera share by their headers, and that the images do not bear out."""
    if record["borne_out"] is not False:
        return []
    if "why" in record:
        return [f"W802 {record['why']}"]
    return [
        f"W802 CT and attenuation CT name one frame of reference, but their lungs lie apart: Dice "
        f"{record['dice_as_scanned']:.2f} as scanned, {record['dice_centred']:.2f} centre on centre"
    ]


def spects_of(images: Mapping[str, sitk.Image]) -> list[sitk.Image]:
    """The SPECT images among the images of a case."""
    return [image for name, image in images.items() if name in TARGETS]

"""Limits that a study sets to its images (config `convert.limits`): of one volume, of one case, of the whole cohort.

A limit that is null, or not given, is none. What a header does not tell cannot break a limit; it is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ct2vq.config import TARGETS
from ct2vq.convert.converted import Converted
from ct2vq.dicom.attributes import text
from ct2vq.errors import DicomError

DAY_S = 86400.0


class Problem(NamedTuple):
    """What is wrong with an image, a case or the cohort.

    Attributes:
        code: stable code, one of `ct2vq.codes.CODES`; `D` is an error, `W` a warning.
        message: the problem with what was found and what is allowed.
        attribute: the DICOM attribute or config key concerned, empty if there is none.
    """

    code: str
    message: str
    attribute: str = ""


@dataclass(frozen=True)
class VolumeFacts:
    """What the sidecar of one volume tells.

    Attributes:
        case_id, patient_id, volume: whose it is and which.
        acquisition: block `acquisition`.
        time: when it was acquired, shifted by the same span for all volumes of a patient; None if not known.
        content: digest of the files that it was made from.
        header_patient: keyed hash of the header's patient id; None if there is none, or not told.
    """

    case_id: str
    patient_id: str
    volume: str
    acquisition: Mapping[str, Any]
    time: datetime | None = None
    content: str | None = None
    header_patient: str | None = None


def volume_problems(
    acquisition: Mapping[str, Any], volume: str, limits: Mapping[str, Any], kernel: str | None = None
) -> list[Problem]:
    """Limits that one volume breaks.

    A camera's own CT (`attenuation_ct`, or of one target) is only registered, no network sees it: limits are for `ct`.

    Args:
        acquisition: the volume's facts.
        volume: one of `ct2vq.cohort.VOLUMES`.
        limits: config block `convert.limits`.
        kernel: the convolution kernel as the header spells it.
    """
    if volume in TARGETS:
        return _spect_problems(acquisition, volume, limits)
    return _ct_problems(acquisition, limits, kernel) if volume == "ct" else []


def require_limits(converted: Converted, volume: str, limits: Mapping[str, Any]) -> None:
    """Stop at a limit that the volume breaks, and take a warning for one that cannot be checked.

    Raises:
        DicomError: one of D501 to D505.
    """
    for code, message, attribute in problems_of(converted, volume, limits):
        if code.startswith("D"):
            raise DicomError(code, message, path=converted.first.path, key=attribute, hint="see `convert.limits`")
        converted.notes.append(f"{code} {message}")


def problems_of(converted: Converted, volume: str, limits: Mapping[str, Any]) -> list[Problem]:
    """As `volume_problems`, of a volume that was just read."""
    kernel = text(converted.first.dataset, "ConvolutionKernel", converted.first.path)
    return volume_problems(converted.facts["acquisition"], volume, limits, kernel)


def _ct_problems(acquisition: Mapping[str, Any], limits: Mapping[str, Any], kernel: str | None) -> list[Problem]:
    problems = []
    thickest, thickness = limits.get("max_slice_thickness_mm"), acquisition["slice_thickness_mm"]
    if thickest is not None and thickness is None:
        problems.append(Problem("W501", "the slice thickness is not stated: its limit cannot be checked"))
    elif thickest is not None and thickness > thickest:
        problem = f"slices {thickness:g} mm thick, at most {thickest:g} mm allowed"
        problems.append(Problem("D501", problem, "SliceThickness"))
    if limits.get("contrast", "any") == "none" and acquisition["contrast"] != "no":
        unknown = acquisition["contrast"] == "unknown"
        text = "the header does not tell whether contrast was given" if unknown else "contrast was given, none allowed"
        problems.append(Problem("W501" if unknown else "D502", text, "ContrastBolusAgent"))
    allowed = limits.get("kernels")
    if allowed is not None and kernel is None:
        problems.append(Problem("W501", "the kernel is not stated: its limit cannot be checked", "ConvolutionKernel"))
    elif allowed is not None and not re.fullmatch(allowed, kernel or ""):
        problem = f"kernel {kernel}, but only {allowed} is allowed"
        problems.append(Problem("D503", problem, "ConvolutionKernel"))
    return problems


def _spect_problems(acquisition: Mapping[str, Any], volume: str, limits: Mapping[str, Any]) -> list[Problem]:
    problems = []
    if acquisition["positron_emitter"] and not limits.get("allow_positron_emitters", False):
        problem = f"the nuclide ({acquisition['nuclide']}) is a positron emitter: PET, no SPECT"
        problems.append(Problem("D505", problem, "RadionuclideCodeSequence"))
    other = {"perfusion": ("Technegas", "Kr-81m", "Xe-133"), "ventilation": ("MAA",)}[volume]
    tracer = next((name for name in (acquisition["agent"], acquisition["nuclide"]) if name in other), None)
    if tracer:
        problems.append(Problem("W505", f"{tracer} where {volume} is expected", "Radiopharmaceutical"))
    wanted = {"all": "yes", "none": "no"}.get(limits.get("attenuation_correction", "consistent"))
    found = acquisition["attenuation_corrected"]
    if wanted and found == "unknown":
        problem = "the header does not tell whether attenuation was corrected"
        problems.append(Problem("W501", problem, "CorrectedImage"))
    elif wanted and found != wanted:
        state = {"yes": "with", "no": "without"}
        problem = f"an image {state[found]} attenuation correction, only images {state[wanted]} it are allowed"
        problems.append(Problem("D504", problem, "CorrectedImage"))
    return problems


def cohort_problems(volumes: Sequence[VolumeFacts], limits: Mapping[str, Any]) -> list[tuple[str, str, Problem]]:
    """Problems that only show when cases lie side by side, as `(case_id, volume, problem)`."""
    problems = _interval_problems(volumes, limits)
    if limits.get("attenuation_correction", "consistent") == "consistent":
        problems += _mixed_correction(volumes)
    return problems + _shared_images(volumes) + _patients_under_two_names(volumes) + _strangers(volumes)


def _interval_problems(volumes: Sequence[VolumeFacts], limits: Mapping[str, Any]) -> list[tuple[str, str, Problem]]:
    """Days between the CT and each SPECT, and between the two SPECT images of a case."""
    rules = [("ct", target, "max_ct_spect_days", "D506") for target in TARGETS]
    rules.append(("perfusion", "ventilation", "max_perfusion_ventilation_days", "D507"))
    problems = []
    for case in _by(volumes, lambda volume: volume.case_id).values():
        images = {volume.volume: volume for volume in case}
        for first, second, key, code in rules:
            allowed = limits.get(key)
            if allowed is None or first not in images or second not in images:
                continue
            days = interval_days(images[first], images[second])
            if days is None:
                text = f"the time between {first} and {second} is not known: its limit cannot be checked"
                problems.append((case[0].case_id, second, Problem("W501", text, "AcquisitionDate")))
            elif days > allowed:
                text = f"{days:.2f} days between {first} and {second}, at most {allowed:g} allowed"
                problems.append((case[0].case_id, second, Problem(code, text, f"convert.limits.{key}")))
    return problems


def interval_days(a: VolumeFacts, b: VolumeFacts) -> float | None:
    """Days between two acquisitions, None if a time is not known."""
    return None if a.time is None or b.time is None else abs((a.time - b.time).total_seconds()) / DAY_S


def _mixed_correction(volumes: Sequence[VolumeFacts]) -> list[tuple[str, str, Problem]]:
    """Each target's images must all be with, or all be without attenuation correction."""
    problems = []
    for target in TARGETS:
        images = [volume for volume in volumes if volume.volume == target]
        cases = _by(images, lambda volume: volume.acquisition["attenuation_corrected"])
        named = {state: ", ".join(volume.case_id for volume in cases.get(state, [])) for state in ("yes", "no")}
        if named["yes"] and named["no"]:
            text = f"images with attenuation correction ({named['yes']}) and without it ({named['no']}) in one cohort"
            problems.append(("", target, Problem("D508", text, "CorrectedImage")))
        problems += [
            (
                volume.case_id,
                target,
                Problem("W501", "the header does not tell whether attenuation was corrected", "CorrectedImage"),
            )
            for volume in cases.get("unknown", [])
        ]
    return problems


def _shared_images(volumes: Sequence[VolumeFacts]) -> list[tuple[str, str, Problem]]:
    """Two volumes made from the same files: a slip in the table, unless one patient's cases share an image."""
    problems = []
    for content, group in _by(volumes, lambda volume: volume.content).items():
        if content is None or len(group) < 2:
            continue
        names = ", ".join(f"{volume.case_id} {volume.volume}" for volume in group)
        # one CT of a patient may serve as CT and as the camera's own, for one target or for both
        kinds = {volume.volume if volume.volume in TARGETS else "ct" for volume in group}
        same = len({volume.patient_id for volume in group}) == 1 and len(kinds) == 1
        text = f"the same files stand behind {names}"
        problems.append((group[0].case_id, group[0].volume, Problem("W504" if same else "D509", text)))
    return problems


def _patients_under_two_names(volumes: Sequence[VolumeFacts]) -> list[tuple[str, str, Problem]]:
    """Headers of one patient under two `patient_id`: folds would split the patient, and a network be tested on it."""
    groups = {key: group for key, group in _by(volumes, lambda volume: volume.header_patient).items() if key}
    if len(groups) == 1 and len({volume.patient_id for volume in volumes}) > 2:
        text = "all images carry one patient id (anonymised?): whether a patient stands under two names is not known"
        return [("", "", Problem("W503", text, "PatientID"))]
    problems = []
    for group in groups.values():
        patients = sorted({volume.patient_id for volume in group})
        if len(patients) > 1:
            cases = ", ".join(sorted({volume.case_id for volume in group}))
            text = f"the headers of cases {cases} carry one patient id, the cohort table {len(patients)} of them"
            problems.append((group[0].case_id, "", Problem("D510", text, "PatientID")))
    return problems


def _strangers(volumes: Sequence[VolumeFacts]) -> list[tuple[str, str, Problem]]:
    """Cases whose images carry different patient ids."""
    problems = []
    for case_id, case in _by(volumes, lambda volume: volume.case_id).items():
        groups = _by([volume for volume in case if volume.header_patient], lambda volume: volume.header_patient)
        if len(groups) > 1:
            names = " / ".join(", ".join(volume.volume for volume in group) for group in groups.values())
            text = f"the images carry different patient ids: {names}"
            problems.append((case_id, "", Problem("W502", text, "PatientID")))
    return problems


def _by(volumes: Iterable[VolumeFacts], key: Any) -> dict[Any, list[VolumeFacts]]:
    groups: dict[Any, list[VolumeFacts]] = {}
    for volume in volumes:
        groups.setdefault(key(volume), []).append(volume)
    return groups

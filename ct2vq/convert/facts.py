"""Facts of an acquisition that decide later analyses, read before anything is removed from the header.

Numbers carry their unit in their name; everything else is one of a few words, never a header's free text: what is put
into the sidecar's block `acquisition` cannot identify anybody. What a header does not tell is None or `unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset

from ct2vq.convert.converted import Converted
from ct2vq.dicom.attributes import attribute, text
from ct2vq.dicom.files import Instance
from ct2vq.errors import DicomError

#: attributes whose words tell how the patient breathed
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionProtocolDescription", "ImageComments")
#: words of a description, by what they say; whatever follows is part of the word (`insp`, `inspiration`, `inspirium`)
BREATHING = {
    "inspiration": r"insp|inhal|einatm",
    "expiration": r"exp(?![a-z])|expir|exhal|exsp|ausatm",
    "free": r"free[ _-]?breath|shallow|tidal|quiet|freie? ?atm|fb(?![a-z])",
}
#: collimators by the letters that their names begin with, whatever a vendor appends (`LEHRS`, `LEHR-PAR`)
COLLIMATORS = ("LEUHR", "LEHR", "LEHS", "LEAP", "LEGP", "LPHR", "WEHR", "MELP", "MEGP", "MEAP", "HEGP", "HEAP", "UHEGP")
#: defined terms of CollimatorType (PS3.3 C.8.4.11, C.8.9.1)
COLLIMATOR_TYPES = ("PARA", "PINH", "FANB", "CONE", "SLNT", "ASTG", "DIVG", "NONE", "UNKN")
#: defined terms of PatientPosition (PS3.3 C.7.3.1.1.2)
PATIENT_POSITIONS = ("HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS", "LFP", "LFS", "RFP", "RFS")
#: what a name or code of a lung agent contains
AGENTS = {"MAA": r"maa|macroaggreg|macrosalb|albumin", "Technegas": r"technegas|carbon", "DTPA": r"dtpa|pentet"}
NUCLIDES = {
    "Tc-99m": r"99m|tc.?99|technet",
    "Kr-81m": r"81m|krypt",
    "Xe-133": r"133.?x|xe.?133|xenon.?133|133.?xenon",
    "Lu-177": r"177|lutet",
}
#: names of positron emitters as vendors write them: an image of one is PET, not SPECT
POSITRON_EMITTERS = (
    r"18.?f|f.?18|fluor|68.?ga|ga.?68|gallium.?68|82.?rb|rb.?82|64.?cu|cu.?64|89.?zr|zr.?89|124.?i(?!n)|i.?124"
    r"|(?<!\d)11.?c(arbon)?(?![a-z])|(?<![a-z])c.?11(?!\d)|(?<!\d)13.?n(itrogen)?(?![a-z])|(?<![a-z])n.?13(?!\d)"
)
#: a stored activity above this is in Bq, whatever the object: a therapy gives 10,000 MBq, and 0.1 MBq is no dose
LARGEST_MBQ = 1e5


def ct_acquisition(converted: Converted, instances: Sequence[Instance]) -> dict[str, Any]:
    """The facts of a CT: numbers, None, and words of this module.

    The time is not among them: see `acquisition_time`. Nor is the kernel, whose name is free text.

    Args:
        converted: the volume; its first slice stands for all but the exposure and the thickness.
        instances: the objects beside it: those of its series tell the mean exposure and the thickest slice.
    """
    first = converted.first
    series = _text(first, "SeriesInstanceUID")
    slices = [
        instance
        for instance in instances
        if _text(instance, "SeriesInstanceUID") == series
        and instance.sop_class == first.sop_class
        and "LOCALIZER" not in (_text(instance, "ImageType") or "").upper()
    ]
    thicknesses = [_number(instance, "SliceThickness") for instance in (first, *slices)]
    return _common(converted) | {
        "slice_thickness_mm": max((value for value in thicknesses if value is not None), default=None),
        "tube_voltage_kv": _number(first, "KVP"),
        "exposure_mas": _mean(slices, "Exposure"),
        "tube_current_ma": _mean(slices, "XRayTubeCurrent"),
        "ctdi_vol_mgy": _mean(slices, "CTDIvol"),
        "contrast": _contrast(first),
        "breath_hold": _breathing(first),
        "reconstruction_diameter_mm": _number(first, "ReconstructionDiameter"),
    }


def spect_acquisition(converted: Converted) -> dict[str, Any]:
    """The facts of a SPECT, as `ct_acquisition`."""
    first = converted.first
    iterations, subsets = _iterations(first)
    counts = converted.facts["units"] == "counts"
    return (
        _common(converted)
        | _corrections(first)
        | {
            "agent": _agent(first),
            "nuclide": _nuclide(first),
            "positron_emitter": _is_positron_emitter(first),
            "injected_activity_mbq": _activity_mbq(first),
            "collimator": _collimator(first),
            "collimator_type": _collimator_type(first),
            "energy_windows_kev": _energy_windows(first),
            "acquisition_duration_s": _duration_s(first),
            "matrix": list(converted.image.GetSize()),
            "counts_total": _sum(converted.image) if counts else None,
            "iterations": iterations,
            "subsets": subsets,
        }
    )


def _common(converted: Converted) -> dict[str, Any]:
    position = (_text(converted.first, "PatientPosition") or "").upper()
    return {
        "patient_position": position if position in PATIENT_POSITIONS else None,
        "slice_thickness_mm": _number(converted.first, "SliceThickness"),
        "slice_increment_mm": round(converted.image.GetSpacing()[2], 4),
    }


def acquisition_time(instance: Instance) -> datetime | None:
    """When the acquisition began, as stated: identifies the patient, and must be shifted before it is written.

    The time zone is left out: all of one patient's scanners are taken to stand in one.
    """
    moment = _moment(_text(instance, "AcquisitionDateTime"))
    if moment:
        return moment
    for name in ("Acquisition", "Series", "Content", "Study"):
        date, clock = _text(instance, f"{name}Date"), _text(instance, f"{name}Time")
        moment = _moment(f"{date}{clock}" if date and clock else None)
        if moment:
            return moment
    return None


def attenuation_corrected(corrected: list[str], method: str | None) -> bool | None:
    """Whether attenuation was corrected for; None where the header says nothing about corrections."""
    return correction_made("ATTN", corrected, method)


def correction_made(term: str, corrected: list[str], method: str | None) -> bool | None:
    """Whether a correction was made: its term of CorrectedImage is listed, or a method is named that is not NONE."""
    if term in corrected or (method or "NONE").upper() != "NONE":
        return True
    return False if corrected or method else None


def radiopharmaceutical(instance: Instance) -> tuple[str | None, str | None]:
    """Name of the radiopharmaceutical and of its nuclide, where stated."""
    item = _first_item(instance.dataset, "RadiopharmaceuticalInformationSequence", instance.path)
    drug = _text_in(item, "Radiopharmaceutical", instance.path)
    drug = drug or _meaning(item, "RadiopharmaceuticalCodeSequence", instance.path)
    return drug, _meaning(item, "RadionuclideCodeSequence", instance.path)


# --- CT ------------------------------------------------------------------------------------------------------------


def _contrast(instance: Instance) -> str:
    """`yes`, `no` or `unknown`.

    PS3.3 A.3.3 wants the Contrast/Bolus module wherever contrast was used, but it is often emptied or removed, so
    that its absence does not mean `no`.
    """
    agent = (_text(instance, "ContrastBolusAgent") or "").strip().lower()
    if re.match(r"(no|none|without|native|nativ|ohne|sans|0)(?![a-z])", agent):
        return "no"
    volume = _number(instance, "ContrastBolusVolume")
    if agent or volume:
        return "yes"
    return "unknown" if volume is None else "no"


def _breathing(instance: Instance) -> str:
    """`inspiration`, `expiration`, `free` or `unknown`, from the words of the series' descriptions."""
    words = " ".join(_text(instance, name) or "" for name in DESCRIPTIONS).lower()
    said = [kind for kind, pattern in BREATHING.items() if re.search(rf"(?<![a-z])({pattern})", words)]
    return said[0] if len(said) == 1 else "unknown"


# --- SPECT ---------------------------------------------------------------------------------------------------------


def _corrections(instance: Instance) -> dict[str, str]:
    """`yes`, `no` or `unknown` for each correction; a list of corrections that lacks one means that it was not made."""
    listed = [value for value in (_text(instance, "CorrectedImage") or "").upper().split("\\") if value]
    methods = {
        "attenuation_corrected": ("ATTN", "AttenuationCorrectionMethod"),
        "scatter_corrected": ("SCAT", "ScatterCorrectionMethod"),
        "decay_corrected": ("DECY", "DecayCorrection"),
    }
    found = {}
    for name, (term, keyword) in methods.items():
        made = correction_made(term, listed, _text(instance, keyword))
        found[name] = {True: "yes", False: "no", None: "unknown"}[made]
    return found


def _agent(instance: Instance) -> str:
    name, _ = radiopharmaceutical(instance)
    return _word(AGENTS, name) or ("other" if name else "unknown")


def _nuclide(instance: Instance) -> str:
    """The nuclide; a name such as `99mTc-MAA` tells it where no nuclide is stated."""
    name, nuclide = radiopharmaceutical(instance)
    return _word(NUCLIDES, nuclide) or _word(NUCLIDES, name) or ("other" if nuclide else "unknown")


def _is_positron_emitter(instance: Instance) -> bool:
    item = _first_item(instance.dataset, "RadiopharmaceuticalInformationSequence", instance.path)
    if (_number_in(item, "RadionuclidePositronFraction", instance.path) or 0) > 0:
        return True
    return bool(re.search(POSITRON_EMITTERS, (radiopharmaceutical(instance)[1] or "").lower()))


def _word(words: dict[str, str], name: str | None) -> str | None:
    """The word whose pattern a name has."""
    return next((word for word, pattern in words.items() if re.search(pattern, (name or "").lower())), None)


def _activity_mbq(instance: Instance) -> float | None:
    """Injected activity in MBq: stored in MBq by NM (PS3.3 C.8.4.10) and in Bq by PT (C.8.9.2).

    Some vendors write the other's unit; no dose is so large or small that this could not be told.
    """
    item = _first_item(instance.dataset, "RadiopharmaceuticalInformationSequence", instance.path)
    dose = _number_in(item, "RadionuclideTotalDose", instance.path)
    if not dose or dose < 0:
        return None
    return round(dose / 1e6 if dose > LARGEST_MBQ else dose, 3)


def _collimator(instance: Instance) -> str | None:
    name = _text_in(_detector(instance), "CollimatorGridName", instance.path) or _text(instance, "CollimatorGridName")
    letters = re.sub(r"[^A-Z]", "", (name or "").upper())
    return next((known for known in COLLIMATORS if letters.startswith(known)), "other" if letters else None)


def _collimator_type(instance: Instance) -> str | None:
    name = _text_in(_detector(instance), "CollimatorType", instance.path) or _text(instance, "CollimatorType")
    return name if name in COLLIMATOR_TYPES else None


def _detector(instance: Instance) -> Dataset:
    return _first_item(instance.dataset, "DetectorInformationSequence", instance.path)


def _energy_windows(instance: Instance) -> list[list[float]]:
    """Lower and upper limits of the energy windows in keV: within EnergyWindowInformationSequence in NM."""
    path = instance.path
    windows = _items(instance.dataset, "EnergyWindowInformationSequence", path) or [instance.dataset]
    parts = [part for window in windows for part in _items(window, "EnergyWindowRangeSequence", path)]
    limits = [[_number_in(part, f"EnergyWindow{end}Limit", path) for end in ("Lower", "Upper")] for part in parts]
    return [pair for pair in limits if None not in pair]


def _duration_s(instance: Instance) -> float | None:
    """How long the acquisition took: stated, or the time of a view times the views of a rotation (PS3.3 C.8.4.13)."""
    stated = _number(instance, "AcquisitionDuration")
    if stated:
        return stated
    rotation = _first_item(instance.dataset, "RotationInformationSequence", instance.path)
    views = _number_in(rotation, "NumberOfFramesInRotation", instance.path)
    view_ms = _number_in(rotation, "ActualFrameDuration", instance.path)
    if views and view_ms:
        return round(views * view_ms / 1000, 3)
    frame_ms = _number(instance, "ActualFrameDuration")
    return round(frame_ms / 1000, 3) if frame_ms else None


def _iterations(instance: Instance) -> tuple[int | None, int | None]:
    """Iterations and subsets of the reconstruction, from their attributes or from names such as `OSEM 4i8s`."""
    iterations, subsets = (_number(instance, name) for name in ("NumberOfIterations", "NumberOfSubsets"))
    if iterations and subsets:
        return int(iterations), int(subsets)
    for name in ("ReconstructionMethod", "SeriesDescription", "ImageComments"):
        words = (_text(instance, name) or "").lower()
        found = re.search(r"(?<![a-z0-9])(\d{1,3}) ?i(?:t\w*)?[ ,_/]*(\d{1,3}) ?s(?:u?b\w*)?(?![a-z])", words)
        if found:
            return int(found[1]), int(found[2])
    return None, None


def _sum(image: sitk.Image) -> float:
    return float(np.round(sitk.GetArrayViewFromImage(image).sum(dtype=np.float64)))


# --- values that are only facts: damaged ones are unknown, never a reason to stop ------------------------------------


def _text(instance: Instance, keyword: str) -> str | None:
    return _text_in(instance.dataset, keyword, instance.path)


def _text_in(dataset: Dataset, keyword: str, path: Path) -> str | None:
    try:
        return text(dataset, keyword, path)
    except DicomError:
        return None


def _number(instance: Instance, keyword: str) -> float | None:
    return _number_in(instance.dataset, keyword, instance.path)


def _number_in(dataset: Dataset, keyword: str, path: Path) -> float | None:
    """The first of an attribute's values, if it is a finite number."""
    first = (_text_in(dataset, keyword, path) or "").split("\\")[0]
    try:
        value = float(first)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _mean(instances: Sequence[Instance], keyword: str) -> float | None:
    """Mean over the slices that state a value: tube current is modulated along the patient."""
    values = [value for value in (_number(instance, keyword) for instance in instances) if value is not None]
    return round(float(np.mean(values)), 3) if values else None


def _items(dataset: Dataset, keyword: str, path: Path) -> list[Dataset]:
    """The items of a sequence; none where it is absent, damaged or no sequence."""
    try:
        value = attribute(dataset, keyword, path)
    except DicomError:
        return []
    return list(value) if isinstance(value, pydicom.Sequence) else []


def _first_item(dataset: Dataset, keyword: str, path: Path) -> Dataset:
    """The first item of a sequence, an empty data set where there is none."""
    return next(iter(_items(dataset, keyword, path)), Dataset())


def _meaning(item: Dataset, keyword: str, path: Path) -> str | None:
    return _text_in(_first_item(item, keyword, path), "CodeMeaning", path)


def _moment(value: str | None) -> datetime | None:
    """A DICOM date and time (`YYYYMMDDHHMMSS.FFFFFF&ZZXX`), None where it is incomplete or impossible."""
    found = re.match(r"(\d{8})(\d{2})(\d{2})?(\d{2})?", value or "")
    if not found:
        return None
    try:
        return datetime.strptime("".join(part or "00" for part in found.groups()), "%Y%m%d%H%M%S")
    except ValueError:
        return None

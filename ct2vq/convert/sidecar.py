"""What is written beside a volume: facts that later stages need, and nothing that identifies the patient.

Only what is listed here passes. Numbers pass as numbers, texts only as known words (`ct2vq.identity.vocabulary`), UIDs
as keyed hashes, the time of the acquisition with its date moved by the patient's days, of the patient age, sex, size
and weight (DICOM PS3.15 Table E.1-1, options Retain Longitudinal Temporal Information With Modified Dates and Retain
Patient Characteristics).
"""

from __future__ import annotations

import logging
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ct2vq.convert.converted import Converted
from ct2vq.convert.facts import acquisition_time, attenuation_corrected, radiopharmaceutical
from ct2vq.dicom.attributes import number, text, texts
from ct2vq.dicom.files import Collection, Instance
from ct2vq.errors import DicomError
from ct2vq.files import sha256_text, write_json
from ct2vq.identity.guard import Guard
from ct2vq.identity.vocabulary import known_term
from ct2vq.volume import write_volume

logger = logging.getLogger(__name__)


#: raised when the same input gives other voxels or another sidecar
CONVERTER_VERSION = "4"
#: defined terms of CorrectedImage (PS3.3 C.8.4.9, C.8.9.1)
_CORRECTIONS = """
    UNIF COR NCO DECY ATTN SCAT DTIM NRGY LIN MOTN PMOT CLN RADL DCAL NORM RAN DTRAN RANSM SUBTR NONE
"""
CORRECTIONS = frozenset(_CORRECTIONS.split())
#: from this age on only "90 or over" is told (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C))
OLDEST_YEARS = 90
#: years in a unit of PatientAge (PS3.5 6.2, value representation AS)
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def write(
    converted: Converted, found: Collection, volume: Path, sidecar: Path, case_id: str, target: str, guard: Guard
) -> None:
    """Write the sidecar, then the volume: where the volume exists, both are complete.

    Raises:
        DicomError: the images hold burned-in text, or the case's or patient's id tells who it is.
    """
    headers = guard.inspect(found, case_id)
    for path, reason in found.ignored:
        logger.info("ignored %s: %s", path, reason)
    for note in converted.notes:
        logger.warning("%s", note)
    if text(converted.first.dataset, "RecognizableVisualFeatures", converted.first.path) == "YES":
        converted.notes.append("W601 the header says that the patient can be recognised from the image")
    facts = sidecar_facts(converted, target, guard)
    write_json({"case_id": case_id, "target": target} | facts, sidecar)
    guard.leave_traces(found, headers, case_id, volume.name.removesuffix(".nii.gz"))
    write_volume(converted.image, volume, f"ct2vq {target} {facts['units']}")
    logger.info("%s: %d file(s) converted", target, len(converted.digests))


def sidecar_facts(converted: Converted, target: str, guard: Guard) -> dict[str, Any]:
    """Facts of the image and of its acquisition."""
    first, image, store = converted.first, converted.image, guard.store
    dataset, path = first.dataset, first.path
    array = sitk.GetArrayViewFromImage(image)
    moment = acquisition_time(first)
    shifted = None if moment is None else guard.shifted(moment, first)
    if moment is not None and shifted is None:
        converted.notes.append("W506 the date of the acquisition cannot be shifted, and is left out")
    facts: dict[str, Any] = {
        "manufacturer": known_term("manufacturer", text(dataset, "Manufacturer", path), store),
        "model": known_term("model", text(dataset, "ManufacturerModelName", path), store),
        "kernel": known_term("kernel", text(dataset, "ConvolutionKernel", path), store),
        "slice_thickness_mm": _number_if_any(first, "SliceThickness"),
        "grid": {
            "size": list(image.GetSize()),
            "spacing_mm": list(image.GetSpacing()),
            "origin_mm": list(image.GetOrigin()),
            "direction": list(image.GetDirection()),
        },
        "range": [float(array.min()), float(array.max())],
        "frame_of_reference": _hashed(first, "FrameOfReferenceUID", guard),
        "series": _hashed(first, "SeriesInstanceUID", guard),
        "header_patient": guard.header_patient(first),
        "acquired_shifted": shifted,
        "patient": _patient(first),
        "files": len(converted.digests),
        "input_sha256": sha256_text("\n".join(sorted(converted.digests))),
        "converter": CONVERTER_VERSION,
    }
    if target != "ct":
        facts |= _tracer(first, guard)
    return facts | _read_facts(converted, guard)


def _read_facts(converted: Converted, guard: Guard) -> dict[str, Any]:
    """What the readers told: the acquisition in the words of `ct2vq.convert.facts`, all else without headers' texts."""
    facts = dict(converted.facts)
    acquired = dict(facts.pop("acquisition", {}))
    if "kernel" in acquired:
        acquired["kernel"] = known_term("kernel", acquired["kernel"], guard.store)
    units = known_term("units", facts.pop("units"), guard.store)
    modality = text(converted.first.dataset, "Modality", converted.first.path)
    other = _without_identities(facts | {"modality": modality, "warnings": converted.notes}, guard)
    return other | {"acquisition": acquired, "units": units}


def _tracer(first: Instance, guard: Guard) -> dict[str, Any]:
    corrected = texts(first.dataset, "CorrectedImage", first.path)
    method = text(first.dataset, "AttenuationCorrectionMethod", first.path)
    pharmaceutical, nuclide = radiopharmaceutical(first)
    return {
        "radiopharmaceutical": known_term("radiopharmaceutical", pharmaceutical, guard.store),
        "radionuclide": known_term("radionuclide", nuclide, guard.store),
        "corrected_image": [term if term in CORRECTIONS else "other" for term in corrected],
        "attenuation_corrected": attenuation_corrected(corrected, method),
    }


def _patient(instance: Instance) -> dict[str, Any]:
    """Age in years (90 for everybody older), sex, size in m and weight in kg, as far as they are stated."""
    dataset, path = instance.dataset, instance.path
    sex = text(dataset, "PatientSex", path)
    return {
        "age_years": _age_years(text(dataset, "PatientAge", path)),
        "sex": sex if sex in ("F", "M", "O") else None,
        "size_m": _number_if_any(instance, "PatientSize"),
        "weight_kg": _number_if_any(instance, "PatientWeight"),
    }


def _number_if_any(instance: Instance, keyword: str) -> float | None:
    """A number that no volume depends on: what cannot be read is not known."""
    try:
        return number(instance.dataset, keyword, instance.path)
    except DicomError:
        return None


def _age_years(stated: str | None) -> int | None:
    match = re.fullmatch(r"(\d{1,3})([YMWD])", stated or "")
    return min(int(int(match[1]) * _YEARS[match[2]]), OLDEST_YEARS) if match else None


def _hashed(instance: Instance, keyword: str, guard: Guard) -> str | None:
    """16 hexadecimal digits of a UID's keyed hash: comparable within a study, not traceable to the archive."""
    uid = text(instance.dataset, keyword, instance.path)
    return None if uid is None else guard.store.pseudonym("uid", uid, 16)


def _without_identities(value: Any, guard: Guard) -> Any:
    """A fact or warning without the texts that it took from a header: the last gate for what is not listed here."""
    if isinstance(value, dict):
        return {key: _without_identities(one, guard) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_identities(one, guard) for one in value]
    if isinstance(value, datetime):
        raise TypeError("a moment that was not shifted must not be written")
    return guard.redactor.clean(value) if isinstance(value, str) else value

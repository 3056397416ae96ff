"""The facts of one file that tell what it is: read from its header, never its pixels, and never with an exception."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, UncompressedTransferSyntaxes
from pydicom.valuerep import PersonName

#: NM vectors (PS3.3 C.8.4.8) that take one value in a single volume
NM_VECTORS = (
    "EnergyWindowVector",
    "DetectorVector",
    "PhaseVector",
    "RotationVector",
    "RRIntervalVector",
    "TimeSlotVector",
    "AngularViewVector",
    "TimeSliceVector",
)
#: attributes that are kept as text, by the name of their fact
_TEXTS = {
    "sop_class": "SOPClassUID",
    "sop": "SOPInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "study_uid": "StudyInstanceUID",
    "frame": "FrameOfReferenceUID",
    "patient_id": "PatientID",
    "issuer": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "birth_date": "PatientBirthDate",
    "modality": "Modality",
    "image_type": "ImageType",
    "series_number": "SeriesNumber",
    "series_description": "SeriesDescription",
    "study_description": "StudyDescription",
    "protocol": "ProtocolName",
    "image_id": "ImageID",
    "body_part": "BodyPartExamined",
    "rows": "Rows",
    "columns": "Columns",
    "frames": "NumberOfFrames",
    "spacing": "PixelSpacing",
    "position": "ImagePositionPatient",
    "orientation": "ImageOrientationPatient",
    "slice_step": "SpacingBetweenSlices",
    "thickness": "SliceThickness",
    "kernel": "ConvolutionKernel",
    "acquisition": "AcquisitionNumber",
    "echo": "EchoNumbers",
    "temporal": "TemporalPositionIdentifier",
    "exposure": "Exposure",
    "contrast": "ContrastBolusAgent",
    "corrected": "CorrectedImage",
    "ac_method": "AttenuationCorrectionMethod",
    "series_type": "SeriesType",
    "burned_in": "BurnedInAnnotation",
}
#: where a date and a time may stand, the most telling first
_DATES = ("Acquisition", "Series", "Content", "Study")
_SEQUENCES = (
    "RadiopharmaceuticalInformationSequence",
    "DetectorInformationSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_OTHERS = ("SpecificCharacterSet", "AcquisitionDateTime", "BitsAllocated", "SamplesPerPixel")
KEYWORDS = [
    *_TEXTS.values(),
    *(f"{what}{kind}" for what in _DATES for kind in ("Date", "Time")),
    *NM_VECTORS,
    *_SEQUENCES,
    *_OTHERS,
]
_DICOMDIR = "1.2.840.10008.1.3.10"
#: transfer syntaxes in which a file is at least as long as its pixels
_PLAIN_SYNTAXES = frozenset(map(str, UncompressedTransferSyntaxes)) - {str(DeflatedExplicitVRLittleEndian)}
#: values that differ from file to file; all others are shared in memory
_OWN = frozenset({"sop", "position"})


class Facts(NamedTuple):
    """What a header says, as text; an absent value is empty, several values are joined by a backslash.

    Attributes:
        state: empty for an object with a readable header, else `empty`, `hidden`, `unreadable`, `not_dicom`,
            `no_header`, `damaged`, `dicomdir`.
        detail: what the reader said of a damaged file; may quote the file.
        taken: date and time, `YYYYMMDDHHMMSS` as far as stated.
        drug, nuclide, positrons: radiopharmaceutical with its code's meaning, its nuclide, its positron fraction.
        vectors: NM vectors with several values.
        cut_off: `1` if the file is shorter than its pixels.
        syntax: transfer syntax UID.
        others: as the attributes in `_TEXTS`.
    """

    state: str = ""
    detail: str = ""
    taken: str = ""
    drug: str = ""
    nuclide: str = ""
    positrons: str = ""
    vectors: str = ""
    cut_off: str = ""
    syntax: str = ""
    sop_class: str = ""
    sop: str = ""
    series_uid: str = ""
    study_uid: str = ""
    frame: str = ""
    patient_id: str = ""
    issuer: str = ""
    patient_name: str = ""
    birth_date: str = ""
    modality: str = ""
    image_type: str = ""
    series_number: str = ""
    series_description: str = ""
    study_description: str = ""
    protocol: str = ""
    image_id: str = ""
    body_part: str = ""
    rows: str = ""
    columns: str = ""
    frames: str = ""
    spacing: str = ""
    position: str = ""
    orientation: str = ""
    slice_step: str = ""
    thickness: str = ""
    kernel: str = ""
    acquisition: str = ""
    echo: str = ""
    temporal: str = ""
    exposure: str = ""
    contrast: str = ""
    corrected: str = ""
    ac_method: str = ""
    series_type: str = ""
    burned_in: str = ""


def read_many(paths: Iterable[Path]) -> list[Facts]:
    """The facts of several files."""
    with _quiet():
        return [read_facts(path) for path in paths]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Values are taken as they stand: pydicom's checks of their form cost time and warn without end."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def read_facts(path: Path) -> Facts:
    """The facts of one file; whatever is wrong with it becomes a state."""
    if path.name.startswith("."):
        return Facts("hidden")
    try:
        size = os.stat(path).st_size
        if size == 0:
            return Facts("empty")
        with open(path, "rb") as stream:
            return _facts(pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=KEYWORDS), size)
    except InvalidDicomError:
        return Facts("no_header" if _begins_like_a_data_set(path) else "not_dicom")
    except OSError as error:
        return Facts("unreadable", error.strerror or type(error).__name__)
    except Exception as error:  # pydicom raises nearly anything on damaged input
        return Facts("damaged", " ".join(f"{type(error).__name__}: {error}".split())[:200])


def _begins_like_a_data_set(path: Path) -> bool:
    """Whether a file starts with group 0002 or 0008 in little endian: DICOM whose preamble is missing."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(4)
    except OSError:
        return False
    return len(start) == 4 and start[0] in (2, 8) and start[1] == 0 and start[3] == 0


def _facts(data: Dataset, size: int) -> Facts:
    found = {name: _text(data, keyword) for name, keyword in _TEXTS.items()}
    meta = data.file_meta
    found["sop_class"] = found["sop_class"] or _text(meta, "MediaStorageSOPClassUID")
    found["sop"] = found["sop"] or _text(meta, "MediaStorageSOPInstanceUID")
    found["syntax"] = _text(meta, "TransferSyntaxUID")
    if found["sop_class"] == _DICOMDIR:
        return Facts("dicomdir")
    if not (found["sop_class"] or found["modality"] or found["rows"]):
        return Facts("damaged", "the header ends before it says what the file is")
    found["taken"] = _taken(data)
    found["vectors"] = "\\".join(name for name in NM_VECTORS if len(set(_text(data, name).split("\\"))) > 1)
    found["cut_off"] = "1" if _cut_off(data, found["syntax"], size) else ""
    _add_drug(found, data)
    _add_geometry(found, data)
    return Facts(**{name: value if name in _OWN else sys.intern(value) for name, value in found.items()})


def _text(data: Dataset, keyword: str) -> str:
    """An attribute as text; what cannot be understood counts as absent: `convert` will say so with its code."""
    try:
        value = data.get(keyword)
    except Exception:  # pydicom raises nearly anything on damaged input
        return ""
    if value is None:
        return ""
    if isinstance(value, (str, PersonName)) or not hasattr(value, "__iter__"):
        return str(value).strip(" \0")
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    return "\\".join(str(part).strip(" \0") for part in value)


def _taken(data: Dataset) -> str:
    """The first stated date with its time, digits only."""
    whole = _text(data, "AcquisitionDateTime")
    if whole[:8].isdigit() and len(whole) >= 8 and not _text(data, "AcquisitionDate"):
        return "".join(character for character in whole.partition(".")[0][:14] if character.isdigit())
    for what in _DATES:
        date = _text(data, f"{what}Date").replace(".", "").replace("-", "")
        if len(date) == 8 and date.isdigit():
            time = _text(data, f"{what}Time").replace(":", "").partition(".")[0][:6]
            return date + (time if time.isdigit() else "")
    return ""


def _cut_off(data: Dataset, syntax: str, size: int) -> bool:
    """Whether a file without compression is shorter than its pixels."""
    if syntax not in _PLAIN_SYNTAXES:
        return False
    try:
        counts = [int(_text(data, name) or 1) for name in ("NumberOfFrames", "SamplesPerPixel")]
        shape = [int(_text(data, name)) for name in ("Rows", "Columns", "BitsAllocated")]
    except ValueError:
        return False
    return counts[0] * counts[1] * shape[0] * shape[1] * shape[2] // 8 > size


def _items(data: Dataset, keyword: str) -> list[Dataset]:
    try:
        return list(data.get(keyword) or [])
    except Exception:  # pydicom raises nearly anything on damaged input
        return []


def _add_drug(found: dict[str, str], data: Dataset) -> None:
    for item in _items(data, "RadiopharmaceuticalInformationSequence")[:1]:
        meanings = [_text(code, "CodeMeaning") for code in _items(item, "RadiopharmaceuticalCodeSequence")[:1]]
        found["drug"] = "; ".join(filter(None, [_text(item, "Radiopharmaceutical"), *meanings]))
        nuclides = [_text(code, "CodeMeaning") for code in _items(item, "RadionuclideCodeSequence")[:1]]
        found["nuclide"] = "".join(nuclides)
        found["positrons"] = _text(item, "RadionuclidePositronFraction")


def _add_geometry(found: dict[str, str], data: Dataset) -> None:
    """Position and orientation of NM (in the detector's item) and of enhanced objects (in functional groups)."""
    for item in _items(data, "DetectorInformationSequence")[:1]:
        found["position"] = found["position"] or _text(item, "ImagePositionPatient")
        found["orientation"] = found["orientation"] or _text(item, "ImageOrientationPatient")
    frames = _items(data, "PerFrameFunctionalGroupsSequence")
    groups = [*_items(data, "SharedFunctionalGroupsSequence"), *frames[:1]]
    for group in groups:
        for name, sequence, keyword in _GROUPS:
            for item in _items(group, sequence)[:1]:
                found[name] = found[name] or _text(item, keyword)
    if len(frames) > 1:
        found["slice_step"] = _frame_step(frames) or found["slice_step"]


#: facts of enhanced objects, with the functional group and attribute that hold them
_GROUPS = (
    ("spacing", "PixelMeasuresSequence", "PixelSpacing"),
    ("thickness", "PixelMeasuresSequence", "SliceThickness"),
    ("position", "PlanePositionSequence", "ImagePositionPatient"),
    ("orientation", "PlaneOrientationSequence", "ImageOrientationPatient"),
    ("kernel", "CTReconstructionSequence", "ConvolutionKernel"),
)


def _frame_step(frames: list[Dataset]) -> str:
    """Mean distance of an enhanced object's frames in mm, from the first and the last frame's position."""
    places = []
    for frame in (frames[0], frames[-1]):
        items = _items(frame, "PlanePositionSequence")
        places.append(_text(items[0], "ImagePositionPatient") if items else "")
    try:
        first, last = ([float(value) for value in place.split("\\")] for place in places)
        return f"{math.dist(first, last) / (len(frames) - 1):.6g}"
    except ValueError:
        return ""

"""What was found in the headers of a volume, what the standard asks to do with it, and what was done. No values.

The standard is the Basic Application Level Confidentiality Profile of DICOM PS3.15 Table E.1-1 with the options Retain
Longitudinal Temporal Information With Modified Dates and Retain Patient Characteristics. The table's actions come from
the package `dicom-anonymizer`, which generates them from the standard.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as profile

from ct2vq.files import write_text
from ct2vq.identity.headers import Attribute, Survey

#: the Basic Profile's action codes (PS3.15 Table E.1-1a): D dummy, Z empty, X remove, U new UID
_ACTIONS = {
    "D": profile.D_TAGS,
    "Z": profile.Z_TAGS,
    "X": profile.X_TAGS,
    "U": profile.U_TAGS,
    "Z/D": profile.Z_D_TAGS,
    "X/Z": profile.X_Z_TAGS,
    "X/D": profile.X_D_TAGS,
    "X/Z/D": profile.X_Z_D_TAGS,
    "X/Z/U*": profile.X_Z_U_STAR_TAGS,
}
NOT_LISTED = "not listed"
REMOVED = "removed"
#: what the sidecar or the volume carries of an attribute; all others are removed
_DONE = {
    "kept in the volume": "Rows Columns NumberOfFrames PixelSpacing ImagePositionPatient ImageOrientationPatient "
    "SpacingBetweenSlices RescaleSlope RescaleIntercept PixelRepresentation BitsAllocated BitsStored",
    "kept as number": "SliceThickness KVP Exposure XRayTubeCurrent CTDIvol ReconstructionDiameter ContrastBolusVolume "
    "RadionuclideTotalDose ActualFrameDuration EnergyWindowLowerLimit EnergyWindowUpperLimit "
    "PatientSize PatientWeight",
    "kept as number, 90 and over as 90": "PatientAge",
    "kept as one of a few words": "Modality PatientSex PatientPosition CorrectedImage AttenuationCorrectionMethod "
    "ScatterCorrectionMethod ContrastBolusAgent CollimatorType CollimatorGridName Units LossyImageCompression "
    "RecognizableVisualFeatures BurnedInAnnotation",
    "read for a few known words, text removed": "SeriesDescription ProtocolName AcquisitionProtocolDescription "
    "ImageComments ReconstructionMethod",
    "mapped to a vocabulary": "Manufacturer ManufacturerModelName ConvolutionKernel Radiopharmaceutical",
    "replaced by a keyed hash": "SeriesInstanceUID FrameOfReferenceUID",
    "date shifted, time of day kept": "AcquisitionDateTime AcquisitionDate AcquisitionTime",
    "used for the shifted time where that of the acquisition is missing, removed": "SeriesDate SeriesTime ContentDate "
    "ContentTime StudyDate StudyTime",
}
#: sequences of which something is kept: functional groups, detectors, radiopharmaceutical, energy windows, value maps
_SEQUENCES_READ = ("(5200,9229)", "(5200,9230)", "(0054,0022)", "(0054,0016)", "(0054,0012)", "(0040,9096)")
_DONE_BY_KEYWORD = {keyword: done for done, keywords in _DONE.items() for keyword in keywords.split()}


def write_audit(found: Survey, path: Path) -> None:
    """Write one row for each attribute: `tag keyword vr objects profile done`.

    Args:
        found: what the headers hold.
        path: `*_deidentified.tsv`.
    """
    rows = [("tag", "keyword", "vr", "objects", "profile", "done"), *sorted(_rows(found))]
    # without pandas: importing it would take longer than to convert a SPECT
    write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), path)


def _rows(found: Survey) -> Iterator[tuple[str, str, str, int, str, str]]:
    for attribute, number in found.objects.items():
        keyword = attribute.keyword or ("private" if _is_private(attribute.tag) else "unknown")
        yield attribute.path, keyword, attribute.vr, number, action(attribute.tag), done(attribute)


def action(tag: int) -> str:
    """The Basic Profile's action for a tag: private attributes are removed, as the profile asks (X)."""
    if _is_private(tag):
        return "X"
    exact, masked = _profile()
    if tag in exact:
        return exact[tag]
    return next((code for value, mask, code in masked if tag & mask == value), NOT_LISTED)


def done(attribute: Attribute) -> str:
    """What happened to an attribute."""
    nested = "/" in attribute.path
    if _is_private(attribute.tag) or (nested and not attribute.path.startswith(_SEQUENCES_READ)):
        return REMOVED
    return _DONE_BY_KEYWORD.get(attribute.keyword, REMOVED)


def _is_private(tag: int) -> bool:
    return bool(tag >> 16 & 1)


@cache
def _profile() -> tuple[dict[int, str], list[tuple[int, int, str]]]:
    """Actions by tag, and those of repeating groups as value and mask."""
    exact: dict[int, str] = {}
    masked: list[tuple[int, int, str]] = []
    for code, tags in _ACTIONS.items():
        for group, element, *masks in tags:
            value = group << 16 | element
            if masks:
                masked.append((value, masks[0] << 16 | masks[1], code))
            else:
                exact[value] = code
    return exact, masked

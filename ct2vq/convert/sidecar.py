"""What is written beside a volume: facts that later stages need, and nothing that identifies the patient."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ct2vq.convert.converted import Converted
from ct2vq.convert.facts import attenuation_corrected, radiopharmaceutical
from ct2vq.dicom.attributes import number, text, texts
from ct2vq.dicom.files import Collection
from ct2vq.files import sha256_text, write_json
from ct2vq.volume import write_volume

logger = logging.getLogger(__name__)


#: raised when the same input gives other voxels or another sidecar
CONVERTER_VERSION = "2"


def write(converted: Converted, found: Collection, volume: Path, sidecar: Path, case_id: str, target: str) -> None:
    """Write the sidecar, then the volume: where the volume exists, both are complete."""
    for path, reason in found.ignored:
        logger.info("ignored %s: %s", path, reason)
    for note in converted.notes:
        logger.warning("%s", note)
    write_json(_sidecar(converted, case_id, target), sidecar)
    write_volume(converted.image, volume, f"ct2vq {target} {converted.facts['units']}")
    logger.info("%s: %d file(s) converted", target, len(converted.digests))


def _sidecar(converted: Converted, case_id: str, target: str) -> dict[str, Any]:
    """Facts of the image that do not identify the patient."""
    dataset, path, image = converted.first.dataset, converted.first.path, converted.image
    array = sitk.GetArrayViewFromImage(image)
    corrected = texts(dataset, "CorrectedImage", path)
    method = text(dataset, "AttenuationCorrectionMethod", path)
    pharmaceutical, nuclide = radiopharmaceutical(converted.first)
    facts: dict[str, Any] = {
        "case_id": case_id,
        "target": target,
        "modality": text(dataset, "Modality", path),
        "manufacturer": text(dataset, "Manufacturer", path),
        "model": text(dataset, "ManufacturerModelName", path),
        "kernel": text(dataset, "ConvolutionKernel", path),
        "slice_thickness_mm": number(dataset, "SliceThickness", path),
        "grid": {
            "size": list(image.GetSize()),
            "spacing_mm": list(image.GetSpacing()),
            "origin_mm": list(image.GetOrigin()),
            "direction": list(image.GetDirection()),
        },
        "range": [float(array.min()), float(array.max())],
        "frame_of_reference": hashed(text(dataset, "FrameOfReferenceUID", path)),
        "series": hashed(text(dataset, "SeriesInstanceUID", path)),
        "files": len(converted.digests),
        "input_sha256": sha256_text("\n".join(sorted(converted.digests))),
        "warnings": converted.notes,
        "converter": CONVERTER_VERSION,
    }
    if target != "ct":
        facts |= {
            "radiopharmaceutical": pharmaceutical,
            "radionuclide": nuclide,
            "corrected_image": corrected,
            "attenuation_corrected": attenuation_corrected(corrected, method),
        }
    return facts | converted.facts


def hashed(uid: str | None) -> str | None:
    """The first 16 hex digits of a UID's SHA-256: comparable between files, not traceable to the archive."""
    return None if uid is None else sha256_text(uid)[:16]

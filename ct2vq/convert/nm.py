"""SPECT stored as one multi-frame NM object (PS3.3 C.8.4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from ct2vq.convert.converted import Converted
from ct2vq.convert.facts import radiopharmaceutical
from ct2vq.convert.opinion import SECOND_OPINION_MM, second_opinion
from ct2vq.convert.series import UNITS, lossy_notes
from ct2vq.dicom.attributes import attribute, number, numbers, text, texts
from ct2vq.dicom.files import Instance, read_file
from ct2vq.dicom.geometry import COSINE_TOLERANCE, grid_of, read_plane
from ct2vq.dicom.pixels import rescale, stored_values
from ct2vq.errors import DicomError
from ct2vq.volume import from_array, make_grid

#: vectors of an NM object (PS3.3 C.8.4.8) that must not change within one volume, with the reason for a refusal
NM_VECTORS = {
    "EnergyWindowVector": "several energy windows",
    "DetectorVector": "several detectors",
    "PhaseVector": "several phases (dynamic)",
    "RotationVector": "several rotations (projections)",
    "RRIntervalVector": "several R-R intervals (gated)",
    "TimeSlotVector": "several time slots (gated)",
    "AngularViewVector": "several angular views (projections)",
    "TimeSliceVector": "several time slices (dynamic)",
}
#: UCUM codes of real-world values that have a name here
UCUM_UNITS = {"Bq/ml": "Bq/mL", "{counts}": "counts"}
#: names of positron emitters as vendors write them: an image of one is PET, not SPECT
POSITRON_EMITTERS = ("18f", "f-18", "68ga", "ga-68", "^18", "^68", "11c", "c-11", "fluorine", "gallium^68")


def read_nm(instance: Instance) -> Converted:
    """A reconstructed SPECT in one multi-frame NM object (PS3.3 C.8.4)."""
    _require_reconstruction(instance)
    data, digest = read_file(instance.path)
    stored = stored_values(data, instance.path)
    frames = stored if stored.ndim == 3 else stored[np.newaxis]
    if len(frames) < 2:
        raise DicomError("D303", "one frame is not a volume", path=instance.path, key="NumberOfFrames")
    order, notes = _frame_order(instance, len(frames))
    grid, visible, more = _nm_grid(instance, len(frames))
    opinion = second_opinion(instance.path, grid, visible)
    values, units, scale_notes = _nm_values(data, frames, instance.path)
    image = _proper(from_array(values[order], grid))
    facts = {"units": units, "second_opinion": opinion}
    return Converted(image, instance, [digest], facts, notes + more + scale_notes + lossy_notes([instance]))


def _require_reconstruction(instance: Instance) -> None:
    """Refuse everything that shares the NM SOP class without being one reconstructed emission volume."""
    kinds = [kind.upper() for kind in texts(instance.dataset, "ImageType", instance.path)]
    kind = kinds[2] if len(kinds) > 2 else "(absent)"
    if kind != "RECON TOMO":
        what = {
            "TOMO": "raw projections, not a reconstruction",
            "STATIC": "a planar image",
            "WHOLE BODY": "a planar whole-body image",
            "DYNAMIC": "a dynamic series",
            "GATED": "a gated planar series",
            "GATED TOMO": "raw gated projections",
            "RECON GATED TOMO": "a gated reconstruction",
        }.get(kind, "no reconstructed SPECT")
        problem = f"image type {kind}: {what}; RECON TOMO expected"
        raise DicomError("D205", problem, path=instance.path, key="ImageType", hint="choose the reconstructed volume")
    if "TRANSMISSION" in kinds:
        raise DicomError("D208", "a transmission map, emission expected", path=instance.path, key="ImageType")
    for keyword, reason in NM_VECTORS.items():
        if len(set(texts(instance.dataset, keyword, instance.path))) > 1:
            raise DicomError("D206", f"{reason} in one object, one volume expected", path=instance.path, key=keyword)


def _frame_order(instance: Instance, frames: int) -> tuple[np.ndarray, list[str]]:
    """Indices of the frames in the order of their slice numbers, which start at 1 (PS3.3 C.8.4.8)."""
    stated = texts(instance.dataset, "SliceVector", instance.path)
    if not stated:
        return np.arange(frames), ["no slice vector: frames taken in stored order"]
    slices = numbers(instance.dataset, "SliceVector", len(stated), instance.path)
    order = np.argsort(slices, kind="stable")
    if len(stated) != frames or not np.array_equal(slices[order], np.arange(1, frames + 1)):
        problem = f"the slice vector does not number {frames} frames from 1 to {frames}, each once"
        raise DicomError("D312", problem, path=instance.path, key="SliceVector")
    if order[0] != 0:
        # Position belongs to the first frame, stacking starts at the first slice (C.8.4.15): here they differ.
        problem = f"the first frame is slice {int(slices[0])}: which slice the position belongs to is not told"
        raise DicomError("D312", problem, path=instance.path, key="SliceVector")
    return order, []


def _nm_grid(instance: Instance, frames: int) -> tuple[sitk.Image, bool, list[str]]:
    """The grid as stacked (left-handed where the spacing is negative), whether GDCM can see it too, and warnings."""
    geometry, notes = _nm_geometry(instance)
    plane = read_plane(instance, geometry)
    visible = geometry is not instance.dataset
    spacing = number(instance.dataset, "SpacingBetweenSlices", instance.path)
    if spacing is None:
        spacing, visible = number(instance.dataset, "SliceThickness", instance.path), False
        notes.append("no SpacingBetweenSlices: slice thickness used, stacking along the normal assumed")
    if not spacing:
        problem = "neither spacing between slices nor slice thickness is known"
        raise DicomError("D313", problem, path=instance.path, key="SpacingBetweenSlices")
    # The sign tells whether slices follow the normal (row x column) or run against it (PS3.3 C.8.4.15).
    return grid_of(plane, frames, abs(spacing), plane.normal * np.sign(spacing)), visible, notes


def _nm_geometry(instance: Instance) -> tuple[Dataset, list[str]]:
    """The item that holds position and orientation: the detector's (PS3.3 C.8.4.11), else the data set itself."""
    items = attribute(instance.dataset, "DetectorInformationSequence", instance.path) or []
    complete = [item for item in items if _has_plane(item, instance.path)]
    if not complete:
        return instance.dataset, []
    planes = [read_plane(instance, item) for item in complete]
    if _has_plane(instance.dataset, instance.path):
        planes.append(read_plane(instance))
    for other in planes[1:]:
        apart = np.abs(other.position - planes[0].position).max()
        turned = np.abs(np.array([other.row - planes[0].row, other.column - planes[0].column])).max()
        if apart > SECOND_OPINION_MM or turned > COSINE_TOLERANCE:
            problem = f"positions or orientations that differ ({apart:.2f} mm): several detectors or a wrong header"
            raise DicomError("D314", problem, path=instance.path, key="DetectorInformationSequence")
    return complete[0], [f"{len(complete)} detectors with one geometry"] if len(complete) > 1 else []


def _has_plane(dataset: Dataset, path: Path) -> bool:
    return all(
        attribute(dataset, keyword, path) is not None for keyword in ("ImagePositionPatient", "ImageOrientationPatient")
    )


def _nm_values(data: Dataset, stored: np.ndarray, path: Path) -> tuple[np.ndarray, str, list[str]]:
    """Frames `(frames, y, x)` as float32 in real-world units where the object maps to them, else rescaled counts."""
    units = UNITS.get(text(data, "Units", path) or "", "counts")
    maps = attribute(data, "RealWorldValueMappingSequence", path) or []
    if maps:
        slope = number(maps[0], "RealWorldValueSlope", path)
        intercept = number(maps[0], "RealWorldValueIntercept", path) or 0.0
        if not slope:
            problem = "a mapping without slope (lookup table?) is not supported"
            raise DicomError("D411", problem, path=path, key="RealWorldValueMappingSequence")
        code = attribute(maps[0], "MeasurementUnitsCodeSequence", path) or [Dataset()]
        unit = text(code[0], "CodeValue", path) or units
        notes = [f"{len(maps)} real-world value mappings, the first used"] if len(maps) > 1 else []
        return (stored * slope + intercept).astype(np.float32), UCUM_UNITS.get(unit, unit), notes
    slope, intercept = rescale(data, path) or (1.0, 0.0)
    return (stored * slope + intercept).astype(np.float32), units, []


def _proper(image: sitk.Image) -> sitk.Image:
    """The same voxels at the same places with a direction that is a rotation: slices reversed if it is a mirror."""
    direction = np.reshape(image.GetDirection(), (3, 3)).copy()
    if np.linalg.det(direction) > 0:
        return image
    last = image.TransformIndexToPhysicalPoint([0, 0, image.GetSize()[2] - 1])
    array = np.ascontiguousarray(sitk.GetArrayViewFromImage(image)[::-1])
    direction[:, 2] *= -1
    return from_array(array, make_grid(image.GetSize(), image.GetSpacing(), last, direction.ravel()))


def check_counts(converted: Converted, path: Path) -> None:
    """Refuse an empty image, mention what a SPECT should not have."""
    array = sitk.GetArrayViewFromImage(converted.image)
    if not np.isfinite(array).all() or array.max() <= 0:
        raise DicomError("D409", "the image holds no counts", path=path, key="PixelData")
    if array.min() < 0:
        converted.notes.append(f"{float((array < 0).mean()):.2%} of the voxels are negative")
    nuclide = radiopharmaceutical(converted.first)[1] or ""
    if any(name in nuclide.lower() for name in POSITRON_EMITTERS):
        converted.notes.append(f"{nuclide} is a positron emitter: PET, not SPECT")

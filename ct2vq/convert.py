"""Stage `convert`: raw DICOM to NIfTI in patient space, checked and de-identified.

A CT series becomes one float32 volume in HU, a SPECT (one reconstructed NM object, or a PT series) one float32 volume
in the units it was stored with. Beside each lies a sidecar with what later stages need, and nothing that identifies
the patient: no names, dates, ids, file names or raw UIDs. What cannot be trusted is a `DicomError`, never a guess.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
)

from ct2vq import dicom
from ct2vq.dicom import Collection, Instance
from ct2vq.errors import DicomError
from ct2vq.files import sha256_text, write_json
from ct2vq.volume import corners, from_array, make_grid, write_volume

logger = logging.getLogger(__name__)

#: raised when the same input gives other voxels or another sidecar
CONVERTER_VERSION = "2"
#: HU of air outside the field of view, and the lowest value of the scale that scanners write (12 bits from -1024)
AIR_HU = -1024.0
#: a padding value above this is no air: taken for a wrong header, because it would erase real tissue
PADDING_LIMIT_HU = -900.0
#: largest distance of a corner voxel from SimpleITK's (GDCM's) reading of the same SPECT
SECOND_OPINION_MM = 0.1
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
NM_UNITS = {"BQML": "Bq/mL", "CNTS": "counts", "PROPCNTS": "counts", "CPS": "counts/s", "PROPCPS": "counts/s"}
#: UCUM codes of real-world values that have a name here
UCUM_UNITS = {"Bq/ml": "Bq/mL", "{counts}": "counts"}
#: names of positron emitters as vendors write them: an image of one is PET, not SPECT
POSITRON_EMITTERS = ("18f", "f-18", "68ga", "ga-68", "^18", "^68", "11c", "c-11", "fluorine", "gallium^68")


@dataclass
class Converted:
    """A volume with what its sidecar says."""

    image: sitk.Image
    first: Instance
    digests: list[str]
    facts: dict[str, Any]
    notes: list[str]


# --- entry points --------------------------------------------------------------------------------------------------


def convert_ct(folder: Path, volume: Path, sidecar: Path, settings: dict, case_id: str) -> None:
    """Convert one CT series to NIfTI.

    Args:
        folder: DICOM folder, searched with everything below it.
        volume: `*.nii.gz` to write, float32, HU, slices ordered along their normal (a proper rotation).
        sidecar: `*.json` to write.
        settings: config block `convert`.
        case_id: the study's own name of the case.

    Raises:
        DicomError: the folder does not hold exactly one complete, regular, untilted CT series.
    """
    found = dicom.collect(folder)
    instances = _ct_instances(found)
    converted = _read_series(instances, settings, _ct_slice)
    converted.notes += found.ignored_summary()
    _finish_ct(converted, settings, Path(folder))
    _write(converted, found, volume, sidecar, case_id, "ct")


def convert_spect(path: Path, volume: Path, sidecar: Path, settings: dict, case_id: str, target: str) -> None:
    """Convert one SPECT volume (NM reconstruction, or single-frame PT series) to NIfTI.

    Args:
        path: DICOM file, or folder, searched with everything below it.
        volume: `*.nii.gz` to write, float32, in the stored units, a proper rotation (slices reversed if needed).
        sidecar: `*.json` to write.
        settings: config block `convert`.
        case_id: the study's own name of the case.
        target: `perfusion` or `ventilation`.

    Raises:
        DicomError: there is not exactly one reconstructed volume, or its geometry cannot be trusted.
    """
    found = dicom.collect(path)
    instances = found.keep([NuclearMedicineImageStorage, PositronEmissionTomographyImageStorage])
    if not instances:
        raise DicomError(f"no SPECT found; {_inventory(found)}", path=path, hint="one NM object or PT series expected")
    nm = [i for i in instances if i.sop_class == NuclearMedicineImageStorage]
    if nm and len(instances) > 1:
        raise DicomError(
            f"{len(instances)} NM/PT objects where one volume is expected: {_list_objects(instances)}",
            path=path,
            hint="name the file of the reconstruction in the cohort table",
        )
    converted = _read_nm(nm[0]) if nm else _read_pt(instances, settings)
    converted.notes += found.ignored_summary()
    _check_counts(converted, Path(path))
    _write(converted, found, volume, sidecar, case_id, target)


# --- CT ------------------------------------------------------------------------------------------------------------


def _ct_instances(found: Collection) -> list[Instance]:
    """The slices of the folder's only CT series, localizers set aside."""
    instances = found.keep([CTImageStorage])
    slices = []
    for instance in instances:
        if "LOCALIZER" in (kind.upper() for kind in dicom.texts(instance.dataset, "ImageType", instance.path)):
            found.ignored.append((instance.path, "CT localizer"))
        else:
            slices.append(instance)
    if slices:
        _require_one_series(slices, found.root)
        return slices
    if any(instance.sop_class == EnhancedCTImageStorage for instance in found.instances):
        raise DicomError(
            "enhanced multi-frame CT is not supported",
            path=found.root,
            hint="export or convert it to single-frame CT Image Storage, for example with dcm4che's emf2sf",
        )
    raise DicomError(f"no CT slices found; {_inventory(found)}", path=found.root, hint="a CT Image series is expected")


def _ct_slice(instance: Instance, data: Dataset, notes: list[str]) -> np.ndarray:
    """One slice `(y, x)` in HU, padding as air."""
    path = instance.path
    scale = dicom.rescale(data, path)
    if scale is None:
        raise DicomError("no rescale to HU", path=path, key="RescaleSlope", hint="a CT without it has unknown units")
    kind = dicom.text(data, "RescaleType", path)
    if kind not in (None, "HU", "US"):
        raise DicomError(f"values in {kind}, HU expected", path=path, key="RescaleType")
    stored = dicom.stored_values(data, path)
    values = (stored * scale[0] + scale[1]).astype(np.float32)
    bounds = dicom.padding(data, path)
    if bounds is None:
        return values
    if max(bound * scale[0] + scale[1] for bound in bounds) > PADDING_LIMIT_HU:
        notes.append(f"padding value ignored: it stands for more than {PADDING_LIMIT_HU:g} HU, which is no air")
        return values
    values[(stored >= bounds[0]) & (stored <= bounds[1])] = AIR_HU
    return values


def _finish_ct(converted: Converted, settings: dict, folder: Path) -> None:
    """Cut the scale at air, check that it can be HU."""
    array = sitk.GetArrayViewFromImage(converted.image)
    low, air, tissue = _hu_fractions(array)
    if low:
        # Below -1024 HU lie only noise in air and fill values (-2000, -3024) whose header does not call them padding.
        converted.notes.append(f"{low:.2%} of the voxels lay below {AIR_HU:g} HU and were set to it")
        converted.image = sitk.Clamp(converted.image, sitk.sitkFloat32, AIR_HU, float(array.max()))
    converted.facts |= {"units": "HU", "air_fraction": round(air, 4), "tissue_fraction": round(tissue, 4)}
    if min(air, tissue) < float(settings["hu_min_fraction"]):
        problem = (
            f"the values cannot be HU of a patient: {air:.2%} lie below -800 (air) and {tissue:.2%} between -200 and "
            f"200 (tissue), range {float(array.min()):g} to {float(array.max()):g}"
        )
        if settings["hu_plausibility"]:
            hint = "is the rescale right? set convert: hu_plausibility: false if so"
            raise DicomError(problem, path=folder, key="RescaleIntercept", hint=hint)
        converted.notes.append(problem)


def _hu_fractions(array: np.ndarray) -> tuple[float, float, float]:
    """Fractions of voxels below -1024, below -800, and between -200 and 200 HU; slice by slice, to save memory."""
    counts = np.zeros(3)
    for plane in array:
        counts += [(plane < AIR_HU).sum(), (plane < -800).sum(), ((plane > -200) & (plane < 200)).sum()]
    low, air, tissue = (counts / array.size).tolist()
    return low, air, tissue


# --- single-frame series (CT, PT) ----------------------------------------------------------------------------------


def _require_one_series(instances: Sequence[Instance], root: Path) -> None:
    """Stop if the images belong to several series; images that all lack the series UID are taken for one."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        uid = dicom.text(instance.dataset, "SeriesInstanceUID", instance.path) or ""
        groups.setdefault(uid, []).append(instance)
    if len(groups) > 1:
        series = "; ".join(
            f"series {dicom.text(members[0].dataset, 'SeriesNumber', members[0].path) or 'without number'} "
            f"[{_hashed(uid) if uid else 'no UID'}] with {len(members)} file(s), "
            f"for example {members[0].path.relative_to(root)}"
            for uid, members in groups.items()
        )
        raise DicomError(f"{len(groups)} series where one is expected: {series}", path=root, hint="keep one")


def _read_series(
    instances: Sequence[Instance], settings: dict, read_slice: Callable[[Instance, Dataset, list[str]], np.ndarray]
) -> Converted:
    """Stack single-frame images; `read_slice(instance, data, notes)` gives a slice's values `(y, x)`."""
    planes = [dicom.read_plane(instance) for instance in instances]
    order, grid, notes = dicom.stack(planes, settings)
    ordered = [instances[i] for i in order]
    array = np.empty((len(ordered), *planes[0].shape), dtype=np.float32)
    digests, slice_notes = [], []
    for k, instance in enumerate(ordered):
        data, digest = dicom.read_file(instance.path)
        values = read_slice(instance, data, slice_notes)
        if values.shape != planes[0].shape:
            raise DicomError(f"pixels of shape {values.shape}, {planes[0].shape} expected", path=instance.path)
        array[k] = values
        digests.append(digest)
    notes += sorted(set(slice_notes)) + _spacing_notes(ordered[0], grid.GetSpacing()[2], settings)
    notes += _lossy_notes(ordered)
    if dicom.text(ordered[0].dataset, "SeriesInstanceUID", ordered[0].path) is None:
        notes.append("no series UID: all files taken for one series")
    return Converted(from_array(array, grid), ordered[0], digests, {}, notes)


def _spacing_notes(instance: Instance, spacing: float, settings: dict) -> list[str]:
    """Positions win over the attributes that only describe them; a disagreement is said."""
    notes = []
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        stated = dicom.number(instance.dataset, keyword, instance.path)
        if stated is not None and abs(abs(stated) - spacing) > float(settings["slice_tolerance_mm"]):
            notes.append(f"{keyword} is {stated:g} mm, but the positions lie {spacing:.4g} mm apart: positions used")
    return notes


def _lossy_notes(instances: Sequence[Instance]) -> list[str]:
    lossy = sum(dicom.text(i.dataset, "LossyImageCompression", i.path) == "01" for i in instances)
    return [f"{lossy} file(s) underwent lossy compression: values are not exact"] if lossy else []


# --- PT ------------------------------------------------------------------------------------------------------------


def _read_pt(instances: Sequence[Instance], settings: dict) -> Converted:
    """A SPECT stored as single-frame PT objects, each with its own slope."""
    _require_one_series(instances, _common(instances))
    first = instances[0]
    series_type = [value.upper() for value in dicom.texts(first.dataset, "SeriesType", first.path)]
    for refused in ("DYNAMIC", "GATED", "REPROJECTION"):
        if refused in series_type:
            raise DicomError(f"a {refused} series, one static volume expected", path=first.path, key="SeriesType")
    converted = _read_series(instances, settings, _pt_slice)
    units = dicom.text(first.dataset, "Units", first.path)
    converted.facts["units"] = NM_UNITS.get(units or "", units or "unknown")
    return converted


def _common(instances: Sequence[Instance]) -> Path:
    """The folder that holds all files."""
    root = instances[0].path.parent
    while not all(instance.path.is_relative_to(root) for instance in instances):
        root = root.parent
    return root


def _pt_slice(instance: Instance, data: Dataset, notes: list[str]) -> np.ndarray:
    """One slice `(y, x)` in the series' units."""
    scale = dicom.rescale(data, instance.path)
    if scale is None:
        raise DicomError("PT without rescale", path=instance.path, key="RescaleSlope")
    return dicom.stored_values(data, instance.path) * scale[0] + scale[1]


# --- NM ------------------------------------------------------------------------------------------------------------


def _read_nm(instance: Instance) -> Converted:
    """A reconstructed SPECT in one multi-frame NM object (PS3.3 C.8.4)."""
    _require_reconstruction(instance)
    data, digest = dicom.read_file(instance.path)
    stored = dicom.stored_values(data, instance.path)
    frames = stored if stored.ndim == 3 else stored[np.newaxis]
    if len(frames) < 2:
        raise DicomError("one frame is not a volume", path=instance.path, key="NumberOfFrames")
    order, notes = _frame_order(instance, len(frames))
    grid, visible, more = _nm_grid(instance, len(frames))
    opinion = _second_opinion(instance.path, grid, visible)
    values, units, scale_notes = _nm_values(data, frames, instance.path)
    image = _proper(from_array(values[order], grid))
    facts = {"units": units, "second_opinion": opinion}
    return Converted(image, instance, [digest], facts, notes + more + scale_notes + _lossy_notes([instance]))


def _require_reconstruction(instance: Instance) -> None:
    """Refuse everything that shares the NM SOP class without being one reconstructed emission volume."""
    kinds = [kind.upper() for kind in dicom.texts(instance.dataset, "ImageType", instance.path)]
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
        raise DicomError(problem, path=instance.path, key="ImageType", hint="choose the reconstructed volume")
    if "TRANSMISSION" in kinds:
        raise DicomError("a transmission map, emission expected", path=instance.path, key="ImageType")
    for keyword, reason in NM_VECTORS.items():
        if len(set(dicom.texts(instance.dataset, keyword, instance.path))) > 1:
            raise DicomError(f"{reason} in one object, one volume expected", path=instance.path, key=keyword)


def _frame_order(instance: Instance, frames: int) -> tuple[np.ndarray, list[str]]:
    """Indices of the frames in the order of their slice numbers, which start at 1 (PS3.3 C.8.4.8)."""
    numbers = dicom.texts(instance.dataset, "SliceVector", instance.path)
    if not numbers:
        return np.arange(frames), ["no slice vector: frames taken in stored order"]
    numbers_found = dicom.numbers(instance.dataset, "SliceVector", len(numbers), instance.path)
    order = np.argsort(numbers_found, kind="stable")
    if len(numbers) != frames or not np.array_equal(numbers_found[order], np.arange(1, frames + 1)):
        problem = f"the slice vector does not number {frames} frames from 1 to {frames}, each once"
        raise DicomError(problem, path=instance.path, key="SliceVector")
    if order[0] != 0:
        # Position belongs to the first frame, stacking starts at the first slice (C.8.4.15): here they differ.
        problem = f"the first frame is slice {int(numbers_found[0])}: which slice the position belongs to is not told"
        raise DicomError(problem, path=instance.path, key="SliceVector")
    return order, []


def _nm_grid(instance: Instance, frames: int) -> tuple[sitk.Image, bool, list[str]]:
    """The grid as stacked (left-handed where the spacing is negative), whether GDCM can see it too, and warnings."""
    geometry, notes = _nm_geometry(instance)
    plane = dicom.read_plane(instance, geometry)
    visible = geometry is not instance.dataset
    spacing = dicom.number(instance.dataset, "SpacingBetweenSlices", instance.path)
    if spacing is None:
        spacing, visible = dicom.number(instance.dataset, "SliceThickness", instance.path), False
        notes.append("no SpacingBetweenSlices: slice thickness used, stacking along the normal assumed")
    if not spacing:
        problem = "neither spacing between slices nor slice thickness is known"
        raise DicomError(problem, path=instance.path, key="SpacingBetweenSlices")
    # The sign tells whether slices follow the normal (row x column) or run against it (PS3.3 C.8.4.15).
    return dicom.grid_of(plane, frames, abs(spacing), plane.normal * np.sign(spacing)), visible, notes


def _nm_geometry(instance: Instance) -> tuple[Dataset, list[str]]:
    """The item that holds position and orientation: the detector's (PS3.3 C.8.4.11), else the data set itself."""
    items = dicom.attribute(instance.dataset, "DetectorInformationSequence", instance.path) or []
    complete = [item for item in items if _has_plane(item, instance.path)]
    if not complete:
        return instance.dataset, []
    planes = [dicom.read_plane(instance, item) for item in complete]
    if _has_plane(instance.dataset, instance.path):
        planes.append(dicom.read_plane(instance))
    for other in planes[1:]:
        apart = np.abs(other.position - planes[0].position).max()
        turned = np.abs(np.array([other.row - planes[0].row, other.column - planes[0].column])).max()
        if apart > SECOND_OPINION_MM or turned > dicom.COSINE_TOLERANCE:
            problem = f"positions or orientations that differ ({apart:.2f} mm): several detectors or a wrong header"
            raise DicomError(problem, path=instance.path, key="DetectorInformationSequence")
    return complete[0], [f"{len(complete)} detectors with one geometry"] if len(complete) > 1 else []


def _has_plane(dataset: Dataset, path: Path) -> bool:
    return all(
        dicom.attribute(dataset, keyword, path) is not None
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient")
    )


def _second_opinion(path: Path, grid: sitk.Image, visible: bool) -> dict[str, Any]:
    """Compare the eight corners with SimpleITK's (GDCM's) reading, where GDCM looks at the same attributes."""
    if not visible:
        return {"reader": "none", "reason": "the geometry stands where SimpleITK does not look"}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return {"reader": "none", "reason": "SimpleITK cannot read the file"}
    if reader.GetSize() != grid.GetSize():
        raise DicomError(f"SimpleITK reads a volume of {reader.GetSize()} voxels, {grid.GetSize()} expected", path=path)
    distance = float(np.abs(_corners_as_read(reader) - corners(grid)).max())
    if distance > SECOND_OPINION_MM:
        problem = f"SimpleITK places this volume elsewhere (by up to {distance:.2f} mm): the header is ambiguous"
        raise DicomError(problem, path=path, key="ImagePositionPatient", hint="export the reconstruction again")
    return {"reader": "SimpleITK", "largest_distance_mm": round(distance, 6)}


def _corners_as_read(reader: sitk.ImageFileReader) -> np.ndarray:
    """Corner positions as `volume.corners`, from a header whose spacing may be negative (no ITK image allows that)."""
    last = (np.array(reader.GetSize()) - 1) * np.array(reader.GetSpacing())
    steps = np.array([(i, j, k) for k in (0, last[2]) for j in (0, last[1]) for i in (0, last[0])])
    return np.array(reader.GetOrigin()) + steps @ np.reshape(reader.GetDirection(), (3, 3)).T


def _nm_values(data: Dataset, stored: np.ndarray, path: Path) -> tuple[np.ndarray, str, list[str]]:
    """Frames `(frames, y, x)` as float32 in real-world units where the object maps to them, else rescaled counts."""
    units = NM_UNITS.get(dicom.text(data, "Units", path) or "", "counts")
    maps = dicom.attribute(data, "RealWorldValueMappingSequence", path) or []
    if maps:
        slope = dicom.number(maps[0], "RealWorldValueSlope", path)
        intercept = dicom.number(maps[0], "RealWorldValueIntercept", path) or 0.0
        if not slope:
            problem = "a mapping without slope (lookup table?) is not supported"
            raise DicomError(problem, path=path, key="RealWorldValueMappingSequence")
        code = dicom.attribute(maps[0], "MeasurementUnitsCodeSequence", path) or [Dataset()]
        unit = dicom.text(code[0], "CodeValue", path) or units
        notes = [f"{len(maps)} real-world value mappings, the first used"] if len(maps) > 1 else []
        return (stored * slope + intercept).astype(np.float32), UCUM_UNITS.get(unit, unit), notes
    slope, intercept = dicom.rescale(data, path) or (1.0, 0.0)
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


def _check_counts(converted: Converted, path: Path) -> None:
    """Refuse an empty image, mention what a SPECT should not have."""
    array = sitk.GetArrayViewFromImage(converted.image)
    if not np.isfinite(array).all() or array.max() <= 0:
        raise DicomError("the image holds no counts", path=path, key="PixelData")
    if array.min() < 0:
        converted.notes.append(f"{float((array < 0).mean()):.2%} of the voxels are negative")
    nuclide = _radiopharmaceutical(converted.first)[1] or ""
    if any(name in nuclide.lower() for name in POSITRON_EMITTERS):
        converted.notes.append(f"{nuclide} is a positron emitter: PET, not SPECT")


# --- sidecar -------------------------------------------------------------------------------------------------------


def _write(converted: Converted, found: Collection, volume: Path, sidecar: Path, case_id: str, target: str) -> None:
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
    corrected = dicom.texts(dataset, "CorrectedImage", path)
    method = dicom.text(dataset, "AttenuationCorrectionMethod", path)
    pharmaceutical, nuclide = _radiopharmaceutical(converted.first)
    facts: dict[str, Any] = {
        "case_id": case_id,
        "target": target,
        "modality": dicom.text(dataset, "Modality", path),
        "manufacturer": dicom.text(dataset, "Manufacturer", path),
        "model": dicom.text(dataset, "ManufacturerModelName", path),
        "kernel": dicom.text(dataset, "ConvolutionKernel", path),
        "slice_thickness_mm": dicom.number(dataset, "SliceThickness", path),
        "grid": {
            "size": list(image.GetSize()),
            "spacing_mm": list(image.GetSpacing()),
            "origin_mm": list(image.GetOrigin()),
            "direction": list(image.GetDirection()),
        },
        "range": [float(array.min()), float(array.max())],
        "frame_of_reference": _hashed(dicom.text(dataset, "FrameOfReferenceUID", path)),
        "series": _hashed(dicom.text(dataset, "SeriesInstanceUID", path)),
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
            "attenuation_corrected": _attenuation_corrected(corrected, method),
        }
    return facts | converted.facts


def _attenuation_corrected(corrected: list[str], method: str | None) -> bool | None:
    """Whether attenuation was corrected for; None where the header says nothing about corrections."""
    if "ATTN" in corrected or (method or "NONE").upper() != "NONE":
        return True
    return False if corrected or method else None


def _radiopharmaceutical(instance: Instance) -> tuple[str | None, str | None]:
    """Name of the radiopharmaceutical and of its nuclide, where stated."""
    items = dicom.attribute(instance.dataset, "RadiopharmaceuticalInformationSequence", instance.path) or []
    if not items:
        return None, None
    drug = dicom.text(items[0], "Radiopharmaceutical", instance.path)
    drug = drug or _meaning(items[0], "RadiopharmaceuticalCodeSequence", instance.path)
    return drug, _meaning(items[0], "RadionuclideCodeSequence", instance.path)


def _meaning(item: Dataset, keyword: str, path: Path) -> str | None:
    codes = dicom.attribute(item, keyword, path) or []
    return dicom.text(codes[0], "CodeMeaning", path) if codes else None


def _hashed(uid: str | None) -> str | None:
    """The first 16 hex digits of a UID's SHA-256: comparable between files, not traceable to the archive."""
    return None if uid is None else sha256_text(uid)[:16]


def _inventory(found: Collection) -> str:
    """What was found instead, in words."""
    reasons = found.ignored_summary()
    return "found instead: " + "; ".join(line.replace(" ignored", "") for line in reasons) if reasons else "found none"


def _list_objects(instances: Sequence[Instance]) -> str:
    return "; ".join(
        f"{i.path.name} ({i.sop_class.name}, {dicom.text(i.dataset, 'ImageType', i.path)})" for i in instances[:20]
    )

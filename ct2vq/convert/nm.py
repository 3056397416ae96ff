"""SPECT stored as one multi-frame NM object (PS3.3 C.8.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import NuclearMedicineImageStorage

from ct2vq.convert.converted import Converted
from ct2vq.convert.opinion import SECOND_OPINION_MM, second_opinion
from ct2vq.convert.real_world import Mapping, covering, mapped, nm_mappings
from ct2vq.convert.series import lossy_notes
from ct2vq.dicom.attributes import attribute, items, number, numbers, texts
from ct2vq.dicom.files import Collection, Instance, read_file, require_honest_size
from ct2vq.dicom.geometry import COSINE_TOLERANCE, grid_of, read_plane, require_spacing
from ct2vq.dicom.pixels import stored_values
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


def read_nm(instance: Instance) -> Converted:
    """A reconstructed SPECT in one multi-frame NM object (PS3.3 C.8.4)."""
    require_reconstruction(instance)
    require_honest_size(instance)
    count = int(number(instance.dataset, "NumberOfFrames", instance.path) or 1)
    if count < 2:
        raise DicomError("D303", "one frame is not a volume", path=instance.path, key="NumberOfFrames")
    order, notes = frame_order(instance, count)
    grid, rules, more = nm_grid(instance, count)
    data, digest = read_file(instance.path)
    frames = stored_values(data, instance.path)
    del data.PixelData  # decoded: its room is the volume's
    if frames.shape != tuple(reversed(grid.GetSize())):
        problem = f"pixels of shape {frames.shape}, {tuple(reversed(grid.GetSize()))} expected"
        raise DicomError("D410", problem, path=instance.path, key="NumberOfFrames")
    opinion = second_opinion(instance.path, grid, rules)
    groups, scale_notes = nm_mappings(data, instance.path)
    mappings = covering(groups, frames, instance.path)
    order, grid = _proper(order, grid)
    image = from_array(_scaled(frames, order, mappings), grid)
    facts = {"units": mappings[0].units, "second_opinion": opinion}
    return Converted(image, instance, [digest], facts, notes + more + scale_notes + lossy_notes([instance]))


def only_reconstruction(found: Collection, instances: list[Instance]) -> list[Instance]:
    """The one emission reconstruction among several NM objects, the others set aside; all where it is not one."""
    nm = [instance for instance in instances if instance.sop_class == NuclearMedicineImageStorage]
    chosen = [instance for instance in nm if _is_reconstruction(instance)]
    if len(nm) != len(instances) or len(chosen) != 1:
        return instances
    for instance in nm:
        if instance is not chosen[0]:
            found.ignored.append((instance.path, "NM object that is no emission reconstruction"))
    return chosen


def _is_reconstruction(instance: Instance) -> bool:
    kinds = [kind.upper() for kind in texts(instance.dataset, "ImageType", instance.path)]
    return kinds[2:3] == ["RECON TOMO"] and "TRANSMISSION" not in kinds


def require_reconstruction(instance: Instance) -> None:
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


def frame_order(instance: Instance, frames: int) -> tuple[np.ndarray, list[str]]:
    """Indices of the frames in the order of their slice numbers, which start at 1 (PS3.3 C.8.4.8)."""
    slices = number(instance.dataset, "NumberOfSlices", instance.path)
    if slices is not None and slices != frames:
        problem = f"{frames} frames, but {slices:g} slices: several volumes in one object?"
        raise DicomError("D312", problem, path=instance.path, key="NumberOfSlices")
    stated = texts(instance.dataset, "SliceVector", instance.path)
    if not stated:
        return np.arange(frames), ["W301 no slice vector: frames taken in stored order"]
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


def nm_grid(instance: Instance, frames: int) -> tuple[sitk.Image, list[str], list[str]]:
    """The grid as stacked (left-handed where the spacing is negative), why GDCM may see another, and warnings."""
    geometry, notes = _nm_geometry(instance)
    plane = read_plane(instance, geometry)
    rules = ["gdcm_ignores_top_level_geometry"] if geometry is instance.dataset else []
    spacing = number(instance.dataset, "SpacingBetweenSlices", instance.path)
    if spacing is None:
        # A thickness has no direction: its sign means nothing.
        spacing = abs(number(instance.dataset, "SliceThickness", instance.path) or 0.0)
        rules.append("gdcm_guesses_spacing_without_positions")
        notes.append("W302 no SpacingBetweenSlices: slice thickness used, stacking along the normal assumed")
    if spacing:
        require_spacing(abs(spacing), instance.path, "SpacingBetweenSlices")
    else:
        problem = "neither spacing between slices nor slice thickness is known"
        raise DicomError("D313", problem, path=instance.path, key="SpacingBetweenSlices")
    # The sign tells whether slices follow the normal (row x column) or run against it (PS3.3 C.8.4.15).
    return grid_of(plane, frames, abs(spacing), plane.normal * np.sign(spacing)), rules, notes


def _nm_geometry(instance: Instance) -> tuple[Dataset, list[str]]:
    """The item that holds position and orientation: the detector's (PS3.3 C.8.4.11), else the data set itself."""
    detectors = items(instance.dataset, "DetectorInformationSequence", instance.path)
    complete = [item for item in detectors if _has_plane(item, instance.path)]
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
    return complete[0], [f"W303 {len(complete)} detectors with one geometry"] if len(complete) > 1 else []


def _has_plane(dataset: Dataset, path: Path) -> bool:
    return all(
        attribute(dataset, keyword, path) is not None for keyword in ("ImagePositionPatient", "ImageOrientationPatient")
    )


def _scaled(frames: np.ndarray, order: np.ndarray, mappings: Sequence[Mapping]) -> np.ndarray:
    """Frames `(z, y, x)` in a new order as float32, one by one: no copy in double precision of the whole."""
    values = np.empty(frames.shape, dtype=np.float32)
    with np.errstate(over="ignore"):  # what is not finite is refused in the end
        for k, i in enumerate(order):
            values[k] = mapped(frames[i], mappings)
    return values


def _proper(order: np.ndarray, grid: sitk.Image) -> tuple[np.ndarray, sitk.Image]:
    """The same frames at the same places on a grid that is a rotation: reversed if it was a mirror."""
    direction = np.reshape(grid.GetDirection(), (3, 3)).copy()
    if np.linalg.det(direction) > 0:
        return order, grid
    last = grid.TransformIndexToPhysicalPoint([0, 0, grid.GetSize()[2] - 1])
    direction[:, 2] *= -1
    return order[::-1], make_grid(grid.GetSize(), grid.GetSpacing(), last, direction.ravel())


def check_counts(converted: Converted, path: Path) -> None:
    """Refuse an empty image, mention what a SPECT should not have."""
    array = sitk.GetArrayViewFromImage(converted.image)
    if not np.isfinite(array).all() or array.max() <= 0:
        raise DicomError("D409", "the image holds no counts", path=path, key="PixelData")
    if array.min() < 0:
        converted.notes.append(f"W405 {float((array < 0).mean()):.2%} of the voxels are negative")

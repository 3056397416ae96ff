"""The user's own lung mask: NIfTI on the CT's grid, or DICOM (RTSTRUCT, SEG)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom

from ct2vq.errors import SegmentationError
from ct2vq.files import read_json
from ct2vq.identity.job import Job, open_job
from ct2vq.identity.sources import mask_source, private_folder
from ct2vq.identity.store import Store
from ct2vq.lungs import LEFT, RIGHT
from ct2vq.segment.body import find_body, middle_mm
from ct2vq.segment.segments import read_segments
from ct2vq.segment.sides import split
from ct2vq.segment.structures import read_structures
from ct2vq.segment.working import along, coarsen
from ct2vq.volume import from_array, read_volume, require_same_grid

KEY = "lung_mask"
READERS = {"RTSTRUCT": read_structures, "SEG": read_segments}
#: names and numbers of what an object holds, and a function that draws one of them
Contents = tuple[Sequence[tuple[int, str]], Callable[[int], np.ndarray]]


def read_own_mask(
    ct: sitk.Image, path: Path, settings: Mapping[str, Any], same_frame: Callable[[str], bool] | None
) -> tuple[sitk.Image, list[str]]:
    """The user's mask as labels 1 and 2 on the CT's grid; the convention `segment.inside` is the user's own here.

    Args:
        ct: the CT.
        path: a NIfTI file, a DICOM object (RTSTRUCT, SEG), or a folder that holds one such object.
        settings: config block `segment`.
        same_frame: tells whether a frame of reference UID is the CT's; None: not asked.

    Returns:
        uint8 labels, and warnings.

    Raises:
        SegmentationError: other labels or nothing in it (D704), another frame of reference (D705), no lungs among the
            names (D706), no or several masks (D707), contours that fit no slice of the CT (D709).
        GeometryError: a NIfTI file with another grid.
    """
    dicom = _dicom_object(path)
    if dicom is None:
        return _from_nifti(ct, path, settings)
    dataset, file = dicom
    _require_same_frame(dataset, file, same_frame)
    warnings: list[str] = []
    named, draw = READERS[str(dataset.Modality)](dataset, file, ct, warnings)
    return _from_named(ct, named, draw, settings, file, warnings), warnings


def _dicom_object(path: Path) -> tuple[pydicom.Dataset, Path] | None:
    """The mask's object and its file, None for a volume.

    Raises:
        SegmentationError: no or several masks (D707).
    """
    if path.is_file() and path.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".mha")):
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = [(dataset, file) for file in files if (dataset := _read_mask(file)) is not None]
    if len(found) != 1:
        raise SegmentationError(
            "D707",
            f"{len(found)} RTSTRUCT or SEG objects among {len(files)} files, one is expected",
            path=path,
            key=KEY,
            hint="name one NIfTI file, one DICOM object, or a folder with one object",
        )
    return found[0]


def _read_mask(file: Path) -> pydicom.Dataset | None:
    """The object of a file if it is a mask."""
    try:
        dataset = pydicom.dcmread(file)
    except (InvalidDicomError, OSError):
        return None
    return dataset if str(dataset.get("Modality", "")) in READERS else None


def _require_same_frame(dataset: pydicom.Dataset, file: Path, same_frame: Callable[[str], bool] | None) -> None:
    uids = {str(uid) for uid in _frames(dataset) if uid}
    if same_frame is None or not uids:
        return
    if not any(same_frame(uid) for uid in uids):
        raise SegmentationError(
            "D705",
            f"the {dataset.Modality} lies in another frame of reference than the CT",
            path=file,
            key="FrameOfReferenceUID",
            hint="name a mask that was drawn on this CT, or bring it onto the CT's grid as NIfTI",
        )


def open_own_mask(case_id: str, volume: str, sidecar: Path) -> tuple[Job, Path, Callable[[str], bool] | None]:
    """The mask that a case's user named for one of its CTs, as a job of the study finds it.

    Args:
        case_id: the case.
        volume: the CT, such as `ct`.
        sidecar: the CT's record of the stage `convert`.

    Returns:
        what cleans the job's messages, the mask, and what tells the CT's frame of reference from others.
    """
    job = open_job(private_folder(), case_id, mask_source(volume))
    return job, job.raw.root, known_frame(sidecar, job.redactor.store)


def known_frame(sidecar: Path, store: Store) -> Callable[[str], bool] | None:
    """What tells the CT's frame of reference from others by its pseudonym; None if the CT's header told none.

    Args:
        sidecar: `ct.json` of the stage `convert`.
        store: the study's private folder, which knows pseudonyms.
    """
    frame = read_json(sidecar).get("frame_of_reference")
    return None if frame is None else lambda uid: store.pseudonym("uid", uid, 16) == frame


def frame_of_folder(ct: Path) -> Callable[[str], bool] | None:
    """The same from the CT's own files, where no study is going on; None if none tells a frame of reference."""
    for file in sorted(ct.rglob("*")):
        if file.is_file() and is_dicom(file):
            uid = pydicom.dcmread(file, specific_tags=["FrameOfReferenceUID"]).get("FrameOfReferenceUID")
            if uid:
                return lambda other: other == str(uid)
    return None


def _frames(dataset: pydicom.Dataset) -> list[Any]:
    """All frames of reference that an object names."""
    items = [dataset, *dataset.get("ReferencedFrameOfReferenceSequence", [])]
    return [item.get("FrameOfReferenceUID") for item in items]


def _from_nifti(ct: sitk.Image, path: Path, settings: Mapping[str, Any]) -> tuple[sitk.Image, list[str]]:
    mask = read_volume(path)
    require_same_grid(ct, mask, "the CT", "the lung mask")
    values = sitk.GetArrayFromImage(mask)
    found = set(np.unique(values).tolist()) - {0}
    if not found or not found <= {RIGHT, LEFT}:
        raise SegmentationError(
            "D704",
            f"labels {sorted(found)}, expected 1 (right) and 2 (left), or 1 for both lungs",
            path=path,
            key=KEY,
        )
    if found == {RIGHT}:
        values, notes = split_sides(ct, values > 0, settings)
        return from_array(values, ct), notes
    return from_array(values.astype(np.uint8), ct), []


def _from_named(
    ct: sitk.Image,
    named: Sequence[tuple[int, str]],
    draw: Callable[[int], np.ndarray],
    settings: Mapping[str, Any],
    file: Path,
    warnings: list[str],
) -> sitk.Image:
    """Labels from the structures that are called like lungs; what they are called is not said: it may name a person."""
    numbers = {side: _number(named, settings["own_mask"][side], side, file) for side in ("right", "left", "both")}
    labels = np.zeros(tuple(reversed(ct.GetSize())), dtype=np.uint8)
    if numbers["right"] is not None or numbers["left"] is not None:
        for side, label in (("right", RIGHT), ("left", LEFT)):
            if numbers[side] is not None:
                labels[draw(numbers[side])] = label
    elif numbers["both"] is not None:
        labels, notes = split_sides(ct, draw(numbers["both"]), settings)
        warnings += notes
    else:
        raise SegmentationError(
            "D706",
            f"none of the {len(named)} structures is called like a lung",
            path=file,
            key="segment: own_mask",
            hint="give regular expressions for their names, or `#3` for the number 3",
        )
    if not labels.any():
        raise SegmentationError("D704", "the lungs' structures are empty on the CT's grid", path=file, key=KEY)
    return from_array(labels, ct)


def _number(named: Sequence[tuple[int, str]], pattern: str, side: str, file: Path) -> int | None:
    """The number of the only structure whose name (or `#number`) fits a pattern, None if none does."""
    expression = re.compile(pattern, re.IGNORECASE)
    fitting = [
        number for number, name in named if expression.search(name.strip()) or expression.fullmatch(f"#{number}")
    ]
    if len(fitting) > 1:
        raise SegmentationError(
            "D706",
            f"the structures {', '.join(f'#{number}' for number in fitting)} all fit the pattern of `{side}`",
            path=file,
            key=f"segment: own_mask: {side}",
            hint="make the pattern fit one of them, for example by its number",
        )
    return fitting[0] if fitting else None


def split_sides(ct: sitk.Image, lungs: np.ndarray, settings: Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
    """Split a mask `(z, y, x)` on the CT's grid into right (1) and left (2); one lung stays one. Also: warnings."""
    if not lungs.any():
        return lungs.astype(np.uint8), []
    coarse = coarsen(ct, float(settings["working_spacing_mm"]))
    middle = middle_mm(coarse, find_body(coarse))
    return split(lungs, along(ct, lungs.shape, 0), np.array(ct.GetSpacing()[::-1]), middle)

"""Stacks of single-frame images: one series, read slice by slice into a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ct2vq.convert.converted import Converted
from ct2vq.convert.sidecar import hashed
from ct2vq.dicom.attributes import number, text
from ct2vq.dicom.files import Collection, Instance, read_file
from ct2vq.dicom.geometry import read_plane, stack
from ct2vq.errors import DicomError
from ct2vq.volume import from_array

UNITS = {"BQML": "Bq/mL", "CNTS": "counts", "PROPCNTS": "counts", "CPS": "counts/s", "PROPCPS": "counts/s"}


def require_one_series(instances: Sequence[Instance], root: Path) -> None:
    """Stop if the images belong to several series; images that all lack the series UID are taken for one."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        uid = text(instance.dataset, "SeriesInstanceUID", instance.path) or ""
        groups.setdefault(uid, []).append(instance)
    if len(groups) > 1:
        series = "; ".join(
            f"series {text(members[0].dataset, 'SeriesNumber', members[0].path) or 'without number'} "
            f"[{hashed(uid) if uid else 'no UID'}] with {len(members)} file(s), "
            f"for example {members[0].path.relative_to(root)}"
            for uid, members in groups.items()
        )
        raise DicomError("D202", f"{len(groups)} series where one is expected: {series}", path=root, hint="keep one")


def read_series(
    instances: Sequence[Instance], settings: dict, read_slice: Callable[[Instance, Dataset, list[str]], np.ndarray]
) -> Converted:
    """Stack single-frame images; `read_slice(instance, data, notes)` gives a slice's values `(y, x)`."""
    planes = [read_plane(instance) for instance in instances]
    order, grid, notes = stack(planes, settings)
    ordered = [instances[i] for i in order]
    array = np.empty((len(ordered), *planes[0].shape), dtype=np.float32)
    digests, slice_notes = [], []
    for k, instance in enumerate(ordered):
        data, digest = read_file(instance.path)
        values = read_slice(instance, data, slice_notes)
        if values.shape != planes[0].shape:
            raise DicomError("D410", f"pixels of shape {values.shape}, {planes[0].shape} expected", path=instance.path)
        array[k] = values
        digests.append(digest)
    notes += sorted(set(slice_notes)) + _spacing_notes(ordered[0], grid.GetSpacing()[2], settings)
    notes += lossy_notes(ordered)
    if text(ordered[0].dataset, "SeriesInstanceUID", ordered[0].path) is None:
        notes.append("no series UID: all files taken for one series")
    return Converted(from_array(array, grid), ordered[0], digests, {}, notes)


def _spacing_notes(instance: Instance, spacing: float, settings: dict) -> list[str]:
    """Positions win over the attributes that only describe them; a disagreement is said."""
    notes = []
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        stated = number(instance.dataset, keyword, instance.path)
        if stated is not None and abs(abs(stated) - spacing) > float(settings["slice_tolerance_mm"]):
            notes.append(f"{keyword} is {stated:g} mm, but the positions lie {spacing:.4g} mm apart: positions used")
    return notes


def lossy_notes(instances: Sequence[Instance]) -> list[str]:
    """A warning if images underwent lossy compression, now or before."""
    lossy = sum(text(i.dataset, "LossyImageCompression", i.path) == "01" for i in instances)
    return [f"{lossy} file(s) underwent lossy compression: values are not exact"] if lossy else []


def inventory(found: Collection) -> str:
    """What was found instead, in words."""
    reasons = found.ignored_summary()
    return "found instead: " + "; ".join(line.replace(" ignored", "") for line in reasons) if reasons else "found none"


def list_objects(instances: Sequence[Instance]) -> str:
    """The objects among which a user has to choose."""
    return "; ".join(
        f"{i.path.name} ({i.sop_class.name}, {text(i.dataset, 'ImageType', i.path)})" for i in instances[:20]
    )

"""Stacks of single-frame images: one series, read slice by slice into a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ct2vq.convert.converted import Converted
from ct2vq.convert.opinion import opinion_of_slices
from ct2vq.dicom.attributes import number, text, texts
from ct2vq.dicom.files import Collection, Instance, read_file, require_honest_size
from ct2vq.dicom.geometry import Plane, Stack, read_plane, shifted, stack
from ct2vq.errors import DicomError
from ct2vq.files import sha256_file
from ct2vq.volume import from_array

#: gives one slice's values `(y, x)` in physical units; may add warnings to the list
ReadSlice = Callable[[Instance, Dataset, list[str]], np.ndarray]
#: units of PT images (PS3.3 C.8.9.1.1.3); what is proportional to counts by an unknown factor is no number of them
UNITS = {
    "BQML": "Bq/mL",
    "CNTS": "counts",
    "PROPCNTS": "proportional to counts",
    "CPS": "counts/s",
    "PROPCPS": "proportional to counts/s",
}
#: attributes that have one value in all images of one volume; of ImageType what follows the pixels' and the patient
#: examination's characteristics (PS3.3 C.7.6.1.1.2)
OF_ONE_VOLUME = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ConvolutionKernel", "ImageType", "Units")


def require_one_series(instances: Sequence[Instance], root: Path) -> None:
    """Stop if the images belong to several series; images that all lack the series UID are taken for one."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        uid = text(instance.dataset, "SeriesInstanceUID", instance.path) or ""
        groups.setdefault(uid, []).append(instance)
    if len(groups) == 2 and 0 < len(groups.get("", ())) < len(instances) / 2:
        lacking = groups[""]
        problem = f"the attribute is missing in {len(lacking)} of {len(instances)} images"
        raise DicomError("D107", problem, path=lacking[0].path, key="SeriesInstanceUID", hint="is the file cut off?")
    if len(groups) > 1:
        series = "; ".join(
            f"series {text(members[0].dataset, 'SeriesNumber', members[0].path) or 'without number'} "
            f"{'' if uid else '[no UID] '}with {len(members)} file(s), "
            f"for example {members[0].path.relative_to(root)}"
            for uid, members in groups.items()
        )
        raise DicomError("D202", f"{len(groups)} series where one is expected: {series}", path=root, hint="keep one")


def require_one_volume(instances: Sequence[Instance], root: Path) -> None:
    """Stop if single-frame images under one series UID cannot be of one volume.

    Raises:
        DicomError: an attribute of `OF_ONE_VOLUME` has several values.
    """
    for keyword in OF_ONE_VOLUME:
        sizes = Counter(_value_of_volume(instance, keyword) for instance in instances)
        if len(sizes) > 1:
            # The values stay unsaid: they may name the patient.
            counts = ", ".join(str(count) for _, count in sizes.most_common(10))
            problem = f"one series UID, but {len(sizes)} values of {keyword}, in {counts} image(s)"
            hint = "keep the images of one reconstruction of one patient"
            raise DicomError("D211", problem, path=root, key=keyword, hint=hint)


def _value_of_volume(instance: Instance, keyword: str) -> tuple[str, ...]:
    """An attribute's value for comparison: case and order do not count, an empty value is an absent one."""
    values = [value.upper() for value in texts(instance.dataset, keyword, instance.path)]
    return tuple(sorted(filter(None, values[2:] if keyword == "ImageType" else values)))


def drop_copies(found: Collection, instances: Sequence[Instance]) -> list[Instance]:
    """The images without exact copies (same instance UID, same bytes), which go on the ignored list."""
    known: set[tuple[str, str]] = set()
    uids = [text(instance.dataset, "SOPInstanceUID", instance.path) for instance in instances]
    count = Counter(uids)
    kept = []
    for uid, instance in zip(uids, instances, strict=True):
        if uid is not None and count[uid] > 1:
            identity = (uid, sha256_file(instance.path))
            if identity in known:
                found.ignored.append((instance.path, "exact copy of another file"))
                continue
            known.add(identity)
        kept.append(instance)
    return kept


def read_series(
    instances: Sequence[Instance], settings: dict, read_slice: ReadSlice, outside: float | None = None
) -> Converted:
    """Stack single-frame images into a volume.

    Args:
        instances: one image each, in any order.
        settings: config block `convert`.
        read_slice: how to read one.
        outside: value beyond a slice where a tilted gantry's stack is straightened; None refuses such a stack.
    """
    for instance in instances:
        require_honest_size(instance)
    planes = [read_plane(instance) for instance in instances]
    stacked = stack(planes, settings, tilt=outside is not None and settings["gantry_tilt"] == "correct")
    ordered = [instances[i] for i in stacked.order]
    digests: list[str] = []
    slice_notes: list[str] = []

    def slices() -> Iterator[np.ndarray]:
        for instance in ordered:
            data, digest = read_file(instance.path)
            digests.append(digest)
            yield read_slice(instance, data, slice_notes)

    array = fill(stacked, [planes[i] for i in stacked.order], slices(), outside)
    notes = stacked.notes + sorted(set(slice_notes))
    notes += spacing_notes(ordered[0], stacked.grid.GetSpacing()[2], settings) + lossy_notes(ordered)
    if text(ordered[0].dataset, "SeriesInstanceUID", ordered[0].path) is None:
        notes.append("W201 no series UID: all files taken for one series")
    return Converted(
        from_array(array, stacked.grid),
        ordered[0],
        digests,
        {"second_opinion": opinion_of_slices(planes, stacked)},
        notes,
    )


def fill(stacked: Stack, planes: Sequence[Plane], slices: Iterable[np.ndarray], outside: float | None) -> np.ndarray:
    """The volume `(z, y, x)`, float32, of slices `(y, x)` given one by one, with their planes, in the stack's order.

    Raises:
        DicomError: a slice has another size than its header says.
    """
    columns, rows, count = stacked.grid.GetSize()
    array = np.empty((count, rows, columns), dtype=np.float32)
    leans = stacked.offsets.any()
    for k, (plane, values) in enumerate(zip(planes, slices, strict=True)):
        if values.shape != plane.shape:
            raise DicomError("D410", f"pixels of shape {values.shape}, {plane.shape} expected", path=plane.path)
        array[k] = shifted(values, stacked.offsets[k], (rows, columns), outside or 0.0) if leans else values
    return array


def spacing_notes(instance: Instance, spacing: float, settings: dict) -> list[str]:
    """Positions win over the attributes that only describe them; a disagreement is said."""
    notes = []
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        try:
            stated = number(instance.dataset, keyword, instance.path)
        except DicomError:  # only a fact: no voxel depends on it
            notes.append(f"W307 {keyword} cannot be understood: positions used")
            continue
        if stated is not None and abs(abs(stated) - spacing) > float(settings["slice_tolerance_mm"]):
            notes.append(
                f"W304 {keyword} is {stated:g} mm, but the positions lie {spacing:.4g} mm apart: positions used"
            )
    return notes


def lossy_notes(instances: Sequence[Instance]) -> list[str]:
    """A warning if images underwent lossy compression, now or before."""
    lossy = sum(text(i.dataset, "LossyImageCompression", i.path) == "01" for i in instances)
    return [f"W406 {lossy} file(s) underwent lossy compression: values are not exact"] if lossy else []


def inventory(found: Collection) -> str:
    """What was found instead, in words."""
    reasons = found.ignored_summary()
    return "found instead: " + "; ".join(line.replace(" ignored", "") for line in reasons) if reasons else "found none"


def list_objects(instances: Sequence[Instance]) -> str:
    """The objects among which a user has to choose."""
    return "; ".join(
        f"{i.path.name} ({i.sop_class.name}, {text(i.dataset, 'ImageType', i.path)})" for i in instances[:20]
    )

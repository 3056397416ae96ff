"""Reading DICOM: which files are images, where their pixels lie in the patient, and what is stored in them.

Everything that a damaged or unusual file can do ends here as a `DicomError` that names the file and the attribute.
Positions are in mm in DICOM's patient system (LPS, PS3.3 C.7.6.2.1.1). Messages of errors name files; nothing that
goes into a sidecar does, because file names can carry a patient's name or raw UIDs.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from ct2vq.errors import DicomError
from ct2vq.volume import make_grid

logger = logging.getLogger(__name__)

#: two slices nearer than this lie at one position: no scanner reconstructs finer steps
SAME_POSITION_MM = 0.01
#: largest departure of direction cosines from unit length, from a right angle, and between slices of one stack;
#: DICOM writes them as text, some vendors with four decimals only
COSINE_TOLERANCE = 1e-3
#: relative difference of pixel spacings of one stack that is still rounding
SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Instance:
    """One DICOM object without its pixels."""

    path: Path
    dataset: Dataset
    sop_class: UID


@dataclass
class Collection:
    """What a folder holds: the DICOM objects, and the files that were left out with the reason."""

    root: Path
    instances: list[Instance] = field(default_factory=list)
    ignored: list[tuple[Path, str]] = field(default_factory=list)

    def keep(self, sop_classes: Sequence[UID]) -> list[Instance]:
        """The objects of these SOP classes; all others are put on the ignored list under their class's name."""
        kept = [instance for instance in self.instances if instance.sop_class in sop_classes]
        for instance in self.instances:
            if instance.sop_class not in sop_classes:
                self.ignored.append((instance.path, describe_class(instance)))
        return kept

    def ignored_summary(self) -> list[str]:
        """One line for each reason with the number of files: no file names, fit for a sidecar."""
        reasons = [reason for _, reason in self.ignored]
        return [f"{reasons.count(reason)} file(s) ignored: {reason}" for reason in sorted(set(reasons))]


@dataclass(frozen=True)
class Plane:
    """Where one image lies: unit vectors along a row (to the next column) and along a column (to the next row)."""

    path: Path
    row: np.ndarray
    column: np.ndarray
    position: np.ndarray
    spacing_xy: tuple[float, float]
    shape: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector row x column."""
        return np.cross(self.row, self.column)


# --- finding and reading files ---------------------------------------------------------------------------------


def collect(path: str | Path) -> Collection:
    """Read the headers of a DICOM file, or of every file below a folder, whatever their names.

    Files without the DICOM signature, hidden files and DICOMDIR objects go on the ignored list.

    Raises:
        DicomError: the path is missing, a file is empty or damaged, or there is no DICOM object at all.
    """
    root = Path(path)
    if not root.exists():
        raise DicomError("the DICOM file or folder does not exist", path=root)
    found = Collection(root)
    for file in [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file()):
        if file != root and file.name.startswith("."):
            found.ignored.append((file, "hidden file"))
            continue
        instance = read_header(file)
        if instance is None:
            found.ignored.append((file, "not DICOM (no signature)"))
        elif instance.sop_class == pydicom.uid.MediaStorageDirectoryStorage:
            found.ignored.append((file, "DICOMDIR"))
        else:
            found.instances.append(instance)
    if not found.instances:
        raise DicomError(
            f"no DICOM image found ({len(found.ignored)} other file(s))", path=root, hint="is this the right folder?"
        )
    return found


def read_header(path: str | Path) -> Instance | None:
    """Read one file's header; None if it does not carry the DICOM signature.

    Raises:
        DicomError: the file is empty, unreadable or damaged.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise DicomError("the file is empty (0 bytes)", path=path, hint="copy it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return None
    except DicomError:
        raise
    except Exception as error:  # pydicom raises nearly anything on damaged input
        raise DicomError(f"damaged DICOM header: {_first_line(error)}", path=path, hint="copy it again") from error
    # Some exports leave the class empty in the data set and state it only in the file meta information.
    uid = attribute(dataset, "SOPClassUID", path) or dataset.file_meta.get("MediaStorageSOPClassUID", "")
    return Instance(path, dataset, UID(str(uid or "")))


def describe_class(instance: Instance) -> str:
    """The SOP class's name with the modality, for messages."""
    name = instance.sop_class.name if instance.sop_class else "no SOP class"
    modality = text(instance.dataset, "Modality", instance.path)
    return f"{name}, modality {modality}" if modality else name


def read_file(path: Path) -> tuple[Dataset, str]:
    """The whole object and the SHA-256 of the file's bytes.

    Raises:
        DicomError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(io.BytesIO(content)), hashlib.sha256(content).hexdigest()
    except Exception as error:  # pydicom raises nearly anything on damaged input
        raise DicomError(f"damaged DICOM file: {_first_line(error)}", path=path, hint="copy it again") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


# --- attributes --------------------------------------------------------------------------------------------------


def attribute(dataset: Dataset, keyword: str, path: Path) -> Any:
    """An attribute's value, None where it is absent or empty.

    Raises:
        DicomError: the value cannot be parsed (pydicom parses on access).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = dataset.get(keyword)
    except Exception as error:  # pydicom raises nearly anything on damaged input
        raise DicomError(f"unreadable value: {_first_line(error)}", path=path, key=keyword) from error
    return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def text(dataset: Dataset, keyword: str, path: Path) -> str | None:
    """An attribute as text, several values joined by a backslash."""
    value = attribute(dataset, keyword, path)
    if value is None:
        return None
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    return "\\".join(str(part).strip() for part in parts)


def texts(dataset: Dataset, keyword: str, path: Path) -> list[str]:
    """A multi-valued attribute as a list of texts."""
    value = text(dataset, keyword, path)
    return [] if value is None else value.split("\\")


def numbers(dataset: Dataset, keyword: str, count: int, path: Path) -> np.ndarray | None:
    """An attribute's `count` finite numbers, None where it is absent.

    Raises:
        DicomError: another count, or not finite numbers.
    """
    value = attribute(dataset, keyword, path)
    if value is None:
        return None
    try:
        array = np.atleast_1d(np.asarray(value, dtype=float))
    except (TypeError, ValueError) as error:
        raise DicomError(f"{count} number(s) expected, found {value!r}", path=path, key=keyword) from error
    if array.shape != (count,) or not np.isfinite(array).all():
        raise DicomError(f"{count} finite number(s) expected, found {value!r}", path=path, key=keyword)
    return array


def number(dataset: Dataset, keyword: str, path: Path) -> float | None:
    """An attribute's single number, None where it is absent."""
    value = numbers(dataset, keyword, 1, path)
    return None if value is None else float(value[0])


def required_numbers(dataset: Dataset, keyword: str, count: int, path: Path) -> np.ndarray:
    """As `numbers`, but the attribute must be there.

    Raises:
        DicomError: the attribute is missing.
    """
    value = numbers(dataset, keyword, count, path)
    if value is None:
        raise DicomError("the attribute is missing", path=path, key=keyword, hint="is the file complete?")
    return value


# --- geometry ----------------------------------------------------------------------------------------------------


def read_plane(instance: Instance, geometry: Dataset | None = None) -> Plane:
    """Where an image (or the first frame of a multi-frame image) lies.

    Args:
        instance: the object; rows, columns and pixel spacing are read from it.
        geometry: the item that holds position and orientation, the data set itself if None.

    Raises:
        DicomError: an attribute is missing or makes no sense.
    """
    dataset, path = instance.dataset, instance.path
    where = dataset if geometry is None else geometry
    rows, columns = (int(required_numbers(dataset, name, 1, path)[0]) for name in ("Rows", "Columns"))
    position = required_numbers(where, "ImagePositionPatient", 3, path)
    row, column = _axes(required_numbers(where, "ImageOrientationPatient", 6, path), path)
    spacing = required_numbers(dataset, "PixelSpacing", 2, path)
    if rows < 1 or columns < 1:
        raise DicomError(f"an image of {rows} x {columns} pixels", path=path, key="Rows")
    if (spacing <= 0).any():
        raise DicomError(f"pixel spacing must be positive, found {spacing.tolist()}", path=path, key="PixelSpacing")
    # PixelSpacing is (between rows, between columns): (y, x) (PS3.3 10.7.1.3)
    return Plane(path, row, column, position, (float(spacing[1]), float(spacing[0])), (rows, columns))


def _axes(cosines: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The two direction cosines, made exactly orthonormal after a check that only rounding has to be mended."""
    row, column = cosines[:3], cosines[3:]
    error = max(abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1), abs(float(row @ column)))
    if error > COSINE_TOLERANCE:
        raise DicomError(
            f"row and column directions are not perpendicular unit vectors: {cosines.tolist()}",
            path=path,
            key="ImageOrientationPatient",
        )
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def stack(planes: Sequence[Plane], settings: dict) -> tuple[list[int], sitk.Image, list[str]]:
    """Order single-frame images by position along their common normal and find the grid that they form.

    Args:
        planes: one for each image, in any order.
        settings: `slice_tolerance_mm` and `tilt_tolerance_deg` of the config block `convert`.

    Returns:
        the order (indices into `planes`), an empty volume with the grid (x along rows, y along columns, z along the
        normal, a proper rotation), and warnings.

    Raises:
        DicomError: fewer than two slices, different planes, a duplicate or missing slice, irregular steps, or a
            sheared stack (gantry tilt); with the two files and their positions.
    """
    if len(planes) < 2:
        raise DicomError("one slice is not a volume", path=planes[0].path, hint="is the series complete?")
    for plane in planes[1:]:
        _require_same_plane(planes[0], plane)
    normal = planes[0].normal
    depth = np.array([plane.position @ normal for plane in planes])
    order = [int(i) for i in np.argsort(depth, kind="stable")]
    ordered = [planes[i] for i in order]
    depth = depth[order]
    _require_straight(ordered, normal, float(settings["tilt_tolerance_deg"]))
    _require_even(ordered, depth, float(settings["slice_tolerance_mm"]))
    spacing = float(depth[-1] - depth[0]) / (len(depth) - 1)
    first = ordered[0]
    grid = grid_of(first, len(ordered), spacing, normal)
    end = first.position + (len(ordered) - 1) * spacing * normal
    slip = float(np.linalg.norm(ordered[-1].position - end))
    notes = [f"slices drift {slip:.3f} mm sideways over the stack"] if slip > 0.01 else []
    return order, grid, notes


def grid_of(plane: Plane, slices: int, spacing_z: float, axis: np.ndarray) -> sitk.Image:
    """An empty volume whose first slice is `plane` and whose slices follow each other along the unit vector `axis`."""
    direction = np.column_stack([plane.row, plane.column, axis]).ravel()
    size = [plane.shape[1], plane.shape[0], slices]
    return make_grid(size, [*plane.spacing_xy, spacing_z], plane.position, direction)


def _require_same_plane(first: Plane, other: Plane) -> None:
    """All slices of a stack share matrix, pixel spacing and orientation."""
    if other.shape != first.shape:
        problem, key = f"matrix {other.shape}, but {first.shape} in {first.path.name}", "Rows"
    elif not np.allclose(other.spacing_xy, first.spacing_xy, rtol=SPACING_TOLERANCE, atol=0):
        problem, key = f"pixel spacing {other.spacing_xy}, but {first.spacing_xy} in {first.path.name}", "PixelSpacing"
    elif not np.allclose([other.row, other.column], [first.row, first.column], atol=COSINE_TOLERANCE):
        problem = (
            f"orientation {_show([*other.row, *other.column])}, but {_show([*first.row, *first.column])} "
            f"in {first.path.name}: the series holds more than one orientation"
        )
        key = "ImageOrientationPatient"
    else:
        return
    raise DicomError(problem, path=other.path, key=key, hint="keep one stack of parallel slices in the folder")


def _require_straight(ordered: Sequence[Plane], normal: np.ndarray, tolerance_deg: float) -> None:
    """Refuse a stack that does not follow the normal: a tilted gantry shears the volume."""
    first, last = ordered[0], ordered[-1]
    along = last.position - first.position
    height = float(along @ normal)
    if height <= SAME_POSITION_MM:
        raise _pair_error("the slices lie at one position: duplicate slices", first, last)
    tilt = np.degrees(np.arctan2(np.linalg.norm(along - height * normal), height))
    if tilt > tolerance_deg:
        raise DicomError(
            f"the slices are stacked {tilt:.2f} degrees off their normal (gantry tilt): the volume would be sheared",
            path=first.path.parent,
            key="ImagePositionPatient",
            hint="reconstruct or reformat the series without tilt",
        )
    for plane in ordered[1:-1]:
        offset = plane.position - first.position
        sideways = float(np.linalg.norm(offset - (offset @ normal) * normal))
        # A slice may leave the line by what the tilt tolerance allows over the whole stack.
        if sideways > max(np.tan(np.radians(tolerance_deg)) * height, 2 * SAME_POSITION_MM):
            raise _pair_error(f"a slice lies {sideways:.2f} mm beside the stack's axis", first, plane)


def _require_even(ordered: Sequence[Plane], depth: np.ndarray, tolerance_mm: float) -> None:
    """Refuse duplicate positions, missing slices and irregular steps; all in mm along the normal."""
    gaps = np.diff(depth)
    close = int(np.argmin(gaps))
    if gaps[close] < SAME_POSITION_MM:
        raise _pair_error("two slices at one position", ordered[close], ordered[close + 1])
    median = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - median)))
    gap = float(gaps[worst])
    if abs(gap - median) > tolerance_mm:
        missing = round(gap / median) - 1
        whole = missing >= 1 and abs(gap - (missing + 1) * median) <= tolerance_mm * (missing + 1)
        what = f"{missing} missing slice(s)" if whole else "irregular slice steps"
        problem = f"{what}: a gap of {gap:.3f} mm where the others are {median:.3f} mm"
        raise _pair_error(problem, ordered[worst], ordered[worst + 1])
    even = np.linspace(depth[0], depth[-1], len(depth))
    drift = int(np.argmax(np.abs(depth - even)))
    if abs(depth[drift] - even[drift]) > tolerance_mm:
        problem = f"slices are not evenly spaced: one lies {depth[drift] - even[drift]:.3f} mm off"
        raise _pair_error(problem, ordered[0], ordered[drift])


def _pair_error(problem: str, a: Plane, b: Plane) -> DicomError:
    places = " and ".join(f"{plane.path.name} at {_show(plane.position)}" for plane in (a, b))
    return DicomError(
        f"{problem}: {places} (mm)",
        path=a.path.parent,
        key="ImagePositionPatient",
        hint="keep exactly one complete series in the folder",
    )


def _show(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{float(v):.4g}" if abs(v) < 1 else f"{float(v):.2f}" for v in values) + ")"


# --- pixels ------------------------------------------------------------------------------------------------------


def stored_values(dataset: Dataset, path: Path) -> np.ndarray:
    """The stored values `(rows, columns)` or `(frames, rows, columns)` before any rescale.

    Compressed data that pydicom has no plugin for (JPEG lossless, JPEG-LS) is decoded by GDCM through SimpleITK.

    Raises:
        DicomError: colour image, no pixel data, fewer pixels than announced, or a codec that nobody here knows.
    """
    if (attribute(dataset, "SamplesPerPixel", path) or 1) != 1:
        raise DicomError("a colour image (screenshot?) holds no measured values", path=path, key="SamplesPerPixel")
    if "PixelData" not in dataset:
        raise DicomError("the file holds no pixel data", path=path, key="PixelData", hint="is it complete?")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset.pixel_array
    except Exception as error:  # every codec raises its own kinds
        syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
        if not syntax.is_compressed:
            problem = f"the pixel data cannot be read: {_first_line(error)}"
            raise DicomError(problem, path=path, key="PixelData", hint="is the file truncated?") from error
        return _decode_with_gdcm(dataset, path, syntax)


def _decode_with_gdcm(dataset: Dataset, path: Path, syntax: UID) -> np.ndarray:
    """Decode with GDCM, which applies the rescale: it is taken back to get the stored integers."""
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat64))
    except RuntimeError as error:
        raise DicomError(
            f"the pixel data ({syntax.name}) cannot be decoded",
            path=path,
            key="PixelData",
            hint="is the file truncated? else decompress it, for example with `gdcmconv --raw`",
        ) from error
    slope = number(dataset, "RescaleSlope", path)
    intercept = number(dataset, "RescaleIntercept", path)
    values = np.rint((values - (intercept or 0.0)) / (slope or 1.0)).astype(np.int32)
    frames = int(attribute(dataset, "NumberOfFrames", path) or 1)
    return values[0] if frames == 1 and values.ndim == 3 else values


def padding(dataset: Dataset, path: Path) -> tuple[float, float] | None:
    """The range of stored values that mean 'no measurement' (PS3.3 C.7.5.1.1.2), None without the attribute."""
    low = number(dataset, "PixelPaddingValue", path)
    if low is None:
        return None
    high = number(dataset, "PixelPaddingRangeLimit", path)
    bounds = [low, low if high is None else high]
    if attribute(dataset, "PixelRepresentation", path) == 1:
        bits = int(attribute(dataset, "BitsAllocated", path) or 16)
        # Some vendors write a signed padding value as unsigned.
        bounds = [value - 2**bits if value >= 2 ** (bits - 1) else value for value in bounds]
    return min(bounds), max(bounds)


def rescale(dataset: Dataset, path: Path) -> tuple[float, float] | None:
    """Slope and intercept of an image, None where it has none.

    Raises:
        DicomError: a lookup table, or a slope of zero.
    """
    if attribute(dataset, "ModalityLUTSequence", path) is not None:
        raise DicomError("values behind a lookup table are not supported", path=path, key="ModalityLUTSequence")
    slope, intercept = number(dataset, "RescaleSlope", path), number(dataset, "RescaleIntercept", path)
    if slope is None and intercept is None:
        return None
    if slope == 0:
        raise DicomError("the slope is 0", path=path, key="RescaleSlope")
    return 1.0 if slope is None else slope, intercept or 0.0

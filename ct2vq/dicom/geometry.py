"""Where images lie in the patient: one image's plane, and the grid that a stack of them forms.

Positions are in mm in DICOM's patient system (LPS, PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from ct2vq.dicom.attributes import required_numbers
from ct2vq.dicom.files import Instance
from ct2vq.errors import DicomError
from ct2vq.volume import make_grid

#: two slices nearer than this lie at one position: no scanner reconstructs finer steps
SAME_POSITION_MM = 0.01
#: largest departure of direction cosines from unit length, from a right angle, and between slices of one stack;
#: DICOM writes them as text, some vendors with four decimals only
COSINE_TOLERANCE = 1e-3
#: relative difference of pixel spacings of one stack that is still rounding
SPACING_TOLERANCE = 1e-3


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
        raise DicomError("D301", f"an image of {rows} x {columns} pixels", path=path, key="Rows")
    if (spacing <= 0).any():
        raise DicomError(
            "D301", f"pixel spacing must be positive, found {spacing.tolist()}", path=path, key="PixelSpacing"
        )
    # PixelSpacing is (between rows, between columns): (y, x) (PS3.3 10.7.1.3)
    return Plane(path, row, column, position, (float(spacing[1]), float(spacing[0])), (rows, columns))


def _axes(cosines: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The two direction cosines, made exactly orthonormal after a check that only rounding has to be mended."""
    row, column = cosines[:3], cosines[3:]
    error = max(abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1), abs(float(row @ column)))
    if error > COSINE_TOLERANCE:
        raise DicomError(
            "D302",
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
        raise DicomError("D303", "one slice is not a volume", path=planes[0].path, hint="is the series complete?")
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
        code, problem, key = "D304", f"matrix {other.shape}, but {first.shape} in {first.path.name}", "Rows"
    elif not np.allclose(other.spacing_xy, first.spacing_xy, rtol=SPACING_TOLERANCE, atol=0):
        code, problem, key = (
            "D305",
            f"pixel spacing {other.spacing_xy}, but {first.spacing_xy} in {first.path.name}",
            "PixelSpacing",
        )
    elif not np.allclose([other.row, other.column], [first.row, first.column], atol=COSINE_TOLERANCE):
        code = "D306"
        problem = (
            f"orientation {_show([*other.row, *other.column])}, but {_show([*first.row, *first.column])} "
            f"in {first.path.name}: the series holds more than one orientation"
        )
        key = "ImageOrientationPatient"
    else:
        return
    raise DicomError(code, problem, path=other.path, key=key, hint="keep one stack of parallel slices in the folder")


def _require_straight(ordered: Sequence[Plane], normal: np.ndarray, tolerance_deg: float) -> None:
    """Refuse a stack that does not follow the normal: a tilted gantry shears the volume."""
    first, last = ordered[0], ordered[-1]
    along = last.position - first.position
    height = float(along @ normal)
    if height <= SAME_POSITION_MM:
        raise _pair_error("D307", "the slices lie at one position: duplicate slices", first, last)
    tilt = np.degrees(np.arctan2(np.linalg.norm(along - height * normal), height))
    if tilt > tolerance_deg:
        raise DicomError(
            "D310",
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
            raise _pair_error("D311", f"a slice lies {sideways:.2f} mm beside the stack's axis", first, plane)


def _require_even(ordered: Sequence[Plane], depth: np.ndarray, tolerance_mm: float) -> None:
    """Refuse duplicate positions, missing slices and irregular steps; all in mm along the normal."""
    gaps = np.diff(depth)
    close = int(np.argmin(gaps))
    if gaps[close] < SAME_POSITION_MM:
        raise _pair_error("D307", "two slices at one position", ordered[close], ordered[close + 1])
    median = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - median)))
    gap = float(gaps[worst])
    if abs(gap - median) > tolerance_mm:
        missing = round(gap / median) - 1
        whole = missing >= 1 and abs(gap - (missing + 1) * median) <= tolerance_mm * (missing + 1)
        what = f"{missing} missing slice(s)" if whole else "irregular slice steps"
        problem = f"{what}: a gap of {gap:.3f} mm where the others are {median:.3f} mm"
        raise _pair_error("D308" if whole else "D309", problem, ordered[worst], ordered[worst + 1])
    even = np.linspace(depth[0], depth[-1], len(depth))
    drift = int(np.argmax(np.abs(depth - even)))
    if abs(depth[drift] - even[drift]) > tolerance_mm:
        problem = f"slices are not evenly spaced: one lies {depth[drift] - even[drift]:.3f} mm off"
        raise _pair_error("D309", problem, ordered[0], ordered[drift])


def _pair_error(code: str, problem: str, a: Plane, b: Plane) -> DicomError:
    places = " and ".join(f"{plane.path.name} at {_show(plane.position)}" for plane in (a, b))
    return DicomError(
        code,
        f"{problem}: {places} (mm)",
        path=a.path.parent,
        key="ImagePositionPatient",
        hint="keep exactly one complete series in the folder",
    )


def _show(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{float(v):.4g}" if abs(v) < 1 else f"{float(v):.2f}" for v in values) + ")"

"""Where images lie in the patient: one image's plane, and the grid that a stack of them forms.

Positions are in mm in DICOM's patient system (LPS, PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
#: gantries of CT scanners tilt by up to 30 degrees: a stack that leans further has wrong positions
LARGEST_TILT_DEG = 32.0
#: plausible distances of pixels or slices, and the farthest plausible position, in mm: beyond lie damaged headers
SPACING_RANGE_MM = (1e-3, 1e3)
FARTHEST_MM = 1e5


@dataclass(frozen=True)
class Plane:
    """Where one image lies: unit vectors along a row (to the next column) and along a column (to the next row)."""

    path: Path
    row: np.ndarray
    column: np.ndarray
    position: np.ndarray
    spacing_xy: tuple[float, float]
    shape: tuple[int, int]
    frame: int | None = None

    @property
    def name(self) -> str:
        """The file's name, with the frame's number where it holds several."""
        return self.path.name if self.frame is None else f"frame {self.frame} of {self.path.name}"

    @property
    def normal(self) -> np.ndarray:
        """Unit vector row x column."""
        return np.cross(self.row, self.column)


@dataclass(frozen=True)
class Stack:
    """Single images in order, and the grid that they form.

    Attributes:
        order: indices into the given planes, along the common normal.
        grid: an empty volume: x along rows, y along columns, z along the normal (a proper rotation).
        offsets: for each slice in order, how far `(x, y)` in voxels its first pixel lies inside the grid's: zero, but
            for a tilted gantry, where the grid is enlarged so that no slice loses anything.
        notes: warnings.
    """

    order: list[int]
    grid: sitk.Image
    offsets: np.ndarray
    notes: list[str]


def read_plane(instance: Instance, geometry: Dataset | None = None) -> Plane:
    """Where an image (or the first frame of a multi-frame image) lies.

    Args:
        instance: the object; rows, columns and pixel spacing are read from it.
        geometry: the item that holds position and orientation, the data set itself if None.

    Raises:
        DicomError: an attribute is missing or makes no sense.
    """
    where = instance.dataset if geometry is None else geometry
    return make_plane(instance, where, where, instance.dataset)


def make_plane(
    instance: Instance, position_in: Dataset, orientation_in: Dataset, spacing_in: Dataset, frame: int | None = None
) -> Plane:
    """Where an image lies whose position, orientation and pixel spacing stand in several places.

    Raises:
        DicomError: an attribute is missing or makes no sense.
    """
    path = instance.path
    rows, columns = (int(required_numbers(instance.dataset, name, 1, path)[0]) for name in ("Rows", "Columns"))
    position = required_numbers(position_in, "ImagePositionPatient", 3, path)
    row, column = _axes(required_numbers(orientation_in, "ImageOrientationPatient", 6, path), path)
    spacing = required_numbers(spacing_in, "PixelSpacing", 2, path)
    if rows < 1 or columns < 1:
        raise DicomError("D301", f"an image of {rows} x {columns} pixels", path=path, key="Rows")
    if np.abs(position).max() > FARTHEST_MM:
        raise DicomError("D301", f"a position of {_show(position)} mm", path=path, key="ImagePositionPatient")
    for value in spacing:
        require_spacing(float(value), path, "PixelSpacing")
    # PixelSpacing is (between rows, between columns): (y, x) (PS3.3 10.7.1.3)
    return Plane(path, row, column, position, (float(spacing[1]), float(spacing[0])), (rows, columns), frame)


def require_spacing(spacing: float, path: Path, key: str) -> None:
    """Refuse a distance of pixels or slices (mm) that no image has.

    Raises:
        DicomError: not positive, or out of `SPACING_RANGE_MM`.
    """
    if not SPACING_RANGE_MM[0] <= spacing <= SPACING_RANGE_MM[1]:
        raise DicomError("D301", f"a spacing must be positive and plausible, found {spacing:g} mm", path=path, key=key)


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


def stack(planes: Sequence[Plane], settings: dict, *, tilt: bool = False) -> Stack:
    """Order single images by position along their common normal and find the grid that they form.

    Args:
        planes: one for each image, in any order.
        settings: `slice_tolerance_mm` and `tilt_tolerance_deg` of the config block `convert`.
        tilt: whether a stack that leans evenly (gantry tilt) is taken, to be sheared back by `Stack.offsets`.

    Raises:
        DicomError: fewer than two slices, different planes, a duplicate or missing slice, irregular steps, or a
            stack that leans unevenly, or evenly where `tilt` is False; with the two files and their positions.
    """
    if len(planes) < 2:
        raise DicomError("D303", "one slice is not a volume", path=planes[0].path, hint="is the series complete?")
    _require_same_planes(planes)
    normal = planes[0].normal
    depth = np.array([plane.position @ normal for plane in planes])
    order = [int(i) for i in np.argsort(depth, kind="stable")]
    ordered = [planes[i] for i in order]
    depth = depth[order]
    sideways, notes = _sideways(ordered, depth, float(settings["tilt_tolerance_deg"]), tilt)
    _require_even(ordered, depth, float(settings["slice_tolerance_mm"]))
    first = ordered[0]
    spacing = float(depth[-1] - depth[0]) / (len(depth) - 1)
    require_spacing(spacing, first.path, "ImagePositionPatient")
    # Positions are text: a thousandth of a pixel is rounding, and would blur for nothing.
    steps = np.round(sideways / np.array(first.spacing_xy), 3)
    low, high = np.floor(steps.min(axis=0)), np.ceil(steps.max(axis=0))
    corner = first.position + low[0] * first.spacing_xy[0] * first.row + low[1] * first.spacing_xy[1] * first.column
    shape = (first.shape[0] + int(high[1] - low[1]), first.shape[1] + int(high[0] - low[0]))
    grid = grid_of(replace(first, position=corner, shape=shape), len(ordered), spacing, normal)
    return Stack(order, grid, steps - low, notes)


def _sideways(
    ordered: Sequence[Plane], depth: np.ndarray, tolerance_deg: float, tilt: bool
) -> tuple[np.ndarray, list[str]]:
    """How far each slice of a leaning stack lies to the side `(row, column)` of the first in mm, and warnings.

    Zero for all where the stack leans by less than the tolerance; then the whole drift is only said.
    """
    first, last = ordered[0], ordered[-1]
    height = float(depth[-1] - depth[0])
    if height <= SAME_POSITION_MM:
        raise _pair_error("D307", "the slices lie at one position: duplicate slices", first, last)
    axes = np.stack([first.row, first.column], axis=1)
    sideways = np.array([plane.position - first.position for plane in ordered]) @ axes
    slope = sideways[-1] / height
    degrees = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    leans = degrees > tolerance_deg
    # A slice may leave the line by what the tilt tolerance allows over the whole stack.
    beside = np.linalg.norm(sideways - np.outer(depth - depth[0], slope if leans else np.zeros(2)), axis=1)
    worst = int(np.argmax(beside))
    if beside[worst] > max(np.tan(np.radians(tolerance_deg)) * height, 2 * SAME_POSITION_MM):
        raise _pair_error("D311", f"a slice lies {beside[worst]:.2f} mm beside the stack's axis", first, ordered[worst])
    if not leans:
        slip = float(beside[-1])
        return np.zeros_like(sideways), [
            f"W305 slices drift {slip:.3f} mm sideways over the stack"
        ] if slip > 0.01 else []
    if not tilt or degrees > LARGEST_TILT_DEG:
        raise DicomError(
            "D310",
            f"the slices are stacked {degrees:.2f} degrees off their normal (gantry tilt): the volume would be sheared",
            path=first.path.parent,
            key="ImagePositionPatient",
            hint="reconstruct or reformat the series without tilt",
        )
    return sideways, [f"W306 gantry tilt of {degrees:.2f} degrees: slices shifted in their plane onto a straight stack"]


def shifted(values: np.ndarray, offset: np.ndarray, shape: tuple[int, int], outside: float) -> np.ndarray:
    """A slice moved by a fraction of pixels into a larger one, with linear interpolation.

    Args:
        values: `(y, x)`.
        offset: `(x, y)` in pixels, not negative: where the first pixel comes to lie.
        shape: `(y, x)` of the result.
        outside: value beyond the slice.
    """
    whole = np.floor(offset).astype(int)
    for axis, part in ((1, float(offset[0] - whole[0])), (0, float(offset[1] - whole[1]))):
        if part:
            width = [(1, 1) if a == axis else (0, 0) for a in range(2)]
            wide = np.pad(values, width, constant_values=outside)
            before, after = np.delete(wide, -1, axis), np.delete(wide, 0, axis)
            values = part * before + (1 - part) * after
    moved = np.full(shape, outside, dtype=np.float32)
    part = moved[whole[1] : whole[1] + values.shape[0], whole[0] : whole[0] + values.shape[1]]
    part[...] = values[: part.shape[0], : part.shape[1]]
    return moved


def grid_of(plane: Plane, slices: int, spacing_z: float, axis: np.ndarray) -> sitk.Image:
    """An empty volume whose first slice is `plane` and whose slices follow each other along the unit vector `axis`."""
    direction = np.column_stack([plane.row, plane.column, axis]).ravel()
    size = [plane.shape[1], plane.shape[0], slices]
    return make_grid(size, [*plane.spacing_xy, spacing_z], plane.position, direction)


def _require_same_planes(planes: Sequence[Plane]) -> None:
    """All slices of a stack share matrix, pixel spacing and orientation; else both parts are counted."""
    first = planes[0]
    for code, key, what, same in (
        ("D304", "Rows", lambda p: f"matrix {p.shape}", lambda p, q: p.shape == q.shape),
        ("D305", "PixelSpacing", lambda p: f"pixel spacing {p.spacing_xy}", _same_spacing),
        ("D306", "ImageOrientationPatient", lambda p: f"orientation {_show([*p.row, *p.column])}", _same_orientation),
    ):
        others = [plane for plane in planes if not same(first, plane)]
        if others:
            problem = (
                f"{len(planes) - len(others)} slice(s) with {what(first)}, for example {first.name}, "
                f"but {len(others)} with another, such as {what(others[0])} in {others[0].name}"
            )
            hint = "keep one stack of parallel slices in the folder"
            raise DicomError(code, problem, path=others[0].path, key=key, hint=hint)


def _same_spacing(a: Plane, b: Plane) -> bool:
    return np.allclose(a.spacing_xy, b.spacing_xy, rtol=SPACING_TOLERANCE, atol=0)


def _same_orientation(a: Plane, b: Plane) -> bool:
    return np.allclose([a.row, a.column], [b.row, b.column], atol=COSINE_TOLERANCE)


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
    places = " and ".join(f"{plane.name} at {_show(plane.position)}" for plane in (a, b))
    return DicomError(
        code,
        f"{problem}: {places} (mm)",
        path=a.path.parent,
        key="ImagePositionPatient",
        hint="keep exactly one complete series in the folder",
    )


def _show(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{float(v):.4g}" if abs(v) < 1 else f"{float(v):.2f}" for v in values) + ")"

"""RTSTRUCT: contours drawn onto the CT's grid.

Contours are polygons in the patient's mm (PS3.3 C.8.8.6). They are carried into the CT's index space and drawn in the
plane in which they lie there, whatever the CT's direction: axial, sagittal, coronal or oblique.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.errors import SegmentationError
from ct2vq.volume import affine

EXPORT_AGAIN = "export it again, or give the mask as NIfTI on the CT's grid"
#: a contour is planar on the CT's grid if it leaves its plane by less, in voxels
FLAT = 0.3
#: planes nearer to each other than this are one, in voxels
SAME_PLANE = 0.1
#: neighbouring planes are bridged up to so many times their usual distance
BRIDGED = 2.5
#: a slice half a distance beyond the last plane is left out, however its place is rounded
HALF_WAY = 1e-3
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_structures(
    dataset: pydicom.Dataset, path: Path, ct: sitk.Image, warnings: list[str]
) -> tuple[Sequence[tuple[int, str]], Callable[[int], np.ndarray]]:
    """Number and name of each ROI, and a function that draws one as mask `(z, y, x)` on the CT's grid.

    Raises:
        SegmentationError: it lists no structures (D707), or contours that are no triples of numbers (D709).
    """
    if not dataset.get("StructureSetROISequence"):
        raise SegmentationError(
            "D707", "the RTSTRUCT lists no structures", path=path, key="StructureSetROISequence", hint=EXPORT_AGAIN
        )
    named = [(int(item.ROINumber), str(item.get("ROIName", ""))) for item in dataset.StructureSetROISequence]
    contours = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence", [])}

    def draw(number: int) -> np.ndarray:
        item = contours.get(number)
        polygons = [] if item is None else _polygons(item, ct, number, path)
        return draw_contours(polygons, tuple(reversed(ct.GetSize())), number, path, warnings)

    return named, draw


def _polygons(roi: pydicom.Dataset, ct: sitk.Image, number: int, path: Path) -> list[np.ndarray]:
    """Closed contours as (n, 3) continuous indices in order z, y, x."""
    inverse = np.linalg.inv(affine(ct))
    polygons = []
    for contour in roi.get("ContourSequence", []):
        if str(contour.get("ContourGeometricType", "")) not in _CLOSED:
            continue
        values = np.array(contour.get("ContourData") or [], dtype=float)
        if not values.size or values.size % 3:
            raise SegmentationError(
                "D709",
                f"a contour of structure #{number} has {values.size} coordinates, no triples",
                path=path,
                key="ContourData",
                hint=EXPORT_AGAIN,
            )
        points = values.reshape(-1, 3)
        polygons.append((points @ inverse[:3, :3].T + inverse[:3, 3])[:, ::-1])
    return polygons


def draw_contours(
    polygons: Sequence[np.ndarray], shape: tuple[int, ...], number: int, path: Path, warnings: list[str]
) -> np.ndarray:
    """Draw contours of one ROI.

    Contours of one plane count by the even-odd rule, so that one within another is a hole (and a keyhole's two edges
    cancel). Slices between planes are interpolated by distance to the outline (Raya and Udupa, IEEE TMI 1990;9:32).

    Args:
        polygons: (n, 3) continuous indices z, y, x.
        shape: `(z, y, x)`.
        number: of the ROI, for messages.
        path: the file, for messages.
        warnings: what is noticed is appended here.

    Raises:
        SegmentationError: contours that lie in no slice of the CT (D709).
    """
    mask = np.zeros(shape, dtype=bool)
    if not polygons:
        return mask
    axis = _plane_axis(polygons, number, path)
    turned = np.moveaxis(mask, axis, 0)
    planes = _planes(polygons, axis)
    drawn = {place: _draw_plane(flat, turned.shape[1:]) for place, flat in planes.items()}
    _fill_slices(turned, drawn)
    if max(planes) > shape[axis] - 0.5 or min(planes) < -0.5:
        warnings.append(f"W704 structure #{number} reaches beyond the CT's slices: cut there")
    return mask


def _plane_axis(polygons: Sequence[np.ndarray], number: int, path: Path) -> int:
    """The index axis along which no contour extends."""
    spread = np.max([np.ptp(polygon, axis=0) for polygon in polygons], axis=0)
    axis = int(spread.argmin())
    if spread[axis] > FLAT:
        raise SegmentationError(
            "D709",
            f"contours of structure #{number} lie in no slice of the CT: they leave its planes by up to "
            f"{spread[axis]:.1f} voxels",
            path=path,
            hint="name the CT that they were drawn on, or export the structure as SEG or NIfTI",
        )
    return axis


def _planes(polygons: Sequence[np.ndarray], axis: int) -> dict[float, list[np.ndarray]]:
    """Two-dimensional contours by the place of their plane along the axis, in voxels."""
    planes: dict[float, list[np.ndarray]] = {}
    for polygon in sorted(polygons, key=lambda polygon: polygon[:, axis].mean()):
        place = float(polygon[:, axis].mean())
        known = next((other for other in planes if abs(other - place) < SAME_PLANE), place)
        planes.setdefault(known, []).append(np.delete(polygon, axis, axis=1))
    return planes


def _draw_plane(polygons: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    plane = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        plane ^= fill_polygon(polygon, shape)
    return plane


def fill_polygon(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels whose centres lie in a polygon, by the even-odd rule.

    Args:
        points: (n, 2) continuous indices (row, column).
        shape: rows, columns.
    """
    start, end = points, np.roll(points, -1, axis=0)
    turns = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
    for row in range(max(0, int(np.ceil(points[:, 0].min()))), min(shape[0] - 1, int(points[:, 0].max())) + 1):
        crossing = (start[:, 0] <= row) != (end[:, 0] <= row)
        a, b = start[crossing], end[crossing]
        column = a[:, 1] + (row - a[:, 0]) / (b[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
        first = np.clip(np.ceil(column).astype(int), 0, shape[1])
        np.add.at(turns[row], first, 1)
    return np.cumsum(turns, axis=1)[:, :-1] % 2 == 1


def _fill_slices(mask: np.ndarray, drawn: dict[float, np.ndarray]) -> None:
    """Fill a mask `(slice, row, column)` from planes at continuous places along its first axis."""
    places = np.array(sorted(drawn))
    usual = float(np.median(np.diff(places))) if len(places) > 1 else 1.0
    distances = {place: None for place in places}
    for index in range(len(mask)):
        nearest = float(places[np.abs(places - index).argmin()])
        if abs(nearest - index) < SAME_PLANE:
            mask[index] = drawn[nearest]
            continue
        after = int(np.searchsorted(places, index))
        if 0 < after < len(places) and places[after] - places[after - 1] <= BRIDGED * usual:
            low, high = float(places[after - 1]), float(places[after])
            for place in (low, high):
                if distances[place] is None:
                    distances[place] = _signed_distance(drawn[place])
            share = (index - low) / (high - low)
            mask[index] = (1 - share) * distances[low] + share * distances[high] < 0
        elif abs(nearest - index) < max(0.5, usual / 2) - HALF_WAY:
            mask[index] = drawn[nearest]


def _signed_distance(plane: np.ndarray) -> np.ndarray:
    """Distance to the outline in pixels, negative inside."""
    outside, inside = ndimage.distance_transform_edt(~plane), ndimage.distance_transform_edt(plane)
    if not plane.any():
        return np.full(plane.shape, float(max(plane.shape)))
    return outside - inside

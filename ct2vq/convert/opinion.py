"""A second opinion on geometry: where SimpleITK (GDCM) places the same files.

Two readers that were written by different people seldom make the same mistake. Where they disagree and no rule of
`RULES` explains it, the case stops (D315): one of the two is wrong, and nobody knows which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.dicom.geometry import COSINE_TOLERANCE, Plane, Stack
from ct2vq.errors import DicomError
from ct2vq.volume import affine, corners

#: largest distance of a corner voxel from SimpleITK's (GDCM's) reading that is still rounding, in mm
SECOND_OPINION_MM = 0.1
#: why the two readings may differ without either being wrong about the header
RULES = {
    "gdcm_ignores_top_level_geometry": "of an NM object GDCM reads position and orientation only in "
    "DetectorInformationSequence, and gives up where they only stand beside it",
    "gdcm_guesses_spacing_without_positions": "of an NM object without SpacingBetweenSlices GDCM takes 1 mm, "
    "this program the slice thickness, with a warning",
    "tilt_corrected": "slices of a tilted gantry were shifted onto one box, in whole and half voxels",
    "within_slice_tolerance": "slices lie unevenly within `slice_tolerance_mm` and `tilt_tolerance_deg`; the volume "
    "has even steps",
    "rounded_directions": "direction cosines with few decimals: each reader makes them perpendicular in its own way",
    "gdcm_cannot_read": "GDCM gives up on the header, so that there is no second opinion",
    "enhanced_multiframe": "GDCM neither sorts the frames of an enhanced object nor measures their distance",
}


def second_opinion(path: Path, grid: sitk.Image, rules: Sequence[str] = ()) -> dict[str, Any]:
    """Compare the eight corners of a volume with the reading of the one object that it comes from.

    Args:
        path: the object.
        grid: where the volume was found to lie, slices in the order of the frames (it may be left-handed).
        rules: names of `RULES` that apply to this object.

    Returns:
        `reader`, `largest_distance_mm` and `rule`, the rule that explains a disagreement.

    Raises:
        DicomError: the readings disagree, and no rule explains it.
    """
    read = _Reading.of(path)
    if read is None:
        return _no_reader(rules)
    if read.size != grid.GetSize():
        distance = float("inf")
        problem = f"SimpleITK reads a volume of {read.size} voxels, here it has {grid.GetSize()}"
    else:
        distance = float(np.linalg.norm(read.corners() - corners(grid), axis=1).max())
        problem = f"SimpleITK places this volume elsewhere (by up to {distance:.2f} mm): the header is ambiguous"
    return _verdict(distance, _extent(corners(grid)), rules, problem, path)


def opinion_of_slices(planes: Sequence[Plane], stacked: Stack) -> dict[str, Any]:
    """Compare the corners of every slice with the reading of its file; otherwise as `second_opinion`.

    Args:
        planes: one for each file, in any order.
        stacked: the volume that they form.
    """
    worst, worst_file, problem = 0.0, planes[0].path, ""
    own = 0.0
    for k, index in enumerate(stacked.order):
        plane = planes[index]
        read = _Reading.of(plane.path)
        if read is None:
            return _no_reader([])
        if read.size[:2] != (plane.shape[1], plane.shape[0]):
            raise DicomError("D315", f"SimpleITK reads an image of {read.size[:2]} pixels", path=plane.path, key="Rows")
        seen = read.corners()[:4]
        distance = float(np.linalg.norm(seen - _slice_corners(stacked, k, plane), axis=1).max())
        own = max(own, float(np.linalg.norm(seen - _plane_corners(plane), axis=1).max()))
        if distance > worst:
            worst, worst_file = distance, plane.path
            problem = f"SimpleITK places this slice elsewhere (by {distance:.2f} mm)"
    extent = _extent(corners(stacked.grid))
    rules = []
    if own <= SECOND_OPINION_MM or own <= COSINE_TOLERANCE * extent:
        # Each file is read alike: what is left is the step from single slices to an even box, which `stack` bounds.
        rules.append("tilt_corrected" if stacked.offsets.any() else "within_slice_tolerance")
    return _verdict(worst, extent, rules, problem, worst_file)


class _Reading:
    """What SimpleITK (GDCM) makes of one file's header, pixels unread."""

    def __init__(self, reader: sitk.ImageFileReader) -> None:
        self.size = reader.GetSize()
        self._spacing = np.array(reader.GetSpacing())
        self._origin = np.array(reader.GetOrigin())
        self._direction = np.reshape(reader.GetDirection(), (3, 3))

    @classmethod
    def of(cls, path: Path) -> _Reading | None:
        """None where SimpleITK cannot read the file, or not as a volume."""
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("GDCMImageIO")
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return None
        return cls(reader) if reader.GetDimension() == 3 else None

    def corners(self) -> np.ndarray:
        """As `volume.corners`, from a spacing that may be negative (no ITK image allows that)."""
        last = (np.array(self.size) - 1) * self._spacing
        steps = np.array([(i, j, k) for k in (0, last[2]) for j in (0, last[1]) for i in (0, last[0])])
        return self._origin + steps @ self._direction.T


def _plane_corners(plane: Plane) -> np.ndarray:
    """Positions (4, 3) in mm of the corner pixels of one image, in the order of `volume.corners`."""
    last = ((plane.shape[1] - 1) * plane.spacing_xy[0], (plane.shape[0] - 1) * plane.spacing_xy[1])
    return np.array([plane.position + i * plane.row + j * plane.column for j in (0, last[1]) for i in (0, last[0])])


def _slice_corners(stacked: Stack, k: int, plane: Plane) -> np.ndarray:
    """Where the corner pixels of slice `k` lie in the volume, positions (4, 3) in mm."""
    x, y = stacked.offsets[k]
    last = (plane.shape[1] - 1, plane.shape[0] - 1)
    index = np.array([(x + i, y + j, k, 1.0) for j in (0, last[1]) for i in (0, last[0])])
    return (affine(stacked.grid) @ index.T).T[:, :3]


def _extent(places: np.ndarray) -> float:
    """Length of a volume's diagonal in mm."""
    return float(np.linalg.norm(places.max(axis=0) - places.min(axis=0)))


def _verdict(distance: float, extent: float, rules: Sequence[str], problem: str, path: Path) -> dict[str, Any]:
    rule = None
    if distance > SECOND_OPINION_MM:
        rounded = ["rounded_directions"] if distance <= COSINE_TOLERANCE * extent else []
        rule = next(iter([*rules, *rounded]), None)
        if rule is None:
            hint = "export the images again"
            raise DicomError("D315", problem, path=path, key="ImagePositionPatient", hint=hint)
    shown = round(distance, 6) if np.isfinite(distance) else None
    return {"reader": "SimpleITK", "largest_distance_mm": shown, "rule": rule}


def _no_reader(rules: Sequence[str]) -> dict[str, Any]:
    return {"reader": "none", "largest_distance_mm": None, "rule": next(iter([*rules, "gdcm_cannot_read"]))}

"""DICOM SEG: segments brought onto the CT's grid (PS3.3 A.51 and C.8.20)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk

from ct2vq.errors import SegmentationError
from ct2vq.volume import make_grid, resample, same_grid, to_array

#: a voxel belongs to a fractional segment from here on
HALF = 0.5


def read_segments(
    dataset: pydicom.Dataset, path: Path, ct: sitk.Image, warnings: list[str]
) -> tuple[Sequence[tuple[int, str]], Callable[[int], np.ndarray]]:
    """Number and label of each segment, and a function that draws one as mask `(z, y, x)` on the CT's grid.

    Raises:
        SegmentationError: it lists no segments (D707), or has no frames or no pixels (D709).
    """
    _require(dataset, path, "D707", "SegmentSequence")
    for keyword in ("PerFrameFunctionalGroupsSequence", "Rows", "Columns", "PixelData"):
        _require(dataset, path, "D709", keyword)
    named = [(int(item.SegmentNumber), str(item.get("SegmentLabel", ""))) for item in dataset.SegmentSequence]

    def draw(number: int) -> np.ndarray:
        return draw_segment(dataset, number, path, ct, warnings)

    return named, draw


def _require(dataset: pydicom.Dataset, path: Path, code: str, keyword: str) -> None:
    if not dataset.get(keyword):
        hint = "export it again, or give the mask as NIfTI on the CT's grid"
        raise SegmentationError(code, "the SEG tells none", path=path, key=keyword, hint=hint)


def draw_segment(dataset: pydicom.Dataset, number: int, path: Path, ct: sitk.Image, warnings: list[str]) -> np.ndarray:
    """One segment, binary, fractional or of a label map, as a mask on the CT's grid.

    Frames that are left out are empty. A SEG on another grid of the same frame of reference is resampled linearly and
    cut at one half, and that is said.

    Raises:
        SegmentationError: geometry that is missing or differs between frames (D709).
    """
    pixels, frames = _frames(dataset, number)
    if not frames:
        return np.zeros(tuple(reversed(ct.GetSize())), dtype=bool)
    own = _volume(dataset, pixels, frames, number, path)
    if not same_grid(own, ct):
        # a SEG may leave out empty slices at both ends: that alone is no other grid, but resampling gives the same
        if not _on_grid(own, ct):
            warnings.append(f"W705 segment #{number} lies on another grid: brought onto the CT's")
        own = resample(own, ct)
    return to_array(own) >= HALF


def _frames(dataset: pydicom.Dataset, number: int) -> tuple[np.ndarray, list[tuple[int, pydicom.Dataset]]]:
    """Values (frame, row, column) of 0 to 1, and the frames of a segment with their functional groups."""
    pixels = dataset.pixel_array.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    groups = list(enumerate(dataset.PerFrameFunctionalGroupsSequence))
    kind = str(dataset.get("SegmentationType", "BINARY"))
    if kind == "LABELMAP":
        return (pixels == number).astype(np.float32), groups
    scale = float(dataset.get("MaximumFractionalValue", 1)) if kind == "FRACTIONAL" else 1.0
    chosen = [(index, group) for index, group in groups if _segment_of(dataset, group) == number]
    return pixels.astype(np.float32) / scale, chosen


def _segment_of(dataset: pydicom.Dataset, group: pydicom.Dataset) -> int:
    item = _group(dataset, group, "SegmentIdentificationSequence")
    return int(item.ReferencedSegmentNumber) if item is not None else 1


def _group(dataset: pydicom.Dataset, frame: pydicom.Dataset, name: str) -> pydicom.Dataset | None:
    """A functional group of a frame: its own, or that of all frames."""
    shared = dataset.get("SharedFunctionalGroupsSequence", [{}])
    found = frame.get(name) or (shared[0].get(name) if len(shared) else None)
    return found[0] if found else None


def _volume(
    dataset: pydicom.Dataset, pixels: np.ndarray, frames: list[tuple[int, pydicom.Dataset]], number: int, path: Path
) -> sitk.Image:
    """Frames stacked along their normal, float32."""

    def need(name: str, keyword: str) -> np.ndarray:
        values = {tuple(_values(_group(dataset, group, name), keyword)) for _, group in frames}
        if len(values) != 1 or not next(iter(values)):
            raise SegmentationError(
                "D709", f"{len(values)} different {keyword} in segment #{number}, one is expected", path=path
            )
        return np.array(next(iter(values)))

    row, column = need("PlaneOrientationSequence", "ImageOrientationPatient").reshape(2, 3)
    spacing = need("PixelMeasuresSequence", "PixelSpacing")
    normal = np.cross(row, column)
    positions = np.array(
        [_values(_group(dataset, group, "PlanePositionSequence"), "ImagePositionPatient") for _, group in frames]
    )
    along = positions @ normal
    step = _step(dataset, frames, along)
    index = np.rint((along - along.min()) / step).astype(int)
    volume = np.zeros((index.max() + 1, *pixels.shape[1:]), dtype=np.float32)
    for place, (frame, _) in zip(index, frames, strict=True):
        volume[place] = np.maximum(volume[place], pixels[frame])
    direction = np.stack([row, column, normal], axis=1).ravel()
    image = sitk.GetImageFromArray(volume)
    image.CopyInformation(
        make_grid(image.GetSize(), (spacing[1], spacing[0], step), positions[along.argmin()], direction)
    )
    return image


def _values(item: pydicom.Dataset | None, keyword: str) -> list[float]:
    value: Any = None if item is None else item.get(keyword)
    return [] if value is None else [float(part) for part in value]


def _step(dataset: pydicom.Dataset, frames: list[tuple[int, pydicom.Dataset]], along: np.ndarray) -> float:
    """Distance of slices in mm: what the header says, else the smallest distance of two frames."""
    gaps = np.diff(np.unique(np.round(along, 3)))
    measures = _group(dataset, frames[0][1], "PixelMeasuresSequence")
    told = (
        [abs(float(measures.get(key) or 0)) for key in ("SpacingBetweenSlices", "SliceThickness")] if measures else []
    )
    if gaps.size and not (told and told[0] > 0 and np.allclose(gaps / told[0], np.rint(gaps / told[0]), atol=0.02)):
        return float(gaps.min())
    return next((value for value in told if value > 0), 1.0)


def _on_grid(part: sitk.Image, whole: sitk.Image) -> bool:
    """Whether all voxels of a volume are voxels of another one."""
    corners = [part.TransformIndexToPhysicalPoint(index) for index in ((0, 0, 0), tuple(s - 1 for s in part.GetSize()))]
    places = np.array([whole.TransformPhysicalPointToContinuousIndex(corner) for corner in corners])
    return np.allclose(part.GetSpacing(), whole.GetSpacing(), atol=1e-3) and np.allclose(
        places, np.rint(places), atol=0.02
    )

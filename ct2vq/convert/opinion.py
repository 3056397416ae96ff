"""A second opinion on geometry: where SimpleITK (GDCM) places the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.errors import DicomError
from ct2vq.volume import corners

#: largest distance of a corner voxel from SimpleITK's (GDCM's) reading of the same SPECT
SECOND_OPINION_MM = 0.1


def second_opinion(path: Path, grid: sitk.Image, visible: bool) -> dict[str, Any]:
    """Compare the eight corners with SimpleITK's (GDCM's) reading, where GDCM looks at the same attributes."""
    if not visible:
        return {"reader": "none", "reason": "the geometry stands where SimpleITK does not look"}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return {"reader": "none", "reason": "SimpleITK cannot read the file"}
    if reader.GetSize() != grid.GetSize():
        raise DicomError(
            "D315", f"SimpleITK reads a volume of {reader.GetSize()} voxels, {grid.GetSize()} expected", path=path
        )
    distance = float(np.abs(_corners_as_read(reader) - corners(grid)).max())
    if distance > SECOND_OPINION_MM:
        problem = f"SimpleITK places this volume elsewhere (by up to {distance:.2f} mm): the header is ambiguous"
        raise DicomError("D315", problem, path=path, key="ImagePositionPatient", hint="export the reconstruction again")
    return {"reader": "SimpleITK", "largest_distance_mm": round(distance, 6)}


def _corners_as_read(reader: sitk.ImageFileReader) -> np.ndarray:
    """Corner positions as `volume.corners`, from a header whose spacing may be negative (no ITK image allows that)."""
    last = (np.array(reader.GetSize()) - 1) * np.array(reader.GetSpacing())
    steps = np.array([(i, j, k) for k in (0, last[2]) for j in (0, last[1]) for i in (0, last[0])])
    return np.array(reader.GetOrigin()) + steps @ np.reshape(reader.GetDirection(), (3, 3)).T

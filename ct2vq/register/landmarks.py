"""Points of the CT and of the camera's images that belong together, as somebody marked them or the simulation knows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ct2vq.errors import RegistrationError

CT_COLUMNS = ("x_ct_mm", "y_ct_mm", "z_ct_mm")
SPECT_COLUMNS = ("x_spect_mm", "y_spect_mm", "z_spect_mm")


@dataclass(frozen=True)
class Landmarks:
    """Pairs of points in mm (LPS, as DICOM's ImagePositionPatient).

    Attributes:
        ct: points in the CT `(n, 3)`.
        spect: the same points in the frame of the SPECT, thus of the attenuation CT `(n, 3)`.
    """

    ct: np.ndarray
    spect: np.ndarray

    def error_mm(self, transform: sitk.Transform | None) -> np.ndarray:
        """Distance of each pair after the transform has carried the CT's point; as they lie if None."""
        carried = self.ct if transform is None else [transform.TransformPoint(point) for point in self.ct.tolist()]
        return np.linalg.norm(np.asarray(carried) - self.spect, axis=1)


def read_landmarks(path: Path) -> Landmarks:
    """Read a table of landmarks (TSV).

    Raises:
        RegistrationError: D810 if it is missing, has no rows, lacks a column, or a cell is no number.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t")
            rows = list(reader)
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RegistrationError("D810", f"the table of landmarks cannot be read: {error}", path=path) from error
    missing = [name for name in (*CT_COLUMNS, *SPECT_COLUMNS) if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise RegistrationError("D810", f"no column {', '.join(missing)}; columns found: {found}", path=path)
    if not rows:
        raise RegistrationError("D810", "the table of landmarks has no rows", path=path)
    return Landmarks(_points(rows, CT_COLUMNS, path), _points(rows, SPECT_COLUMNS, path))


def _points(rows: list[dict[str, str]], columns: tuple[str, ...], path: Path) -> np.ndarray:
    points = np.empty((len(rows), 3))
    for number, row in enumerate(rows):
        for axis, column in enumerate(columns):
            try:
                points[number, axis] = float(row[column])
            except (TypeError, ValueError):
                points[number, axis] = np.nan
            if not np.isfinite(points[number, axis]):
                what = f"line {number + 2}: `{row[column]}` is no position in mm"
                raise RegistrationError("D810", what, path=path, key=column)
    return points

"""SPECT stored as a series of single-frame PT objects, each with its own slope."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ct2vq.convert.converted import Converted
from ct2vq.convert.series import UNITS, read_series, require_one_series, require_one_volume
from ct2vq.dicom.attributes import text, texts
from ct2vq.dicom.files import Instance
from ct2vq.dicom.pixels import rescale, stored_values
from ct2vq.errors import DicomError


def read_pt(instances: Sequence[Instance], settings: dict) -> Converted:
    """A SPECT stored as single-frame PT objects, each with its own slope."""
    require_one_series(instances, _common(instances))
    require_one_volume(instances, _common(instances))
    first = instances[0]
    series_type = [value.upper() for value in texts(first.dataset, "SeriesType", first.path)]
    for refused in ("DYNAMIC", "GATED", "REPROJECTION"):
        if refused in series_type:
            raise DicomError(
                "D207", f"a {refused} series, one static volume expected", path=first.path, key="SeriesType"
            )
    converted = read_series(instances, settings, pt_slice)
    units = text(first.dataset, "Units", first.path)
    converted.facts["units"] = UNITS.get(units or "", units or "unknown")
    return converted


def _common(instances: Sequence[Instance]) -> Path:
    """The folder that holds all files."""
    root = instances[0].path.parent
    while not all(instance.path.is_relative_to(root) for instance in instances):
        root = root.parent
    return root


def pt_slice(instance: Instance, data: Dataset, notes: list[str]) -> np.ndarray:
    """One slice `(y, x)` in the series' units."""
    scale = rescale(data, instance.path)
    if scale is None:
        raise DicomError("D406", "PT without rescale", path=instance.path, key="RescaleSlope")
    return stored_values(data, instance.path) * scale[0] + scale[1]

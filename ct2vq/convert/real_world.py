"""Real-world values (PS3.3 C.7.6.16.2.11): linear mappings of stored values, each with its units and its range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ct2vq.convert.series import UNITS
from ct2vq.dicom.attributes import items, number, text
from ct2vq.dicom.pixels import rescale
from ct2vq.errors import DicomError

#: UCUM codes of real-world values that have a name here
UCUM_UNITS = {"Bq/ml": "Bq/mL", "{counts}": "counts"}
#: units in the order in which they are taken where several are stored; others follow, SUV never does
PREFERRED = ("Bq/mL", "counts")


@dataclass(frozen=True)
class Mapping:
    """Real-world values of the stored values `first` to `last`, both included."""

    slope: float
    intercept: float
    units: str
    first: float = -np.inf
    last: float = np.inf

    def covers(self, stored: np.ndarray) -> np.ndarray:
        """Which stored values the mapping is for."""
        return (stored >= self.first) & (stored <= self.last)

    def contradicts(self, other: Mapping) -> bool:
        """Whether both map more than a common end point, in two ways."""
        overlap = min(self.last, other.last) > max(self.first, other.first)
        return overlap and (self.slope, self.intercept) != (other.slope, other.intercept)


def nm_mappings(data: Dataset, path: Path) -> tuple[list[list[Mapping]], list[str]]:
    """Mappings of an NM object by units, the preferred ones first, and warnings; else its rescale to counts.

    Raises:
        DicomError: mappings without slope only, that contradict each other, or to several kinds of SUV only.
    """
    default = UNITS.get(text(data, "Units", path) or "", "counts")
    stored = items(data, "RealWorldValueMappingSequence", path)
    if not stored:
        slope, intercept = rescale(data, path) or (1.0, 0.0)
        return [[Mapping(slope, intercept, default)]], []
    linear = [mapping for mapping in (_mapping(item, default, path) for item in stored) if mapping is not None]
    if not linear:
        raise _refused("a mapping without slope (lookup table?) is not supported", path)
    groups: dict[str, list[Mapping]] = {}
    for mapping in linear:
        groups.setdefault(mapping.units, []).append(mapping)
    kept = [units for units in groups if len(groups) == 1 or "SUV" not in units.upper()]
    if not kept:
        raise _refused("several kinds of SUV and nothing else", path)
    kept.sort(key=lambda units: PREFERRED.index(units) if units in PREFERRED else len(PREFERRED))
    for units in kept:
        if any(a.contradicts(b) for k, a in enumerate(groups[units]) for b in groups[units][k + 1 :]):
            raise _refused("two mappings to the same units contradict each other", path)
    notes = [f"W404 {len(stored)} real-world value mappings to {len(groups)} unit(s)"] if len(stored) > 1 else []
    return [groups[units] for units in kept], notes


def covering(groups: Sequence[Sequence[Mapping]], stored: np.ndarray, path: Path) -> Sequence[Mapping]:
    """The first group whose ranges hold all stored values.

    Raises:
        DicomError: there is none.
    """
    for group in groups:
        inside = np.zeros(stored.shape, dtype=bool)
        for mapping in group:
            inside |= mapping.covers(stored)
        if inside.all():
            return group
    raise _refused("the mappings' ranges leave stored values out", path)


def mapped(stored: np.ndarray, group: Sequence[Mapping]) -> np.ndarray:
    """Stored values as real-world ones, each through the first mapping whose range holds it."""
    if len(group) == 1:
        return stored * group[0].slope + group[0].intercept
    inside = [mapping.covers(stored) for mapping in group]
    return np.select(inside, [stored * mapping.slope + mapping.intercept for mapping in group])


def _mapping(item: Dataset, default: str, path: Path) -> Mapping | None:
    """A linear mapping; None for a lookup table."""
    slope = number(item, "RealWorldValueSlope", path)
    if not slope:
        return None
    code = items(item, "MeasurementUnitsCodeSequence", path) or [Dataset()]
    unit = text(code[0], "CodeValue", path) or default
    first, last = (_limit(item, name, path) for name in ("First", "Last"))
    return Mapping(
        slope,
        number(item, "RealWorldValueIntercept", path) or 0.0,
        UCUM_UNITS.get(unit, unit),
        -np.inf if first is None else first,
        np.inf if last is None else last,
    )


def _limit(item: Dataset, name: str, path: Path) -> float | None:
    """First or last stored value mapped, as an integer or in double precision; None without either."""
    stated = number(item, f"RealWorldValue{name}ValueMapped", path)
    return number(item, f"DoubleFloatRealWorldValue{name}ValueMapped", path) if stated is None else stated


def _refused(problem: str, path: Path) -> DicomError:
    return DicomError("D411", problem, path=path, key="RealWorldValueMappingSequence")

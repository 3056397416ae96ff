"""What counts as low and as high function, and how far two images agree on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ct2vq.metrics.value import RegionValues, Value, missing, missing_because

#: percentile that stands for the maximum: single hot voxels (Technegas clumps) lie above it
ROBUST_MAXIMUM = 99.5


@dataclass(frozen=True)
class Threshold:
    """A definition of low and high function (an entry of config `evaluate.function_thresholds`).

    Attributes:
        name: its name in the tables.
        method: `percentile`, `percent_of_maximum`, `activity` or `equal_volumes`.
        low: percent, whose meaning depends on the method; None for `equal_volumes`.
        high: percent.
        cut: `own` (each image at its own cut) or `reference` (both at the cut of the image scored against).
    """

    name: str
    method: str = "percentile"
    low: float | None = None
    high: float | None = None
    cut: str = "own"


@dataclass(frozen=True)
class Overlap:
    """Overlap of a functional region of an image and of its reference, as voxel fractions of the region."""

    dice: Value
    chance: Value
    image_fraction: float
    reference_fraction: float


def read_thresholds(settings: Iterable[Mapping[str, Any]]) -> tuple[Threshold, ...]:
    """The thresholds of config `evaluate.function_thresholds`, in their order."""
    return tuple(Threshold(**entry) for entry in settings)


def curve_thresholds(percentiles: Iterable[float]) -> tuple[Threshold, ...]:
    """The points of the threshold curve, `curve_p10` ..., each one cut that divides the region into low and high."""
    return tuple(Threshold(f"curve_p{percent:g}", low=percent, high=percent) for percent in percentiles)


def cut_levels(values: RegionValues, threshold: Threshold) -> tuple[float, float]:
    """The levels of an image: low function is at or below the first, high function above the second.

    Raises:
        ValueError: a method that is not known, or one without levels (`equal_volumes`).
    """
    match threshold.method:
        case "percentile":
            return values.percentile(threshold.low), values.percentile(threshold.high)
        case "percent_of_maximum":
            maximum = values.percentile(ROBUST_MAXIMUM)
            return threshold.low / 100 * maximum, threshold.high / 100 * maximum
        case "activity":
            return _activity_level(values, threshold.low), _activity_level(values, threshold.high)
    raise ValueError(f"threshold method `{threshold.method}` is unknown or has no levels")


def low_and_high(
    values: RegionValues, threshold: Threshold, reference: RegionValues | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Which voxels of a region have low and which have high function.

    Args:
        values: an image in the region.
        threshold: the definition.
        reference: the image scored against; only `cut: reference` looks at it.

    Returns:
        Two boolean arrays in the order of `values.values`; where an image has its own cut they are computed once.
    """
    if threshold.method != "equal_volumes" and threshold.cut == "reference" and reference is not None:
        return _cut(values, *cut_levels(reference, threshold))
    if threshold not in values.known:
        thirds = threshold.method == "equal_volumes"
        values.known[threshold] = _thirds(values) if thirds else _cut(values, *cut_levels(values, threshold))
    return values.known[threshold]


def _cut(values: RegionValues, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    return values.values <= low, values.values > high


def functional_overlap(image: RegionValues, reference: RegionValues, threshold: Threshold, *, low: bool) -> Overlap:
    """Dice of low or high function, with the Dice expected by chance and both sizes.

    Dice expected by chance is that of two independent regions of the same sizes a and b (as fractions):
    `2ab / (a + b)`.
    """
    reason = missing_because(image, reference)
    if reason:
        return Overlap(missing(reason), missing(reason), np.nan, np.nan)
    part = 0 if low else 1
    return overlap_of(low_and_high(image, threshold, reference)[part], low_and_high(reference, threshold)[part])


def overlap_of(image_part: np.ndarray, reference_part: np.ndarray) -> Overlap:
    """The overlap of two parts of one region (booleans in the same order)."""
    voxels = image_part.size
    a, b = (int(np.count_nonzero(part)) for part in (image_part, reference_part))
    if a + b == 0:
        nothing = missing("both regions are empty")
        return Overlap(nothing, nothing, 0.0, 0.0)
    both = int(np.count_nonzero(image_part & reference_part))
    return Overlap(Value(2 * both / (a + b)), Value(2 * a * b / voxels / (a + b)), a / voxels, b / voxels)


def _activity_level(values: RegionValues, percent: float) -> float:
    """The level above which lie the fewest brightest voxels that hold `percent` of the activity (FVx).

    Pinot et al. 2023 (Cancers 15:2166). Values below 0 hold no activity. Voxels that equal the dimmest one that is
    needed are all taken in.
    """
    bright = np.maximum(values.sorted[::-1], 0.0)
    held = np.cumsum(bright)
    needed = int(np.searchsorted(held, percent / 100 * held[-1]))
    return float(np.nextafter(bright[min(needed, values.size - 1)], -np.inf))


def _thirds(values: RegionValues) -> tuple[np.ndarray, np.ndarray]:
    """The thirds of lowest and highest values, of exactly equal volumes (Grover et al. 2022, PMC9545612).

    Voxels that equal the value at the cut are taken in evenly over the region, so that no side is preferred.
    """
    third = values.size // 3
    low = _lowest(values.values, values.sorted[third - 1], third) if third else np.zeros(values.size, bool)
    high = _lowest(-values.values, -values.sorted[-third], third) if third else low
    return low, high


def _lowest(values: np.ndarray, level: float, number: int) -> np.ndarray:
    """Exactly `number` voxels: those below a level, and as many as are missing of those that equal it."""
    chosen = values < level
    tied = np.flatnonzero(values == level)
    wanted = number - int(chosen.sum())
    chosen[tied[(np.arange(wanted) * tied.size) // max(wanted, 1)]] = True
    return chosen

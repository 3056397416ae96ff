"""A number that may be missing, and the values of one image in one region with what several metrics share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Value:
    """A metric's value, or NaN with the reason why it is missing."""

    number: float
    reason: str = ""


def missing(reason: str) -> Value:
    """The value of a metric that cannot be computed."""
    return Value(float("nan"), reason)


class RegionValues:
    """The values of one image in one region; sorting and ranking happen once, however many metrics ask.

    Two of them can be compared if they were taken in the same region: their voxels stand in the same order, that of
    `image[inside]`.

    Attributes:
        values: one value for each voxel of the region, float64.
    """

    def __init__(self, values: np.ndarray, order: np.ndarray | None = None) -> None:
        """Take the values of a region, one-dimensional, and where it is known the order that sorts them."""
        self.values = np.asarray(values, dtype=np.float64).ravel()
        self._known_order = order
        #: what was computed of these values alone, by what asked for it: it is the same for all that is compared
        self.known: dict[Hashable, Any] = {}

    @classmethod
    def of(cls, image: np.ndarray, inside: np.ndarray) -> RegionValues:
        """The values of an image in a region.

        Args:
            image: image `(z, y, x)`.
            inside: the region, booleans of the same shape.
        """
        return cls(image[inside])

    def within(self, part: np.ndarray) -> RegionValues:
        """The values in a part of the region, without sorting again.

        Args:
            part: a boolean for each voxel of this region, as `smaller_mask[inside]`.
        """
        if self.problem == "values that are not finite":
            return RegionValues(self.values[part])
        place = np.cumsum(part) - 1
        return RegionValues(self.values[part], order=place[self.order[part[self.order]]])

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.values.size

    @cached_property
    def problem(self) -> str:
        """Why no metric can be computed with these values, or an empty string."""
        if self.size < 2:
            return "empty region"
        if not np.isfinite(self.values).all():
            return "values that are not finite"
        if np.ptp(self.values) == 0:
            return "constant"
        return ""

    @cached_property
    def order(self) -> np.ndarray:
        """Indices that sort the values from low to high; equal values stay in the region's order."""
        return np.argsort(self.values, kind="stable") if self._known_order is None else self._known_order

    @cached_property
    def sorted(self) -> np.ndarray:
        """The values from low to high."""
        return self.values[self.order]

    @cached_property
    def centred(self) -> np.ndarray:
        """The values less their mean."""
        return self.values - self.values.mean()

    @cached_property
    def centred_ranks(self) -> np.ndarray:
        """Ranks less their mean; equal values share the mean of their ranks (as `scipy.stats.rankdata`)."""
        first = np.concatenate(([True], np.diff(self.sorted) != 0))
        start = np.flatnonzero(first)
        end = np.append(start[1:], self.size)
        mean_ranks = (start + end - 1) / 2.0 - (self.size - 1) / 2.0
        ranks = np.empty(self.size)
        ranks[self.order] = mean_ranks[np.cumsum(first) - 1]
        return ranks

    def percentile(self, percent: float) -> float:
        """A percentile by linear interpolation between neighbours (numpy's default)."""
        position = percent / 100.0 * (self.size - 1)
        below = int(np.floor(position))
        above = min(below + 1, self.size - 1)
        share = position - below
        return float(self.sorted[below] * (1.0 - share) + self.sorted[above] * share)


def missing_because(image: RegionValues, reference: RegionValues) -> str:
    """Why two images cannot be compared in a region, or an empty string.

    Raises:
        ValueError: they were taken in different regions.
    """
    if image.size != reference.size:
        raise ValueError(f"values of {image.size} and of {reference.size} voxels were not taken in one region")
    for general in ("empty region", "values that are not finite"):
        if general in (image.problem, reference.problem):
            return general
    if image.problem:
        return "constant image"
    return "constant reference" if reference.problem else ""

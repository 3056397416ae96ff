"""Bootstrap over patients: whole patients are drawn, with everything that belongs to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

#: bounds that lie closer together are one number
SAME = 1e-9
#: numbers that one step of the bootstrap may hold, so that memory does not grow with the cohort
STEP_NUMBERS = 2_000_000


@dataclass(frozen=True)
class Resamples:
    """How often each patient is drawn in each resample.

    The draws follow from the seed and the number of patients alone: models with the same patients share them.

    Attributes:
        patients: number of patients.
        number: number of resamples.
        confidence: level of the intervals.
        seed: the study's seed.
    """

    patients: int
    number: int
    confidence: float
    seed: int

    @classmethod
    def of(cls, patients: int, settings: Mapping[str, Any], seed: int) -> Resamples:
        """Resamples by the settings `bootstrap` and `confidence`."""
        return cls(patients, settings["bootstrap"], settings["confidence"], seed)

    @cached_property
    def draws(self) -> np.ndarray:
        """`(number, patients)`: how often a patient is drawn; each row sums to the number of patients."""
        if self.patients < 2:
            return np.zeros((0, self.patients))
        digest = hashlib.sha256(f"{self.seed}:detect:{self.patients}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        even = np.full(self.patients, 1 / self.patients)
        return generator.multinomial(self.patients, even, size=self.number).astype(float)

    def intervals(
        self, figures: Callable[..., Mapping[str, np.ndarray]], *of_patients: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Percentile intervals of figures that follow from sums over patients.

        Args:
            figures: takes the sums, each `(resamples, ...)`, and gives arrays `(resamples,)` or `(resamples, n)`.
            of_patients: arrays `(P, ...)` to be summed over the drawn patients.

        Returns:
            For each figure the lower and the upper bounds `(2, ...)`; missing (NaN) below two patients, without
            resamples, or where the figure exists in no resample. Resamples without the figure are left out.
        """
        widest = max(array[0].size for array in of_patients)
        step = max(1, STEP_NUMBERS // widest)
        pieces = [self.draws[start : start + step] for start in range(0, len(self.draws), step)]
        if not pieces:
            pieces = [np.zeros((1, self.patients))]
        parts = [figures(*(np.tensordot(piece, array, axes=1) for array in of_patients)) for piece in pieces]
        return {name: self._bounds(np.concatenate([part[name] for part in parts])) for name in parts[0]}

    def _bounds(self, sampled: np.ndarray) -> np.ndarray:
        """Lower and upper bounds `(2, ...)` of sampled figures `(resamples, ...)`."""
        tail = (1 - self.confidence) / 2
        columns = sampled.reshape(len(sampled), -1)
        bounds = np.full((2, columns.shape[1]), np.nan)
        for index, column in enumerate(columns.T):
            defined = column[~np.isnan(column)]
            if len(self.draws) and defined.size:
                bounds[:, index] = np.quantile(defined, [tail, 1 - tail])
        return bounds.reshape(2, *sampled.shape[1:])


def told_bounds(
    estimate: float, bounds: np.ndarray, patients: int, confidence: float, *, share: bool
) -> tuple[float, float]:
    """Bounds of a figure, without those that a bootstrap only seems to know.

    Where every resample gives the same number, the interval has no width, however few the patients. A share of 0 or 1
    then gets Wilson's interval (1927, J Am Stat Assoc 22:209) of as many observations as patients contribute, which is
    wide because it takes a patient's observations for one; other figures have none.

    Args:
        estimate: the figure.
        bounds: lower and upper bound of the bootstrap.
        patients: patients who contribute to the figure; below two there is no interval.
        confidence: level of the interval.
        share: whether the figure is a share of observations.
    """
    low, high = float(bounds[0]), float(bounds[1])
    if patients < 2 or np.isnan(low):
        return np.nan, np.nan
    if high - low > SAME:
        return low, high
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    far = z**2 / (patients + z**2)
    if share and estimate < SAME:
        return 0.0, far
    if share and estimate > 1 - SAME:
        return 1 - far, 1.0
    return np.nan, np.nan

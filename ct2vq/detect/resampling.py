"""Bootstrap over patients: whole patients are drawn, with everything that belongs to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ct2vq.intervals import LEAST_EVENTS, LEAST_PATIENTS, widened_tails, wilson

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
        """Bootstrap intervals of figures that follow from sums over patients, at percentiles widened for few patients.

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
        tails = widened_tails(self.confidence, self.patients) if len(self.draws) else ()
        columns = sampled.reshape(len(sampled), -1)
        bounds = np.full((2, columns.shape[1]), np.nan)
        for index, column in enumerate(columns.T):
            defined = column[~np.isnan(column)]
            if len(self.draws) and defined.size:
                bounds[:, index] = np.quantile(defined, tails)
        return bounds.reshape(2, *sampled.shape[1:])


@dataclass(frozen=True)
class Support:
    """What a figure rests on.

    Attributes:
        patients: patients who contribute to it; where two classes are needed, those of the rarer one.
        least: with fewer of them a bootstrap is not believed.
        effective: for a share, the number of independent observations that its observations are worth; else None.
    """

    patients: int
    least: int = LEAST_PATIENTS
    effective: float | None = None

    @classmethod
    def of_share(cls, counted: np.ndarray, total: np.ndarray) -> Support:
        """What a share rests on: `counted` of `total` observations of each patient.

        A bootstrap must find both outcomes often enough. The effective number takes a patient's observations for one,
        the largest design effect that there is (Kish, Survey Sampling, 1965): patients with more of them weigh more,
        so that it is below the number of patients.
        """
        outcomes = min(int((counts > 0).sum()) for counts in (counted, total - counted))
        square = float(np.square(total).sum())
        return cls(outcomes, LEAST_EVENTS, float(total.sum()) ** 2 / square if square else 0.0)


def told_bounds(estimate: float, bounds: np.ndarray, support: Support, confidence: float) -> tuple[float, float]:
    """Bounds of a figure, without those that a bootstrap only seems to know.

    With few patients (or few of the rarer outcome) resamples differ too little; where every resample gives the same
    number, the interval has no width at all. A share then gets Wilson's interval of its effective number of
    observations; other figures have none.

    Args:
        estimate: the figure.
        bounds: lower and upper bound of the bootstrap; NaN where there is none, and then nothing is told.
        support: what the figure rests on.
        confidence: level of the interval.
    """
    low, high = float(bounds[0]), float(bounds[1])
    if np.isnan(low) or np.isnan(estimate):
        return np.nan, np.nan
    if support.patients >= support.least and high - low > SAME:
        return low, high
    # a single observation tells no spread
    if support.effective is None or support.effective <= 1 + SAME:
        return np.nan, np.nan
    return wilson(min(max(estimate, 0.0), 1.0), support.effective, confidence)

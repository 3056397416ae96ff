"""Confidence intervals that do not claim more than few patients can tell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np
from scipy.stats import norm, t

#: patients below which a bootstrap gives a mean no interval: of five it holds the truth nine times in ten instead of
#: 19 in 20 (docs/statistics.md has the table; `tests/test_intervals.py` measures it)
LEAST_PATIENTS = 6
#: patients with the rarer outcome below which the bootstrap of a share, or of a figure of two classes, is not
#: believed: of four, every fiftieth resample has none (e**-4), which is the tail that the interval ends at (assumption)
LEAST_EVENTS = 5


@lru_cache
def widened_tails(confidence: float, n: int) -> tuple[float, float]:
    """The two percentiles (0..1) of a bootstrap of `n` patients that make up an interval.

    Plain percentiles are too narrow: a bootstrap knows neither `n / (n - 1)` nor that the spread itself is estimated.
    The levels are widened as far as Student's t interval of a mean is wider (Hesterberg, Am Stat 2015;69:371,
    "expanded percentile").

    Args:
        confidence: level of the interval.
        n: number of patients, two or more.
    """
    tail = float(norm.cdf(sqrt(n / (n - 1)) * t.ppf((1 - confidence) / 2, n - 1)))
    return tail, 1 - tail


def wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a share (J Am Stat Assoc 1927;22:209); `n` may be an effective number of observations."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre, half = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    # it ends at 0 and 1 there; round-off must not show
    return 0.0 if share <= 0 else low, 1.0 if share >= 1 else high


def newcombe(fourfold: Sequence[int], confidence: float) -> tuple[float, float]:
    """Interval of the difference of two shares of the same patients (Newcombe, Stat Med 1998;17:2635, method 10).

    The Wilson intervals of both shares are combined with their correlation, which is corrected for continuity. It has
    width where all patients agree, and does not leave -1 to 1.

    Args:
        fourfold: numbers of patients with both, the first only, the second only, neither.
        confidence: level of the interval.

    Returns:
        Bounds of the first share minus the second; NaN without patients.
    """
    both, first, second, neither = fourfold
    n = both + first + second + neither
    if not n:
        return np.nan, np.nan
    shares = (both + first) / n, (both + second) / n
    (low_1, high_1), (low_2, high_2) = (wilson(share, n, confidence) for share in shares)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    excess = both * neither - first * second
    phi = (max(excess - n / 2, 0) if excess > 0 else excess) / sqrt(product) if product else 0.0
    down, up = (shares[0] - low_1, high_2 - shares[1]), (high_1 - shares[0], shares[1] - low_2)
    below, above = (sqrt(max(a * a - 2 * phi * a * b + b * b, 0)) for a, b in (down, up))
    difference = shares[0] - shares[1]
    return difference - below, difference + above

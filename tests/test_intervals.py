"""Intervals of few patients: published examples, and how often they hold the truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

from ct2vq.compare.paired import bootstrap_mean
from ct2vq.config import complete_config
from ct2vq.intervals import LEAST_PATIENTS, newcombe, widened_tails, wilson

SETTINGS = complete_config({"study": "x"})["compare"]
COUNTS = st.integers(0, 30)


@pytest.mark.parametrize(
    ("fourfold", "bounds"),
    [
        # Cavo et al. 2012, complete response: CRAN `contingencytables`, Newcombe_square_and_add_CI_paired_2x2
        ((59, 6, 16, 80), (-0.1186, -0.0046)),
        # by hand: Wilson 2/21 (0.0265 to 0.2891), 8/21 (0.2075 to 0.5912); 12 - 7 is below 21/2: no correlation
        ((1, 1, 7, 12), (-0.5069, -0.0256)),
        # nobody passes: Wilson for 0 of 10 ends at 0.27753
        ((0, 0, 0, 10), (-0.27753, 0.27753)),
    ],
)
def test_newcombe(fourfold: tuple[int, ...], bounds: tuple[float, float]) -> None:
    assert newcombe(fourfold, 0.95) == pytest.approx(bounds, abs=1e-4)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_newcombe_has_width_and_bounds_and_can_be_turned(a: int, b: int, c: int, d: int) -> None:
    low, high = newcombe((a, b, c, d), 0.95)
    n = a + b + c + d
    if not n:
        assert np.isnan([low, high]).all()
        return
    assert -1 - 1e-12 <= low < (b - c) / n + 1e-12 < high + 2e-12 <= 1 + 3e-12
    assert newcombe((a, c, b, d), 0.95) == pytest.approx((-high, -low))


@given(st.integers(1, 60), st.integers(0, 60))
def test_wilson_is_that_of_statsmodels(n: int, count: int) -> None:
    count = min(count, n)
    assert wilson(count / n, n, 0.9) == pytest.approx(proportion_confint(count, n, 0.1, "wilson"), abs=1e-12)
    low, high = wilson(count / n, n, 0.95)
    assert (low == 0) == (count == 0) and (high == 1) == (count == n)


def test_widened_percentiles_are_those_of_student() -> None:
    """A bootstrap of a normal sample has about the spread s sqrt((n - 1) / n) / sqrt(n)."""
    for n in (6, 12, 98):
        low, high = widened_tails(0.95, n)
        assert low == pytest.approx(1 - high) and low < 0.025
        normal = np.random.default_rng(0).normal(0, np.sqrt((n - 1) / n), 200_000)
        assert np.quantile(normal, high) == pytest.approx(t.ppf(0.975, n - 1), rel=0.05)
    assert widened_tails(0.95, 10_000)[0] == pytest.approx(0.025, abs=1e-4)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda generator, n: generator.normal(size=n), id="normal"),
        pytest.param(lambda generator, n: generator.beta(8, 2, n) - 0.8, id="skewed"),
        pytest.param(lambda generator, n: generator.standard_t(3, n), id="heavy tails"),
    ],
)
@pytest.mark.parametrize("n", [LEAST_PATIENTS, 10])
def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says(
    draw: Callable[[np.random.Generator, int], np.ndarray], n: int
) -> None:
    generator, held = np.random.default_rng(n), 0
    for _ in range(600):
        low, high = bootstrap_mean(draw(generator, n), SETTINGS, 1)
        held += low <= 0 <= high
    assert held / 600 > 0.895, "0.92 to 0.95 in a long simulation; plain percentiles have 0.85 to 0.90"

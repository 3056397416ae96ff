"""The bootstrap draws whole patients, the same ones for every model, and never holds all resamples at once."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from ct2vq.detect import resampling
from ct2vq.detect.figures_of_merit import ratio
from ct2vq.detect.resampling import Resamples, Support, told_bounds
from ct2vq.intervals import widened_tails


def mean(n: np.ndarray, total: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean": ratio(total, n)}


def test_every_resample_has_as_many_patients_as_the_cohort() -> None:
    draws = Resamples(9, 500, 0.95, 1).draws
    assert draws.shape == (500, 9)
    assert (draws.sum(axis=1) == 9).all()
    assert draws.mean() == pytest.approx(1)
    assert draws.var(axis=0).mean() == pytest.approx(1 - 1 / 9, rel=0.1)  # of a multinomial
    assert (Resamples(9, 500, 0.95, 1).draws == draws).all()
    assert (Resamples(9, 500, 0.95, 2).draws != draws).any()


def test_the_interval_is_that_of_drawing_patients_one_by_one() -> None:
    generator = np.random.default_rng(5)
    values = generator.normal(size=30)
    low, high = Resamples(30, 4000, 0.9, 1).intervals(mean, np.ones((30, 1)), values[:, None])["mean"][:, 0]
    slow = [generator.choice(values, 30).mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.quantile(slow, widened_tails(0.9, 30))), abs=0.02)


def test_steps_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = np.ones((12, 3)), np.random.default_rng(0).integers(0, 9, (12, 3)).astype(float)
    whole = Resamples(12, 300, 0.95, 1).intervals(mean, *arrays)["mean"]
    monkeypatch.setattr(resampling, "STEP_NUMBERS", 100)
    assert (Resamples(12, 300, 0.95, 1).intervals(mean, *arrays)["mean"] == whole).all()


@pytest.mark.parametrize(("patients", "number"), [(1, 200), (5, 0)])
def test_without_patients_to_draw_there_is_no_interval(patients: int, number: int) -> None:
    arrays = np.ones((patients, 2)), np.ones((patients, 2))
    bounds = Resamples(patients, number, 0.95, 1).intervals(mean, *arrays)["mean"]
    assert bounds.shape == (2, 2) and np.isnan(bounds).all()


def test_resamples_in_which_a_figure_does_not_exist_are_left_out() -> None:
    n, total = np.array([[1.0], [0], [0], [0]]), np.array([[3.0], [0], [0], [0]])
    assert Resamples(4, 200, 0.95, 1).intervals(mean, n, total)["mean"][:, 0] == pytest.approx([3, 3])
    assert np.isnan(Resamples(4, 200, 0.95, 1).intervals(mean, 0 * n, total)["mean"]).all()


def test_an_interval_without_width_is_not_believed() -> None:
    ends = np.array([1.0, 1.0])
    for found in (0, 12):
        expected = proportion_confint(found, 12, alpha=0.05, method="wilson")
        support = Support.of_share(np.full(12, found / 12), np.ones(12))
        assert told_bounds(found / 12, ends * found / 12, support, 0.95) == pytest.approx(expected)
    assert np.isnan(told_bounds(1.0, ends, Support(12), 0.95)).all()
    assert np.isnan(told_bounds(1.0, np.full(2, np.nan), Support(12, effective=12), 0.95)).all()


def test_few_patients_of_the_rarer_outcome_have_no_bootstrap() -> None:
    """One defect found of 15 tells no less than none found of 15: its interval must not be the narrower one."""
    bounds, total = np.array([0.2, 0.8]), np.ones(15)
    none = told_bounds(0.0, np.zeros(2), Support.of_share(0 * total, total), 0.95)
    found = np.eye(15)[0]
    one = told_bounds(1 / 15, np.array([0, 0.2]), Support.of_share(found, total), 0.95)
    assert one == pytest.approx(proportion_confint(1, 15, alpha=0.05, method="wilson"))
    assert one[1] - one[0] > none[1] - none[0]
    assert told_bounds(0.5, bounds, Support(4, 5), 0.95) == pytest.approx((np.nan, np.nan), nan_ok=True)
    assert told_bounds(0.5, bounds, Support(5, 5), 0.95) == (0.2, 0.8)
    half = (np.arange(15) < 5).astype(float)
    assert told_bounds(1 / 3, bounds, Support.of_share(half, total), 0.95) == (0.2, 0.8)


def test_observations_of_a_patient_count_as_one() -> None:
    many = Support.of_share(np.array([7.0, 0]), np.array([10.0, 10]))
    assert (many.patients, many.effective) == (1, 2), "both outcomes in the first, one in the second patient"
    uneven = Support.of_share(np.zeros(3), np.array([10.0, 1, 1]))
    assert uneven.effective == pytest.approx(144 / 102)
    alone = Support.of_share(np.array([1.0]), np.array([2.0]))
    assert np.isnan(told_bounds(0.5, np.array([0.2, 0.8]), alone, 0.95)).all()
    assert Support.of_share(np.zeros(2), np.zeros(2)).effective == 0

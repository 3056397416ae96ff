"""Motion between breathing states: no folding, sliding along the pleura and never through it."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SEED, small_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ct2vq.simulate.anatomy import draw_body
from ct2vq.simulate.case import draw_case
from ct2vq.simulate.chest import DrawnChest
from ct2vq.simulate.motion import Motion, draw_motion, jacobian_determinant, wall_thickness, with_slip
from ct2vq.simulate.randomness import generator


@pytest.fixture(scope="module")
def chest() -> DrawnChest:
    """One chest."""
    return DrawnChest(draw_body(generator(SEED, "P", "anatomy")))


def in_lungs(chest: DrawnChest, step: float, depth: float) -> np.ndarray:
    """Points (3, n) at least `depth` under the lungs' surface."""
    points = chest.lattice(step).reshape(3, -1)
    return points[:, chest.lung(points)[0] < -depth]


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), full=st.booleans())
def test_no_motion_that_the_config_allows_folds_a_lung(chest, seed, full):
    config = small_settings()["motion"] | {"full_inspiration": float(full)}
    moved = draw_motion(chest, config, np.random.default_rng(seed))
    low, high = config["full_diaphragm_mm" if full else "diaphragm_mm"]
    assert moved.full_inspiration == full and low <= moved.diaphragm_mm <= high
    grid = chest.lattice(8.0)
    jacobian = jacobian_determinant(moved.lung(grid), (8.0, 8.0, 8.0))
    inside = chest.measure(moved.body(grid)).lung < 0
    assert jacobian[inside].min() > 0.15
    assert jacobian[inside].mean() < 1, "the lungs are larger in breath-hold"


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_to_scan_inverts_the_lungs_motion(chest, seed):
    moved = draw_motion(chest, small_settings()["motion"] | {"full_inspiration": 0.5}, np.random.default_rng(seed))
    points = in_lungs(chest, 25.0, 3.0).astype(float)
    assert np.abs(moved.lung(moved.to_scan(points)) - points).max() < 0.05


def test_the_slide_goes_along_the_pleura(chest):
    """Lung at the lateral wall slides by millimetres; its distance to the pleura changes by far less."""
    moved = with_slip(Motion(chest=chest, wall_mm=wall_thickness(chest), diaphragm_mm=30.0))
    points = in_lungs(chest, 6.0, 1.0)
    distance, _side = chest.lung(points)
    wall = (distance > -6) & (np.abs(points[0]) > 0.75 * chest.half_width) & (np.abs(points[2]) < 40)
    slid = moved.slide(points) - points
    assert np.linalg.norm(slid[:, wall], axis=0).mean() > 3
    change = chest.lung(points + slid)[0] - distance
    assert np.abs(change[wall]).mean() < 0.2 * np.linalg.norm(slid[:, wall], axis=0).mean()
    near = distance > -6
    assert np.percentile(change[near], 99) < 3


def test_without_excursion_nothing_slides(chest):
    still = with_slip(Motion(chest=chest, diaphragm_mm=0.0))
    points = in_lungs(chest, 20.0, 0.0)
    assert np.allclose(still.lung(points), points, atol=1e-4)


def test_the_attenuation_ct_and_the_scans_lie_where_the_config_says():
    config = small_settings()
    for k in range(6):
        case = draw_case(f"c{k}", "P", "normal", SEED, config)
        assert abs(case.attenuation_motion.diaphragm_mm) <= config["motion"]["attenuation_mm"]
        apart = case.shifts["perfusion"].offset - case.shifts["ventilation"].offset
        assert (np.abs(apart) <= config["motion"]["between_scans_mm"]).all() and np.abs(apart).max() > 0

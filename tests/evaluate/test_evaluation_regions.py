"""Parts of the lungs fill them exactly on every grid, and the core is as thin as it should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lung_phantom import COARSE_MM, FINE_MM, coarse_lungs, fine_lungs, lobes

from ct2vq.evaluate.images import evaluation_grid
from ct2vq.evaluate.regions import core_of, find_regions
from ct2vq.lungs import LOBE_SIDES, LOBES, THIRDS, THIRDS_OF, labels_in_lungs
from ct2vq.segment.regions import thirds
from ct2vq.volume import from_array, to_array


@pytest.fixture(scope="module")
def found():
    return find_regions(coarse_lungs(), 10, thirds(fine_lungs()), lobes(fine_lungs()))


def test_thirds_and_lobes_fill_the_lungs_and_do_not_overlap(found) -> None:
    labels = to_array(coarse_lungs())
    for names in (THIRDS.values(), LOBES.values(), ("right", "left")):
        covered = np.sum([found.masks[name] for name in names], axis=0)
        assert (covered == (labels > 0)).all()
    for side, name in ((1, "right"), (2, "left")):
        parts = np.any([found.masks[THIRDS[label]] for label in THIRDS_OF[side]], axis=0)
        assert (parts == found.masks[name]).all()


def test_regions_stand_in_the_order_of_the_tables(found) -> None:
    assert list(found.masks) == ["lungs", "core", "right", "left", *THIRDS.values(), *LOBES.values()]
    without = find_regions(coarse_lungs(), 10, thirds(fine_lungs()))
    assert list(without.masks) == ["lungs", "core", "right", "left", *THIRDS.values()]


def test_volumes_hardly_change_from_grid_to_grid(found) -> None:
    fine = to_array(thirds(fine_lungs()))
    for label, name in THIRDS.items():
        ml = float((fine == label).sum()) * FINE_MM**3 / 1000
        assert found.volume_ml(name) == pytest.approx(ml, rel=0.08)
    assert found.voxel_ml == pytest.approx(COARSE_MM**3 / 1000)


@pytest.mark.parametrize("spacing", [3.0, 6.5, 10.0])
def test_a_grid_of_its_own_holds_the_lungs(spacing) -> None:
    grid = evaluation_grid(coarse_lungs(), spacing)
    assert grid.GetSpacing() == (spacing,) * 3
    ml = (to_array(grid) > 0).sum() * spacing**3 / 1000
    assert ml == pytest.approx((to_array(coarse_lungs()) > 0).sum() * COARSE_MM**3 / 1000, rel=0.03)
    labels = to_array(grid)
    assert not any(labels[index].any() for index in (0, -1))
    assert evaluation_grid(coarse_lungs(), None).GetSize() == (36, 24, 24)


@given(depth=st.floats(0, 40), spacing=st.floats(1, 10))
def test_the_core_of_a_ball_is_a_smaller_ball(depth, spacing) -> None:
    index = np.indices((25, 25, 25)) - 12
    radius = np.sqrt((index**2).sum(axis=0)) * spacing
    core = core_of(radius <= 10 * spacing, depth, spacing)
    wanted = 10 * spacing - depth
    assert not core[radius > wanted + 1.0 * spacing].any()
    assert core[radius < wanted - 1.5 * spacing].all()


def test_lungs_that_touch_the_grids_border_have_a_border_there() -> None:
    core = core_of(np.ones((9, 9, 9), dtype=bool), 2.0, 1.0)
    assert core.sum() == 5**3
    assert core_of(np.ones((3, 3, 3), dtype=bool), 0, 1.0).all()


def test_a_lung_of_which_no_part_is_given_stays_empty() -> None:
    lungs = coarse_lungs()
    given_lobes = np.where(to_array(lungs) == 1, 2, 0)
    carried = labels_in_lungs(given_lobes, lungs, LOBE_SIDES)
    assert set(np.unique(carried[to_array(lungs) == 1])) == {2}
    assert not carried[to_array(lungs) == 2].any()
    regions = find_regions(lungs, 10, None, from_array(given_lobes.astype(np.uint8), lungs))
    assert not regions.masks["left upper lobe"].any()

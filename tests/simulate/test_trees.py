"""Trees that fill the lungs, and the units at their ends."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import small_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from ct2vq.simulate import trees, units
from ct2vq.simulate.anatomy import draw_body
from ct2vq.simulate.case import draw_case
from ct2vq.simulate.chest import DrawnChest
from ct2vq.simulate.randomness import generator


def grown(count: int, seed: int) -> tuple[trees.Tree, np.ndarray]:
    """A tree with one stem that fills a cube with random points."""
    points = np.random.default_rng(seed).uniform(0, 80, (count, 3))
    stem = trees.trunk([("stem", np.array([40.0, 40, -30]), np.array([40.0, 40, 0]), (5.0, 5.0), -1)])
    return trees.fill(stem, points, np.zeros(count, dtype=int)), points


@pytest.fixture(scope="module")
def lungs() -> units.Units:
    """The divided lungs of one person."""
    body = draw_body(generator(5, "P", "anatomy"))
    return units.divide_lungs(DrawnChest(body), generator(5, "P", "units"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000))
def test_every_point_ends_in_a_branch_of_its_own(count, seed):
    tree, points = grown(count, seed)
    assert len(np.unique(tree.terminal)) == count
    assert (tree.parent[1:] < np.arange(1, len(tree.parent))).all(), "parents come first"
    assert np.allclose(tree.start[1:], tree.end[tree.parent[1:]])
    assert tree.unit_counts()[0] == count
    assert np.linalg.norm(tree.end[tree.terminal] - points, axis=1).max() < 100


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 150), st.integers(0, 1000))
def test_daughters_share_what_their_parent_supplies(count, seed):
    tree, _points = grown(count, seed)
    supplied = tree.unit_counts()
    children = np.bincount(tree.parent[1:], minlength=len(supplied))
    assert children.max() <= 2
    summed = np.bincount(tree.parent[1:], weights=supplied[1:], minlength=len(supplied))
    inner = children > 0
    assert np.array_equal(summed[inner], supplied[inner])
    sister = tree.siblings()
    paired = sister >= 0
    assert np.array_equal(sister[sister[paired]], np.flatnonzero(paired))
    assert np.array_equal(tree.parent[sister[paired]], tree.parent[paired])


def test_points_in_one_line_and_doubled_points_still_divide():
    stem = trees.trunk([("stem", np.array([0.0, 0, -10]), np.zeros(3), (5.0, 5.0), -1)])
    line = np.stack([np.zeros(9), np.zeros(9), np.arange(1.0, 10)], axis=1)
    for points in (line, np.zeros((5, 3)), np.repeat(line, 2, axis=0)):
        tree = trees.fill(stem, points, np.zeros(len(points), dtype=int))
        assert len(np.unique(tree.terminal)) == len(points) and np.isfinite(tree.end).all()


def test_branches_turn_by_at_most_the_set_angle():
    tree, _points = grown(120, 1)
    along = tree.end - tree.start
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    inner = np.setdiff1d(np.flatnonzero(tree.parent >= 0), tree.terminal)
    cosine = (along[inner] * along[tree.parent[inner]]).sum(1)
    assert np.rad2deg(np.arccos(np.clip(cosine, -1, 1))).max() <= trees.LARGEST_ANGLE_DEG + 1e-6


def test_accumulate_adds_along_the_way():
    tree, _points = grown(30, 2)
    total = tree.accumulate(np.ones(len(tree.parent)))
    assert np.array_equal(total, tree.generation[tree.terminal] + 1)


def test_distance_is_that_of_a_tube():
    stem = trees.trunk([("tube", np.zeros(3), np.array([0.0, 0, 60]), (4.0, 4.0), -1)])
    across = np.linspace(0, 8, 30)
    points = np.stack([across, 0 * across, 0 * across + 30]).astype(np.float32)
    distance, radius = stem.distance(points, np.ones(1), 3.0)
    near = across < 6.5
    assert np.allclose(distance[near], across[near] - 4, atol=0.15) and np.allclose(radius[near], 4)
    assert (distance[across > 7.1] == 3.0).all()
    assert stem.distance(points, np.array([0.05]), 3.0)[0].min() == 3.0, "too thin to show"


def test_murray_gives_radii_that_conserve_cubes(lungs):
    tree = lungs.airways
    daughters = np.flatnonzero((tree.siblings() >= 0) & (tree.parent >= units.FIRST_SEGMENTAL))
    cubes = np.bincount(tree.parent[daughters], weights=tree.radius[daughters, 0] ** 3, minlength=len(tree.parent))
    parents = np.unique(tree.parent[daughters])
    assert np.allclose(cubes[parents], tree.radius[parents, 0] ** 3)


def test_units_fill_the_lungs_and_have_their_place(lungs):
    assert 0.8 < lungs.volume_ml.mean() < 1.3 and lungs.volume_ml.sum() == pytest.approx(
        len(lungs.position) * lungs.volume_ml.mean()
    )
    points = lungs.position.T.astype(np.float32)
    assert np.array_equal(lungs.at(points, lungs.side), np.arange(len(lungs.position)))
    assert set(lungs.segment_names) == set(np.unique(lungs.segment).tolist()) and len(lungs.segment_names) == 18
    for segment, lobe in lungs.segment_lobe.items():
        assert set(lungs.lobe[lungs.segment == segment]) == {lobe}
        own = lungs.airways.units_of(np.arange(len(lungs.airways.parent)) == units.FIRST_SEGMENTAL - 1 + segment)
        assert np.array_equal(own, lungs.segment == segment)
    for subsegment in np.unique(lungs.subsegment):
        assert len(np.unique(lungs.segment[lungs.subsegment == subsegment])) == 1


def test_airways_and_arteries_stay_in_the_lungs_and_side_by_side(lungs):
    inside = lungs.chest.lung(lungs.airways.end[units.FIRST_SEGMENTAL :].T.astype(np.float32))[0] < 1
    assert inside.mean() > 0.97
    gap = np.linalg.norm(lungs.airways.end - lungs.arteries.end, axis=1)[units.FIRST_SEGMENTAL :]
    touching = lungs.airways.radius[units.FIRST_SEGMENTAL :, 1] + lungs.arteries.radius[units.FIRST_SEGMENTAL :, 1]
    assert (gap > touching).mean() > 0.95 and np.median(gap) < 4


def test_a_clot_takes_a_wedge():
    """What lies behind a clot is one piece, and nearer to the clot's branch than to most others."""
    config = small_settings()
    config["disease"]["invisible_emboli"] = 0.0
    case = draw_case("c", "P", "embolism", 3, config)
    for finding in case.state.findings:
        branch = np.arange(len(case.units.arteries.parent)) == finding["branch"]
        own = case.units.position[case.units.arteries.units_of(branch)]
        spread = np.sqrt(((own - own.mean(0)) ** 2).sum(1).mean())
        ball = (3 * finding["volume_ml"] * 1000 / (4 * np.pi)) ** (1 / 3) * np.sqrt(3 / 5)
        assert spread < 1.9 * ball, "a compact piece"

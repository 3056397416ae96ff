"""Consolidation and tumour are inside, fluid is outside, each as the config says; heart and diaphragm stay out."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from chests import TISSUE, chest, dice

from ct2vq.config import complete_config
from ct2vq.segment import segment_lungs
from ct2vq.segment.dense import VIEWS, _kinds, _look, surrounded
from ct2vq.segment.working import Coarse
from ct2vq.volume import from_array, make_grid, to_array

SETTINGS = complete_config({"study": "segment"})["segment"]
FLUID = 8.0


def with_ribs(spacing: float = 3.0) -> tuple[np.ndarray, np.ndarray, sitk.Image, tuple[np.ndarray, ...]]:
    """HU, true labels, grid, and the patient's coordinates of a chest whose ribs lie 4 mm outside the lungs."""
    image, truth = chest(spacing=(spacing,) * 3)
    hu = to_array(image)
    z, y, x = (np.arange(n) * spacing + o for n, o in zip(hu.shape, image.GetOrigin()[::-1], strict=True))
    pz, py, px = z[:, None, None], y[None, :, None], x[None, None]
    wall = np.maximum(
        1 - ((px + 72) / 66) ** 2 - (py / 86) ** 2 - (pz / 120) ** 2,
        1 - ((px - 72) / 60) ** 2 - (py / 80) ** 2 - ((pz - 5) / 115) ** 2,
    )
    ribs = (np.abs(wall - 0.03) < 0.05) & (np.abs((pz + 0.3 * np.abs(py)) % 24 - 12) < 6) & (np.abs(px) > 60)
    hu[ribs & (truth == 0)] = 500
    return hu, truth, image, (pz, py, px)


def found_in(hu: np.ndarray, image: sitk.Image, **inside: bool) -> tuple[np.ndarray, dict]:
    labels, record = segment_lungs(from_array(hu, image), SETTINGS | {"inside": SETTINGS["inside"] | inside})
    return to_array(labels), record


def tumour_at_the_wall(truth: np.ndarray, place: tuple[np.ndarray, ...], radius: float = 28.0) -> np.ndarray:
    pz, py, px = place
    return ((px + 118) ** 2 + (py + 5) ** 2 + (pz - 10) ** 2 < radius**2) & (truth == 1)


def test_a_large_tumour_at_the_wall_is_inside_unless_it_shall_not_be() -> None:
    hu, truth, image, place = with_ribs()
    tumour = tumour_at_the_wall(truth, place)
    hu[tumour] = TISSUE + np.random.default_rng(2).normal(0, 15, tumour.sum())
    found, record = found_in(hu, image)
    assert (found[tumour] == 1).mean() > 0.85
    assert dice(found == 1, truth == 1) > 0.96
    assert record["dense_ml"]["tumour"]["right"] > 10
    assert record["dense_ml"]["effusion"] == {"right": 0.0, "left": 0.0}
    without, _ = found_in(hu, image, tumour=False)
    assert (without[tumour] == 1).mean() < 0.4


def test_consolidation_with_open_bronchi_is_inside() -> None:
    hu, truth, image, (pz, py, px) = with_ribs()
    filled = (truth == 1) & (px < -80) & (np.abs(pz - 30) < 25)
    hu[filled] = 20 + np.random.default_rng(3).normal(0, 20, filled.sum())
    bronchi = filled & (np.abs((py + 0.4 * px) % 18 - 9) < 4) & (np.abs(pz % 15 - 7) < 5)
    hu[bronchi] = -800
    found, record = found_in(hu, image)
    assert (found[filled] == 1).mean() > 0.8
    assert record["dense_ml"]["tumour"]["right"] == 0


@pytest.mark.parametrize(("pores", "kind"), [(0.0, "tumour"), (0.15, "consolidation")])
def test_air_in_it_tells_consolidation_from_tumour(pores, kind) -> None:
    image = make_grid((30, 30, 30), (2, 2, 2), (0, 0, 0))
    piece = np.zeros((30, 30, 30), dtype=np.uint8)
    piece[8:22, 8:22, 8:22] = 1
    hu = np.full(piece.shape, TISSUE, dtype=np.float32)
    hu[(np.random.default_rng(1).random(piece.shape) < pores) & (piece > 0)] = -800
    piece[hu < 0] = 0
    dense = _kinds(Coarse(image, hu, np.full(3, 2.0)), piece, np.zeros(piece.shape, dtype=bool))
    assert (getattr(dense, kind) > 0).sum() > 0.9 * (piece > 0).sum()


def test_the_part_air_of_its_rim_makes_no_tumour_a_consolidation() -> None:
    image = make_grid((30, 30, 30), (2, 2, 2), (0, 0, 0))
    piece = np.zeros((30, 30, 30), dtype=np.uint8)
    piece[9:21, 9:21, 9:21] = 1
    hu = np.full(piece.shape, -400.0, dtype=np.float32)
    hu[10:20, 10:20, 10:20] = TISSUE
    dense = _kinds(Coarse(image, hu, np.full(3, 2.0)), piece, np.zeros(piece.shape, dtype=bool))
    assert np.array_equal(dense.tumour, piece)


def test_nothing_is_added_to_healthy_lungs_beside_a_heart_and_domes() -> None:
    hu, truth, image, (pz, py, px) = with_ribs()
    heart = ((px - 25) / 55) ** 2 + ((py + 25) / 45) ** 2 + ((pz + 30) / 45) ** 2 < 1
    domes = ((np.abs(px) - 70) / 50) ** 2 + (py / 65) ** 2 + ((pz + 105) / 55) ** 2 < 1
    hu[heart | domes] = TISSUE
    truth = np.where(heart | domes, 0, truth)
    found, record = found_in(hu, image)
    for side in (1, 2):
        assert dice(found == side, truth == side) > 0.95
    assert max(record["dense_ml"]["tumour"].values()) + max(record["dense_ml"]["consolidation"].values()) < 15
    assert (found[heart] > 0).mean() < 0.06


def test_central_airways_can_be_inside() -> None:
    image, _ = chest()
    z, y, x = (n // 2 for n in to_array(image).shape)
    bronchus = (z + 5, y, x + 4)
    assert found_in(to_array(image), image)[0][bronchus] == 0
    assert found_in(to_array(image), image, central_airways=True)[0][bronchus] > 0


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_meets_what_lies_on_its_way(view) -> None:
    target = np.zeros((9, 9, 9), dtype=bool)
    target[4, 4, 4] = True
    met = _look(target, view)
    expected = {tuple(4 - step * np.array(view)) for step in range(5)}
    assert {tuple(index) for index in np.argwhere(met)} == expected


def test_a_hole_sees_its_lung_all_around_and_a_bay_does_not() -> None:
    lung = np.ones((21, 21, 21), dtype=bool)
    lung[8:13, 8:13, 8:13] = False
    lung[:, :, :3] = False
    counts, sets = surrounded(lung, np.array([view[2] < 0 for view in VIEWS]))
    views, medial, below = (count / chosen.sum() for count, chosen in zip(counts, sets, strict=True))
    assert views[10, 10, 10] == medial[10, 10, 10] == below[10, 10, 10] == 1
    assert medial[10, 10, 1] == 0

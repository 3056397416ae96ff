"""The search: large motion is found in each lung by itself, whatever the density; nothing folds."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from ct2vq.config import complete_config
from ct2vq.fields import jacobian
from ct2vq.register.search import Contrast, search_displacement, unfolded
from ct2vq.volume import from_array, make_grid, to_array

SETTINGS = complete_config({"study": "search"})["register"]["search"] | {
    "levels": [
        {"spacing_mm": 8, "block_voxels": 2, "step_mm": 8, "reach_mm": [40, 16, 16]},
        {"spacing_mm": 6, "block_voxels": 2, "step_mm": 3, "reach_mm": [6, 6, 6]},
    ]
}
GRID = make_grid((60, 44, 60), (5, 5, 5), (-147.5, -107.5, -147.5))
LIFT = {1: 30.0, 2: 14.0}


def lift(p: np.ndarray, side: np.ndarray) -> np.ndarray:
    """How far lung at `p` (..., 3) slides up, in mm: nothing at the apex, each lung by its own amount at the base."""
    most = np.where(side == 1, LIFT[1], LIFT[2])
    return most * np.clip((100 - p[..., 2]) / 180, 0, 1)


def points() -> np.ndarray:
    k, j, i = np.indices(GRID.GetSize()[::-1])
    return np.stack([i, j, k], axis=-1) * 5.0 + np.array(GRID.GetOrigin())


def sides(p: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(p, -1, 0)
    lungs = np.zeros(x.shape, np.uint8)
    for side, centre in ((1, -65.0), (2, 65.0)):
        lungs[(np.abs(x - centre) < 50) & (np.abs(y) < 80) & (z < 105) & (z > -100)] = side
    return lungs


def texture(p: np.ndarray) -> np.ndarray:
    """Vessels of a lung: waves that do not repeat within the search's reach."""
    x, y, z = np.moveaxis(p, -1, 0)
    return np.sin(x / 11 + z / 31) * np.sin(y / 13) * np.sin(z / 12 + x / 40) + np.sin(z / 29 + y / 17)


@pytest.fixture(scope="module")
def images() -> dict[str, sitk.Image]:
    """A CT in full breath, and an attenuation CT whose denser lungs slid up in a chest wall that stays."""
    p = points()
    here = sides(p)
    # the attenuation CT is made by pulling: where its lung was in the CT
    back = p.copy()
    for _ in range(30):
        back[..., 2] = p[..., 2] - lift(back, np.where(p[..., 0] < 0, 1, 2))
    there = sides(back) * (sides(p) > 0)
    noise = np.random.default_rng(3)
    wall = 40 + 150 * np.sin(p[..., 2] / 9) * (np.abs(p[..., 1]) > 85)
    ct = np.where(here > 0, -850 + 60 * texture(p), wall) + noise.normal(0, 15, here.shape)
    low_dose = np.where(there > 0, -760 + 85 * texture(back), wall) + noise.normal(0, 30, here.shape)
    return {
        "ct": from_array(ct.astype(np.float32), GRID),
        "ct_lungs": from_array(here, GRID),
        "attenuation_ct": from_array(low_dose.astype(np.float32), GRID),
        "attenuation_ct_lungs": from_array(there.astype(np.uint8), GRID),
    }


def test_each_lung_slides_by_its_own_amount(images: dict[str, sitk.Image]) -> None:
    field = search_displacement(images, sitk.Transform(3, sitk.sitkIdentity), SETTINGS, 5.0)
    carried = to_array(sitk.Resample(field, GRID, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkVectorFloat64))
    p = points()
    here = sides(p)
    true = lift(p, here)
    for side in (1, 2):
        inside = here == side
        error = np.linalg.norm(carried - np.stack([0 * true, 0 * true, true], axis=-1), axis=-1)[inside]
        before = true[inside]
        assert error.mean() < 2.5, (side, error.mean())
        assert error.mean() < 0.35 * before.mean()
    assert jacobian(field).min() > 0


def test_the_same_field_every_time(images: dict[str, sitk.Image]) -> None:
    first, again = (
        to_array(search_displacement(images, sitk.Transform(3, sitk.sitkIdentity), SETTINGS, 8.0)) for _ in range(2)
    )
    assert np.array_equal(first, again)


def test_a_lung_that_only_one_ct_has_keeps_the_start(images: dict[str, sitk.Image]) -> None:
    labels = to_array(images["attenuation_ct_lungs"])
    right_only = images | {"attenuation_ct_lungs": from_array(np.where(labels == 1, labels, 0).astype(np.uint8), GRID)}
    start = sitk.TranslationTransform(3, (1.0, 2.0, 3.0))
    field = search_displacement(right_only, start, SETTINGS, 5.0)
    at = field.TransformPhysicalPointToIndex((70.0, 0.0, 0.0))
    assert field[at] == pytest.approx((1.0, 2.0, 3.0), abs=0.01)


def test_density_does_not_count() -> None:
    """Local contrast of a lung that holds half the air: the same but for the floor."""
    rng = np.random.default_rng(0)
    hu = rng.normal(-850, 60, (24, 24, 24)).astype(np.float32)
    inside = np.zeros(hu.shape, dtype=bool)
    inside[3:-3, 3:-3, 3:-3] = True
    contrast = Contrast(sigma_mm=8.0, floor_hu=1.0)
    one, other = contrast.of(hu, inside, 4.0), contrast.of(2 * hu + 900, inside, 4.0)
    assert one[inside] == pytest.approx(other[inside], abs=0.02)
    assert not one[~inside].any()


def test_a_fold_is_smoothed_away_and_the_rest_left_alone() -> None:
    grid = make_grid((30, 30, 30), (5, 5, 5), (0, 0, 0))
    d = np.zeros((30, 30, 30, 3))
    d[15:, :, :, 2] = -9.0
    d[..., 0] = 2.0
    field = sitk.GetImageFromArray(d, isVector=True)
    field.CopyInformation(grid)
    lungs = from_array(np.pad(np.ones((20, 20, 20), np.uint8), 5), grid)
    inside = to_array(lungs) > 0
    assert jacobian(field)[inside].min() < 0.15
    mended = unfolded(field, lungs)
    assert jacobian(mended)[inside].min() >= 0.15
    assert to_array(mended)[2] == pytest.approx(d[2], abs=1e-6)

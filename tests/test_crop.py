"""From patient space to the network's grid: nothing of the lungs is lost, and what should not matter does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from factories import CROP, lung_labels, oblique_lungs
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.crop import ENHANCED_LIMIT, crop_case, crop_ct, crop_spect, enhance, normalise_spect, window
from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.files import read_json
from ct2vq.volume import from_array, make_grid, read_volume, require_same_grid, to_array, voxel_volume_ml, write_volume

INSIDE = lung_labels() > 0
SEEDS = st.integers(0, 10**6)


def some_hu(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-820, 60, INSIDE.shape).astype(np.float32)


@given(SEEDS, st.floats(0.6, 1.6), st.floats(-80, 80))
def test_inflation_and_calibration_drop_out(seed: int, gain: float, offset: float) -> None:
    hu = some_hu(seed)
    enhanced = enhance(hu, INSIDE, "lung_standardised")
    np.testing.assert_allclose(enhance(gain * hu + offset, INSIDE, "lung_standardised"), enhanced, atol=2e-3)
    assert np.median(enhanced[INSIDE]) == pytest.approx(0, abs=1e-3)
    assert np.subtract(*np.percentile(enhanced[INSIDE], [75, 25])) == pytest.approx(1, abs=1e-3)
    assert np.abs(enhanced).max() <= ENHANCED_LIMIT
    assert enhanced.dtype == np.float32


@given(SEEDS)
def test_the_chest_wall_does_not_matter(seed: int) -> None:
    hu = some_hu(seed)
    other = np.where(INSIDE, hu, 3000).astype(np.float32)
    for images in (
        [enhance(v, INSIDE, "lung_standardised") for v in (hu, other)],
        [window(v, INSIDE, (-1000, 0)) for v in (hu, other)],
    ):
        np.testing.assert_array_equal(*images)
        assert (images[0][~INSIDE] == 0).all()


def test_enhancement_of_a_constant_lung_and_none() -> None:
    assert (enhance(np.full(INSIDE.shape, -800.0), INSIDE, "lung_standardised") == 0).all()
    none = enhance(some_hu(0), INSIDE, "none")
    assert not none.any()
    assert none.dtype == np.float32


def test_the_window_by_hand() -> None:
    hu = np.array([-1200.0, -1000, -750, 0, 50, -750])
    inside = np.array([1, 1, 1, 1, 1, 0], bool)
    assert window(hu, inside, (-1000, 0)).tolist() == [0, 0, 0.25, 1, 1, 0]


@given(SEEDS, st.floats(1e-3, 1e6), st.floats(60, 100))
def test_the_unit_of_the_spect_does_not_matter(seed: int, unit: float, percentile: float) -> None:
    counts = np.random.default_rng(seed).gamma(4, 1, INSIDE.shape)
    image, record = normalise_spect(counts, INSIDE, percentile)
    same, in_unit = normalise_spect(counts * unit, INSIDE, percentile)
    np.testing.assert_allclose(same, image, atol=1e-6)
    assert in_unit["reference"] == pytest.approx(unit * record["reference"])
    assert record["reference"] == pytest.approx(np.percentile(counts[INSIDE], percentile))
    assert record["clipped_fraction"] == pytest.approx(1 - percentile / 100, abs=2 / INSIDE.sum())
    assert (image[~INSIDE] == 0).all()
    assert 0 <= image.min() <= image.max() <= 1


def test_a_clump_in_an_airway_changes_little() -> None:
    counts = np.random.default_rng(0).gamma(4, 1, INSIDE.shape)
    clumped = counts.copy()
    clumped[tuple(np.argwhere(INSIDE)[:5].T)] = 1e6
    before, after = (normalise_spect(values, INSIDE, 99)[0] for values in (counts, clumped))
    far = np.ones(INSIDE.shape, bool)
    far[tuple(np.argwhere(INSIDE)[:5].T)] = False
    assert np.abs(before - after)[far].max() < 0.1


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_no_activity_in_the_lungs(value: float) -> None:
    counts = np.where(INSIDE, value, 100)
    with pytest.raises(Ct2vqError, match="no activity"):
        normalise_spect(counts, INSIDE, 99)


def ct_of(lungs: sitk.Image) -> sitk.Image:
    return from_array(np.where(to_array(lungs) > 0, -800, 40).astype(np.float32), lungs)


@given(SEEDS)
def test_cropping_keeps_the_lungs_of_an_oblique_ct(seed: int) -> None:
    lungs = oblique_lungs(seed)
    small_ct, enhanced, small_lungs, record = crop_ct(ct_of(lungs), lungs, CROP)
    for image in (enhanced, small_lungs):
        require_same_grid(small_ct, image, "ct", "other")
    assert small_ct.GetSpacing() == (12.0,) * 3
    assert all(n % 4 == 0 for n in small_ct.GetSize())
    volume = (to_array(lungs) > 0).sum() * voxel_volume_ml(lungs)
    assert record["lung_volume_ml"] == pytest.approx(volume, rel=0.1)
    inside = to_array(small_lungs) > 0
    assert not any(np.take(inside, end, axis).any() for axis in range(3) for end in (0, -1)), "there is a margin"
    assert np.median(to_array(small_ct)[inside]) == pytest.approx(-800, abs=60)


def test_the_record_is_enough_to_go_back(tmp_path: Path) -> None:
    lungs = oblique_lungs(3)
    write_volume(ct_of(lungs), tmp_path / "ct.nii.gz")
    write_volume(lungs, tmp_path / "lungs.nii.gz")
    outputs = {name: tmp_path / "crop" / f"{name}.nii.gz" for name in ("ct", "enhanced", "lungs")}
    outputs["record"] = tmp_path / "crop" / "crop.json"
    crop_case(tmp_path / "ct.nii.gz", tmp_path / "lungs.nii.gz", outputs, CROP)
    record = read_json(outputs["record"])
    grid = make_grid(record["size"], record["spacing_mm"], record["origin_mm"], record["direction"])
    require_same_grid(grid, read_volume(outputs["ct"]), "record", "ct")
    back = make_grid(record["ct_size"], record["ct_spacing_mm"], record["ct_origin_mm"], record["ct_direction"])
    require_same_grid(back, lungs, "record", "ct")


def test_grids_that_differ_and_lungs_that_vanish() -> None:
    lungs = oblique_lungs(1)
    with pytest.raises(GeometryError, match="ct and lungs"):
        crop_ct(ct_of(oblique_lungs(2)), lungs, CROP)
    with pytest.raises(Ct2vqError, match=r"crop\.spacing_mm"):
        crop_ct(ct_of(lungs), lungs, CROP | {"spacing_mm": 500.0})


def displacement(mm: tuple[float, float, float], like: sitk.Image, path: Path) -> Path:
    field = sitk.TransformToDisplacementField(
        sitk.TranslationTransform(3, mm),
        sitk.sitkVectorFloat32,
        like.GetSize(),
        like.GetOrigin(),
        like.GetSpacing(),
        like.GetDirection(),
    )
    write_volume(field, path)
    return path


def test_the_spect_is_fetched_from_where_the_transform_points(tmp_path: Path) -> None:
    lungs = from_array(lung_labels(), make_grid(INSIDE.shape[::-1], (12, 12, 12), (-140, -95, -80)))
    write_volume(lungs, tmp_path / "lungs.nii.gz")
    spect = make_grid((60, 60, 60), (6, 6, 6), (-180, -180, -180))
    z = np.arange(60)[:, None, None] * 6.0 - 180 + np.zeros((60, 60, 60))
    write_volume(from_array((z + 400).astype(np.float32), spect), tmp_path / "spect.nii.gz")
    wide = make_grid((20, 20, 20), (20, 20, 20), (-190, -190, -190))
    for shift in (0.0, 9.0):
        transform = displacement((0, 0, shift), wide, tmp_path / f"field{shift}.nii.gz")
        crop_spect(
            tmp_path / "spect.nii.gz",
            transform,
            tmp_path / "lungs.nii.gz",
            tmp_path / "q.nii.gz",
            tmp_path / "q.json",
            100,
        )
        reference = read_json(tmp_path / "q.json")["reference"]
        values = to_array(read_volume(tmp_path / "q.nii.gz")) * reference
        position = np.arange(INSIDE.shape[0])[:, None, None] * 12.0 - 80 + np.zeros(INSIDE.shape)
        np.testing.assert_allclose(values[INSIDE], (position + 400 + shift)[INSIDE], atol=0.02)


def test_an_empty_spect_is_named(tmp_path: Path) -> None:
    lungs = from_array(lung_labels(), make_grid(INSIDE.shape[::-1], (12, 12, 12), (0, 0, 0)))
    write_volume(lungs, tmp_path / "lungs.nii.gz")
    write_volume(from_array(np.zeros(INSIDE.shape, np.float32), lungs), tmp_path / "q_raw.nii.gz")
    transform = displacement((0, 0, 0), lungs, tmp_path / "field.nii.gz")
    with pytest.raises(Ct2vqError, match=r"q_raw\.nii\.gz.*no activity"):
        crop_spect(
            tmp_path / "q_raw.nii.gz",
            transform,
            tmp_path / "lungs.nii.gz",
            tmp_path / "q.nii.gz",
            tmp_path / "q.json",
            99,
        )
    assert not (tmp_path / "q.nii.gz").exists()

"""The SPECT on the network's grid: one interpolation, a robust reference, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from factories import CROP, lung_labels
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.config import config_schema
from ct2vq.crop.restore import to_counts
from ct2vq.crop.spect import REFERENCES, crop_spect, normalise_spect, reference_of
from ct2vq.errors import CropError
from ct2vq.files import read_json
from ct2vq.volume import from_array, make_grid, read_volume, to_array, write_volume

INSIDE = lung_labels() > 0
SEEDS = st.integers(0, 10**6)
SPECT = CROP["spect"]
PLAIN = SPECT | {"hot_spots": SPECT["hot_spots"] | {"method": "none"}}


def normalised(counts: np.ndarray, settings: dict = PLAIN) -> tuple[np.ndarray, dict]:
    return normalise_spect(counts, INSIDE, 12.0, settings)


@given(SEEDS, st.floats(1e-3, 1e6), st.floats(60, 100), st.sampled_from(sorted(REFERENCES)))
def test_the_unit_of_the_spect_does_not_matter(seed: int, unit: float, percentile: float, method: str) -> None:
    counts = np.random.default_rng(seed).gamma(4, 1, INSIDE.shape)
    settings = PLAIN | {"percentile": percentile, "reference": method}
    image, record = normalised(counts, settings)
    same, in_unit = normalised(counts * unit, settings)
    np.testing.assert_allclose(same, image, atol=1e-6)
    assert in_unit["reference"] == pytest.approx(unit * record["reference"])
    assert (image[~INSIDE] == 0).all()
    assert 0 <= image.min() <= image.max() <= 1
    below = INSIDE & (counts <= record["reference"])
    np.testing.assert_allclose(to_counts(image, record)[below], counts[below], rtol=1e-5)
    assert record["clipped_fraction"] == pytest.approx((counts[INSIDE] > record["reference"]).mean())


def test_the_references_by_hand() -> None:
    values = np.array([1.0, 1, 1, 1, 1, 1, 1, 1, 2, 10])
    assert reference_of(values, PLAIN | {"reference": "percentile", "percentile": 50.5}) == pytest.approx(1)
    assert reference_of(values, PLAIN | {"reference": "mean", "mean_multiple": 2.5}) == pytest.approx(5)
    assert reference_of(values, PLAIN | {"reference": "count_share", "count_share": 0.45}) == 10
    assert reference_of(values, PLAIN | {"reference": "count_share", "count_share": 0.55}) == 2
    assert reference_of(values, PLAIN | {"reference": "count_share", "count_share": 0.7}) == 1


def test_the_schema_names_the_references() -> None:
    spect = config_schema()["properties"]["crop"]["properties"]["spect"]["properties"]
    assert set(spect["reference"]["enum"]) == REFERENCES.keys()


def test_a_clump_changes_little_even_if_it_is_left_in() -> None:
    counts = np.random.default_rng(0).gamma(4, 1, INSIDE.shape)
    clumped = counts.copy()
    clumped[tuple(np.argwhere(INSIDE)[:5].T)] = 1e6
    before, after = (normalised(values)[0] for values in (counts, clumped))
    far = np.ones(INSIDE.shape, bool)
    far[tuple(np.argwhere(INSIDE)[:5].T)] = False
    assert np.abs(before - after)[far].max() < 0.1


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize("method", sorted(REFERENCES))
def test_no_activity_in_the_lungs(value: float, method: str) -> None:
    with pytest.raises(CropError, match="D906 there is no activity"):
        normalised(np.where(INSIDE, value, 100), PLAIN | {"reference": method})


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


def crop(folder: Path, spect: sitk.Image, shift: tuple[float, float, float], settings: dict, **options) -> tuple:
    """Crop a SPECT that lies elsewhere by `shift`: values and record."""
    lungs = from_array(lung_labels(), make_grid(INSIDE.shape[::-1], (12, 12, 12), (-140, -95, -80)))
    write_volume(lungs, folder / "lungs.nii.gz")
    write_volume(spect, folder / "raw.nii.gz")
    transform = displacement(shift, make_grid((30, 30, 30), (20, 20, 20), (-290,) * 3), folder / "field.nii.gz")
    files = (folder / "raw.nii.gz", transform, folder / "lungs.nii.gz", folder / "q.nii.gz", folder / "q.json")
    crop_spect(*files, settings, **options)
    return to_array(read_volume(folder / "q.nii.gz")), read_json(folder / "q.json")


def rising_spect() -> sitk.Image:
    """Values that say their height."""
    z = np.arange(60)[:, None, None] * 6.0 - 180 + np.zeros((60, 60, 60))
    return from_array((z + 400).astype(np.float32), make_grid((60, 60, 60), (6, 6, 6), (-180, -180, -180)))


@pytest.mark.parametrize("shift", [0.0, 9.0])
@pytest.mark.parametrize("modulate", [False, True])
def test_the_spect_is_fetched_from_where_the_transform_points(tmp_path: Path, shift: float, modulate: bool) -> None:
    settings = PLAIN | {"percentile": 100}
    image, record = crop(tmp_path, rising_spect(), (0, 0, shift), settings, modulate=modulate)
    position = np.arange(INSIDE.shape[0])[:, None, None] * 12.0 - 80 + np.zeros(INSIDE.shape)
    np.testing.assert_allclose(to_counts(image, record)[INSIDE], (position + 400 + shift)[INSIDE], atol=0.02)
    assert record["outside_fraction"] == 0
    assert record["modulated"] == modulate
    assert record["warnings"] == []


def test_modulation_keeps_the_counts(tmp_path: Path) -> None:
    """A transform that shrinks everything to half its length: 8 times fewer counts in the same lungs."""
    lungs = from_array(lung_labels(), make_grid(INSIDE.shape[::-1], (12, 12, 12), (-140, -95, -80)))
    write_volume(lungs, tmp_path / "lungs.nii.gz")
    flat = make_grid((60, 60, 60), (6, 6, 6), (-180, -180, -180))
    write_volume(from_array(np.full((60, 60, 60), 8.0, np.float32), flat), tmp_path / "raw.nii.gz")
    grid = make_grid((30, 30, 30), (20, 20, 20), (-290,) * 3)
    half = sitk.AffineTransform(np.diag([0.5] * 3).ravel().tolist(), (0.0, 0.0, 0.0))
    field = sitk.TransformToDisplacementField(
        half, sitk.sitkVectorFloat32, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )
    write_volume(field, tmp_path / "field.nii.gz")
    names = ("raw.nii.gz", "field.nii.gz", "lungs.nii.gz", "q.nii.gz", "q.json")
    references = []
    for modulate in (False, True):
        crop_spect(*(tmp_path / name for name in names), PLAIN, modulate=modulate)
        references.append(read_json(tmp_path / "q.json")["reference"])
    assert references == [pytest.approx(8.0), pytest.approx(1.0, rel=1e-3)]


def test_lungs_outside_the_spect_are_measured_told_and_refused(tmp_path: Path) -> None:
    lungs = lung_labels()
    heights = np.argwhere(lungs > 0)[:, 0] * 12.0 - 80
    edge = float(np.quantile(heights, 0.9)) - 6
    size = int((edge + 180) / 6)
    cut = rising_spect()[:, :, :size]
    image, record = crop(tmp_path, cut, (0, 0, 0), PLAIN | {"outside_limit": 0.4})
    assert 0.02 < record["outside_fraction"] < 0.4
    assert record["warnings"][0].startswith("W902 ")
    assert (image[(lungs > 0)] == 0).mean() == pytest.approx(record["outside_fraction"], abs=1e-3)
    with pytest.raises(CropError, match=r"D907 .*raw\.nii\.gz.*crop\.spect\.outside_limit.*lie outside the SPECT"):
        crop(tmp_path, cut, (0, 0, 120), PLAIN)


def test_many_hot_spots_are_told_with_their_positions(tmp_path: Path) -> None:
    spect = from_array(np.ones((60, 60, 60), np.float32), make_grid((60, 60, 60), (6, 6, 6), (-180, -180, -180)))
    values = to_array(spect)
    at = spect.TransformPhysicalPointToIndex((-72.0, -11.0, 4.0))
    values[at[2] - 1 : at[2] + 2, at[1] - 1 : at[1] + 2, at[0] - 1 : at[0] + 2] = 400
    settings = SPECT | {"hot_spots": SPECT["hot_spots"] | {"flag_fraction": 0.05, "max_ml": 8.0}}
    _, record = crop(tmp_path, from_array(values, spect), (0, 0, 0), settings)
    assert record["hot_spots"]["number"] == 1
    position = record["hot_spots"]["spots"][0]["position_mm"]
    assert np.linalg.norm(np.array(position) - (-72.0, -11.0, 4.0)) < 12
    assert record["warnings"][0].startswith("W903 1 hot spots")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(value: float) -> None:
    counts = np.ones(INSIDE.shape)
    counts[tuple(np.argwhere(INSIDE)[7])] = value
    with pytest.raises(CropError, match="D905 1 of"):
        normalised(counts)


def test_an_empty_spect_is_named(tmp_path: Path) -> None:
    spect = rising_spect()
    with pytest.raises(CropError, match=r"^D906 file .*raw\.nii\.gz"):
        crop(tmp_path, from_array(to_array(spect) * 0, spect), (0, 0, 0), SPECT)
    assert not (tmp_path / "q.nii.gz").exists()

"""Clumps are found and replaced; high function is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from factories import CROP
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, gaussian_filter

from ct2vq.crop.hot_spots import find_hot_spots, remove_hot_spots
from ct2vq.crop.spect import normalise_spect

SETTINGS = CROP["spect"]["hot_spots"]
SPACING_MM = 4.0
FWHM_MM = 12.0
SHAPE = (44, 40, 56)
SEEDS = st.integers(0, 10**6)


def lungs() -> np.ndarray:
    z, y, x = (np.arange(n)[tuple(slice(None) if a == i else None for a in range(3))] for i, n in enumerate(SHAPE))
    return sum(
        ((z - 22) / 19) ** 2 + ((y - 20) / 16) ** 2 + ((x - centre) / 11) ** 2 < 1 for centre in (14, 42)
    ).astype(bool)


INSIDE = lungs()
#: voxels well inside, where a clump may lie
DEEP = np.argwhere(distance_transform_edt(INSIDE) * SPACING_MM > 10)


def function(seed: int, noise: float = 0.06) -> np.ndarray:
    """More function at the back, defects, noise of a SPECT's resolution; about 1 in the lungs, blurred beyond them."""
    rng = np.random.default_rng(seed)
    depth = np.linspace(0.5, 1.5, SHAPE[1])[:, None]
    sigma = FWHM_MM / 2.355 / SPACING_MM
    patches = gaussian_filter(rng.normal(size=SHAPE), 4)
    image = np.where(INSIDE, depth * (1 + 0.25 * patches / patches.std()).clip(0.1), 0)
    grain = gaussian_filter(rng.normal(size=SHAPE), sigma / 1.4)
    return np.maximum(gaussian_filter(image, sigma) + noise * grain / grain.std(), 0)


def clump(at: np.ndarray, peak: float, fwhm_mm: float = FWHM_MM) -> np.ndarray:
    squares = ((np.moveaxis(np.indices(SHAPE), 0, -1) - at) ** 2).sum(axis=-1) * SPACING_MM**2
    return peak * np.exp(-squares * 4 * np.log(2) / fwhm_mm**2)


@settings(max_examples=20)
@given(SEEDS, st.floats(5, 30))
def test_a_clump_is_found_and_the_rest_stays(seed: int, peak: float) -> None:
    clean = function(seed)
    at = DEEP[np.random.default_rng(seed).integers(len(DEEP))]
    image = clean + clump(at, peak)
    found = find_hot_spots(image, INSIDE, SPACING_MM, SETTINGS)
    assert len(found.spots) == 1
    assert np.linalg.norm(np.array(found.spots[0]["index"]) - at) * SPACING_MM <= 6
    assert found.mask[tuple(at)]
    assert (found.mask <= INSIDE).all()
    for method in ("inpaint", "cap"):
        result = remove_hot_spots(image, INSIDE, found, method)
        np.testing.assert_array_equal(result[~found.mask], image[~found.mask])
        assert (result <= image + 1e-9)[found.mask].mean() > 0.9
    filled = remove_hot_spots(image, INSIDE, found, "inpaint")
    error = np.abs(filled - clean)[found.mask].mean()
    assert error < 0.25 * np.abs(image - clean)[found.mask].mean()


@given(SEEDS)
def test_no_clump_nothing_touched(seed: int) -> None:
    image = function(seed)
    found = find_hot_spots(image, INSIDE, SPACING_MM, SETTINGS)
    assert found.spots == [] and not found.mask.any()
    np.testing.assert_array_equal(remove_hot_spots(image, INSIDE, found, "inpaint"), image)


@given(SEEDS, st.floats(2, 8), st.floats(45, 90))
def test_high_function_is_broad_and_stays(seed: int, times: float, size_mm: float) -> None:
    at = DEEP[np.random.default_rng(seed).integers(len(DEEP))]
    image = np.where(INSIDE, function(seed, noise=0.03) + clump(at, times, size_mm), 0)
    assert find_hot_spots(image, INSIDE, SPACING_MM, SETTINGS).spots == []


def test_what_is_left_beside_a_large_defect_stays() -> None:
    """Half of the lungs without function, the healthy half at its usual value."""
    image = np.where(np.arange(SHAPE[2]) < SHAPE[2] / 2, 0.05, 1.0) * function(3)
    assert find_hot_spots(image, INSIDE, SPACING_MM, SETTINGS).spots == []


@given(SEEDS, st.floats(1e-3, 1e5))
def test_the_unit_does_not_matter(seed: int, unit: float) -> None:
    at = DEEP[np.random.default_rng(seed).integers(len(DEEP))]
    image = function(seed) + clump(at, 10)
    here, there = (find_hot_spots(image * u, INSIDE, SPACING_MM, SETTINGS) for u in (1.0, unit))
    np.testing.assert_array_equal(here.mask, there.mask)


@given(SEEDS)
def test_filling_obeys_the_maximum_principle(seed: int) -> None:
    at = DEEP[np.random.default_rng(seed).integers(len(DEEP))]
    image = function(seed) + clump(at, 12)
    found = find_hot_spots(image, INSIDE, SPACING_MM, SETTINGS)
    filled = remove_hot_spots(image, INSIDE, found, "inpaint")
    border = np.zeros(SHAPE, bool)
    for axis in range(3):
        for step in (-1, 1):
            border |= np.roll(found.mask, step, axis)
    border &= INSIDE & ~found.mask
    assert image[border].min() - 1e-6 <= filled[found.mask].min()
    assert filled[found.mask].max() <= image[border].max() + 1e-6
    capped = remove_hot_spots(image, INSIDE, found, "cap")
    assert capped[found.mask].max() <= image[border].max() + 1e-9


def test_a_linear_image_is_filled_exactly() -> None:
    """A linear function is harmonic; the hot spot lies deep, where all its neighbours are lung."""
    ramp = 1.0 + np.arange(SHAPE[0])[:, None, None] / 40 + np.zeros(SHAPE)
    image = ramp + clump(np.array([22, 20, 14]), 20)
    found = find_hot_spots(image, INSIDE, SPACING_MM, SETTINGS)
    # what the clump leaves outside its region is what lies on its border
    image[~found.mask] = ramp[~found.mask]
    np.testing.assert_allclose(remove_hot_spots(image, INSIDE, found, "inpaint"), ramp, atol=1e-4)


def test_two_clumps_at_the_pleura_and_a_hot_island() -> None:
    edge = np.argwhere(INSIDE & (distance_transform_edt(INSIDE) <= 1))[200]
    image = function(5) + clump(edge, 15) + clump(np.array([22, 20, 42]), 9)
    assert len(find_hot_spots(image, INSIDE, SPACING_MM, SETTINGS).spots) == 2
    inside = INSIDE.copy()
    inside[0, 0, 0] = True  # a voxel of the mask without lung round it
    image[0, 0, 0] = 500.0
    found = find_hot_spots(image, inside, SPACING_MM, SETTINGS)
    assert not found.mask[0, 0, 0], "it has no neighbourhood to compare with"


def test_an_image_that_is_empty_or_constant() -> None:
    for image in (np.zeros(SHAPE), np.ones(SHAPE)):
        assert find_hot_spots(image, INSIDE, SPACING_MM, SETTINGS).spots == []


@pytest.mark.parametrize("method", ["inpaint", "cap", "none"])
def test_the_record_tells_before_and_after(method: str) -> None:
    clean = function(7)
    image = clean + clump(DEEP[500], 25) + clump(DEEP[-500], 25)
    settings = CROP["spect"] | {"hot_spots": SETTINGS | {"method": method}}
    result, record = normalise_spect(image, INSIDE, SPACING_MM, settings)
    truth = normalise_spect(clean, INSIDE, SPACING_MM, settings)[1]["reference"]
    assert record["reference_before"] == pytest.approx(np.percentile(image[INSIDE], 99))
    spots = record["hot_spots"]
    assert spots["method"] == method
    if method == "none":
        assert spots["number"] == 0 and spots["count_fraction"] == 0 and spots["volume_ml"] == 0
        assert record["reference"] == record["reference_before"]
        return
    assert spots["number"] == 2
    assert abs(record["reference"] / truth - 1) < abs(record["reference_before"] / truth - 1) / 2
    assert record["maximum_over_reference"] < record["maximum_over_reference_before"]
    gone = 1 - record["counts_in_lungs"] / record["counts_in_lungs_before"]
    assert spots["count_fraction"] == pytest.approx(gone, abs=1e-9) and gone > 0.02
    assert 0 <= result.min() <= result.max() <= 1


def test_coarse_voxels() -> None:
    """On the demo's 8 mm grid a clump is one or two voxels wide."""
    coarse = (slice(None, None, 2),) * 3
    image = (function(9) + clump(np.array([22, 20, 14]), 20))[coarse]
    found = find_hot_spots(image, INSIDE[coarse], 8.0, SETTINGS)
    assert len(found.spots) == 1 and found.mask[11, 10, 7]
    assert find_hot_spots(function(9)[coarse], INSIDE[coarse], 8.0, SETTINGS).spots == []

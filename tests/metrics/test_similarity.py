"""SSIM against scikit-image and torchmetrics inside, by brute force at the border."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from factories import lung_labels
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import structural_similarity
from ssim_of_images import ssim, ssim_crop
from torchmetrics.functional.image import structural_similarity_index_measure

from ct2vq.metrics.similarity import SSIM_TRUNCATE, SsimRegion, gaussian_window

WINDOW = {"sigma_voxels": 1.5, "data_range": 1.0, "k1": 0.01, "k2": 0.03}
INSIDE = lung_labels() > 0
SEEDS = st.integers(0, 10**6)


def pair(seed: int, shape: tuple[int, ...] = INSIDE.shape) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    a = generator.random(shape)
    return a, np.clip(0.7 * a + 0.3 * generator.random(shape), 0, 1)


def similarity_map(a: np.ndarray, b: np.ndarray, sigma: float, data_range: float) -> np.ndarray:
    region = SsimRegion(np.ones(a.shape, bool), sigma)
    return region.similarity(region.moments(a), region.moments(b), data_range, 0.01, 0.03).reshape(a.shape)


@pytest.mark.parametrize("sigma", [0.8, 1.5])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_away_from_the_border_ssim_is_scikit_images_and_torchmetrics(sigma: float, data_range: float) -> None:
    """Only the border differs: both mirror images there (scikit-image then leaves it out), here windows are cut off."""
    a, b = (data_range * image for image in pair(3, (15, 16, 17)))
    settings = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": sigma, "data_range": data_range}
    mean, full = structural_similarity(a, b, full=True, **settings)
    reach = int(SSIM_TRUNCATE * sigma + 0.5)
    inner = (slice(reach, -reach),) * 3
    ours = similarity_map(a, b, sigma, data_range)
    np.testing.assert_allclose(ours[inner], full[inner], rtol=0, atol=1e-10)
    assert ours[inner].mean() == pytest.approx(mean, abs=1e-10)
    x, y = (torch.from_numpy(image)[None, None] for image in (a, b))
    _, theirs = structural_similarity_index_measure(
        x, y, sigma=sigma, kernel_size=2 * reach + 1, data_range=data_range, return_full_image=True
    )
    np.testing.assert_allclose(ours[inner], theirs[0, 0].numpy()[inner], rtol=0, atol=1e-10)


@pytest.mark.parametrize("inside", ["region", "crop"])
def test_ssim_with_the_window_cut_off_at_the_border_by_brute_force(inside: str) -> None:
    shape, sigma = (7, 8, 9), 1.0
    a, b = pair(5, shape)
    mask = np.random.default_rng(6).random(shape) < 0.7 if inside == "region" else np.ones(shape, bool)
    reach = int(SSIM_TRUNCATE * sigma + 0.5)
    points = np.argwhere(mask)
    values = []
    for point in points:
        offset = points - point
        near = (np.abs(offset) <= reach).all(axis=1)
        weight = np.exp(-(offset[near] ** 2).sum(axis=1) / (2 * sigma**2))
        weight /= weight.sum()
        x, y = a[mask][near], b[mask][near]
        mx, my = weight @ x, weight @ y
        vx, vy, cov = weight @ (x - mx) ** 2, weight @ (y - my) ** 2, weight @ ((x - mx) * (y - my))
        c1, c2 = 1e-4, 9e-4
        values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    window = WINDOW | {"sigma_voxels": sigma}
    found = ssim(a, b, mask, **window) if inside == "region" else ssim_crop(a, b, **window)
    assert found.number == pytest.approx(np.mean(values), abs=1e-10)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0])
def test_the_window_is_scipys(sigma: float) -> None:
    a, _ = pair(7, (9, 20, 30))
    blurred = ndimage.gaussian_filter(a, sigma, mode="constant", truncate=SSIM_TRUNCATE)
    z, y, x = (gaussian_window(length, sigma) for length in a.shape)
    np.testing.assert_allclose(np.einsum("ai,bj,ck,ijk->abc", z, y, x, a, optimize=True), blurred, atol=1e-12)


@given(SEEDS)
def test_ssim_of_an_image_with_itself(seed: int) -> None:
    a, b = pair(seed)
    assert ssim(a, a, INSIDE, **WINDOW).number == pytest.approx(1, abs=1e-12)
    assert ssim(a, b, INSIDE, **WINDOW).number < 1
    assert ssim(a, b, INSIDE, **WINDOW).number == pytest.approx(ssim(b, a, INSIDE, **WINDOW).number)


@given(SEEDS)
def test_masked_ssim_is_blind_to_what_lies_outside(seed: int) -> None:
    a, b = pair(seed)
    noise = np.random.default_rng(seed + 1).choice([np.nan, np.inf, -1e6, 0.3], INSIDE.shape)
    c, d = np.where(INSIDE, a, noise), np.where(INSIDE, b, noise[::-1])
    assert ssim(c, d, INSIDE, **WINDOW) == ssim(a, b, INSIDE, **WINDOW)


@given(SEEDS, st.floats(0.01, 100))
def test_the_unit_of_image_and_range_does_not_matter(seed: int, scale: float) -> None:
    a, b = pair(seed)
    scaled = ssim(scale * a, scale * b, INSIDE, **(WINDOW | {"data_range": scale}))
    assert scaled.number == pytest.approx(ssim(a, b, INSIDE, **WINDOW).number, rel=1e-9)


def test_an_empty_background_makes_the_crop_look_better_than_the_lungs() -> None:
    a, b = (np.where(INSIDE, image, 0) for image in pair(2))
    assert ssim_crop(a, b, **WINDOW).number > ssim(a, b, INSIDE, **WINDOW).number


def test_moments_are_shared_between_comparisons() -> None:
    a, b = pair(4)
    region = SsimRegion(INSIDE, 1.5)
    moments = region.moments(a), region.moments(b)
    constants = {"data_range": 1.0, "k1": 0.01, "k2": 0.03}
    assert region.compare(*moments, **constants) == ssim(a, b, INSIDE, **WINDOW)
    assert region.compare(*reversed(moments), **constants).number == pytest.approx(
        ssim(a, b, INSIDE, **WINDOW).number, abs=1e-14
    )


GOOD, _ = pair(1)
BAD = {
    "constant image": (np.full(INSIDE.shape, 0.5), GOOD, INSIDE),
    "constant reference": (GOOD, np.zeros(INSIDE.shape), INSIDE),
    "values that are not finite": (np.where(np.arange(GOOD.size).reshape(GOOD.shape) % 7, GOOD, np.nan), GOOD, INSIDE),
    "empty region": (GOOD, GOOD, np.zeros(INSIDE.shape, bool)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reason", BAD)
def test_ssim_that_cannot_be_computed_is_missing_and_says_why(reason: str) -> None:
    image, reference, inside = BAD[reason]
    value = ssim(image, reference, inside, **WINDOW)
    assert np.isnan(value.number)
    assert value.reason == reason
    if reason != "empty region":
        assert ssim_crop(image, reference, **WINDOW).reason == reason

"""Smoothing only where it is read gives the same numbers as smoothing everything, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from factories import oblique_lungs
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.crop.grid import averaged
from ct2vq.lungs import SIDES, grid_around, resample_labels, resample_smoothed
from ct2vq.volume import from_array, resample, to_array


@given(
    seed=st.integers(0, 50), spacing=st.sampled_from([4.0, 9.0, 14.0, 25.0]), margin=st.sampled_from([0.0, 12.0, 90.0])
)
def test_labels_and_hu(seed: int, spacing: float, margin: float) -> None:
    lungs = oblique_lungs(seed)
    grid = grid_around(lungs, spacing, margin)
    shares = np.stack([to_array(resample_smoothed(lungs == side, grid, outside=0)) for side in SIDES])
    expected = np.where(shares.sum(axis=0) >= 0.5, shares.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(to_array(resample_labels(lungs, grid)), expected)
    noise = np.random.default_rng(seed).normal(-500, 300, to_array(lungs).shape).astype(np.float32)
    ct = from_array(noise, lungs)
    everywhere, here = (resample(averaged(ct, spacing, w), grid, outside=-1000.0) for w in (None, grid))
    np.testing.assert_array_equal(to_array(here), to_array(everywhere))


@pytest.mark.parametrize("side", SIDES)
def test_one_lung(side: int) -> None:
    lungs = oblique_lungs(3)
    alone = sitk.Mask(lungs, lungs == side)
    labels = to_array(resample_labels(alone, grid_around(alone, 14.0, 12.0)))
    assert set(np.unique(labels)) == {0, side}

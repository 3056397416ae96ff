"""Every definition of low and high function: by hand, against scikit-learn, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from ct2vq.config import complete_config
from ct2vq.metrics.thresholds import (
    Threshold,
    curve_thresholds,
    cut_levels,
    functional_overlap,
    low_and_high,
    overlap_of,
    read_thresholds,
)
from ct2vq.metrics.value import RegionValues

SETTINGS = complete_config({"study": "x"})["evaluate"]
THRESHOLDS = {threshold.name: threshold for threshold in read_thresholds(SETTINGS["function_thresholds"])}
P40 = THRESHOLDS["p40"]
VOXELS = 2000
SEEDS = st.integers(0, 10**6)


def pair(seed: int, voxels: int = VOXELS) -> tuple[RegionValues, RegionValues]:
    generator = np.random.default_rng(seed)
    a = generator.gamma(3, size=voxels)
    b = 0.7 * a + 0.5 * generator.gamma(3, size=voxels)
    return RegionValues(a / a.max()), RegionValues(b / b.max())


def names(part: np.ndarray) -> set[int]:
    return set(np.flatnonzero(part).tolist())


def low_high(numbers: list[float], **threshold: object) -> tuple[set[int], set[int]]:
    low, high = low_and_high(RegionValues(np.array(numbers, float)), Threshold("t", **threshold))
    return names(low), names(high)


def test_old_settings_are_percentiles_of_each_image() -> None:
    assert read_thresholds([{"name": "p40", "low": 40, "high": 60}]) == (Threshold("p40", "percentile", 40, 60, "own"),)
    assert [one.name for one in curve_thresholds(SETTINGS["threshold_curve"])] == [
        f"curve_p{percent}" for percent in range(10, 100, 10)
    ]


def test_percentiles_by_hand() -> None:
    # numpy's percentiles of 0..9: 25 % at 2.25, 75 % at 6.75
    assert low_high(list(range(10)), low=25, high=75) == ({0, 1, 2}, {7, 8, 9})
    assert low_high([0, 0, 0, 0, 0, 0, 1, 2, 3, 4], low=40, high=40) == ({0, 1, 2, 3, 4, 5}, {6, 7, 8, 9})


def test_percent_of_maximum_by_hand() -> None:
    ramp = list(range(1001))
    # the 99.5th percentile of 0..1000 is 995
    assert cut_levels(RegionValues(np.array(ramp)), Threshold("t", "percent_of_maximum", 40, 60)) == (398, 597)
    low, high = low_high(ramp, method="percent_of_maximum", low=40, high=60)
    assert (max(low), min(high)) == (398, 598)


def test_activity_by_hand() -> None:
    numbers = [1, 2, 3, 4, 10]
    # of 20: 10 holds 50 %, 10 and 4 hold 70 %, 10, 4 and 3 hold 85 %
    assert low_high(numbers, method="activity", low=50, high=50) == ({0, 1, 2, 3}, {4})
    assert low_high(numbers, method="activity", low=70, high=51) == ({0, 1, 2}, {3, 4})
    assert low_high(numbers, method="activity", low=71, high=71) == ({0, 1}, {2, 3, 4})
    assert low_high([-5, 0, 1, 1, 2], method="activity", low=90, high=40) == ({0, 1}, {4}), "below 0 nothing is held"
    assert low_high([1, 1, 1, 1, 2], method="activity", low=50, high=50)[1] == {0, 1, 2, 3, 4}, "equals stay together"


def test_equal_volumes_by_hand() -> None:
    assert low_high([5, 1, 4, 2, 9, 7, 8], method="equal_volumes") == ({1, 3}, {4, 6})
    low, high = low_high([0, 0, 0, 0, 0, 0, 1, 1, 1], method="equal_volumes")
    assert high == {6, 7, 8}
    assert low == {0, 2, 4}, "of equal values some, spread over the region"


@given(SEEDS, st.integers(2, 40), st.integers(1, 6))
def test_equal_volumes_are_equal_whatever_is_tied(seed: int, voxels: int, levels: int) -> None:
    values = RegionValues(np.random.default_rng(seed).integers(0, levels, voxels))
    low, high = low_and_high(values, Threshold("t", "equal_volumes"))
    assert low.sum() == high.sum() == voxels // 3
    if low.any():
        assert values.values[low].max() <= values.values[~low].min()
        assert values.values[high].min() >= values.values[~high].max()


@given(SEEDS, st.sampled_from(sorted(THRESHOLDS)))
def test_no_voxel_is_low_and_high(seed: int, name: str) -> None:
    low, high = low_and_high(pair(seed)[0], THRESHOLDS[name])
    assert not (low & high).any()
    assert low.any()
    assert high.any()


@given(SEEDS, st.sampled_from(sorted(THRESHOLDS)), st.booleans())
def test_dice_is_scikit_learns_and_symmetric(seed: int, name: str, low: bool) -> None:
    a, b = pair(seed)
    threshold = THRESHOLDS[name]
    one = functional_overlap(a, b, threshold, low=low)
    assert 0 <= one.dice.number <= 1
    assert functional_overlap(a, a, threshold, low=low).dice.number == 1
    part = 0 if low else 1
    image, reference = low_and_high(a, threshold, b)[part], low_and_high(b, threshold)[part]
    assert one.dice.number == pytest.approx(f1_score(reference, image), abs=1e-12)
    assert (one.image_fraction, one.reference_fraction) == (image.mean(), reference.mean())
    if threshold.cut == "own":
        other = functional_overlap(b, a, threshold, low=low)
        assert other.dice == one.dice
        assert (one.image_fraction, one.reference_fraction) == (other.reference_fraction, other.image_fraction)


@given(SEEDS, st.floats(0.01, 50))
def test_the_unit_of_an_image_does_not_matter_where_it_has_its_own_cut(seed: int, gain: float) -> None:
    a, b = pair(seed)
    for threshold in THRESHOLDS.values():
        if threshold.cut == "own":
            scaled = functional_overlap(RegionValues(gain * a.values), b, threshold, low=True)
            as_it_was = functional_overlap(a, b, threshold, low=True)
            # a voxel at the cut may fall to its other side by rounding
            assert scaled.dice.number == pytest.approx(as_it_was.dice.number, abs=4 / VOXELS)


@given(SEEDS)
def test_percentiles_and_equal_volumes_know_only_ranks(seed: int) -> None:
    a, b = pair(seed)
    bent = RegionValues(np.exp(3 * a.values))
    for name in ("p40", "p25_p75", "equal_volumes"):
        expected = functional_overlap(a, b, THRESHOLDS[name], low=False).dice.number
        assert functional_overlap(bent, b, THRESHOLDS[name], low=False).dice.number == pytest.approx(
            expected, abs=4 / VOXELS
        )


@given(SEEDS, st.floats(1.2, 3))
def test_one_cut_for_both_sees_volumes_that_own_cuts_do_not(seed: int, gain: float) -> None:
    a, b = pair(seed)
    brighter = RegionValues(gain * b.values)
    own = functional_overlap(brighter, b, P40, low=True)
    one_cut = functional_overlap(brighter, b, THRESHOLDS["p40_one_cut"], low=True)
    assert own.image_fraction == pytest.approx(own.reference_fraction, abs=2 / VOXELS)
    assert own.dice.number == pytest.approx(1, abs=2 / VOXELS)
    assert one_cut.image_fraction < one_cut.reference_fraction
    assert one_cut.dice.number < 0.95
    assert one_cut.reference_fraction == pytest.approx(own.reference_fraction)
    assert a.size == VOXELS


@given(SEEDS, st.floats(2, 20))
def test_a_hot_spot_moves_the_cut_of_activity_less_than_that_of_the_maximum(seed: int, times: float) -> None:
    """A clump of tracer in 0.1 % of the voxels (Pinot et al. 2023: the reason for FVx)."""
    cool, _ = pair(seed)
    hot = cool.values.copy()
    hot[:2] = times * hot.max()
    extra = hot[:2].sum() / hot.sum()
    assume(extra < 0.05)
    before, after = (
        functional_overlap(RegionValues(values), cool, Threshold("a", "activity", 75, 50), low=False).image_fraction
        for values in (cool.values, hot)
    )
    share_of_raw_maximum = (np.mean(values > 0.5 * values.max()) for values in (cool.values, hot))
    raw_before, raw_after = share_of_raw_maximum
    assert abs(after - before) <= extra + 2 / VOXELS
    assert abs(after - before) / before < abs(raw_after - raw_before) / raw_before
    robust = [
        functional_overlap(RegionValues(values), cool, THRESHOLDS["percent_max"], low=False).image_fraction
        for values in (cool.values, hot)
    ]
    assert robust[0] == pytest.approx(robust[1], rel=0.35), "the robust maximum steps over the clump"


def test_overlap_of_chance_is_what_chance_gives() -> None:
    a, b = (RegionValues(one) for one in np.random.default_rng(0).random((2, 64000)))
    for low in (True, False):
        overlap = functional_overlap(a, b, P40, low=low)
        assert overlap.dice.number == pytest.approx(overlap.chance.number, abs=0.01)
        assert overlap.chance.number == pytest.approx(0.4 if low else 0.6, abs=1e-3)
    generator = np.random.default_rng(1)
    sizes = overlap_of(generator.random(64000) < 0.1, generator.random(64000) < 0.5)
    assert sizes.chance.number == pytest.approx(2 * 0.1 * 0.5 / 0.6, abs=0.005)
    assert sizes.dice.number == pytest.approx(sizes.chance.number, abs=0.01)


def test_overlap_by_hand() -> None:
    a, b = RegionValues(np.arange(10.0)), RegionValues(np.array([0.0, 1, 9, 3, 4, 5, 6, 7, 8, 2]))
    overlap = functional_overlap(a, b, P40, low=True)
    # the cut is at 3.6, low in a are 0 1 2 3, low in b are those at 0 1 3 9
    assert (overlap.image_fraction, overlap.reference_fraction) == (0.4, 0.4)
    assert overlap.dice.number == pytest.approx(2 * 3 / 8)
    assert overlap.chance.number == pytest.approx(0.4)
    low, high = (functional_overlap(a, b, P40, low=low) for low in (True, False))
    assert low.image_fraction + high.image_fraction == 1, "one cut divides the lung"


def test_two_empty_regions_have_no_dice_and_one_has_0() -> None:
    flat, ramp = RegionValues(np.minimum(np.arange(10.0), 1)), RegionValues(np.arange(10.0))
    top = Threshold("t", low=95, high=95)
    assert functional_overlap(flat, ramp, top, low=False).dice.number == 0
    none = functional_overlap(flat, flat, top, low=False)
    assert np.isnan(none.dice.number)
    assert none.dice.reason == none.chance.reason == "both regions are empty"
    assert (none.image_fraction, none.reference_fraction) == (0, 0)


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize(
    ("reason", "image"),
    [("constant image", np.full(9, 0.5)), ("values that are not finite", np.array([np.nan, *range(8)]))],
)
def test_an_overlap_that_cannot_be_computed_is_missing_and_says_why(name: str, reason: str, image: np.ndarray) -> None:
    for low in (True, False):
        overlap = functional_overlap(RegionValues(image), RegionValues(np.arange(9.0)), THRESHOLDS[name], low=low)
        assert overlap.dice.reason == overlap.chance.reason == reason
        assert np.isnan([overlap.dice.number, overlap.chance.number, overlap.image_fraction]).all()
        empty = functional_overlap(RegionValues(np.empty(0)), RegionValues(np.empty(0)), THRESHOLDS[name], low=low)
        assert empty.dice.reason == "empty region"


def test_a_small_region_has_thirds_or_none() -> None:
    two = RegionValues(np.array([1.0, 2.0]))
    assert not np.any(low_and_high(two, Threshold("t", "equal_volumes")))
    assert functional_overlap(two, two, Threshold("t", "equal_volumes"), low=True).dice.reason == (
        "both regions are empty"
    )


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="otsu"):
        low_and_high(RegionValues(np.arange(5.0)), Threshold("t", "otsu"))

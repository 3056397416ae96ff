"""V-Q difference and defects in lungs whose defects are known, and against scipy's morphology."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ct2vq.config import complete_config
from ct2vq.metrics.defects import (
    CLASSES,
    Relative,
    ball_offsets,
    connected_defects,
    false_defects,
    low_voxels,
    overlaps,
    read_rule,
    relative_to_normal,
    vq_classes,
)

RULE = read_rule(complete_config({"study": "x"})["evaluate"]["defects"])
SPACING = (4.0, 4.0, 4.0)
VOXEL_ML = 0.064
SHAPE = (30, 32, 34)
INSIDE = np.zeros(SHAPE, bool)
INSIDE[1:-1, 1:-1, 1:-1] = True
#: three blocks that do not touch: where Q alone, both, and V alone are lost
BLOCKS = {
    "mismatch": (slice(3, 11), slice(3, 12), slice(3, 13)),
    "matched": (slice(17, 27), slice(3, 11), slice(3, 12)),
    "reverse": (slice(3, 12), slice(18, 28), slice(20, 30)),
}


def lungs_with_defects(seed: int = 0, loss: float = 0.8) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    q, v = (1 + 0.1 * generator.standard_normal(SHAPE) for _ in range(2))
    q[BLOCKS["mismatch"]] *= 1 - loss
    for image in (q, v):
        image[BLOCKS["matched"]] *= 1 - loss
    v[BLOCKS["reverse"]] *= 1 - loss
    return {"perfusion": np.where(INSIDE, q, 0), "ventilation": np.where(INSIDE, v, 0)}


def block(name: str) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[BLOCKS[name]] = True
    return mask


def test_classes_are_the_blocks_that_were_lost() -> None:
    relative = relative_to_normal(lungs_with_defects(), INSIDE, RULE)
    classes = vq_classes(relative, RULE, SPACING)
    for name, label in CLASSES.items():
        np.testing.assert_array_equal(classes == label, block(name))
    difference = relative.difference
    # the upper half of noise lies 0.08 above its mean, so that normal lung does too
    assert difference[block("mismatch")].mean() == pytest.approx(0.8, abs=0.08)
    assert difference[block("matched")].mean() == pytest.approx(0, abs=0.02)
    assert difference[block("reverse")].mean() == pytest.approx(-0.8, abs=0.08)
    assert np.isnan(difference[~INSIDE]).all()


def test_a_large_loss_of_perfusion_makes_no_reverse_mismatch_elsewhere() -> None:
    """What normalising to an equal mean over the lungs would do."""
    images = lungs_with_defects(loss=0)
    half = INSIDE & (np.arange(SHAPE[2]) < 14)
    images["perfusion"][half] *= 0.1
    relative = relative_to_normal(images, INSIDE, RULE)
    assert relative.difference[INSIDE & ~half].mean() == pytest.approx(0, abs=0.06)
    equal_means = {target: image / image[INSIDE].mean() for target, image in images.items()}
    elsewhere = (equal_means["ventilation"] - equal_means["perfusion"])[INSIDE & ~half]
    assert elsewhere.mean() < -0.4
    assert not (vq_classes(relative, RULE, SPACING) == CLASSES["reverse"]).any()


@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_units_of_perfusion_and_ventilation_do_not_matter(seed: int, q: float, v: float) -> None:
    images = lungs_with_defects(seed)
    scaled = {"perfusion": q * images["perfusion"], "ventilation": v * images["ventilation"]}
    a, b = (relative_to_normal(one, INSIDE, RULE) for one in (images, scaled))
    np.testing.assert_allclose(a.difference[INSIDE], b.difference[INSIDE], atol=1e-9)


def test_defects_are_blind_to_the_outside() -> None:
    images = lungs_with_defects()
    beyond = {target: np.where(INSIDE, image, np.inf) for target, image in images.items()}
    a, b = (vq_classes(relative_to_normal(one, INSIDE, RULE), RULE, SPACING) for one in (images, beyond))
    np.testing.assert_array_equal(a, b)


def test_perfusion_and_ventilation_change_places() -> None:
    images = lungs_with_defects()
    swapped = {"perfusion": images["ventilation"], "ventilation": images["perfusion"]}
    a, b = (vq_classes(relative_to_normal(one, INSIDE, RULE), RULE, SPACING) for one in (images, swapped))
    np.testing.assert_array_equal(a == CLASSES["mismatch"], b == CLASSES["reverse"])
    np.testing.assert_array_equal(a == CLASSES["matched"], b == CLASSES["matched"])


def lungs_at(q: float, v: float) -> Relative:
    """Lungs of which one block has a given Q and V in units of normal lung."""
    generator, images = np.random.default_rng(1), {}
    for target, lowered in (("perfusion", q), ("ventilation", v)):
        image = 1 + 1e-3 * generator.random(SHAPE)
        image[block("mismatch")] = lowered
        images[target] = np.where(INSIDE, image, 0)
    return relative_to_normal(images, INSIDE, RULE)


@pytest.mark.parametrize(
    ("q", "v", "expected"),
    [
        (0.2, 0.9, "mismatch"),
        (0.1, 0.4, "matched"),
        (0.4, 0.1, "matched"),
        (0.9, 0.2, "reverse"),
        (0.49, 0.51, None),
        (0.51, 0.49, None),
        (0.8, 0.6, None),
    ],
)
def test_a_class_needs_a_low_image_and_a_difference(q: float, v: float, expected: str | None) -> None:
    classes = vq_classes(lungs_at(q, v), RULE, SPACING)
    np.testing.assert_array_equal(classes, CLASSES.get(expected, 0) * block("mismatch"))


def test_a_small_mismatch_does_not_borrow_the_volume_of_a_matched_defect_beside_it() -> None:
    relative = lungs_at(0.1, 0.4)
    z, y, x = BLOCKS["mismatch"]
    relative.images["ventilation"][z, y, x.start : x.start + 5] = 0.9  # both halves have 360 voxels, 23 mL
    assert not vq_classes(relative, replace(RULE, min_ml=25), SPACING).any()
    classes = vq_classes(relative, replace(RULE, min_ml=20), SPACING)
    assert [int((classes == CLASSES[name]).sum()) for name in ("mismatch", "matched")] == [360, 360]


def test_without_a_least_difference_noise_at_the_level_makes_a_mismatch() -> None:
    classes = vq_classes(lungs_at(0.49, 0.51), replace(RULE, difference=0), SPACING)
    np.testing.assert_array_equal(classes == CLASSES["mismatch"], block("mismatch"))


def test_a_thin_shell_is_blur_and_a_wedge_keeps_its_edges() -> None:
    shell = INSIDE & ~ndimage.binary_erosion(INSIDE, iterations=2)
    assert shell.sum() * VOXEL_ML > RULE.min_ml
    assert not connected_defects(shell, RULE, SPACING).any()
    assert connected_defects(shell, replace(RULE, open_mm=0), SPACING).any()
    z, y, x = np.indices(SHAPE)
    wedge = INSIDE & (x + y < 20) & (z > 3) & (z < 15)
    both = connected_defects(shell | wedge, RULE, SPACING) > 0
    assert both[wedge].mean() > 0.95
    assert (both & ~wedge).sum() < 0.15 * shell.sum(), "and the shell does not come along with it"


def test_defects_are_ordered_by_size_and_small_ones_left_out() -> None:
    low = block("mismatch") | block("reverse")
    low[20:25, 20:25, 6:11] = True  # 125 voxels, 8 mL
    labels = connected_defects(low, RULE, SPACING)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels == 1, block("reverse"))  # 900 voxels, 58 mL
    np.testing.assert_array_equal(labels == 2, block("mismatch"))  # 720 voxels, 46 mL, though the first in the image
    assert labels.max() == 2
    assert connected_defects(low, replace(RULE, min_ml=8), SPACING).max() == 3


def test_pieces_that_touch_by_a_corner_are_one_defect() -> None:
    low = np.zeros(SHAPE, bool)
    low[2:10, 2:10, 2:10] = low[10:18, 10:18, 10:18] = True
    assert connected_defects(low, RULE, SPACING).max() == 1


@given(st.integers(0, 10**6), st.sampled_from([(4.0, 4.0, 4.0), (8.0, 4.0, 2.0), (8.0, 8.0, 8.0)]))
def test_opening_is_scipys(seed: int, spacing: tuple[float, float, float]) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((20, 20, 20)), 1.5)
    low = smooth > 0.02
    reach = [int(RULE.open_mm // step) for step in spacing]
    steps = np.indices([2 * r + 1 for r in reach]) - np.reshape(reach, (3, 1, 1, 1))
    ball = np.linalg.norm(steps * np.reshape(spacing, (3, 1, 1, 1)), axis=0) <= RULE.open_mm
    assert len(ball_offsets(RULE.open_mm, spacing)) == ball.sum()
    opened = ndimage.binary_dilation(ndimage.binary_erosion(low, ball, border_value=0), ball)
    expected = ndimage.binary_dilation(opened, ball) & low
    found = connected_defects(low, replace(RULE, min_ml=0), spacing) > 0
    np.testing.assert_array_equal(found, expected)


def test_overlaps_by_hand() -> None:
    defects = np.zeros(SHAPE, np.int32)
    defects[block("mismatch")], defects[block("matched")] = 1, 2
    low = block("mismatch").copy()
    low[:, :, :8] = False
    found = overlaps(defects, low, SPACING)
    assert [one.label for one in found] == [1, 2]
    assert [one.volume_ml for one in found] == pytest.approx([720 * VOXEL_ML, 720 * VOXEL_ML])
    assert [one.overlap for one in found] == [0.5, 0.0]
    assert [one.label for one in false_defects(defects, low, RULE, SPACING)] == [2]
    assert overlaps(np.zeros(SHAPE, np.int32), low, SPACING) == []
    assert [one.overlap for one in overlaps(defects, defects > 0, SPACING)] == [1, 1]


def test_an_image_alone_is_normalised_on_its_own_good_lung() -> None:
    q = lungs_with_defects()["perfusion"]
    relative = relative_to_normal({"perfusion": q}, INSIDE, RULE)
    assert relative.normal.sum() == pytest.approx(INSIDE.sum() / 2, abs=1)
    labels = connected_defects(low_voxels(relative.images["perfusion"], RULE), RULE, SPACING)
    np.testing.assert_array_equal(labels > 0, block("mismatch") | block("matched"))


def _against(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"perfusion": q, "ventilation": lungs_with_defects()["ventilation"]}


RAMP = np.broadcast_to(np.arange(SHAPE[0], dtype=float)[:, None, None], SHAPE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("reason", "images", "inside"),
    [
        ("empty region", lungs_with_defects(), np.zeros(SHAPE, bool)),
        ("constant image", _against(np.ones(SHAPE)), INSIDE),
        ("values that are not finite", _against(np.full(SHAPE, np.nan)), INSIDE),
        ("no normal lung: V and Q are good in different places", {"perfusion": RAMP, "ventilation": -RAMP}, INSIDE),
        ("no function in the lungs", {"perfusion": RAMP - 50, "ventilation": RAMP}, INSIDE),
    ],
)
def test_lungs_without_normal_lung_say_why(reason: str, images: dict[str, np.ndarray], inside: np.ndarray) -> None:
    relative = relative_to_normal(images, inside, RULE)
    assert relative.reason == reason
    assert not relative.images
    assert not relative.normal.any()


def test_no_low_function_is_no_defect() -> None:
    assert not connected_defects(np.zeros(SHAPE, bool), RULE, SPACING).any()


def test_the_rule_says_itself() -> None:
    assert "below 0.5" in str(RULE)
    assert "at least 20 mL" in str(RULE)

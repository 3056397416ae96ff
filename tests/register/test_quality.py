"""Figures of quality say what was done to the images: every one is checked where its value is known."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from chest_phantom import CT, LOW_DOSE, SETTINGS, chest, hu_at, points, volume

from ct2vq.errors import RegistrationError
from ct2vq.fields import displacements, grid_over
from ct2vq.register.figures import FIGURES, SPECT_FIGURES, breaches, require_plausible
from ct2vq.register.landmarks import Landmarks
from ct2vq.register.quality import lung_detail, measure_quality, mutual_information
from ct2vq.volume import to_array

SHIFT = (8.0, -6.0, 12.0)
DEFORMABLE = "deformable through the attenuation CT"


def fields(transform: sitk.Transform, back: sitk.Transform) -> tuple[sitk.Image, sitk.Image]:
    return displacements(transform, grid_over(CT, 8.0)), displacements(back, grid_over(LOW_DOSE, 8.0))


def shifted(images: dict[str, sitk.Image]) -> dict[str, sitk.Image]:
    """The camera's images moved by `SHIFT`: its inverse brings them back."""
    moved = {name: sitk.Image(image) for name, image in images.items()}
    for name in moved.keys() - {"ct", "ct_lungs"}:
        moved[name].SetOrigin(tuple(np.add(moved[name].GetOrigin(), SHIFT)))
    return moved


@pytest.fixture(scope="module")
def images() -> dict[str, sitk.Image]:
    return shifted(chest(moved=False))


@pytest.fixture(scope="module")
def record(images: dict[str, sitk.Image]) -> dict:
    there = sitk.TranslationTransform(3, SHIFT)
    marks = points(CT)[10:40:10, 10:40:10, 10:40:10].reshape(-1, 3)
    return measure_quality(images, *fields(there, there.GetInverse()), Landmarks(marks, marks + SHIFT))


def test_a_right_shift_has_right_figures(record: dict) -> None:
    length = float(np.linalg.norm(SHIFT))
    assert record["dice_before"] < 0.9 < 0.96 < record["dice_after"]
    assert min(record["dice_right_after"], record["dice_left_after"]) > 0.96
    assert record["tre_mean_before_mm"] == pytest.approx(length, abs=1e-3)
    assert record["tre_max_after_mm"] < 1e-3 and record["landmarks"] > 20
    assert record["displacement_mean_mm"] == pytest.approx(length, abs=1e-3) == record["displacement_max_mm"]
    assert record["deformation_max_mm"] == pytest.approx(0, abs=1e-3)
    for name in ("jacobian_min", "jacobian_p1", "jacobian_p99", "jacobian_max"):
        assert record[name] == pytest.approx(1, abs=1e-6)
    assert record["folding_percent"] == 0
    assert record["lung_volume_ratio"] == pytest.approx(1, abs=0.03)
    assert record["mutual_information_gain"] > 0.1
    assert record["lung_detail_before"] < 0.4 < 0.6 < record["lung_detail_after"]
    for spect in record["spect"].values():
        assert spect["counts_inside_before"] < spect["counts_inside_after"]
        assert spect["lungs_outside_spect_percent"] == 0 == spect["content_shift_mm"]
    assert set(record) == {*FIGURES, "spect"} and all(set(r) == set(SPECT_FIGURES) | {"content_shift_vector_mm"}
                                                      for r in record["spect"].values())  # fmt: skip


def test_the_way_back_is_checked_in_the_lungs(images: dict[str, sitk.Image]) -> None:
    there, back = (
        sitk.TranslationTransform(3, SHIFT),
        sitk.TranslationTransform(3, (-SHIFT[0], -SHIFT[1], -SHIFT[2] + 3)),
    )
    record = measure_quality(images, *fields(there, back))
    assert record["inverse_consistency_mean_mm"] == pytest.approx(3, abs=1e-3)
    assert record["tre_mean_after_mm"] is None and record["landmarks"] == 0


def test_points_beyond_the_way_back_do_not_count(images: dict[str, sitk.Image]) -> None:
    """ITK takes no displacement outside a field: such points would look lost by as far as they were carried."""
    there = sitk.TranslationTransform(3, (0, 0, 60))
    short = LOW_DOSE[:, :, : LOW_DOSE.GetSize()[2] - 4]
    forward = displacements(there, grid_over(CT, 8.0))
    inverse = displacements(there.GetInverse(), grid_over(short, 8.0))
    record = measure_quality(images, forward, inverse)
    assert 5 < record["inverse_outside_percent"] < 50
    assert record["inverse_consistency_max_mm"] < 1e-3
    nowhere = displacements(sitk.TranslationTransform(3, (0, 0, 900)), grid_over(CT, 8.0))
    lost = measure_quality(images, nowhere, inverse)
    assert lost["inverse_outside_percent"] == 100 and lost["inverse_consistency_mean_mm"] is None


def test_volume_change_and_folding_are_seen(images: dict[str, sitk.Image]) -> None:
    shrinking = sitk.ScaleTransform(3, (0.9, 0.9, 0.8))
    record = measure_quality(images, *fields(shrinking, shrinking.GetInverse()))
    assert record["jacobian_p1"] == pytest.approx(0.648, abs=0.01) == record["jacobian_p99"]
    mirrored = sitk.AffineTransform(3)
    mirrored.SetMatrix((1, 0, 0, 0, 1, 0, 0, 0, -1))
    assert measure_quality(images, *fields(mirrored, mirrored))["folding_percent"] == 100


def test_lungs_beyond_the_field_of_view_are_counted(images: dict[str, sitk.Image]) -> None:
    size = images["perfusion"].GetSize()
    half = images["perfusion"][:, :, size[2] // 2 :]
    away = sitk.TranslationTransform(3, SHIFT)
    record = measure_quality(images | {"perfusion": half}, *fields(away, away.GetInverse()))
    outside = record["spect"]["perfusion"]["lungs_outside_spect_percent"]
    assert 40 < outside < 60 and record["spect"]["ventilation"]["lungs_outside_spect_percent"] == 0
    assert record["lungs_outside_attenuation_ct_percent"] == 0


def test_without_an_attenuation_ct_the_spect_is_judged_against_the_lungs(images: dict[str, sitk.Image]) -> None:
    alone = {name: images[name] for name in ("ct", "ct_lungs", "perfusion")}
    away = sitk.TranslationTransform(3, SHIFT)
    record = measure_quality(alone, *fields(away, away.GetInverse()))
    assert record["dice_after"] is None and record["lung_detail_after"] is None
    assert record["mutual_information_gain"] > 0
    assert record["spect"]["perfusion"]["content_shift_mm"] == 0
    assert [breach.name for breach in breaches(record, SETTINGS["flags"])] == []


def test_mutual_information_of_equals_is_their_entropy() -> None:
    values = np.repeat(np.arange(8), 50).astype(float)
    assert mutual_information(values, values, (0, 8)) == pytest.approx(np.log(8))
    shuffled = np.tile(np.arange(8), 50).astype(float)
    assert mutual_information(values, shuffled, (0, 8)) < 0.1


def test_lung_detail_tells_patients_apart_where_dice_cannot() -> None:
    p = points(CT)[::1]
    inside = to_array(chest(moved=False)["ct_lungs"]) > 0
    own = hu_at(p) + np.random.default_rng(1).normal(0, 20, inside.shape)
    assert lung_detail(hu_at(p), own, inside) > 0.75
    assert lung_detail(hu_at(p), hu_at(p, vessels=1.31), inside) < 0.4, "the upper quartile of chance"
    assert lung_detail(hu_at(p), np.zeros(inside.shape), inside) == 0
    assert lung_detail(own, own, np.zeros_like(inside)) is None
    shallow = np.zeros_like(inside)
    shallow[4:7, 4:7, 4:7] = True
    assert lung_detail(own, own, shallow) is None, "8 mm below its surface there is nothing"


def test_a_figure_beyond_its_limit_is_said_with_both_numbers(record: dict) -> None:
    found = {
        breach.name: breach.text for breach in breaches(record, {"dice_before_below": 0.99, "folding_percent_above": 0})
    }
    assert list(found) == ["dice_before"]
    assert found["dice_before"] == f"lung Dice before {record['dice_before']:.4g}, below 0.99"
    spects = [breach.text for breach in breaches(record, {"counts_inside_after_below": 1.0})]
    assert [text.split(":")[0] for text in spects] == ["perfusion", "ventilation"]
    assert list(breaches(record, dict.fromkeys(SETTINGS["flags"]))) == [], "null is no limit"


def test_every_limit_of_the_schema_is_of_a_figure() -> None:
    for block in ("flags", "refuse"):
        for key in SETTINGS[block]:
            name, _, side = key.rpartition("_")
            assert name in FIGURES | SPECT_FIGURES and side in ("below", "above"), key


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"dice_after_below": 1.0}, "D805"),
        ({"lung_volume_ratio_above": 0.5}, "D805"),
        ({"counts_inside_after_below": 1.0}, "D804"),
        ({"lungs_outside_spect_percent_above": -1}, "D803"),
        ({"deformation_max_mm_above": -1}, "D808"),
        ({"folding_percent_above": -1}, "D809"),
    ],
)
def test_a_refusal_has_a_code_and_names_the_key(record: dict, limits: dict[str, float], code: str) -> None:
    with pytest.raises(RegistrationError) as caught:
        require_plausible(record | {"method": DEFORMABLE}, limits)
    assert caught.value.code == code
    assert next(iter(limits)).rpartition("_")[0] in str(caught.value)


def test_vessels_that_breathing_moved_refuse_no_rigid_registration(record: dict) -> None:
    limits = {"lung_detail_after_below": 1.0}
    require_plausible(record | {"method": "rigid through the attenuation CT"}, limits)
    with pytest.raises(RegistrationError, match="vessels of the CT are not where the attenuation CT shows them"):
        require_plausible(record | {"method": DEFORMABLE}, limits)


def test_sick_lungs_are_far_from_every_refusal(record: dict) -> None:
    require_plausible(record | {"method": DEFORMABLE}, SETTINGS["refuse"])
    assert list(breaches(record, SETTINGS["flags"])) == []


def test_averaging_keeps_a_volume_in_its_place() -> None:
    from ct2vq.register.quality import averaged

    fine = volume(points(CT)[..., 0], CT)
    fine.SetSpacing((1.5, 1.5, 5))
    small = averaged(fine)
    assert small.GetSpacing() == (3.0, 3.0, 5.0)
    assert small.TransformPhysicalPointToIndex(fine.TransformIndexToPhysicalPoint((20, 20, 20))) == (10, 10, 20)

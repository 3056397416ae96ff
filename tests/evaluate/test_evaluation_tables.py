"""Bins hold every voxel once, and drawn defects are found, missed or false as they were drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lung_phantom import ARMS, SETTINGS, coarse_lungs, phantom_case

from ct2vq.config import vq_arms
from ct2vq.evaluate.arms import BOTH, score_arms
from ct2vq.evaluate.curves import (
    DENSITY_BINS,
    DENSITY_COLUMNS,
    DETECTION_BINS,
    DETECTION_COLUMNS,
    bin_of,
    density_rows,
    detection_rows,
)
from ct2vq.evaluate.lesions import COLUMNS, kind_of, lesion_rows
from ct2vq.evaluate.truth import INVISIBLE_EMBOLUS, VISIBLE_EMBOLUS
from ct2vq.volume import to_array

SIDES = to_array(coarse_lungs())
INSIDE = SIDES > 0
Z, Y, X = np.indices(SIDES.shape)


def ball(z: float, y: float, x: float, radius: float = 3.2) -> np.ndarray:
    """Voxels of the lungs round a place, in voxels."""
    return INSIDE & ((Z - z) ** 2 + (Y - y) ** 2 + (X - x) ** 2 <= radius**2)


#: three places deep in the lungs: two in the right, one in the left
A, B, C = ball(7, 12, 9.5), ball(16, 12, 9.5), ball(12, 12, 25.5)


def drawn(defects: np.ndarray, level: float = 0.1) -> np.ndarray:
    """An even image with total defects; a little of a ramp, because a constant image cannot be compared."""
    return np.where(INSIDE, np.where(defects, level, 0.8) + 0.001 * Z, 0).astype(np.float32)


@pytest.fixture(scope="module")
def lesions() -> pd.DataFrame:
    """SPECT and truth have A, an embolus that no CT shows, and B, one that a CT shows; the model has B and C."""
    findings = np.where(A, INVISIBLE_EMBOLUS, np.where(B, VISIBLE_EMBOLUS, 0)).astype(np.uint8)
    flat = np.where(INSIDE, 0.5, 0).astype(np.float32)
    case = phantom_case(known=True).with_images(
        {
            ("spect", "perfusion"): drawn(A | B),
            ("truth", "perfusion"): drawn(A | B),
            ("truth_visible", "perfusion"): drawn(B),
            ("ddran", "perfusion"): drawn(B | C),
            ("flat", "perfusion"): flat,
        }
    )
    case = type(case)(case.case_id, case.regions, case.images, findings)
    table = pd.DataFrame(lesion_rows(case, SETTINGS), columns=list(COLUMNS))
    return table[table["target"] == "perfusion"]


def test_defects_are_found_missed_and_false(lesions) -> None:
    rows = lesions[(lesions["model"] == "ddran") & (lesions["reference"] == "spect")].set_index("visible")
    assert rows.loc["yes", ["kind", "found"]].tolist() == ["embolus", "yes"]
    assert rows.loc["no", ["kind", "found"]].tolist() == ["embolus", "no"]
    assert rows.loc["", "kind"] == "false"
    assert rows.loc["yes", "overlap"] == pytest.approx(1)
    assert rows.loc["no", "overlap"] == 0
    ml = 8**3 / 1000
    assert rows.loc["yes", "volume_ml"] == pytest.approx(B.sum() * ml, rel=0.3)
    assert rows.loc["", "volume_ml"] == pytest.approx(C.sum() * ml, rel=0.3)


def test_the_ceilings_have_their_rows(lesions) -> None:
    def found(model: str, reference: str) -> dict:
        rows = lesions[(lesions["model"] == model) & (lesions["reference"] == reference)]
        return dict(zip(rows["visible"], rows["found"], strict=True))

    assert found("noise_ceiling", "spect") == {"yes": "yes", "no": "yes"}
    assert found("visible_ceiling", "truth") == {"yes": "yes", "no": "no"}
    assert found("noise_ceiling", "truth") == {}


def test_an_image_that_cannot_be_judged_finds_nothing_and_misses_nothing(lesions) -> None:
    rows = lesions[(lesions["model"] == "flat") & (lesions["reference"] == "spect")]
    assert sorted(rows["kind"]) == ["embolus", "embolus", "unjudged"]
    assert rows["overlap"].isna().all()
    assert set(rows["found"]) == {""}


def test_an_image_or_a_reference_that_cannot_be_judged_is_told_where_there_is_no_defect() -> None:
    """Without a row the case would count as one without defects, found, missed or false."""
    flat = np.where(INSIDE, 0.5, 0).astype(np.float32)
    for bad in (("ddran", "perfusion"), ("spect", "perfusion")):
        case = phantom_case().with_images({("spect", "perfusion"): drawn(INSIDE & False), bad: flat})
        table = pd.DataFrame(lesion_rows(case, SETTINGS), columns=list(COLUMNS)).query("target == 'perfusion'")
        assert table[["model", "kind", "found"]].to_numpy().tolist() == [["ddran", "unjudged", ""]]


def test_the_kind_is_that_of_most_voxels_if_half_have_one() -> None:
    findings = np.zeros(SIDES.shape, np.uint8)
    assert kind_of(A, None) == ("defect", "")
    assert kind_of(A, findings) == ("defect", "")
    findings[A & (Z <= 7)] = INVISIBLE_EMBOLUS
    assert kind_of(A, findings) == ("embolus", "no")
    assert kind_of(A | C, np.where(C, 3, findings)) == ("disease", ""), "only emboli are split by what a CT shows"


def test_mismatched_and_matched_defects() -> None:
    case = phantom_case().with_images(
        {
            ("spect", "perfusion"): drawn(A | B),
            ("spect", "ventilation"): drawn(B | C),
            ("ddran", "perfusion"): drawn(A),
            ("ddran", "ventilation"): drawn(C),
        }
    )
    table = pd.DataFrame(score_arms(case, ARMS, SETTINGS))
    assert set(table["target"]) == {BOTH}
    value = table.set_index(["region", "metric"])["value"]
    ml = case.regions.voxel_ml
    for kind, drawn_there in (("mismatch", A), ("matched", B), ("reverse", C)):
        there = value["lungs", f"{kind}_volume_reference"]
        assert there == pytest.approx(drawn_there.sum() * ml, rel=0.3)
    assert value["lungs", "matched_volume_image"] == 0
    assert value["lungs", "mismatch_dice"] == 1
    assert value["left", "reverse_volume_image"] == value["lungs", "reverse_volume_image"]
    assert value["right", "reverse_volume_image"] == 0
    assert np.isnan(value["right", "reverse_dice"])
    assert set(table.loc[table["metric"] == "mismatch_dice", "definition"]) != {""}


def test_arms_are_models_of_both_targets_and_pairs() -> None:
    one, other = {"targets": ["perfusion"]}, {"targets": ["ventilation"]}
    both = {"targets": ["perfusion", "ventilation"]}
    models = {"ddran": both, "ran_perfusion": one, "ran_ventilation": other, "lonely_perfusion": one}
    assert vq_arms(models) == {
        "ddran": {"perfusion": "ddran", "ventilation": "ddran"},
        "ran": {"perfusion": "ran_perfusion", "ventilation": "ran_ventilation"},
    }
    assert vq_arms(models | {"ran": both})["ran"] == {"perfusion": "ran", "ventilation": "ran"}
    assert vq_arms({"ran_perfusion": both, "ran_ventilation": other}).keys() == {"ran_perfusion"}
    assert vq_arms({"spect_perfusion": one, "spect_ventilation": other}) == {}


def test_an_arm_without_both_images_has_no_rows() -> None:
    case = phantom_case()
    images = {key: image for key, image in case.images.items() if key != ("ddran", "ventilation")}
    assert score_arms(type(case)(case.case_id, case.regions, images), ARMS, SETTINGS) == []


# --- histograms ----------------------------------------------------------------------------------------------------


def test_every_voxel_of_the_lungs_is_in_one_bin() -> None:
    case = phantom_case(known=True)
    voxels = int(case.regions.inside.sum())
    density = pd.DataFrame(density_rows(case), columns=list(DENSITY_COLUMNS))
    assert (density.groupby(["model", "target"])["voxels"].sum() == voxels).all()
    assert set(density["model"]) == {"ddran", "noise_ceiling", "visible_ceiling"}
    assert density["voxels"].min() > 0
    detection = pd.DataFrame(detection_rows(case, SETTINGS), columns=list(DETECTION_COLUMNS))
    keys = ["model", "target", "reference", "definition"]
    assert set(detection["reference"]) == {"spect", "truth"}
    assert set(detection["definition"]) == {"p40", "percent_max"}
    sums = detection.groupby(keys)[["low", "other", "reference_sum"]].sum()
    assert (sums["low"] + sums["other"] == voxels).all()
    p40 = sums.xs("p40", level="definition")["low"]
    assert p40.to_numpy() == pytest.approx(0.4 * voxels, abs=1.5)
    for (_, target, reference, _), row in sums.iterrows():
        assert row["reference_sum"] == pytest.approx(case.images[reference, target].sum(), rel=1e-5)


def test_bins_tell_the_joint_distribution() -> None:
    case = phantom_case()
    inside = case.regions.inside
    image, spect = (case.images[name, "perfusion"][inside] for name in ("ddran", "spect"))
    expected, *_ = np.histogram2d(image, spect, bins=DENSITY_BINS, range=[[0, 1], [0, 1]])
    table = pd.DataFrame(density_rows(case), columns=list(DENSITY_COLUMNS))
    table = table[table["target"] == "perfusion"]
    found = np.zeros((DENSITY_BINS, DENSITY_BINS))
    found[table["image_bin"], table["reference_bin"]] = table["voxels"]
    # values on a bin's edge may fall on either side
    assert np.abs(found - expected).sum() <= 4


@given(value=st.floats(-1, 3), bins=st.sampled_from([DENSITY_BINS, DETECTION_BINS]))
def test_values_beyond_the_range_fall_into_the_outermost_bins(value, bins) -> None:
    found = int(bin_of(np.array([value]), bins)[0])
    assert 0 <= found < bins
    if 0 <= value < 1:
        assert found / bins <= value + 1e-9
        assert value < (found + 1) / bins + 1e-9


def test_a_constant_image_detects_nothing_and_is_no_image_that_detects_nothing_right() -> None:
    flat = np.where(INSIDE, 0.5, 0).astype(np.float32)
    for bad in (("ddran", "perfusion"), ("spect", "perfusion")):
        case = phantom_case().with_images({bad: flat})
        assert {row[2] for row in detection_rows(case, SETTINGS)} == {"ventilation"}


def test_values_that_are_not_finite_have_no_rows() -> None:
    case = phantom_case()
    broken = np.where(INSIDE & (Z == 12), np.nan, case.images["ddran", "perfusion"])
    case = case.with_images({("ddran", "perfusion"): broken})
    assert {row[2] for row in density_rows(case)} == {"ventilation"}
    assert {row[2] for row in detection_rows(case, SETTINGS)} == {"ventilation"}

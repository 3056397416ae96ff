"""One long table: every metric of every image and region, missing ones with their reason, blind to the outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lung_phantom import ARMS, SETTINGS, function, phantom_case, write_phantom
from ssim_of_images import ssim, ssim_crop

from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.evaluate.case import COLUMNS, evaluate_case, metric_rows
from ct2vq.evaluate.collect import collect
from ct2vq.evaluate.images import read_images
from ct2vq.evaluate.scores import WIDE, compare_images
from ct2vq.files import read_tsv, write_tsv
from ct2vq.lungs import LOBES, THIRDS
from ct2vq.metrics.agreement import spearman
from ct2vq.metrics.value import RegionValues
from ct2vq.volume import from_array, make_grid, read_volume, to_array, write_volume

KEYS = ["case_id", "model", "target", "metric", "region", "definition", "reference"]
PARTS = ["right", "left", *THIRDS.values(), *LOBES.values()]


def table_of(case, arms=ARMS, **changed) -> pd.DataFrame:
    return pd.DataFrame(metric_rows(case, SETTINGS | changed, arms), columns=list(COLUMNS))


@pytest.fixture(scope="module")
def case():
    return phantom_case(known=True)


@pytest.fixture(scope="module")
def table(case) -> pd.DataFrame:
    return table_of(case)


def test_one_fact_a_row(table) -> None:
    assert not table.duplicated(KEYS).any()
    assert set(table["target"]) == {"perfusion", "ventilation", "vq"}
    assert set(table["region"]) == {"lungs", "core", "crop", *PARTS}


def test_values_are_those_of_the_metrics_in_their_region(case, table) -> None:
    image, spect = (case.images[name, "perfusion"] for name in ("ddran", "spect"))
    rows = table[(table["model"] == "ddran") & (table["target"] == "perfusion") & (table["reference"] == "spect")]
    value = rows.drop_duplicates(["metric", "region"]).set_index(["metric", "region"])["value"]
    for region in ("lungs", "core", "left", "right middle third", "left lower lobe"):
        mask = case.regions.masks[region]
        ranks = spearman(RegionValues.of(image, mask), RegionValues.of(spect, mask)).number
        assert value["spearman", region] == pytest.approx(ranks, abs=1e-12)
        assert value["ssim", region] == pytest.approx(ssim(image, spect, mask, **SETTINGS["ssim"]).number, abs=1e-9)
        assert value["mae", region] == pytest.approx(np.abs(image - spect)[mask].mean(), rel=1e-5)
    assert value["ssim", "crop"] == pytest.approx(ssim_crop(image, spect, **SETTINGS["ssim"]).number, abs=1e-9)


def test_the_truth_is_scored_as_if_it_were_a_model(case, table) -> None:
    scored = {tuple(row) for row in table[["model", "target", "reference"]].to_numpy()}
    for target in ("perfusion", "ventilation", "vq"):
        assert {reference for model, of, reference in scored if (model, of) == ("ddran", target)} == {
            "spect",
            "truth",
            "truth_visible",
        }
        assert ("noise_ceiling", target, "spect") in scored
        assert ("noise_ceiling", target, "truth") not in scored
        assert ("visible_ceiling", target, "truth") in scored
        assert ("visible_ceiling", target, "truth_visible") not in scored
    assert not {"spect", "truth", "truth_visible"} & set(table["model"])
    real = table_of(phantom_case())
    assert set(real["reference"]) == {"spect"}
    assert set(real["model"]) == {"ddran"}


def test_shares_of_parts_add_up_to_all_function(table) -> None:
    rows = table[(table["reference"] == "spect") & (table["model"] == "ddran") & (table["target"] == "perfusion")]
    for whose in ("image", "reference"):
        share = rows[rows["metric"] == f"share_{whose}"].set_index("region")["value"]
        for names in (["right", "left"], THIRDS.values(), LOBES.values()):
            assert share[list(names)].sum() == pytest.approx(1)
    error = rows[rows["metric"] == "share_error"]["value"]
    assert error.abs().max() > 0
    assert error.sum() == pytest.approx(0, abs=1e-9)


def test_low_and_high_function_fill_the_lungs(case, table) -> None:
    rows = table[(table["reference"] == "spect") & (table["model"] == "ddran") & (table["target"] == "perfusion")]
    for region in WIDE:
        ml = rows[(rows["region"] == region) & (rows["definition"] == "p40")].set_index("metric")["value"]
        for whose in ("image", "reference"):
            both = ml[f"volume_low_{whose}"] + ml[f"volume_high_{whose}"]
            assert both == pytest.approx(case.regions.volume_ml(region))
        assert ml["volume_low_error"] == pytest.approx(ml["volume_low_image"] - ml["volume_low_reference"])
    definitions = {region: set(group["definition"]) for region, group in rows.groupby("region")}
    names = {entry["name"] for entry in SETTINGS["function_thresholds"]}
    assert names | {"curve_p10", "curve_p90"} <= definitions["lungs"]
    assert names <= definitions["left"]
    assert not names <= definitions["left lower lobe"]


PROBED = phantom_case()


@given(seed=st.integers(0, 50), region=st.sampled_from(list(PROBED.regions.masks)))
@settings(max_examples=10)
def test_nothing_outside_a_region_counts(seed, region) -> None:
    mask = PROBED.regions.masks[region]
    only = replace(PROBED.regions, masks={"lungs": mask})
    image, reference = PROBED.images["ddran", "perfusion"], PROBED.images["spect", "perfusion"]
    noise = np.random.default_rng(seed).uniform(0, 1, image.shape).astype(np.float32)
    few = SETTINGS | {"function_thresholds": SETTINGS["function_thresholds"][:1], "threshold_curve": []}
    plain, changed = (
        [row for row in compare_images(one, reference, only, few) if row["region"] == "lungs"]
        for one in (image, np.where(mask, image, noise))
    )
    assert plain == changed


def test_bad_images_are_missing_with_a_reason_and_never_zero(case) -> None:
    flat = np.where(case.regions.inside, np.float32(0.5), 0)
    broken = case.images["spect", "perfusion"].copy()
    broken[tuple(np.argwhere(case.regions.inside)[0])] = np.nan
    bad = phantom_case()
    bad = bad.with_images({("flat", "perfusion"): flat, ("flat", "ventilation"): flat, ("nan", "perfusion"): broken})
    table = table_of(bad, ARMS | {"flat": {"perfusion": "flat", "ventilation": "flat"}})
    missing = table["value"].isna()
    assert (missing == (table["reason"] != "")).all()
    compared = ~table["metric"].str.startswith(("share", "relative"))
    for model, reason in (("flat", "constant image"), ("nan", "values that are not finite")):
        of = table[(table["model"] == model) & compared & (table["region"] == "lungs")]
        assert set(of["reason"]) == {reason}
    parts = table[table["metric"].isin(["share_image", "relative_image"]) & (table["target"] == "perfusion")]
    for model, reason in (("flat", "constant in the lungs"), ("nan", "values that are not finite")):
        assert set(parts.loc[parts["model"] == model, "reason"]) == {reason}
    assert not missing[(table["model"] == "ddran") & ~table["metric"].str.contains("matched|mismatch|reverse")].any()


def test_an_empty_region_is_said(case) -> None:
    nothing = np.zeros_like(case.regions.inside)
    empty = replace(case, regions=replace(case.regions, masks=dict(case.regions.masks) | {"left lower lobe": nothing}))
    rows = table_of(empty)
    rows = rows[(rows["region"] == "left lower lobe")]
    assert set(rows["reason"]) == {"empty region"}


def test_a_spect_that_holds_nothing_stops_no_other_target(case) -> None:
    dark = case.with_images({("spect", "perfusion"): np.zeros_like(case.images["spect", "perfusion"])})
    table = table_of(dark)
    of = table[(table["reference"] == "spect") & (table["metric"] == "spearman") & (table["region"] == "lungs")]
    assert set(of.loc[of["target"] == "perfusion", "reason"]) == {"constant reference"}
    assert set(of.loc[of["target"] == "ventilation", "reason"]) == {""}
    vq = table[(table["target"] == "vq") & (table["reference"] == "spect")]
    assert vq["value"].isna().all()
    shares = table[table["metric"].isin(["share_reference", "relative_reference"]) & (table["reference"] == "spect")]
    assert set(shares.loc[shares["target"] == "perfusion", "reason"]) == {"no function in the lungs"}
    assert set(shares.loc[shares["target"] == "ventilation", "reason"]) == {""}


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return write_phantom(tmp_path, phantom_case())


def evaluate(files: dict[str, Path], case_id: str = "c1", **changed) -> dict[str, Path]:
    folder = files["lungs"].parent / f"tables_{case_id}"
    outputs = {name: folder / f"{name}.tsv" for name in ("metrics", "density", "detection", "defects")}
    evaluate_case(case_id, files, outputs, SETTINGS | changed, ARMS)
    return outputs


def test_the_tables_of_a_case_are_the_same_every_time(files) -> None:
    outputs = evaluate(files)
    before = {name: path.read_bytes() for name, path in outputs.items()}
    table = read_tsv(outputs["metrics"])
    assert tuple(table.columns) == COLUMNS
    expected = table_of(phantom_case())
    pd.testing.assert_series_equal(table["value"], expected["value"], check_exact=False, rtol=1e-9)
    assert {name: path.read_bytes() for name, path in evaluate(files).items()} == before


def test_written_rows_are_what_pandas_would_write(files) -> None:
    metrics = evaluate(files)["metrics"]
    again = metrics.with_name("again.tsv")
    write_tsv(read_tsv(metrics, dtype={"value": str}), again)
    assert again.read_bytes() == metrics.read_bytes()


def test_another_grid_changes_little(files) -> None:
    own, coarse = (read_tsv(evaluate(files, name, spacing_mm=mm)["metrics"]) for name, mm in (("a", None), ("b", 9.5)))
    for metric, tolerance in (("spearman", 0.06), ("share_image", 0.05)):
        values = [t[t["metric"] == metric].set_index(["target", "region"])["value"] for t in (own, coarse)]
        assert values[0].index.equals(values[1].index)
        assert (values[0] - values[1]).abs().max() < tolerance


def test_with_a_grid_of_its_own_an_image_may_lie_on_any(files) -> None:
    finer = make_grid((72, 48, 48), [4.0] * 3, (-142.0, -94.0, -94.0))
    own = read_images("c1", files, SETTINGS | {"spacing_mm": 6.0}).images["ddran", "perfusion"]
    lungs = from_array(to_array(finer), finer)
    write_volume(from_array(function(10, lungs) * 0 + 0.5, lungs), files["ddran_perfusion"])
    moved = read_images("c1", files, SETTINGS | {"spacing_mm": 6.0}).images["ddran", "perfusion"]
    assert moved.shape == own.shape
    inside = own > 0
    assert np.allclose(moved[inside], 0.5, atol=1e-5)
    with pytest.raises(GeometryError, match="lungs and ddran_perfusion"):
        read_images("c1", files, SETTINGS)


def test_tables_are_joined_in_the_order_given_and_missing_values_are_counted(files, tmp_path, caplog) -> None:
    tables = [evaluate(files, case_id)["metrics"] for case_id in ("002", "1e3", "001")]
    with caplog.at_level("INFO"):
        collect(tables, tmp_path / "metrics.tsv")
    joined = (tmp_path / "metrics.tsv").read_text().splitlines()
    separate = [table.read_text().splitlines() for table in tables]
    assert joined == separate[0] + separate[1][1:] + separate[2][1:]
    missing = int(read_tsv(tmp_path / "metrics.tsv")["value"].isna().sum())
    assert missing > 0
    assert f"of 3 cases; {missing} values are missing" in caplog.text
    assert "because: both regions are empty" in caplog.text
    tables[1].write_text("case_id\tother\n")
    with pytest.raises(Ct2vqError, match="other columns"):
        collect(tables, tmp_path / "metrics.tsv")


def test_a_file_with_voxels_that_are_no_numbers_has_no_score(files) -> None:
    image = read_volume(files["ddran_perfusion"])
    values = to_array(image)
    values[tuple(np.argwhere(values > 0)[0])] = np.nan
    write_volume(from_array(values, image), files["ddran_perfusion"])
    table = read_tsv(evaluate(files, "nan")["metrics"])
    broken = table[(table["model"] == "ddran") & (table["target"] == "perfusion") & (table["region"] == "lungs")]
    compared = broken[~broken["metric"].str.startswith(("share", "relative"))]
    assert set(compared["reason"]) == {"values that are not finite"}
    assert compared["value"].isna().all()

"""One long table: every metric of every image, missing ones with their reason, names of cases untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import SHAPE, cropped_arrays

from ct2vq.config import complete_config
from ct2vq.errors import GeometryError
from ct2vq.evaluate import COLUMNS, collect, compare_images, evaluate_case
from ct2vq.files import read_tsv
from ct2vq.metrics import spearman
from ct2vq.volume import from_array, make_grid, write_volume

SETTINGS = complete_config({"study": "x"})["evaluate"]
ARRAYS = cropped_arrays(0)
INSIDE = ARRAYS["lungs"] > 0
VOLUME_ML = float(INSIDE.sum()) * 8 / 1000


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    grid = make_grid(SHAPE[::-1], (2, 2, 2), (0, 0, 0))
    arrays = {"lungs": ARRAYS["lungs"]}
    for target in ("perfusion", "ventilation"):
        arrays[f"spect_{target}"] = ARRAYS[target]
        arrays[f"ddran_{target}"] = np.where(INSIDE, ARRAYS[target] ** 2, 0).astype(np.float32)
    arrays["ran_perfusion_perfusion"] = np.where(INSIDE, 1 - ARRAYS["perfusion"], 0).astype(np.float32)
    arrays["flat_perfusion"] = np.where(INSIDE, 0.5, 0).astype(np.float32)
    for name, array in arrays.items():
        write_volume(from_array(array, grid), tmp_path / f"{name}.nii.gz")
    return {name: tmp_path / f"{name}.nii.gz" for name in arrays}


def evaluate(images: dict[str, Path], case_id: str = "c1") -> tuple[Path, pd.DataFrame]:
    output = images["lungs"].parent / f"{case_id}.tsv"
    named = {name: path for name, path in images.items() if name != "lungs"}
    evaluate_case(case_id, named, images["lungs"], output, SETTINGS)
    return output, read_tsv(output)


def test_the_table_of_a_case(images: dict[str, Path]) -> None:
    output, table = evaluate(images)
    assert tuple(table.columns) == COLUMNS
    assert set(table["reference"]) == {"spect"}
    assert {tuple(row) for row in table[["model", "target"]].to_numpy()} == {
        ("ddran", "perfusion"),
        ("ddran", "ventilation"),
        ("ran_perfusion", "perfusion"),
        ("flat", "perfusion"),
    }
    keys = ["case_id", "model", "target", "metric", "region", "definition", "reference"]
    assert not table.duplicated(keys).any(), "one fact a row"
    number = {tuple(row[:3]): row[3] for row in table[["model", "target", "metric", "value"]].to_numpy()}
    assert number["ddran", "perfusion", "spearman"] == pytest.approx(1)
    assert number["ran_perfusion", "perfusion", "spearman"] == pytest.approx(-1)
    before = output.read_bytes()
    assert evaluate(images)[0].read_bytes() == before


def test_low_and_high_function_fill_the_lungs(images: dict[str, Path]) -> None:
    _, table = evaluate(images)
    ddran = table[(table["model"] == "ddran") & (table["definition"] == "p40")].set_index(["target", "metric"])["value"]
    for whose in ("image", "reference"):
        both = ddran["perfusion", f"volume_low_{whose}"] + ddran["perfusion", f"volume_high_{whose}"]
        assert both == pytest.approx(VOLUME_ML)
        assert ddran["perfusion", f"volume_low_{whose}"] == pytest.approx(0.4 * VOLUME_ML, rel=0.01)
    assert set(table.loc[table["metric"].str.startswith("volume"), "unit"]) == {"mL"}


def test_every_missing_value_has_its_reason_and_no_other(images: dict[str, Path]) -> None:
    _, table = evaluate(images)
    missing = table["value"].isna()
    assert set(table.loc[missing, "model"]) == {"flat"}
    assert missing.sum() == len(table[table["model"] == "flat"])
    assert set(table.loc[missing, "reason"]) == {"constant image"}
    assert set(table.loc[~missing, "reason"]) == {""}


def test_the_definitions_say_what_was_computed() -> None:
    rows = list(compare_images(ARRAYS["perfusion"], ARRAYS["ventilation"], INSIDE, VOLUME_ML, SETTINGS))
    by_metric = {row["metric"]: row for row in rows}
    assert "sigma 1.5 voxels" in by_metric["ssim"]["definition"]
    assert "range 1.0" in by_metric["ssim"]["definition"]
    expected = spearman(ARRAYS["perfusion"], ARRAYS["ventilation"], INSIDE)
    assert by_metric["spearman"]["value"] == expected.number
    names = {row["definition"] for row in rows if row["metric"] == "dice_low"}
    assert names == {threshold["name"] for threshold in SETTINGS["function_thresholds"]}


def test_an_image_on_another_grid_is_refused(images: dict[str, Path]) -> None:
    shifted = make_grid(SHAPE[::-1], (2, 2, 2), (0, 0, 1))
    write_volume(from_array(ARRAYS["perfusion"], shifted), images["ddran_perfusion"])
    with pytest.raises(GeometryError, match="lungs and ddran_perfusion"):
        evaluate(images)


def test_tables_are_joined_in_the_order_given_and_names_stay(images: dict[str, Path], tmp_path: Path) -> None:
    tables = [evaluate(images, case_id)[0] for case_id in ("002", "1e3", "001")]
    collect([str(table) for table in tables], tmp_path / "metrics.tsv")
    joined = (tmp_path / "metrics.tsv").read_text().splitlines()
    separate = [table.read_text().splitlines() for table in tables]
    assert joined == separate[0] + separate[1][1:] + separate[2][1:]

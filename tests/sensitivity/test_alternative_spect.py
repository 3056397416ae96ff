"""SPECT made otherwise: what the study's own settings give again, and what other ones must change and must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from factories import CROP, SHAPE, SPACING_MM, lung_labels

from ct2vq.compare.scores import scores_of
from ct2vq.config import alternative_spect, complete_config
from ct2vq.crop.spect import crop_spect
from ct2vq.errors import ConfigError
from ct2vq.evaluate.images import read_images
from ct2vq.evaluate.scores import score_case
from ct2vq.files import read_json, read_tsv
from ct2vq.sensitivity.case import COLUMNS, Alternative, make_spect, score_alternatives
from ct2vq.values import read_metrics
from ct2vq.volume import from_array, make_grid, read_volume, write_volume

CONFIG = complete_config({"study": "x"})
GRID = make_grid(SHAPE[::-1], [SPACING_MM] * 3, (-140.0, -95.0, -80.0))
CHOICES = {
    "metrics": ["ssim", "spearman", "mae", "dice_low"],
    "regions": ["core", "crop"],
    "definitions": ["p40", "percent_max"],
}


def spect_settings(**override: object) -> dict:
    return {**CROP["spect"], **override}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A case as the stages before leave it, with two displacement fields and the study's own SPECT beside it."""
    folder, generator = tmp_path_factory.mktemp("case"), np.random.default_rng(3)
    labels = lung_labels()
    write_volume(from_array(labels, GRID), folder / "lungs.nii.gz")
    found = {"lungs": folder / "lungs.nii.gz"}
    for name, shift in (("still", 0.0), ("moved", 18.0)):
        displacement = np.zeros((*SHAPE, 3), np.float32)
        displacement[..., 2] = shift
        field = sitk.GetImageFromArray(displacement, isVector=True)
        field.CopyInformation(GRID)
        found[name] = folder / f"{name}.nii.gz"
        write_volume(field, found[name])
    height = np.linspace(1, 0, SHAPE[0])[:, None, None] * np.ones(SHAPE)
    for target, gain in (("perfusion", 400.0), ("ventilation", 90.0)):
        counts = gain * np.where(labels > 0, 0.3 + height + generator.normal(0, 0.05, SHAPE), 0).astype(np.float32)
        if target == "ventilation":
            counts[tuple(np.argwhere(labels == 1)[200])] *= 8  # a clump of Technegas
        found[f"source_{target}"] = folder / f"{target}_counts.nii.gz"
        write_volume(from_array(counts.astype(np.float32), GRID), found[f"source_{target}"])
        found[f"facts_{target}"] = folder / f"{target}.json"
        own = folder / f"{target}.nii.gz"
        crop_spect(
            found[f"source_{target}"], found["still"], found["lungs"], own, found[f"facts_{target}"], spect_settings()
        )
        found[f"own_{target}"] = own
        for model, noise in (("good", 0.02), ("bad", 0.2)):
            values = np.clip(sitk.GetArrayFromImage(read_volume(own)) + generator.normal(0, noise, SHAPE), 0, 1)
            found[f"{model}_{target}"] = folder / f"{model}_{target}.nii.gz"
            write_volume(
                from_array(np.where(labels > 0, values, 0).astype(np.float32), GRID), found[f"{model}_{target}"]
            )
    return found


def inputs(files: dict[str, Path]) -> dict[str, Path]:
    return {
        name: path for name, path in files.items() if name not in ("still", "moved") and not name.startswith("own_")
    }


def alternative(files: dict[str, Path], name: str = "other", field: str = "still", **spect: object) -> Alternative:
    fields = dict.fromkeys(("perfusion", "ventilation"), files[field])
    return Alternative(name, fields, False, spect_settings(**spect))


def scored(files: dict[str, Path], folder: Path, *alternatives: Alternative, **choices: list[str]) -> dict:
    output = folder / "case.tsv"
    score_alternatives("c1", inputs(files), alternatives, output, CHOICES | choices, CONFIG["evaluate"])
    table = read_tsv(output)
    assert tuple(table.columns) == COLUMNS
    return {str(name): scores_of(rows) for name, rows in table.groupby("spect", sort=False)}


def test_the_studys_own_settings_give_its_own_scores(files: dict[str, Path], tmp_path: Path) -> None:
    found = scored(files, tmp_path, alternative(files), regions=["lungs", "core", "crop"])["other"]
    images = {name: path for name, path in files.items() if name.startswith(("good", "bad"))}
    own = {f"spect_{target}": files[f"own_{target}"] for target in ("perfusion", "ventilation")}
    case = read_images("c1", {"lungs": files["lungs"]} | images | own, CONFIG["evaluate"])
    expected = {
        (row["model"], row["target"], row["metric"], row["region"], row["definition"]): row["value"]
        for row in score_case(case, CONFIG["evaluate"])
    }
    assert len(found) == 2 * 2 * (2 * (3 + 2) + 1)
    for item, values in found.items():
        assert values.item() == pytest.approx(expected[item[:5]], abs=1e-12, nan_ok=True), item


def test_only_what_is_asked_for_is_kept(files: dict[str, Path], tmp_path: Path) -> None:
    found = scored(files, tmp_path, alternative(files))["other"]
    assert {item.region for item in found} == {"core", "crop"}
    assert {item.metric for item in found} == set(CHOICES["metrics"])
    assert {item.definition for item in found if item.metric == "dice_low"} == {"p40", "percent_max"}


def test_another_reference_scales_the_synthesised_image_along(files: dict[str, Path], tmp_path: Path) -> None:
    """Half the brightness of both changes neither ranks nor regions, and halves the error."""
    reference = read_json(files["facts_perfusion"])["reference"]
    mean = read_json(files["facts_perfusion"])["counts_in_lungs"] / np.count_nonzero(lung_labels())
    twice = alternative(files, reference="mean", mean_multiple=2 * reference / mean)
    made = make_spect(
        sitk.Cast(read_volume(files["source_perfusion"]), sitk.sitkFloat32),
        read_volume(files["lungs"]),
        twice,
        "perfusion",
        reference,
    )
    assert made.factor == pytest.approx(0.5, rel=1e-3)
    both = scored(files, tmp_path, alternative(files, "own"), twice)
    for item in both["own"]:
        if item.target == "perfusion" and item.metric in ("mae", "dice_low", "spearman"):
            own, other = both["own"][item].item(), both["other"][item].item()
            assert other == pytest.approx(own / 2 if item.metric == "mae" else own, rel=0.02), item


def test_hot_spots_stay_where_nobody_handles_them(files: dict[str, Path]) -> None:
    source, lungs = sitk.Cast(read_volume(files["source_ventilation"]), sitk.sitkFloat32), read_volume(files["lungs"])
    untouched = alternative(files, hot_spots={**CROP["spect"]["hot_spots"], "method": "none"})
    own, left = (make_spect(source, lungs, one, "ventilation", 1.0) for one in (alternative(files), untouched))
    assert np.count_nonzero(own.values != left.values), "the clump is still there"


def test_another_alignment_costs_agreement(files: dict[str, Path], tmp_path: Path) -> None:
    both = scored(files, tmp_path, alternative(files, "own"), alternative(files, "moved", "moved"))
    item = next(item for item in both["own"] if item[:4] == ("good", "perfusion", "spearman", "core"))
    assert both["moved"][item].item() < both["own"][item].item() - 0.05


def test_a_spect_without_activity_is_missing_with_its_reason(files: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.nii.gz"
    write_volume(from_array(np.zeros(SHAPE, np.float32), GRID), empty)
    output = tmp_path / "case.tsv"
    known = inputs(files) | {"source_perfusion": empty}
    score_alternatives("c1", known, [alternative(files)], output, CHOICES, CONFIG["evaluate"])
    table = read_tsv(output)
    perfusion = table[table["target"] == "perfusion"]
    assert perfusion["value"].isna().all()
    assert perfusion["reason"].str.contains("no activity in the lungs").all()
    assert table[table["target"] == "ventilation"]["value"].notna().any()
    assert len(read_metrics(output, CHOICES["metrics"], CHOICES["regions"], "spect")) == len(table)


def test_the_same_bytes_again(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        scored(files, tmp_path / name, alternative(files))
    assert (tmp_path / "a" / "case.tsv").read_bytes() == (tmp_path / "b" / "case.tsv").read_bytes()


# --- settings ---------------------------------------------------------------------------------------------------------


def with_alternative(**override: object) -> dict:
    return complete_config({"study": "x", "sensitivity": {"spect": {"other": override}}})


def test_an_alternative_overrides_single_settings() -> None:
    config = with_alternative(crop={"spect": {"hot_spots": {"method": "cap"}}}, register={"search": {"contrast_mm": 9}})
    made = alternative_spect(config, "other")
    hot_spots = config["crop"]["spect"]["hot_spots"]
    assert made["spect"] == config["crop"]["spect"] | {"hot_spots": hot_spots | {"method": "cap"}}
    assert made["register"]["search"] == config["register"]["search"] | {"contrast_mm": 9}
    assert hot_spots["method"] == "inpaint"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ({"crop": {"spect": {"refrence": "mean"}}}, "did you mean `reference`?"),
        ({"crop": {"spacing_mm": 2}}, "`sensitivity.spect.other.crop.spacing_mm`"),
        ({"register": {"flags": {}}}, "`sensitivity.spect.other.register.flags`"),
        ({"train": {"epochs": 3}}, "`sensitivity.spect.other.train`"),
        ({}, "sensitivity.spect.other"),
        ({"crop": {"spect": {"hot_spots": {"neighbourhood_mm": [30, 12]}}}}, "the first must be the smaller"),
    ],
)
def test_a_wrong_alternative_is_named(override: dict, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_alternative(**override)
    assert said in str(caught.value)


def test_unknown_definitions_and_the_name_of_the_study_are_refused() -> None:
    for sensitivity, said in (
        ({"definitions": ["p41"]}, "did you mean `p40`?"),
        ({"spect": {"study": {"crop": {"spect": {"reference": "mean"}}}}}, "choose another"),
    ):
        with pytest.raises(ConfigError) as caught:
            complete_config({"study": "x", "sensitivity": sensitivity})
        assert said in str(caught.value)

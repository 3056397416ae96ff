"""Every figure of a study: files and their bytes, the numbers beside them, texts large enough, nothing to show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image
from study_tables import BASELINES, FIVE_MODELS, TARGETS, StudyTables

from ct2vq import figures as style
from ct2vq.config import complete_config
from ct2vq.figures import SMALLEST_TEXT, Look
from ct2vq.files import read_tsv, write_tsv
from ct2vq.plots import bland_altman, curves, density, metrics, sensitivity, thresholds, training
from ct2vq.plots.study import draw_study

STEMS = [
    *("metrics", "bland_altman", "threshold_curves", "density", "calibration", "passes", "sensitivity"),
    *("roc", "precision_recall", "defects", "case_level", "registration", "training", "cohort"),
]
FORMATS = ("png", "pdf", "svg", "tsv")
#: PNG only where a test does not look at the other formats, which take most of the time
FIGURE = {
    "dpi": 60,
    "print_dpi": 60,
    "vector_formats": [],
    "width_mm": 180,
    "lung_window": [-600, 1500],
    "colour_map": "hot_iron",
}
ALL_FORMATS = FIGURE | {"vector_formats": ["pdf", "svg"]}
EXCLUSIONS = [{"case_id": "d", "stage": "register", "reason": "the patient moved between CT and SPECT"}]
MANY_MODELS = FIVE_MODELS | {
    "unet": ("U-Net with a rather long label that nobody shortened", TARGETS),
    "swin": ("Swin UNETR", TARGETS),
    "wide": ("DDRAN, wide", TARGETS),
}


def look_of(study: StudyTables, figure: dict[str, Any] = FIGURE) -> Look:
    return Look(study.labels, study.networks, study.simulated, figure)


def draw(
    study: StudyTables, folder: Path, figure: dict[str, Any] = FIGURE, *, empty: bool = False, threads: int = 1
) -> dict[str, Path]:
    """Write the study's tables, without rows if `empty`, and draw everything."""
    tables = {
        "metrics": study.metrics(),
        "pairs": study.pairs_table(),
        "passes": study.passes(),
        "sensitivity": study.sensitivity(),
        "roc": study.roc(),
        "detection": study.detection(),
        "calibration": study.calibration(),
        "defects": study.defects(),
        "quality": study.quality_table(),
        "folds": study.folds(),
        "density": study.density(),
        "history": study.history(),
    }
    paths = {name: folder / f"{name}.tsv" for name in tables}
    paths["history"] = folder / "train" / "ddran" / "fold0" / "history.tsv"
    paths["history"].parent.mkdir(parents=True)
    for name, table in tables.items():
        write_tsv(table.iloc[:0] if empty else table, paths[name])
    histories, histograms = [paths.pop("history")], [paths.pop("density")]
    drawn = {stem: folder / "figures" / f"{stem}.png" for stem in STEMS}
    flow = {"listed": study.cases + 1, "exclusions": EXCLUSIONS, "analysed": study.cases, "patients": study.cases}
    draw_study(
        paths,
        histograms,
        histories,
        drawn,
        look_of(study, figure),
        definition="p40",
        flow=flow | {"targets": dict.fromkeys(TARGETS, study.cases)},
        diagnoses=study.diagnoses,
        flags=complete_config({"study": "x"})["register"]["flags"],
        pairs=study.pairs,
        confidence=0.95,
        threads=threads,
    )
    return drawn


#: what a study needs at least to have every figure
TWO_MODELS = {name: FIVE_MODELS[name] for name in ("ddran", "ran_perfusion")}


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Text and size (points) of all that is written in study figures."""
    found: list[tuple[str, float]] = []
    lay_out = style.Figure.draw_without_rendering

    def collect(figure: style.Figure) -> None:
        lay_out(figure)
        written = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        found.extend((text.get_text().replace("\n", " "), text.get_fontsize()) for text in written)

    monkeypatch.setattr(style.Figure, "draw_without_rendering", collect)
    return found


def files_of(drawn: dict[str, Path]) -> Iterator[Path]:
    return (path.with_suffix(f".{suffix}") for path in drawn.values() for suffix in FORMATS)


def test_figures_are_whole_and_the_same_bytes_twice(tmp_path, texts, caplog):
    caplog.set_level("INFO")
    study = StudyTables(cases=3, models=TWO_MODELS)
    drawn = draw(study, tmp_path, ALL_FORMATS)
    assert len(list((tmp_path / "figures").iterdir())) == len(STEMS) * len(FORMATS)
    for path in files_of(drawn):
        assert not re.search(rb"CreationDate|<dc:date>|[Mm]atplotlib.{0,8}[0-9]\.[0-9]", path.read_bytes()), path.name
    for path in drawn.values():
        picture = Image.open(path)
        assert picture.width == pytest.approx(180 / 25.4 * 60, abs=1)
        assert np.asarray(picture.convert("L")).std() > 5, "something is drawn"
    assert min(size for _, size in texts) >= SMALLEST_TEXT
    assert sum("simulated patients" in text for text, _ in texts) == len(STEMS)
    assert not caplog.records, "libraries do not fill the log"
    again, look = (
        {name: tmp_path / "again" / f"{name}.png" for name in ("density", "sensitivity", "roc")},
        look_of(study, ALL_FORMATS),
    )
    density.draw_density(density.read_density([tmp_path / "density.tsv"]), again["density"], look)
    sensitivity.draw_sensitivity(read_tsv(tmp_path / "sensitivity.tsv"), again["sensitivity"], look, confidence=0.95)
    curves.draw_curves(
        read_tsv(tmp_path / "roc.tsv"), read_tsv(tmp_path / "detection.tsv"), again["roc"], look, kind="roc"
    )
    for name, path in again.items():
        for suffix in FORMATS:
            first, second = drawn[name].with_suffix(f".{suffix}"), path.with_suffix(f".{suffix}")
            assert first.read_bytes() == second.read_bytes(), first.name


def test_two_processes_draw_the_same_bytes(tmp_path):
    one, two = (
        draw(StudyTables(cases=3, models=TWO_MODELS), tmp_path / str(threads), threads=threads) for threads in (1, 2)
    )
    for name in STEMS:
        for suffix in (".png", ".tsv"):
            assert one[name].with_suffix(suffix).read_bytes() == two[name].with_suffix(suffix).read_bytes(), name


def test_an_error_in_one_of_two_processes_is_told(tmp_path):
    (tmp_path / "figures").write_text("a file where the folder should be")
    with pytest.raises(FileExistsError, match="figures"):
        draw(StudyTables(cases=3, models=TWO_MODELS), tmp_path, threads=2)


def test_eight_models_with_long_names(tmp_path, texts):
    study = StudyTables(cases=3, models=MANY_MODELS, simulated=False)
    look = look_of(study)
    metrics.draw_metrics(
        study.metrics(), study.pairs_table(), study.patients, tmp_path / "m.png", look, definition="p40"
    )
    curves.draw_curves(study.roc(), study.detection(), tmp_path / "r.png", look, kind="roc")
    assert min(size for _, size in texts) >= SMALLEST_TEXT
    names = {text for text, _ in texts}
    assert "U-Net with a rather long label that nobody shortened" in names, "legends name it in full"
    assert any(text.startswith("U-Net with a") and text.endswith("…") for text in names), "axes shorten it"
    assert not [text for text in names if "simulated" in text]


@pytest.mark.parametrize("models", [{"ddran": ("DDRAN", TARGETS)}, {"mean_map": ("mean map", TARGETS[:1])}])
def test_one_patient_and_one_model_are_enough(tmp_path, models):
    drawn = draw(StudyTables(cases=1, models=models, simulated=False), tmp_path)
    assert all(path.is_file() and path.with_suffix(".tsv").is_file() for path in drawn.values())


def test_empty_tables_give_figures_that_say_what_is_missing(tmp_path, texts):
    drawn = draw(StudyTables(cases=2), tmp_path, empty=True)
    said = " ".join(text for text, _ in texts)
    assert said.count("Not drawn:") == len(STEMS) - 1, "the cohort's flow needs no table"
    for stem in set(STEMS) - {"cohort"}:
        table = read_tsv(drawn[stem].with_suffix(".tsv"))
        assert table.empty and len(table.columns) > 3


def test_metrics_are_patients_means_with_their_p(tmp_path):
    study = StudyTables(cases=4)
    study.patients = dict(zip(study.names, ["a", "a", "b", "c"], strict=True))
    table = study.metrics()
    metrics.draw_metrics(
        table, study.pairs_table(), study.patients, tmp_path / "m.png", look_of(study), definition="p40"
    )
    data = read_tsv(tmp_path / "m.tsv")
    wanted = {"model": "ddran", "target": "perfusion", "metric": "spearman", "region": "lungs", "reference": "spect"}
    rows = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)].set_index("case_id")["value"]
    drawn = data[(data["model"] == "ddran") & (data["target"] == "perfusion") & (data["metric"] == "spearman")]
    drawn = drawn[drawn["statistic"] == "patient"].set_index("patient_id")["value"]
    expected = {"a": rows.iloc[:2].mean(), "b": rows.iloc[2], "c": rows.iloc[3]}
    assert drawn.to_dict() == pytest.approx(expected)
    p = data[data["statistic"] == "p_holm"]
    assert len(p) == len(study.pairs_table()) and (p["value"] == 0.04).all()
    assert not data["metric"].str.contains("psnr").any()


def test_p_of_other_regions_is_not_drawn(tmp_path):
    study = StudyTables(cases=3)
    pairs = study.pairs_table().assign(region="core")
    metrics.draw_metrics(study.metrics(), pairs, study.patients, tmp_path / "m.png", look_of(study), definition="p40")
    assert "p_holm" not in set(read_tsv(tmp_path / "m.tsv")["statistic"])


def test_limits_of_agreement_by_hand():
    names = {"target": "perfusion", "model": "ddran", "group": "thirds"}
    upper = pd.DataFrame({"patient_id": list("abcd"), "difference": [1.0, -1.0, 3.0, 1.0]})
    both = pd.concat(
        [upper.assign(region="right upper third"), (-upper[["difference"]]).assign(region="left upper third")]
    )
    found = bland_altman.region_agreement(both.assign(**names), 0.95).set_index("region")
    sd, t = np.sqrt(8 / 3), 3.182446
    row = found.loc["right upper third"]
    assert (row["n"], row["bias"]) == (4, 1.0), "regions of opposite bias are not pooled"
    assert found.loc["left upper third", "bias"] == -1.0
    assert row[["bias_low", "bias_high"]].tolist() == pytest.approx([1 - t * sd / 2, 1 + t * sd / 2])
    assert row[["limit_low", "limit_high"]].tolist() == pytest.approx([1 - t * sd * 1.25**0.5, 1 + t * sd * 1.25**0.5])
    alone = bland_altman.region_agreement(upper.iloc[:1].assign(region="x", **names), 0.95).iloc[0]
    assert alone["bias"] == 1.0 and np.isnan(alone["limit_low"])


def test_biases_of_regions_stand_in_the_table_beside_the_figure(tmp_path):
    study = StudyTables(cases=5)
    bland_altman.draw_bland_altman(
        study.metrics(), study.patients, tmp_path / "b.png", look_of(study), first=["ddran"], confidence=0.95
    )
    data = read_tsv(tmp_path / "b.tsv")
    assert (data["n"] == 5).all() and data[["limit_low", "limit_high"]].notna().all(axis=None)
    means = data.groupby(["target", "model", "region"])["difference"].transform("mean")
    assert data["bias"].to_numpy() == pytest.approx(means.to_numpy())


def test_training_without_validation_has_no_row_for_it(tmp_path, texts):
    study = StudyTables(cases=1)
    histories = study.history().assign(model="ddran", fold=0, validation_loss=None, validation_spearman=None)
    training.draw_training(histories, tmp_path / "t.png", look_of(study))
    said = {text for text, _ in texts}
    assert "validation Rs" not in said and any("no patient was kept for validation" in text for text in said)


def test_curves_of_equal_colour_share_an_entry_and_numbers_lie_below_the_panels(tmp_path, texts):
    study = StudyTables(cases=3)
    curves.draw_curves(study.roc(), study.detection(), tmp_path / "r.png", look_of(study), kind="precision_recall")
    said = [text for text, _ in texts]
    assert said.count("RAN (Q) / RAN") == 1 and "RAN" not in said


def test_only_combinations_against_spect_are_counted(tmp_path, texts):
    table = StudyTables(cases=4).sensitivity()
    table = pd.concat([table, table.assign(reference="truth")])
    sensitivity.draw_sensitivity(table, tmp_path / "s.png", look_of(StudyTables(cases=1)), confidence=0.95)
    drawn = read_tsv(tmp_path / "s.tsv").query("target == 'perfusion' and reference == 'spect'")
    assert any(text.startswith(f"of {len(drawn)} favour") for text, _ in texts)


def test_shares_sum_to_everything():
    study = StudyTables(cases=5)
    data = bland_altman.shares(study.metrics(), study.patients, look_of(study))
    for group in ("thirds", "lobes"):
        sums = data[data["group"] == group].groupby(["target", "model", "patient_id"])[["image", "difference"]].sum()
        assert sums["image"].to_numpy() == pytest.approx(100)
        assert sums["difference"].to_numpy() == pytest.approx(0, abs=1e-9)
    assert set(data.loc[data["group"] == "right lung", "region"]) == {"right"}


def test_density_sums_the_cases_voxels(tmp_path):
    study = StudyTables(cases=3)
    table = study.density()
    paths = []
    for case, rows in table.groupby("case_id"):
        paths.append(tmp_path / f"{case}.tsv")
        write_tsv(rows, paths[-1])
    summed = density.read_density(paths)
    density.draw_density(summed, tmp_path / "d.png", look_of(study))
    data = read_tsv(tmp_path / "d.tsv")
    assert data["voxels"].sum() == table["voxels"].sum()
    assert data.groupby(["target", "model"])["share"].sum().to_numpy() == pytest.approx(1)
    assert data["image"].between(0, 1).all()


def test_curves_carry_the_area_of_their_own_row():
    study = StudyTables(cases=5)
    data = curves.curve_points(study.roc(), study.detection(), "roc")
    areas = data.groupby(["level", "target", "definition", "model"])["area"].unique()
    assert all(len(values) == 1 for values in areas)
    assert areas["case", "vq", "embolism", "spect"][0] == 0.9
    turned = curves.curve_points(study.roc(), study.detection(), "precision_recall")
    assert turned["x"].to_numpy() == pytest.approx(data["y"].to_numpy())


def test_threshold_curves_are_quartiles_over_patients():
    study = StudyTables(cases=7)
    table = study.metrics()
    data = thresholds.curves_of(table, study.patients, look_of(study)).set_index(
        ["target", "metric", "model", "percentile"]
    )
    chosen = (table["model"] == "ddran") & (table["target"] == "ventilation") & (table["definition"] == "curve_p30")
    values = table.loc[chosen & (table["metric"] == "dice_low"), "value"]
    row = data.loc["ventilation", "dice_low", "ddran", 30.0]
    assert row[["q1", "median", "q3"]].tolist() == pytest.approx(values.quantile([0.25, 0.5, 0.75]).tolist())
    assert row["chance"] == pytest.approx(0.3) and row["patients"] == 7
    assert set(data.index.get_level_values("percentile")) == set(range(10, 91, 10))


def test_specifications_are_sorted_and_errors_are_turned_round():
    table = StudyTables(cases=4).sensitivity()
    error = table.iloc[[0]].assign(metric="mae", hodges_lehmann=-0.5, ci_low=-0.7, ci_high=-0.4, favours="first")
    table = pd.concat([table, error, table.iloc[[0]].assign(metric="psnr")])
    data = sensitivity.specifications(table)
    assert "psnr" not in set(data["metric"])
    for _, rows in data.groupby(["first", "second", "target"]):
        assert rows["effect"].is_monotonic_increasing and rows["place"].tolist() == list(range(len(rows)))
    row = data[data["metric"] == "mae"].iloc[0]
    assert row[["effect", "low", "high", "clear"]].tolist() == [0.5, 0.4, 0.7, "yes"]
    assert (data["clear"] == "no").sum() == (
        (table["ci_low"] < 0) & (table["ci_high"] > 0) & (table["metric"] != "psnr")
    ).sum()
    assert data.loc[data["metric"] == "ssim", "definition"].isna().all(), "parameters of SSIM are no threshold"
    choices = {choice for choice, _ in sensitivity.choice_rows(data)}
    assert choices == {"metric", "region", "definition", "spect"}, "what never changes is no choice"


def test_arms_ceilings_and_spect_have_names_and_places():
    study = StudyTables(cases=1)
    look = look_of(study)
    assert (look.label("ran"), look.label("ddran"), look.label("spect")) == ("RAN", "DDRAN", "SPECT itself")
    order = look.sorted(["spect", "mean_map", "ran", "noise_ceiling", "ddran", "ran_perfusion"])
    assert order == ["ddran", "ran_perfusion", "ran", "mean_map", "noise_ceiling", "spect"]
    assert look.colour("ran") == look.colour("ran_perfusion")
    assert look.is_network("ran") and not look.is_network("mean_map") and not look.is_known("nobody")


def test_models_of_equal_colour_differ_in_line_and_marker():
    models = {f"m{number}": (f"M{number}", TARGETS) for number in range(8)} | {
        name: (name, TARGETS) for name in BASELINES
    }
    look = look_of(StudyTables(cases=1, models=models))
    assert len({(look.colour(model), look.line(model), look.marker(model)) for model in models}) == len(models)

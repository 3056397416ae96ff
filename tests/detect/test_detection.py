"""Low voxels, low regions and disease, from tables to figures: against scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from detection_tables import binned, defect_rows, folds_table, metric_rows, write_study
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from ct2vq.config import complete_config
from ct2vq.detect.classification import COLUMNS, FIGURES, classify, confusion, fold_thresholds
from ct2vq.detect.scored import CENTRES, Members, Scored, VoxelCounts, scored_units, scored_voxels
from ct2vq.detect.study import detect
from ct2vq.errors import Ct2vqError
from ct2vq.files import read_tsv, write_tsv
from ct2vq.lungs import LOBES, THIRDS

SETTINGS = complete_config({"study": "x", "detect": {"bootstrap": 300}})["detect"]
PATIENTS = {f"c{number}": f"p{number}" for number in range(9)}
MEMBERS = Members(PATIENTS, {patient: index % 3 + 1 for index, patient in enumerate(PATIENTS.values())})
KEY = ("m", "perfusion", "spect", "p40")


def voxels_of(seed: int, number: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Synthesised values at bin centres, reference values, and which are low."""
    generator = np.random.default_rng(seed)
    reference = generator.random(number)
    image = CENTRES[np.clip(100 * (0.2 + 0.6 * reference + generator.normal(0, 0.15, number)), 0, 99).astype(int)]
    return image, reference, reference <= np.quantile(reference, 0.4)


def voxel_tables(
    folder: Path, patients: Mapping[str, str] = PATIENTS, seeds: Mapping[str, int] | None = None
) -> list[Path]:
    """Binned tables of cases, each from its own seed."""
    paths = []
    for number, case in enumerate(patients):
        paths.append(folder / f"{case}.tsv")
        write_tsv(binned(case, *voxels_of((seeds or {}).get(case, number))), paths[-1])
    return paths


def scored_study(folder: Path, **kwargs: Mapping) -> Scored:
    return scored_voxels(VoxelCounts.read(voxel_tables(folder, **kwargs), MEMBERS).low[KEY], MEMBERS)


def test_binned_voxels_are_scikit_learn_on_all_voxels(tmp_path: Path) -> None:
    """Values that lie at bin centres: the binned computation is exact, thresholds of each fold included."""
    row = classify(scored_study(tmp_path), SETTINGS, seed=1)
    images, _, lows = zip(*(voxels_of(number) for number in range(9)), strict=True)
    fold = np.repeat(np.arange(9) % 3, 400)
    image, low = np.concatenate(images), np.concatenate(lows)
    called = np.zeros(low.size, bool)
    for tested in range(3):
        others = fold != tested
        candidates = np.arange(101) / 100
        balanced = [sk.balanced_accuracy_score(low[others], image[others] < cut) for cut in candidates]
        best = candidates[np.flatnonzero(np.array(balanced) >= max(balanced) - 1e-12)[0]]
        called[fold == tested] = image[fold == tested] < best
    precision, recall, f1, _ = sk.precision_recall_fscore_support(low, called, average="binary")
    expected = {
        "sensitivity": recall,
        "specificity": sk.recall_score(~low, ~called),
        "accuracy": sk.accuracy_score(low, called),
        "ppv": precision,
        "npv": sk.precision_score(~low, ~called),
        "f1": f1,
        "balanced_accuracy": sk.balanced_accuracy_score(low, called),
        "auroc": sk.roc_auc_score(low, -image),
        "auprc": sk.average_precision_score(low, -image),
        "auroc_within": np.mean([sk.roc_auc_score(low, -image) for image, _, low in map(voxels_of, range(9))]),
    }
    assert tuple(expected) == FIGURES
    for name, value in expected.items():
        assert row[name] == pytest.approx(value), name
        assert row[f"{name}_low"] < value < row[f"{name}_high"]
    assert (row["n_patients"], row["n"], row["n_positive"], row["missing"]) == (9, 3600, low.sum(), 0)
    assert row["prevalence"] == pytest.approx(0.4) and row["reason"] == ""
    assert row["threshold_min"] <= row["threshold"] <= row["threshold_max"]


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_threshold_of_a_fold_never_sees_that_fold(tmp_path: Path, fold: int) -> None:
    before = fold_thresholds(scored_study(tmp_path / "before"))
    tested = [case for case, patient in PATIENTS.items() if MEMBERS.folds[patient] == fold]
    changed = scored_study(tmp_path / "after", seeds={case: 1000 + index for index, case in enumerate(tested)})
    turned = Scored(
        changed.values,
        np.where((changed.folds == fold)[:, None], changed.positive[:, ::-1], changed.positive),
        np.where((changed.folds == fold)[:, None], changed.negative[:, ::-1], changed.negative),
        changed.folds,
        changed.number,
        changed.number_positive,
    )
    after = fold_thresholds(turned)
    assert after[fold] == before[fold]
    assert any(after[other] != before[other] for other in {1, 2, 3} - {fold})


def test_the_threshold_of_scores_does_not_depend_on_scores_that_only_the_tested_have() -> None:
    units = pd.DataFrame({"case_id": list(PATIENTS), "score": np.arange(9.0), "positive": [True] * 5 + [False] * 4})
    before = fold_thresholds(scored_units(units, MEMBERS))
    # patient p4, tested in fold 2, between the classes
    after = fold_thresholds(scored_units(units.assign(score=units["score"].replace(4.0, 4.4)), MEMBERS))
    assert after[2] == before[2] == pytest.approx((3 + 5) / 2)
    assert after[1] == pytest.approx((4.4 + 5) / 2) != before[1]


def test_confusion_by_hand() -> None:
    values, folds = np.array([1.0, 2.0, 3.0]), np.array([1, 2])
    positive, negative = np.array([[2.0, 1, 0], [0, 3, 1]]), np.array([[0.0, 1, 4], [1, 0, 2]])
    tables = confusion(Scored(values, positive, negative, folds, 15, 7), {1: 1.5, 2: 2.5})
    assert tables.tolist() == [[2, 0, 1, 5], [3, 1, 1, 2]]
    untold = confusion(Scored(values, positive, negative, folds, 15, 7), {1: np.nan, 2: 2.5})
    assert untold.tolist() == [[0, 0, 0, 0], [3, 1, 1, 2]]


def test_a_patient_imaged_twice_weighs_as_much_as_one_imaged_once(tmp_path: Path) -> None:
    """Every case a second time: figures and intervals stay, although there are twice as many voxels."""
    once = classify(scored_study(tmp_path / "once"), SETTINGS, seed=1)
    twice = PATIENTS | {f"{case}again": patient for case, patient in PATIENTS.items()}
    again = {case: number % 9 for number, case in enumerate(twice)}
    members = Members(twice, MEMBERS.folds)
    tables = voxel_tables(tmp_path / "twice", patients=twice, seeds=again)
    repeated = classify(scored_voxels(VoxelCounts.read(tables, members).low[KEY], members), SETTINGS, seed=1)
    assert repeated["n"] == 2 * once["n"] and repeated["n_patients"] == once["n_patients"]
    for name in FIGURES:
        for end in ("", "_low", "_high"):
            assert repeated[name + end] == pytest.approx(once[name + end]), name + end


def test_units_of_a_patient_with_several_cases_share_its_weight() -> None:
    patients = {"a1": "a", "a2": "a", "b": "b"}
    members = Members(patients, {"a": 1, "b": 2})
    units = pd.DataFrame({"case_id": ["a1", "a2", "b"], "score": [1.0, 2.0, 2.0], "positive": [True, False, False]})
    scored = scored_units(units, members)
    assert scored.values.tolist() == [1, 2]
    assert scored.positive.tolist() == [[0.5, 0], [0, 0]]
    assert scored.negative.tolist() == [[0, 0.5], [0, 1]]
    assert (scored.number, scored.number_positive) == (3, 1)


@given(st.integers(0, 10**6), st.sampled_from([np.exp, np.cbrt, lambda x: 3 * x - 7]))
def test_classification_of_units_sees_their_order_only(seed: int, monotone) -> None:
    generator = np.random.default_rng(seed)
    score = generator.integers(0, 8, 9).astype(float)
    units = pd.DataFrame({"case_id": list(PATIENTS), "score": score, "positive": generator.random(9) < 0.5})
    plain = classify(scored_units(units, MEMBERS), SETTINGS | {"bootstrap": 20}, seed=1)
    mapped = classify(scored_units(units.assign(score=monotone(score)), MEMBERS), SETTINGS | {"bootstrap": 20}, seed=1)
    for name in ("auroc", "auprc", "auroc_low", "auprc_high"):
        assert mapped[name] == pytest.approx(plain[name], nan_ok=True)
    other = units.assign(score=-score, positive=~units["positive"])
    turned = classify(scored_units(other, MEMBERS), SETTINGS | {"bootstrap": 20}, seed=1)
    assert turned["auroc"] == pytest.approx(plain["auroc"], nan_ok=True)
    large = classify(scored_units(units.assign(score=-score), MEMBERS, sign=-1), SETTINGS | {"bootstrap": 20}, seed=1)
    assert large["auroc"] == pytest.approx(plain["auroc"], nan_ok=True)


def test_one_class_is_missing_with_a_reason() -> None:
    units = pd.DataFrame({"case_id": list(PATIENTS), "score": np.arange(9.0), "positive": False})
    row = classify(scored_units(units, MEMBERS), SETTINGS, seed=1)
    assert row["reason"] == "no positive" and tuple(row) == COLUMNS
    assert all(np.isnan(row[name]) for name in FIGURES)
    assert (row["n"], row["n_positive"], row["prevalence"]) == (9, 0, 0)
    row = classify(scored_units(units.assign(score=np.nan), MEMBERS), SETTINGS, seed=1)
    assert (row["reason"], row["missing"]) == ("nothing has both a score and a reference", 9)


def test_a_fold_whose_others_are_of_one_class_has_no_threshold() -> None:
    positive = [MEMBERS.folds[patient] == 2 for patient in PATIENTS.values()]
    units = pd.DataFrame({"case_id": list(PATIENTS), "score": np.arange(9.0), "positive": positive})
    row = classify(scored_units(units, MEMBERS), SETTINGS, seed=1)
    assert row["reason"].startswith("no threshold for fold 2: all other patients are of one class")
    assert np.isnan(row["sensitivity"]) and np.isfinite(row["specificity"]) and np.isfinite(row["auroc"])


def test_wrong_tables_are_told(tmp_path: Path) -> None:
    table = binned("c0", *voxels_of(0))
    write_tsv(table.assign(image_bin=table["image_bin"] + 60), tmp_path / "c0.tsv")
    with pytest.raises(Ct2vqError, match=r"c0.tsv: image_bin runs from .* not within 0\.\.99"):
        VoxelCounts.read([tmp_path / "c0.tsv"], MEMBERS)
    write_tsv(table.assign(case_id="c99"), tmp_path / "c99.tsv")
    with pytest.raises(Ct2vqError, match="case c99 has no fold"):
        VoxelCounts.read([tmp_path / "c99.tsv"], MEMBERS)
    folds = folds_table({"a1": "a", "a2": "a"})
    write_tsv(folds.assign(fold=[1, 2]), tmp_path / "folds.tsv")
    with pytest.raises(Ct2vqError, match="patient a stands in more than one fold"):
        Members.read(tmp_path / "folds.tsv")


# --- the whole stage

MODELS = {"m": ["perfusion", "ventilation"], "absent": ["perfusion"]}
DIAGNOSES = {case: ("embolism", "Emphysema", "normal")[number // 2 % 3] for number, case in enumerate(PATIENTS)}
THIRD, LOBE = list(THIRDS.values()), list(LOBES.values())


def case_metrics(case: str, number: int) -> pd.DataFrame:
    generator = np.random.default_rng(number)
    values = {}
    for region in [*THIRD, *LOBE]:
        reference = generator.uniform(0.5, 1.4)
        values["m", "perfusion", "relative_reference", region] = reference
        values["m", "perfusion", "relative_image", region] = reference + generator.normal(0, 0.1)
    for volume, disease in (("mismatch_volume", "embolism"), ("matched_volume", "Emphysema")):
        large = 400.0 if DIAGNOSES[case] == disease else 100.0
        values["m", "vq", f"{volume}_reference", "lungs"] = large + number
        values["m", "vq", f"{volume}_image", "lungs"] = large - 30 * number
        # volumes of parts of the lungs tell nothing here
        values["m", "vq", f"{volume}_reference", "core"] = values["m", "vq", f"{volume}_image", "core"] = 0.0
    values["m", "perfusion", "spearman", "lungs"] = 0.5
    return metric_rows(case, values)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return run(tmp_path_factory.mktemp("detect"))


def run(folder: Path, **changes: object) -> dict[str, pd.DataFrame]:
    """The four tables of a small study; `changes` replace arguments of `write_study` or of `detect`."""
    made = {
        "detection": {case: binned(case, *voxels_of(number)) for number, case in enumerate(PATIENTS)},
        "metrics": pd.concat([case_metrics(case, number) for number, case in enumerate(PATIENTS)]),
        "defects": {case: defect_rows(case, [("embolism", "no", "yes", 0.4)]) for case in PATIENTS},
        "folds": folds_table(PATIENTS),
    }
    given = {"settings": SETTINGS, "diagnoses": DIAGNOSES, "models": MODELS, "seed": 1}
    arguments = write_study(folder, **(made | {key: changes[key] for key in changes.keys() & made.keys()}))
    outputs = {name: folder / "out" / f"{name}.tsv" for name in ("detection", "roc", "calibration", "defects")}
    detect(**arguments, outputs=outputs, **(given | {key: changes[key] for key in changes.keys() & given.keys()}))
    return {name: read_tsv(path) for name, path in outputs.items()}


def test_each_level_has_its_rows(finished: dict[str, pd.DataFrame]) -> None:
    table = finished["detection"]
    rows = table[["level", "model", "target", "definition", "reference"]].fillna("").agg(" ".join, axis=1)
    assert rows.tolist() == [
        "voxel m perfusion p40 spect",
        "voxel absent perfusion p40 spect",
        "region m perfusion thirds_below_0.8 spect",
        "region absent perfusion thirds_below_0.8 spect",
        "region m perfusion lobes_below_0.8 spect",
        "region absent perfusion lobes_below_0.8 spect",
        "case m vq embolism diagnosis",
        "case spect vq embolism diagnosis",
        "case m vq obstructive diagnosis",
        "case spect vq obstructive diagnosis",
    ]
    absent = table[table["model"] == "absent"]
    assert set(absent["reason"]) == {"no case has values of this model"} and absent["auroc"].isna().all()
    assert (absent["n"] == 0).all()
    there = table[table["model"] != "absent"]
    whole = there["reason"].fillna("").where(there["level"] == "case", "voxels and regions have none")
    assert set(whole) == {
        "voxels and regions have none",
        *(f"no interval of AUROC and AUPRC: {n} patients of the rarer class, 5 needed" for n in (3, 4)),
    }
    assert (
        not there.loc[there["level"] != "case", "reason"].fillna("").any() and there["balanced_accuracy"].notna().all()
    )


def test_regions_are_scikit_learns(finished: dict[str, pd.DataFrame]) -> None:
    metrics = pd.concat([case_metrics(case, number) for number, case in enumerate(PATIENTS)])
    for regions, name in ((THIRD, "thirds_below_0.8"), (LOBE, "lobes_below_0.8")):
        here = metrics[metrics["region"].isin(regions)]
        wide = here.pivot(index=["case_id", "region"], columns="metric", values="value")
        low = wide["relative_reference"] < 0.8
        row = finished["detection"].set_index(["model", "definition"]).loc[("m", name)]
        assert row["auroc"] == pytest.approx(sk.roc_auc_score(low, -wide["relative_image"]))
        assert row["auprc"] == pytest.approx(sk.average_precision_score(low, -wide["relative_image"]))
        assert (row["n"], row["n_positive"]) == (9 * len(regions), low.sum())
        assert row["n_patients"] == 9


def test_a_diagnosis_is_told_by_a_large_volume(finished: dict[str, pd.DataFrame]) -> None:
    table = finished["detection"].set_index(["model", "definition"])
    perfect = table.loc[("spect", "embolism")]
    assert (perfect["sensitivity"], perfect["specificity"], perfect["auroc"]) == (1, 1, 1)
    assert 108 < perfect["threshold"] < 400
    # matched volume, by hand: cases c2, c3 and c8 have emphysema, 400 - 30 number mL in the image
    volumes = np.array([(400 if name == "Emphysema" else 100) - 30 * n for n, name in enumerate(DIAGNOSES.values())])
    sick = np.array([name == "Emphysema" for name in DIAGNOSES.values()])
    assert table.loc[("m", "obstructive"), "auroc"] == pytest.approx(sk.roc_auc_score(sick, volumes))
    assert table.loc[("m", "obstructive"), "n_positive"] == sick.sum()


def test_curves_end_where_they_must_and_have_the_areas(finished: dict[str, pd.DataFrame]) -> None:
    names = ["level", "model", "target", "definition", "reference"]
    areas = finished["detection"].set_index(names)["auroc"].dropna()
    curves = dict(iter(finished["roc"].groupby(names)))
    assert set(curves) == set(areas.index)
    for key, points in curves.items():
        assert len(points) <= SETTINGS["curve_points"]
        assert points[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
        assert np.trapezoid(points["tpr"], points["fpr"]) == pytest.approx(areas[key])
        rising = -1 if key[0] == "case" else 1
        assert (np.diff(rising * points["threshold"]) > 0).all()


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name)
    for path in sorted((tmp_path / "one" / "out").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / "out" / path.name).read_bytes()


def test_without_arms_regions_or_defects_there_are_reasons(tmp_path: Path) -> None:
    only = pd.concat([case_metrics(case, n) for n, case in enumerate(PATIENTS)]).query("metric == 'spearman'")
    tables = run(tmp_path, metrics=only, defects={})
    cases = tables["detection"].query("level == 'case'")
    assert cases["reason"].tolist() == [
        "no case has the mismatch volume: it needs both targets",
        "no case has the matched volume: it needs both targets",
    ]
    regions = tables["detection"].query("level == 'region'")
    assert regions["reason"].tolist() == ["no case has values of thirds", "no case has values of lobes"]
    assert tables["defects"].query("kind == 'all'")["reason"].tolist() == ["the reference has no defect"]
    assert tables["defects"].query("kind == 'false'")["false_per_case"].tolist() == [0]


def test_nothing_at_all_gives_empty_tables_and_no_crash(tmp_path: Path) -> None:
    nothing = pd.concat([case_metrics("c0", 0)]).iloc[:0]
    tables = run(tmp_path, detection={}, metrics=nothing, defects={})
    assert tables["detection"]["level"].tolist() == ["voxel", "region", "region", "case", "case"]
    assert tables["detection"]["auroc"].isna().all() and (tables["detection"]["reason"] != "").all()
    assert [len(tables[name]) for name in ("roc", "calibration", "defects")] == [0, 0, 0]


def test_a_case_without_a_diagnosis_is_counted_and_left_out(tmp_path: Path) -> None:
    tables = run(tmp_path, diagnoses={case: name for case, name in DIAGNOSES.items() if case != "c0"})
    row = tables["detection"].query("definition == 'embolism' and model == 'm'").iloc[0]
    assert (row["n"], row["missing"], row["n_patients"]) == (8, 1, 8)


def test_cases_without_an_image_that_can_be_judged_are_counted(tmp_path: Path) -> None:
    """A constant image has no values; the other model tells that the case exists."""
    known = {case: binned(case, *voxels_of(number)) for number, case in enumerate(PATIENTS)}
    other = {case: binned(case, *voxels_of(50 + number), model="other") for number, case in enumerate(PATIENTS)}
    tables = {case: pd.concat([*([] if case in ("c0", "c1") else [known[case]]), other[case]]) for case in PATIENTS}
    table = run(tmp_path, detection=tables)["detection"].query("level == 'voxel'").set_index("model")
    assert table.loc["m", ["n_patients", "missing"]].tolist() == [7, 2]
    assert table.loc["other", ["n_patients", "missing"]].tolist() == [9, 0]
    assert table.loc["absent", "missing"] == 9
    assert table.loc["m", "auroc"] > 0.6, "nothing dilutes the others"


def test_few_patients_of_the_rarer_class_have_no_interval_and_a_reason() -> None:
    positive = np.arange(9) < 2
    units = pd.DataFrame({"case_id": list(PATIENTS), "score": np.arange(9.0) % 5, "positive": positive})
    row = classify(scored_units(units, MEMBERS), SETTINGS, seed=1)
    assert np.isfinite(row["auroc"]) and np.isnan(row["auroc_low"]) and np.isnan(row["auprc_high"])
    assert "no interval of AUROC and AUPRC: 2 patients of the rarer class, 5 needed" in row["reason"]
    assert row["sensitivity_high"] - row["sensitivity_low"] > 0.5, "Wilson's of two patients"


def test_repeated_trainings_are_averaged_and_count_once(tmp_path: Path) -> None:
    once = pd.concat([case_metrics(case, number) for number, case in enumerate(PATIENTS)])
    moved = once.assign(value=once["value"] + np.where(once["metric"].str.endswith("_image"), 0.02, 0.0))
    back = once.assign(value=once["value"] - np.where(once["metric"].str.endswith("_image"), 0.02, 0.0))
    one = run(tmp_path / "one", metrics=once)["detection"]
    three = run(tmp_path / "three", metrics=pd.concat([once, moved, back]))["detection"]
    pd.testing.assert_frame_equal(one, three)


def test_missing_values_of_a_region_are_counted(tmp_path: Path) -> None:
    metrics = pd.concat([case_metrics(case, number) for number, case in enumerate(PATIENTS)], ignore_index=True)
    metrics.loc[metrics.query("metric == 'relative_image' and region == @THIRD[0]").index[:4], "value"] = np.nan
    row = run(tmp_path, metrics=metrics)["detection"].query("definition == 'thirds_below_0.8' and model == 'm'").iloc[0]
    assert (row["n"], row["missing"]) == (50, 4)

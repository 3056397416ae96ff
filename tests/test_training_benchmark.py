"""The benchmark of trainings: who competes, equal minutes, scores by hand, and a table that can be taken apart."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import SPACING_MM, case_from, write_cohort
from scipy.stats import spearmanr
from training import kept, plan, summary
from training.page import tables
from training.study import Study, System, kept_images, prepare, systems
from training.trial import Trial, ceiling_rows, run_trial

from ct2vq.config import complete_config
from ct2vq.errors import Ct2vqError
from ct2vq.evaluate.images import CaseImages
from ct2vq.evaluate.regions import Regions, core_of
from ct2vq.files import read_json, read_tsv, write_json, write_tsv

SMALL = {"width": 4, "levels": 2}
BOTH, Q, V = ["perfusion", "ventilation"], ["perfusion"], ["ventilation"]


def configuration(**models) -> dict:
    return complete_config(
        {
            "study": "benchmark",
            "crop": {"spacing_mm": SPACING_MM, "multiple": 4},
            "train": {"device": "cpu", "validation_patients": 0},
            "models": models,
            "compare": {"pairs": []},
        }
    )


NETWORKS = {
    "ddran": {"kind": "ran", "targets": BOTH, "network": SMALL},
    "ran_perfusion": {"kind": "ran", "targets": Q, "network": SMALL},
    "ran_ventilation": {"kind": "ran", "targets": V, "network": SMALL},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four cropped cases in two folds."""
    state = tmp_path_factory.mktemp("state")
    write_cohort(state / "crop")
    (state / "cases").mkdir()
    config = configuration(**NETWORKS, mean_map={"kind": "mean_map", "targets": BOTH})
    study = Study(state / "nothing", state, config, {"c0": 1, "c1": 2, "c2": 1, "c3": 2})
    # the truth is the SPECT with noise
    for number, case in enumerate(study.folds):
        cropped = case_from(study.crop(case))
        noise = np.random.default_rng(number).normal(0, 0.1, cropped.lungs.shape)
        images = {}
        for target, image in cropped.targets.items():
            truth = np.where(cropped.inside, image + noise, 0).astype(np.float32)
            images |= {("spect", target): image, ("truth", target): truth, ("truth_visible", target): truth}
        masks = {"lungs": cropped.inside, "core": core_of(cropped.inside, 12, SPACING_MM)}
        known = CaseImages(case, Regions(masks, SPACING_MM), images)
        study.known(case).write_bytes(pickle.dumps(known))
    return study


def test_two_single_networks_are_one_system() -> None:
    assert list(systems(configuration(**NETWORKS))) == [
        System("ddran", ("ddran",)),
        System("ran", ("ran_perfusion", "ran_ventilation")),
    ]
    alone = {name: model for name, model in NETWORKS.items() if name != "ran_ventilation"}
    with pytest.raises(Ct2vqError, match="`ran` makes"):
        list(systems(configuration(**alone)))


def test_a_study_that_has_not_come_as_far_says_how_to_go_on(study: Study, tmp_path: Path) -> None:
    with pytest.raises(Ct2vqError, match=r"0 finished simulated cases, not 12 .*--until simulate"):
        Study.read(tmp_path, tmp_path, study.config)


def test_systems_have_the_same_minutes(study: Study) -> None:
    seconds = {"ddran": 0.5, "ran_perfusion": 0.25, "ran_ventilation": 0.3}
    epochs = plan.epochs(list(systems(study.config)), seconds, 10.0, study)
    learners = 2
    assert epochs == {"ddran": 600, "ran_perfusion": 600, "ran_ventilation": 500}
    assert sum(epochs[name] * seconds[name] for name in NETWORKS if name != "ddran") * learners == 600


def test_seconds_are_measured_for_every_model(study: Study, tmp_path: Path) -> None:
    seconds = plan.seconds_a_case(study, list(NETWORKS), tmp_path)
    assert list(seconds) == list(NETWORKS)
    assert all(0 < value < 60 for value in seconds.values())


def test_a_trial_scores_only_patients_that_it_has_not_seen(study: Study) -> None:
    trial = Trial("ddran", seed=1, fold=1)
    run_trial(trial, study, epochs=2)
    folder = study.state / "trainings" / trial.name
    assert read_json(folder / "run.json")["cases"] == ["c1", "c3"]
    cost = read_json(folder / "cost.json")
    assert cost["epochs"] == 2
    assert not cost["interrupted"]
    rows = read_tsv(study.state / "scores" / f"{trial.name}.tsv")
    assert set(rows["case"]) == {"c0", "c2"}
    assert set(rows["reference"]) == {"spect", "truth", "truth_visible"}
    assert set(rows["region"]) == {"lungs", "core"}
    assert rows["value"].notna().all()
    again = study.state / "scores" / f"{trial.name}.tsv"
    before = again.read_bytes()
    again.unlink()
    run_trial(trial, study, epochs=2)
    assert again.read_bytes() == before
    run_trial(Trial("ddran", seed=2, fold=1), study, epochs=2)
    assert (study.state / "scores" / "ddran.seed2.fold1.tsv").read_bytes() != before


def test_a_ceiling_is_the_truth_against_the_spect(study: Study) -> None:
    rows = pd.DataFrame(ceiling_rows(study), columns=["model", *"sfctr", "region", "metric", "value"])
    known = kept_images(study, "c0")
    inside = known.regions.inside
    by_hand = spearmanr(
        known.images["truth", "perfusion"][inside], known.images["spect", "perfusion"][inside]
    ).statistic
    chosen = rows[(rows["c"] == "c0") & (rows["t"] == "perfusion") & (rows["metric"] == "spearman")]
    values = chosen[(chosen["region"] == "lungs") & (chosen["model"] == "visible_ceiling")]["value"]
    assert values.tolist() == pytest.approx([by_hand])


def test_known_images_that_are_kept_are_not_made_again(study: Study) -> None:
    prepare(study, jobs=1)  # there is no truth to make them from


def scores_of(values: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Rows of Rs against SPECT from `{model: [one list of patients for each seed]}`."""
    return pd.DataFrame(
        [
            (model, seed, 1, f"p{patient}", "perfusion", "spect", "lungs", "spearman", value)
            for model, seeds in values.items()
            for seed, patients in enumerate(seeds)
            for patient, value in enumerate(patients)
        ],
        columns=["model", "seed", "fold", "case", "target", "reference", "region", "metric", "value"],
    )


def test_the_table_by_hand(tmp_path: Path) -> None:
    patients = np.linspace(-0.05, 0.05, 8)
    values = {
        "visible_ceiling": [list(0.7 + patients)],
        "mean_map": [list(0.4 + patients)],
        "ddran": [list(0.6 + patients), list(0.64 + patients)],
        "unet": [list(0.58 + patients), list(0.60 + patients)],
    }
    write_json(
        {"seconds_a_case": {"ddran": 0.3, "unet": 0.6}, "epochs": {"ddran": 9, "unet": 4}}, tmp_path / "plan.json"
    )
    for name in ("ddran", "unet"):
        cost = {"processor_minutes": 2.0, "peak_memory_mib": 500, "parameters": 10**6, "interrupted": False}
        write_json(cost, tmp_path / "trainings" / f"{name}.seed1.fold1" / "cost.json")
    competing = [System("ddran", ("ddran",)), System("unet", ("unet",))]
    settings = configuration(**NETWORKS)["compare"]
    rows = summary.rows_of(scores_of(values), competing, "ddran", settings, tmp_path)
    table = pd.DataFrame(rows, columns=summary.COLUMNS)
    found = {(row.arm, row.metric): row.value for row in table.itertuples()}
    assert found["ddran", "rs"] == pytest.approx(0.62)
    assert found["ddran", "rs_seed_sd"] == pytest.approx(np.std([0.60, 0.64], ddof=1))
    assert found["ddran", "share_of_ceiling"] == pytest.approx(0.62 / 0.7)
    assert found["ddran", "way_to_ceiling"] == pytest.approx(0.22 / 0.3)
    assert found["ddran", "way_to_ceiling_low"] == pytest.approx(0.22 / 0.3), "all patients differ alike"
    assert found["unet", "behind_ours"] == pytest.approx(0.03)
    assert found["unet", "patients"] == 8
    assert found["unet", "seconds_a_case"] == 0.6
    header = {"labels": {"ddran": "DDRAN", "unet": "U-Net"}, "ours": "ddran"}
    pages = list(tables(table, header))
    assert [row[0] for row in pages[0][2]] == ["visible ceiling", "DDRAN", "U-Net", "mean map"]
    assert pages[0][2][1][1].startswith("0.620 (")
    assert pages[-1][0] == "Costs"


def test_means_are_over_patients_that_every_system_has_scored(tmp_path: Path) -> None:
    """In a benchmark of one fold, a ceiling of all patients beside networks of some would mislead."""
    values = {"visible_ceiling": [[0.7, 0.7, 0.9]], "ddran": [[0.6, 0.5, 0.1]], "unet": [[0.5, 0.4]]}
    scores = scores_of(values)
    write_json({}, tmp_path / "plan.json")
    competing = [System(name, (name,)) for name in ("ddran", "unet", "not_yet_trained")]
    rows = summary.rows_of(scores, competing, "ddran", configuration(**NETWORKS)["compare"], tmp_path)
    found = {(row[0], row[4]): row[5] for row in rows if row[4] == "rs"}
    assert found == pytest.approx({("visible_ceiling", "rs"): 0.7, ("ddran", "rs"): 0.55, ("unet", "rs"): 0.45})


def test_another_machine_goes_on_from_the_trials_beside_the_table(tmp_path: Path) -> None:
    here, there, table = tmp_path / "here", tmp_path / "there", tmp_path / "train_trials.tsv.xz"
    scores = scores_of({"visible_ceiling": [[0.7, 0.8]], "ddran": [[0.6, 0.51234567], [0.62, np.nan]]})
    for (model, seed), rows in scores.groupby(["model", "seed"]):
        name = kept.CEILINGS_FILE if model == "visible_ceiling" else f"{model}.seed{seed}.fold1.tsv"
        write_tsv(rows, here / "scores" / name)
    write_json({"key": "abc", "epochs": {"ddran": 9}}, here / "plan.json")
    cost = {"processor_minutes": 2.0, "peak_memory_mib": 500, "parameters": 10**6, "interrupted": False}
    write_json(cost, here / "trainings" / "ddran.seed1.fold1" / "cost.json")
    header = kept.keep(here, table)
    before = table.read_bytes()
    assert kept.keep(here, table) == header and table.read_bytes() == before
    assert kept.restore(there, table, header, "another key") == 0 and not there.exists()
    assert kept.restore(there, table, header, "abc") == 2
    names = {path.relative_to(here) for path in here.rglob("*") if path.is_file()}
    assert {path.relative_to(there) for path in there.rglob("*") if path.is_file()} == names
    both = [
        summary.read_scores(state).sort_values(["model", "seed", "case"], ignore_index=True) for state in (here, there)
    ]
    pd.testing.assert_frame_equal(*both, rtol=1e-5)
    assert read_json(there / "plan.json") == read_json(here / "plan.json")
    assert kept.restore(there, table, header, "abc") == 0, "what has begun here is not overwritten"

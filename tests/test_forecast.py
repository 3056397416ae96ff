"""What will be slow is said before it is: in words that are right, and only where it is."""

from __future__ import annotations

import json

import pytest
import yaml

from ct2vq import forecast
from ct2vq.config import complete_config
from ct2vq.forecast import device_lines, forecast_lines, slow_training, spoken, training_lines

BOTH = ("perfusion", "ventilation")


@pytest.fixture
def config(monkeypatch):
    """The default study, on a machine without a GPU on which a pass takes a microsecond for each voxel."""
    monkeypatch.setattr(forecast, "visible_gpus", lambda: [])
    monkeypatch.setattr(forecast, "seconds_a_voxel", lambda *_: 1e-6)
    return complete_config({"study": "x"})


def networks(config, count):
    """Only the first of the configured networks."""
    config["models"] = dict(list(config["models"].items())[:count])
    return config


def test_a_study_for_a_gpu_is_told_at_once_that_there_is_none(config):
    (line,) = device_lines(config)
    assert "nvidia-smi lists no GPU here" in line
    assert "will stop at its first training" in line
    assert "train.device: cpu" in line


def test_a_study_for_the_cpu_or_with_enough_gpus_is_told_nothing(config, monkeypatch):
    config["train"]["device"] = "cpu"
    assert device_lines(config) == []
    config["train"]["device"] = "cuda"
    monkeypatch.setattr(forecast, "visible_gpus", lambda: ["one"])
    assert device_lines(config) == []
    config["train"]["devices"] = 2
    (line,) = device_lines(config)
    assert "wants 2 GPUs and 1 can be used here" in line


def test_the_time_of_trainings_is_images_times_epochs_times_voxels(config):
    config = networks(config, 1)
    config["train"] |= {"device": "cpu", "epochs": 100}
    config["split"]["folds"] = 5
    config["crop"]["spacing_mm"] = 4.0
    cases = [BOTH] * 98 + [("ventilation",)] * 7
    # 98 cases in 4 of 5 folds, 100 epochs, 75 x 58 x 75 voxels, 1 microsecond: 12,789 s
    (line,) = training_lines(config, cases, cores=1)
    assert "5 trainings take about 4 hours of processor time, about 4 hours with 1 side by side" in line
    assert "images of 75 x 58 x 75 voxels" in line
    assert "crop.spacing_mm" in line
    assert training_lines(config, cases, cores=5) == [], "43 minutes are not long"


def test_what_would_run_on_a_missing_gpu_is_estimated_too(config):
    assert training_lines(config, [BOTH] * 98, 2) == []
    (line,) = training_lines(config, [BOTH] * 98, 2, without_gpu=True)
    assert line.startswith("training on the CPU will be slow: 15 trainings")


def test_a_small_study_times_nothing(config, monkeypatch):
    monkeypatch.setattr(forecast, "seconds_a_voxel", lambda *_: pytest.fail("torch was imported for nothing"))
    config["train"] |= {"device": "cpu", "epochs": 4}
    config["crop"]["spacing_mm"] = 8.0
    assert training_lines(config, [BOTH] * 10, 2) == []


def test_a_step_is_really_timed(monkeypatch):
    """A network of twice the width has four times the multiply-adds: it takes longer."""
    settings = complete_config({"study": "x"})
    small, large = (json.loads(json.dumps(settings)) for _ in range(2))
    small["models"]["ddran"]["network"]["width"] = 4
    large["models"]["ddran"]["network"]["width"] = 32
    seconds = [forecast.seconds_a_voxel(one, "ddran") for one in (small, large)]
    assert 0 < 2 * seconds[0] < seconds[1] < 1


@pytest.fixture
def study(tmp_path, config):
    """A study's folder: the simulated cohort, for a GPU that is not there."""
    (tmp_path / "config").mkdir()
    text = yaml.safe_dump({"study": "x", "cohort": {"source": "simulated"}, "simulate": {"cases": 100}})
    (tmp_path / "config" / "config.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_run_is_forecast_from_its_folders_configuration(study):
    told = forecast_lines(["--cores", "2"], study)
    assert len(told) == 2
    assert "lists no GPU" in told[0]
    assert "15 trainings" in told[1]
    assert "with 2 side by side" in told[1]


def test_a_later_configfile_goes_over_an_earlier_one(study):
    mine = study / "mine.yaml"
    mine.write_text("train: {device: cpu}\nsplit: {folds: 3}\n", encoding="utf-8")
    files = [str(study / "config" / "config.yaml"), str(mine)]
    (line,) = forecast_lines(["--configfile", *files, "--cores=4"], study)
    assert "9 trainings" in line
    assert "with 4 side by side" in line


@pytest.mark.parametrize(
    "arguments",
    [["-n"], ["--dry-run"], ["--workflow-profile", "x"], ["--executor=slurm"], ["--config", "seed=2"], ["--lint"]],
)
def test_what_trains_nothing_here_is_not_forecast(study, arguments):
    assert forecast_lines(arguments, study) == []


@pytest.mark.parametrize("text", ["study: [", "study: x\nnonsense: 1\n", "[]", ""])
def test_a_wrong_configuration_is_left_to_snakemake(study, text):
    (study / "config" / "config.yaml").write_text(text, encoding="utf-8")
    assert forecast_lines([], study) == []


def test_a_training_on_the_cpu_says_how_long_it_takes():
    assert slow_training("cpu", 90.0, 199) == (
        "this is slow on the CPU: an epoch took 90 s, 199 more take about 5 hours. On a GPU set train.device: cuda; "
        f"to make it shorter change {forecast.SHORTER}."
    )
    assert slow_training("cpu", 1.0, 199) is None
    assert slow_training("cuda", 90.0, 199) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(10, "1 minute"), (3600, "60 minutes"), (7000, "2 hours"), (100_000, "28 hours"), (700_000, "8 days")],
)
def test_times_are_spoken(seconds, words):
    assert spoken(seconds) == words

"""The commands beside the workflow: a known problem is one line and status 1, never a traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from ct2vq import cli
from ct2vq.files import read_json, write_tsv
from ct2vq.study import LOCKS, OWNER_FILE

RUNNER = CliRunner()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_summary_that_is_not_there(here: Path) -> None:
    done = RUNNER.invoke(cli.app, ["summary"])
    assert done.exit_code == 1
    assert done.stderr.startswith("ct2vq: file results/compare/summary.tsv")
    assert "run the workflow first" in done.stderr
    assert "Traceback" not in done.output


def test_the_summary_is_a_table_of_the_means(here: Path) -> None:
    means = {"ssim": 0.8712, "spearman": 0.7, "dice_low": float("nan"), "dice_high": 0.6}
    known = {"model": "ddran", "target": "perfusion", "region": "lungs", "reference": "spect"}
    rows = [known | {"metric": m, "mean": v} for m, v in means.items()]
    write_tsv(pd.DataFrame(rows), here / "results" / "compare" / "summary.tsv")
    done = RUNNER.invoke(cli.app, ["summary"])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if line.startswith("ddran"))
    assert line.split() == ["ddran", "perfusion", "0.871", "0.700", "nan", "0.600"]
    assert "report/index.html" in done.stdout


def test_a_model_that_is_not_there(here: Path) -> None:
    done = RUNNER.invoke(cli.app, ["apply", "ct", "out", "--model", "nowhere"])
    assert done.exit_code == 1
    assert "no trained model" in done.stderr
    assert "nowhere" in done.stderr


def test_run_becomes_snakemake_and_records_itself(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(cli.os, "execv", lambda path, arguments: became.append(arguments))
    done = RUNNER.invoke(cli.app, ["run", "--cores", "2", "--configfile", "x.yaml", "-n"])
    assert done.exit_code == 0, done.output
    assert became == [[sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "x.yaml", "-n"]]
    assert read_json(OWNER_FILE)["host"]


def test_run_says_before_it_starts_what_will_be_slow(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(cli.os, "execv", lambda path, arguments: became.append(arguments))
    monkeypatch.setattr("ct2vq.forecast.forecast_lines", lambda arguments, folder: [f"slow: {arguments} in {folder}"])
    done = RUNNER.invoke(cli.app, ["run", "--cores", "2"])
    assert done.stderr == "ct2vq: slow: ['--cores', '2'] in .\n"
    assert len(became) == 1


def test_run_stops_at_a_lock_of_unknown_owner(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / LOCKS).mkdir(parents=True)
    (here / LOCKS / "0.lock").touch()
    monkeypatch.setattr(cli.os, "execv", lambda *_: pytest.fail("Snakemake was started"))
    done = RUNNER.invoke(cli.app, ["run"])
    assert done.exit_code == 1
    assert "locked" in done.stderr
    assert not (here / OWNER_FILE).exists(), "a run that did not start owns nothing"


def test_help_names_every_command() -> None:
    done = RUNNER.invoke(cli.app, ["--help"])
    for command in ("run", "summary", "apply", "config-docs"):
        assert command in done.output


def test_the_reference_of_the_configuration_names_every_block() -> None:
    done = RUNNER.invoke(cli.app, ["config-docs"])
    assert done.exit_code == 0, done.exception
    for key in ("study", "train", "learning_rate", "function_thresholds", "case_id"):
        assert key in done.stdout

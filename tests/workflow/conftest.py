"""The studies that the tests of this folder share: run once, never changed, copied where a test changes something."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from shares import WORKFLOW, share_of
from studies import BIN, LIMIT_S, TINY, Study, kill_group, new_checkout, table_study

SERIAL = pytest.StashKey[subprocess.Popen]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for the run on one core comes last: until then it runs beside the other tests."""
    items.sort(key=lambda item: "serial" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The working tree as it was when the tests started: whoever edits meanwhile changes nothing here."""
    return new_checkout(tmp_path_factory.mktemp("checkout") / "study")


@pytest.fixture(scope="session")
def finished(request: pytest.FixtureRequest, checkout: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The whole tiny study on two cores, from simulate to report. Copy it before you change it."""
    study = checkout.copy(tmp_path_factory.mktemp("finished") / "study")
    study.snakemake(cores=2).require_success()
    waited_for = any("serial" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if (
        waited_for and share_of(os.environ["PYTEST_CURRENT_TEST"]) == WORKFLOW
    ):  # the tests that wait run in this process
        request.getfixturevalue("serial_process")
    return study


@pytest.fixture(scope="session")
def serial_process(
    checkout: Study, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Study, subprocess.Popen]]:
    """The same study from nothing on one core, started."""
    study = checkout.copy(tmp_path_factory.mktemp("serial") / "study")
    with open(study.path("run.log"), "w", encoding="utf-8") as log:
        command = [BIN / "snakemake", "--cores", "1", "--configfile", TINY]
        process = subprocess.Popen(
            command, cwd=study.folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    yield study, process
    if process.poll() is None:
        kill_group(process)


@pytest.fixture
def serial(finished: Study, serial_process: tuple[Study, subprocess.Popen]) -> Study:
    """The same study from nothing on one core, finished."""
    study, process = serial_process
    assert process.wait(LIMIT_S) == 0, study.path("run.log").read_text(encoding="utf-8")
    return study


@pytest.fixture
def study(finished: Study, tmp_path: Path) -> Study:
    """A copy of the finished study."""
    return finished.copy(tmp_path / "study")


@pytest.fixture
def fresh(checkout: Study, tmp_path: Path) -> Study:
    """A checkout with the tiny study's configuration and no results."""
    return checkout.copy(tmp_path / "fresh")


@pytest.fixture
def own_cases(checkout: Study, tmp_path: Path) -> Study:
    """A checkout with the tiny study's settings, a table of three cases and no images."""
    study = checkout.copy(tmp_path / "own")
    return table_study(
        study, {case: {"ct": f"{case}/ct", "perfusion": f"{case}/perfusion"} for case in ("a", "b", "c")}
    )

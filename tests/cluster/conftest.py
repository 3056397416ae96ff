"""The cluster, and the studies that its tests share: run once on this machine, copied where one is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from on_slurm import EPOCHS, WEIGHTS, end_all
from slurm import Cluster, missing_programs
from studies import Study, new_checkout


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster; a machine without Slurm, or a user who is not root, skips the test."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("the cluster's daemons need root")
    cluster = Cluster()
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(autouse=True)
def _no_run_outlives_its_test() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The working tree as it was when the tests started."""
    return new_checkout(tmp_path_factory.mktemp("checkout") / "study")


@pytest.fixture(scope="session")
def finished(checkout: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The whole tiny study as a local run makes it."""
    study = checkout.copy(tmp_path_factory.mktemp("finished") / "study")
    study.snakemake(cores=2).require_success()
    return study


@pytest.fixture(scope="session")
def trained(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same with one training that is long enough to be disturbed, trained locally."""
    study = finished.copy(tmp_path_factory.mktemp("trained") / "study")
    study.replace("config/tiny.yaml", "epochs: 4", f"epochs: {EPOCHS}")
    study.snakemake(WEIGHTS).require_success()
    return study


@pytest.fixture
def untrained(trained: Study, tmp_path: Path) -> Study:
    """A copy in which that training is still to come."""
    study = trained.copy(tmp_path / "untrained")
    study.path(WEIGHTS).unlink()
    return study

"""Fixtures that several test modules share, and one way of running hypothesis: the same examples every time."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import write_cohort, write_cropped_case
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ct2vq",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("ct2vq")


@pytest.fixture(scope="session")
def cropped_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one cropped case with both targets; read only."""
    return write_cropped_case(tmp_path_factory.mktemp("crop") / "case", seed=7)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """Images and patients of four cropped cases; read only."""
    return write_cohort(tmp_path_factory.mktemp("cohort"))

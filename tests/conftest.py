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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (`make test`): all that runs Snakemake in one, which shares its finished study; first.

    The others go module by module, because modules share what is dear to make.
    """
    for item in items:
        group = "workflow" if item.get_closest_marker("workflow") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


@pytest.fixture(scope="session")
def cropped_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one cropped case with both targets; read only."""
    return write_cropped_case(tmp_path_factory.mktemp("crop") / "case", seed=7)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """Images and patients of four cropped cases; read only."""
    return write_cohort(tmp_path_factory.mktemp("cohort"))

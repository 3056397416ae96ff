"""Fixtures that several test modules share, and one way of running hypothesis: the same examples every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from factories import write_cohort, write_cropped_case
from hypothesis import HealthCheck, settings
from shares import WORKFLOW, share_of

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
    """What runs Snakemake comes first, because it takes longest, or last."""
    items.sort(key=lambda item: {WORKFLOW: 0, "last": 2}.get(share_of(item.nodeid), 1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes (`make test`): tests that run Snakemake stay together and share its finished study.

    The others go module by module, because a module's tests share what is dear to make.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share_of(nodeid)

    return Together(config, log)


@pytest.fixture(scope="session")
def cropped_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one cropped case with both targets; read only."""
    return write_cropped_case(tmp_path_factory.mktemp("crop") / "case", seed=7)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """Images and patients of four cropped cases; read only."""
    return write_cohort(tmp_path_factory.mktemp("cohort"))

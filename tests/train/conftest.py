"""What tests of trainings share."""

from pathlib import Path

import pytest
import torch
from trainings import run


@pytest.fixture(autouse=True)
def torch_as_before():
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, cohort) -> dict[str, Path]:
    """A training that nobody disturbed."""
    return run(tmp_path_factory.mktemp("train"), cohort)

"""Small simulated cases for the tests of the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct2vq.config import complete_config
from ct2vq.simulate import simulate_case
from ct2vq.simulate.disease import DISEASES

SEED = 3


def small_settings() -> dict:
    """Config block `simulate` with coarse images, one way of writing DICOM and no comorbidity."""
    settings = complete_config({"study": "test"})["simulate"]
    settings["ct"] |= {"matrix": 64, "pixel_mm": 5.6, "slice_mm": 8.0}
    settings["attenuation_ct"] |= {"matrix": 48, "pixel_mm": 8.2, "slice_mm": 10.0}
    settings["spect"] |= {"matrix": 48, "voxel_mm": 8.0}
    settings["habits"] = {"camera_a": 1}
    settings["disease"]["comorbidity"] = {}
    return settings


@pytest.fixture
def settings() -> dict:
    """The small settings, to be changed at will."""
    return small_settings()


@pytest.fixture(scope="session")
def cohort(tmp_path_factory) -> dict[str, Path]:
    """One case of each diagnosis."""
    root = tmp_path_factory.mktemp("cohort")
    for diagnosis in DISEASES:
        simulate_case(f"case-{diagnosis}", f"P-{diagnosis}", diagnosis, SEED, small_settings(), root / diagnosis)
    return {diagnosis: root / diagnosis for diagnosis in DISEASES}

"""A person planted in raw DICOM and in its files' names stands nowhere in what a whole run leaves behind."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from planting import NAME, plant, traces
from studies import CASES, Result, Study, contents, files_under, table_study

from ct2vq.files import read_json

pytestmark = pytest.mark.workflow

VOLUMES = ("ct", "attenuation_ct", "perfusion", "ventilation")
PUBLIC = ("results", "logs", "benchmarks", ".snakemake", "work")
CONVERTED = ("--until", "convert_ct", "convert_spect")


def _plant_case(simulated: Path, folder: Path) -> None:
    for path in files_under(simulated):
        plant(path, folder / path.parent.name / f"{NAME} {path.stem}.dcm")


@pytest.fixture(scope="module")
def planted(checkout: Study, finished: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Result]:
    """A hospital's study of planted cases, converted."""
    study = checkout.copy(tmp_path_factory.mktemp("planted") / "study")
    folders = {case: f"{NAME}^{case}/1943 {NAME}" for case in CASES}
    rows = {case: {volume: f"{folder}/{volume}" for volume in VOLUMES} for case, folder in folders.items()}
    for case, folder in folders.items():
        _plant_case(finished.path(f"results/simulate/{case}/dicom"), study.path("data/dicom") / folder)
    study = table_study(study, rows)
    return study, study.snakemake(*CONVERTED, cores=2)


@pytest.fixture(scope="module")
def broken(planted: tuple[Study, Result]) -> tuple[Study, Result]:
    """The same study after a slice was cut off in the middle of its header."""
    study = planted[0].copy(planted[0].folder.with_name("broken"))
    slices = sorted(files_under(study.path("data/dicom") / f"{NAME}^{CASES[0]}/1943 {NAME}/ct"))
    slices[3].write_bytes(slices[3].read_bytes()[:1500])
    slices[4].write_bytes(b"")
    return study, study.snakemake("--keep-going", *CONVERTED, cores=2)


def _traces(study: Study) -> dict[str, list[str]]:
    return {part: found for part in PUBLIC if study.path(part).is_dir() and (found := traces(study.path(part)))}


def test_what_is_converted_tells_nobody(planted):
    study, run = planted
    run.require_success()
    assert _traces(study) == {}
    assert NAME.lower() not in run.output.lower()


@pytest.mark.slow
def test_a_whole_study_tells_nobody(planted, tmp_path):
    study = planted[0].copy(tmp_path / "study")
    run = study.snakemake(cores=2).require_success()
    assert study.path("results/report/index.html").is_file()
    assert _traces(study) == {}
    assert NAME.lower() not in run.output.lower()


def test_her_images_are_the_same_as_without_her(planted, finished):
    study, _ = planted
    for case in CASES:
        ours = contents(study.path(f"results/convert/{case}"), "*.nii.gz")
        assert ours.keys() == {f"{volume}.nii.gz" for volume in VOLUMES}
        assert ours == contents(finished.path(f"results/convert/{case}"), "*.nii.gz")


def test_an_error_tells_nobody_either(broken):
    study, run = broken
    assert run.returncode != 0
    assert "D102" in run.output or "D103" in run.output, run.output
    assert _traces(study) == {}
    assert NAME.lower() not in run.output.lower()


def test_what_leads_back_is_private(planted):
    study, _ = planted
    private = study.path("private")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    relinks = sorted((private / "relink").iterdir())
    assert [path.stem for path in relinks] == sorted(f"{case}_{volume}" for case in CASES for volume in VOLUMES)
    for path in [private / "secret", private / "sources.json", *relinks]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    back = read_json(relinks[0])
    assert NAME in back["patient_id"] and NAME in back["root"]


def test_another_secret_converts_again_and_the_same_does_not(planted, tmp_path):
    study = planted[0].copy(tmp_path / "study")
    assert study.plan(*CONVERTED).rules == {}
    study.path("private/secret").write_text("ab" * 32 + "\n")
    cases = len(CASES)
    assert study.plan(*CONVERTED).rules == {"convert_ct": 2 * cases, "convert_spect": 2 * cases}

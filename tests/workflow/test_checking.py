"""`snakemake check`: every problem of every case in one table, before anything is converted."""

import numpy as np
import pytest
import yaml
from dicom_factory import nm, series, thorax_like, write, write_series
from studies import require_plain_failure, write_cases

from ct2vq.files import read_tsv

pytestmark = pytest.mark.workflow
SHAPE = (6, 20, 18)
CASES = ("case-1", "case-2", "case-3")


def _write_case(folder, case, ct=lambda slices: None, **changes):
    """A case with a CT and a perfusion SPECT, other patients and voxels for each."""
    seed = ord(case[-1])
    slices = series(thorax_like(SHAPE, seed))
    spect = nm(np.random.default_rng(seed).integers(1, 50, size=(4, 8, 8)))
    for data in (*slices, spect):
        data.PatientID = f"HOSPITAL-{seed}"
    ct(slices)
    for keyword, value in changes.items():
        setattr(spect, keyword, value)
    write_series(slices, folder / case / "Meier_Hans")
    write(spect, folder / case / "spect.dcm")


def _gap(slices):
    slices.pop(2)
    for data in slices:
        del data.RescaleSlope, data.RescaleIntercept


def _units(slices):
    slices[1].RescaleType = "MGML"


def test_all_problems_of_all_cases_at_once(own_cases):
    raw = own_cases.path("data/dicom")
    _write_case(raw, "case-1", _gap)
    _write_case(raw, "case-2", _units, ImageType=["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"])
    _write_case(raw, "case-3", SliceVector=[1, 2, 2, 4], SpacingBetweenSlices="0", SliceThickness="0")
    write_cases(own_cases, {case: {"ct": f"{case}/Meier_Hans", "perfusion": f"{case}/spect.dcm"} for case in CASES})
    result = own_cases.snakemake("check", "--keep-going")
    require_plain_failure(result, "6 error(s)", "docs/errors.md")
    table = read_tsv(own_cases.path("results/check/problems.tsv"), dtype=str)
    assert sorted(table["case_id"] + " " + table["volume"] + " " + table["code"]) == [
        "case-1 ct D308",
        "case-1 ct D406",
        "case-2 ct D407",
        "case-2 perfusion D205",
        "case-3 perfusion D312",
        "case-3 perfusion D313",
    ]
    for code in table["code"]:
        assert code in result.output
    assert not own_cases.path("results/convert").exists()
    again = own_cases.snakemake("check")
    require_plain_failure(again, "6 error(s)", "docs/errors.md")
    said = result.output + own_cases.path("results/check/problems.tsv").read_text()
    said += "".join(path.read_text() for path in own_cases.path("logs").rglob("*.log"))
    assert "Meier" not in said and "HOSPITAL" not in said and "Secret" not in said


def test_warnings_alone_are_no_failure(own_cases):
    raw = own_cases.path("data/dicom")
    for case in CASES:
        _write_case(raw, case)
    (raw / "case-1" / "Meier_Hans" / "notes.txt").write_text("x")
    write_cases(own_cases, {case: {"ct": f"{case}/Meier_Hans", "perfusion": f"{case}/spect.dcm"} for case in CASES})
    result = own_cases.snakemake("check").require_success()
    assert "0 error(s), 1 warning(s)" in result.output
    again = own_cases.snakemake("check").require_success()
    assert "W101" in again.output and "rule check_case" not in again.output


def test_one_patient_can_be_checked(own_cases):
    raw = own_cases.path("data/dicom")
    _write_case(raw, "case-1")
    write_cases(own_cases, {"case-1": {"ct": "case-1/Meier_Hans", "perfusion": "case-1/spect.dcm"}})
    place = own_cases.folder.parent / "Meiers private folder"
    table = own_cases.path("config/config.yaml")
    config = yaml.safe_load(table.read_text())
    config["cohort"] = config.get("cohort", {}) | {"private": str(place)}
    table.write_text(yaml.safe_dump(config))
    own_cases.snakemake("check", "results/convert/cohort.tsv").require_success()
    assert own_cases.path("results/convert/cohort.tsv").is_file()
    assert (place / "secret").is_file()
    records = own_cases.path(".snakemake").rglob("*")
    assert [path for path in records if path.is_file() and b"Meier" in path.read_bytes()] == []
    assert "split.folds" in own_cases.snakemake("all", "--dry-run").output

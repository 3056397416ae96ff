"""`check`: all problems of all cases at once, whatever each case breaks first."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import nm, series, thorax_like, write, write_series

from ct2vq.check import RawVolume, check_case, check_cohort, check_volume, problem_lines
from ct2vq.config import complete_config
from ct2vq.errors import Ct2vqError, DicomError
from ct2vq.files import read_json, read_tsv
from ct2vq.identity.guard import single_use_guard

SETTINGS = complete_config({"study": "test"})["convert"]
SHAPE = (6, 5, 4)


def raw(source: Path, volume: str = "ct") -> RawVolume:
    return RawVolume(volume, source, single_use_guard())


def codes(source: Path, volume: str = "ct", **limits) -> list[str]:
    settings = SETTINGS | {"limits": SETTINGS["limits"] | limits}
    return sorted(problem.code for problem in check_volume(raw(source, volume), "case-1", settings)[0])


def ct(folder: Path, damage=lambda slices: None) -> Path:
    slices = series(thorax_like(SHAPE))
    damage(slices)
    return write_series(slices, folder)


def spect(path: Path, **changes) -> Path:
    data = nm(np.full(SHAPE, 7))
    for keyword, value in changes.items():
        setattr(data, keyword, value)
    return write(data, path)


def test_a_good_volume_has_no_problem_and_its_facts(tmp_path) -> None:
    problems, facts = check_volume(raw(ct(tmp_path / "ct")), "case-1", SETTINGS)
    assert problems == []
    assert facts["acquisition"]["slice_increment_mm"] == 3
    assert len(facts["input_sha256"]) == 64


def _gap_and_no_rescale(slices) -> None:
    slices.pop(2)
    for data in slices:
        del data.RescaleSlope, data.RescaleIntercept


def _damaged_file_and_units(slices) -> None:
    slices[0].PixelData = slices[0].PixelData[:-8]
    slices[1].RescaleType = "MGML"
    slices[2].PixelSpacing = ["0", "1"]


@pytest.mark.parametrize(
    ("damage", "limits", "expected"),
    [
        (_gap_and_no_rescale, {}, ["D308", "D406"]),
        (_gap_and_no_rescale, {"max_slice_thickness_mm": 2}, ["D308", "D406", "D501"]),
        (_damaged_file_and_units, {}, ["D301", "D403", "D407"]),
    ],
)
def test_one_problem_does_not_hide_the_next(tmp_path, damage, limits, expected) -> None:
    assert codes(ct(tmp_path / "ct", damage), **limits) == expected


def test_a_problem_of_many_slices_is_said_once(tmp_path) -> None:
    problems, _ = check_volume(raw(ct(tmp_path / "ct", _gap_and_no_rescale)), "case-1", SETTINGS)
    assert any("and 4 more like this" in problem.message for problem in problems if problem.code == "D406")


def test_problems_of_an_nm_object_are_found_side_by_side(tmp_path) -> None:
    path = spect(
        tmp_path / "q.dcm", ImageType=["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"], SliceVector=[1, 2, 3, 1, 2, 3]
    )
    assert codes(path, "perfusion", attenuation_correction="none") == ["D205", "D312", "D504"]


def test_warnings_and_what_is_missing(tmp_path) -> None:
    folder = ct(tmp_path / "ct")
    (folder / "notes.txt").write_text("x")
    assert codes(folder) == ["W101"]
    assert codes(tmp_path / "nowhere") == ["D101"]
    (tmp_path / "empty").mkdir()
    assert codes(tmp_path / "empty", "perfusion") == ["D105"]


def test_tables_of_a_case_and_of_the_cohort(tmp_path) -> None:
    shared = ct(tmp_path / "ct")
    unknown = ("ventilation", Ct2vqError("`series:x` is not in the inventory"))
    for case, volumes in {
        "a": [raw(shared), raw(spect(tmp_path / "a.dcm"), "perfusion"), unknown],
        "b": [raw(shared), raw(spect(tmp_path / "b.dcm", CorrectedImage=["SCAT"], SliceThickness="7"), "perfusion")],
    }.items():
        check_case(case, volumes, SETTINGS, str.lower, tmp_path / f"{case}.tsv", tmp_path / f"{case}.json")
    assert sorted(read_json(tmp_path / "a.json")) == ["ct", "perfusion"]
    tables, facts = sorted(tmp_path.glob("?.tsv")), sorted(tmp_path.glob("?.json"))
    limits = SETTINGS["limits"]
    check_cohort(tables, facts, {"a": "p", "b": "q"}, limits, tmp_path / "problems.tsv")
    table = read_tsv(tmp_path / "problems.tsv", dtype=str).fillna("")
    found = set(zip(table["case_id"], table["volume"], table["severity"], table["code"], strict=True))
    assert found == {
        ("a", "ventilation", "error", "D101"),
        ("a", "ct", "error", "D509"),
        ("a", "", "error", "D510"),
        ("", "perfusion", "error", "D508"),
    }
    assert table["remedy"].str.len().min() > 10
    lines, errors = problem_lines(tmp_path / "problems.tsv")
    assert errors == 4
    assert "4 error(s), 0 warning(s)" in lines[-1]
    assert any("D508" in line and "cohort perfusion" in line for line in lines)


def test_a_clean_cohort_says_so(tmp_path) -> None:
    check_case("a", [raw(ct(tmp_path / "ct"))], SETTINGS, str, tmp_path / "a.tsv", tmp_path / "a.json")
    check_cohort([tmp_path / "a.tsv"], [tmp_path / "a.json"], {"a": "p"}, SETTINGS["limits"], tmp_path / "p.tsv")
    assert problem_lines(tmp_path / "p.tsv") == (["no problems found"], 0)


@pytest.mark.parametrize("step", ["sidecar_facts", "problems_of"])
def test_a_value_that_only_the_facts_need_is_a_row(tmp_path, monkeypatch, step) -> None:
    def fail(*_: object) -> None:
        raise DicomError("D106", "1 number(s) expected, found 'abc'", key="SliceThickness")

    monkeypatch.setattr(f"ct2vq.check.{step}", fail)
    assert codes(ct(tmp_path / "ct")) == ["D106"]
    assert codes(ct(tmp_path / "gap", _gap_and_no_rescale)) == ["D106", "D308", "D406"]


@pytest.mark.parametrize(("frames", "code"), [("x", "D106"), ("-1", "D303")])
def test_a_number_of_frames_that_is_none(tmp_path, frames, code) -> None:
    path = spect(tmp_path / "q.dcm")
    content = path.read_bytes()
    old = b"IS\x02\x00" + str(SHAPE[0]).encode() + b" "
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, b"IS\x02\x00" + frames.ljust(2).encode()))
    assert code in codes(path, "perfusion")


def test_a_day_before_the_calendar_is_a_warning(tmp_path) -> None:
    path = spect(tmp_path / "q.dcm", AcquisitionDate="00010101", AcquisitionTime="101500")
    problems, facts = check_volume(raw(path, "perfusion"), "case-1", SETTINGS)
    assert [problem.code for problem in problems] == ["W506"] and facts["acquired_shifted"] is None


def _both(tmp_path, monkeypatch, name: str, fail) -> dict[tuple[str, str], str]:
    """The rows of a case of a CT and a SPECT whose reading meets `fail`, by volume and code."""
    monkeypatch.setattr(f"ct2vq.check.{name}", fail)
    volumes = [raw(ct(tmp_path / "ct")), raw(spect(tmp_path / "q.dcm", SpacingBetweenSlices="0"), "perfusion")]
    check_case("a", volumes, SETTINGS, str, tmp_path / "a.tsv", tmp_path / "a.json")
    table = read_tsv(tmp_path / "a.tsv", dtype=str)
    return dict(zip(zip(table["volume"], table["code"], strict=True), table["message"], strict=True))


def test_an_unexpected_error_is_a_row(tmp_path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    rows = _both(tmp_path, monkeypatch, "read_ct", fail)
    assert "ZeroDivisionError: by nothing" in rows["ct", "D109"]
    rows = _both(tmp_path, monkeypatch, "_check_steps", fail)
    assert ("perfusion", "D109") in rows


def test_a_crash_costs_a_row_and_not_the_table(tmp_path, monkeypatch) -> None:
    rows = _both(tmp_path, monkeypatch, "read_ct", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert "signal 9 (SIGKILL)" in rows["ct", "D110"]
    assert ("perfusion", "W302") in rows or ("perfusion", "D313") in rows


def test_what_cannot_be_cleaned_is_told_by_its_code(tmp_path) -> None:
    def fail(_: str) -> str:
        raise ValueError("Meier")

    check_case("a", [raw(tmp_path / "Meier")], SETTINGS, fail, tmp_path / "a.tsv", tmp_path / "a.json")
    (row,) = read_tsv(tmp_path / "a.tsv", dtype=str).to_dict("records")
    assert row["code"] == "D101" and "Meier" not in row["message"]

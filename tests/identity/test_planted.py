"""A person planted in every text of raw data and in its files' names does not leave `convert`, even by an error."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_factory import nm, series, thorax_like, write, write_series
from planting import BORN, NAME, plant, traces

from ct2vq.cohort import Case, Cohort
from ct2vq.config import complete_config
from ct2vq.convert import convert_ct, convert_spect
from ct2vq.errors import DicomError
from ct2vq.files import read_json, read_tsv
from ct2vq.identity.guard import job_guard, job_source
from ct2vq.identity.job import open_job, where
from ct2vq.identity.sources import write_sources
from ct2vq.identity.store import study_store
from ct2vq.logs import private_stage

CONFIG = complete_config({"study": "planted"})
SHAPE = (6, 8, 7)


class Hospital:
    """A working directory with one planted case."""

    def __init__(self, folder: Path, patient_id: str = "p-1", case_id: str = "case-1") -> None:
        self.folder, self.case_id = folder, case_id
        self.root = Path("data/dicom") / f"{NAME}^Anna {BORN}"
        self.store = study_store(CONFIG)
        counts = np.random.default_rng(0).integers(0, 500, SHAPE)
        write_series(series(thorax_like(SHAPE)), Path("plain/ct"))
        write(nm(counts), Path("plain/perfusion/nm"))
        for path in Path("plain").rglob("*"):
            if path.is_file():
                plant(path, self.root / path.parent.name / f"{NAME}_{path.name}.dcm")
        sources = {volume: str(self.root / volume) for volume in ("ct", "perfusion")}
        write_sources(Cohort((Case(case_id, patient_id, sources),)), CONFIG, self.store)

    def files(self, volume: str) -> list[Path]:
        return sorted((self.root / volume).iterdir())

    def change(self, volume: str, **values: object) -> None:
        """Set attributes in all files of a volume."""
        for path in self.files(volume):
            data = pydicom.dcmread(path)
            for keyword, value in values.items():
                setattr(data, keyword, value)
            data.save_as(path)

    def convert(self, volume: str) -> None:
        """What the rule's script does."""
        out = Path("results")
        with private_stage(f"logs/{volume}.log") as curtain:
            job = open_job(self.store.folder, self.case_id, volume)
            curtain.cleaner = job
            target = () if volume == "ct" else (volume,)
            (convert_spect if target else convert_ct)(
                job_source(job),
                out / f"{volume}.nii.gz",
                out / f"{volume}.json",
                CONFIG["convert"],
                self.case_id,
                *target,
                guard=job_guard(job, out / f"{volume}_deidentified.tsv"),
            )

    def refused(self, volume: str, capfd: pytest.CaptureFixture) -> tuple[str, str]:
        """Log and stderr of a job that fails, in which she does not stand."""
        with pytest.raises(SystemExit) as ended:
            self.convert(volume)
        assert ended.value.code == 1
        log, said = Path(f"logs/{volume}.log").read_text(encoding="utf-8"), capfd.readouterr()
        Path("logs/terminal.log").write_text(said.out + said.err, encoding="utf-8")
        assert traces(Path("logs")) == []
        assert not Path(f"results/{volume}.nii.gz").exists()
        return log, said.err


@pytest.fixture
def hospital(tmp_path, monkeypatch) -> Hospital:
    monkeypatch.chdir(tmp_path)
    return Hospital(tmp_path)


def test_she_is_planted_and_can_be_found(hospital) -> None:
    files = [path for volume in ("ct", "perfusion") for path in hospital.files(volume)]
    assert {name for name in traces(Path("data/dicom")) if not name.endswith("(name)")} == {
        path.relative_to("data/dicom").as_posix() for path in files
    }
    data = pydicom.dcmread(files[0])
    assert all(
        NAME.lower() in str(data[keyword].value).lower() for keyword in ("PatientName", "Manufacturer", "ImageType")
    )


@pytest.mark.parametrize("volume", ["ct", "perfusion"])
def test_she_does_not_pass_convert(hospital, volume) -> None:
    hospital.convert(volume)
    assert traces(Path("results")) == traces(Path("logs")) == []
    sidecar = read_json(f"results/{volume}.json")
    assert sidecar["manufacturer"].startswith("other:") and sidecar["model"].startswith("other:")
    assert sidecar["manufacturer"] != sidecar["model"]
    original = pydicom.dcmread(hospital.files(volume)[0])
    text = json.dumps(sidecar)
    for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID", "StudyInstanceUID", "StudyDate"):
        assert str(original[keyword].value) not in text
    assert sidecar["series"] == hospital.store.pseudonym("uid", original.SeriesInstanceUID, 16)


def test_the_audit_table_names_every_attribute_and_no_value(hospital) -> None:
    hospital.convert("perfusion")
    table = read_tsv("results/perfusion_deidentified.tsv")
    assert list(table) == ["tag", "keyword", "vr", "objects", "profile", "done"]
    by_tag = table.set_index("tag")
    data = pydicom.dcmread(hospital.files("perfusion")[0], stop_before_pixels=True)
    for element in data:
        assert f"({element.tag.group:04x},{element.tag.element:04x})" in by_tag.index
    assert {"(0002,0016)", "(0054,0016)/(0018,0031)"} <= set(by_tag.index), (
        "file meta information and nested attributes"
    )
    assert "(7fe1,1010)" in by_tag.index, "what stands behind the pixels"
    private = table[table["keyword"] == "private"]
    assert len(private) >= 9 and set(private["done"]) == {"removed"} and set(private["profile"]) == {"X"}
    assert tuple(by_tag.loc["(0010,0010)", ["keyword", "profile", "done"]]) == ("PatientName", "Z", "removed")
    assert by_tag.loc["(0020,000e)", "done"] == "replaced by a keyed hash"
    assert (table["objects"] == 1).all()
    assert not table.duplicated(["tag", "vr"]).any()


def test_objects_are_counted(hospital) -> None:
    hospital.convert("ct")
    table = read_tsv("results/ct_deidentified.tsv")
    behind = table["tag"].str.startswith("(7fe1")
    assert set(table.loc[~behind, "objects"]) == {SHAPE[0]}
    assert set(table.loc[behind, "objects"]) == {1}, "looked for in the first file only"


def test_the_way_back_lies_in_the_private_folder_only(hospital) -> None:
    hospital.convert("ct")
    private = Path("private")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    relink = private / "relink" / "case-1_ct.json"
    assert stat.S_IMODE(relink.stat().st_mode) == 0o600
    back, sidecar = read_json(relink), read_json("results/ct.json")
    original = pydicom.dcmread(hospital.files("ct")[0])
    assert back["hashes"][sidecar["series"]] == original.SeriesInstanceUID
    assert {one["sop_instance"] for one in back["objects"]} == {
        pydicom.dcmread(p).SOPInstanceUID for p in hospital.files("ct")
    }
    assert set(back["remapped"]) == set(back["hashes"].values())
    assert NAME in back["patient_id"] and -3650 <= back["date_shift_days"] <= -1
    public = [
        path
        for path in hospital.folder.rglob("*")
        if path.is_file()
        and path.relative_to(hospital.folder).parts[0] not in ("private", ".ct2vq-private", "data", "plain")
    ]
    assert len(public) == 4
    for path in public:
        assert original.SeriesInstanceUID.encode() not in path.read_bytes()


def test_intervals_survive_the_shift_of_dates(hospital) -> None:
    hospital.change("ct", AcquisitionDate="20240229", AcquisitionTime="101112")
    hospital.change("perfusion", AcquisitionDate="20240302", AcquisitionTime="091112")
    for volume in ("ct", "perfusion"):
        hospital.convert(volume)
    ct, spect = (
        pd.Timestamp(read_json(f"results/{volume}.json")["acquired_shifted"]) for volume in ("ct", "perfusion")
    )
    assert spect - ct == pd.Timedelta(days=1, hours=23)
    assert pd.Timestamp("2014-03-01") < ct < pd.Timestamp("2024-02-29") and ct.strftime("%H%M%S") == "101112"


@pytest.mark.parametrize(
    ("stated", "told"), [("061Y", 61), ("089Y", 89), ("090Y", 90), ("101Y", 90), ("018M", 1), ("", None)]
)
def test_great_ages_are_not_told(hospital, stated, told) -> None:
    hospital.change("perfusion", PatientAge=stated, PatientSex="F", PatientWeight="70", PatientSize="1.6")
    hospital.convert("perfusion")
    patient = {"age_years": told, "sex": "F", "size_m": 1.6, "weight_kg": 70.0}
    assert read_json("results/perfusion.json")["patient"] == patient


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-180])  # the pixels are 112 bytes, what is planted behind them 60


def truncate_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rubbish(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300] + f"{NAME} was here ".encode() * 30)


@pytest.mark.parametrize("damage", [truncate, truncate_header, empty, rubbish])
def test_a_damaged_file_is_named_by_its_id_only(hospital, damage, capfd) -> None:
    broken = hospital.files("ct")[2]
    damage(broken)
    log, said = hospital.refused("ct", capfd)
    assert said.count("\n") == 1 and said.startswith("ct2vq: D")
    names = [word for word in log.replace(":", " ").replace(",", " ").split() if word in read_names()]
    assert str(broken) in {path for name in names for path in where(Path("private"), name)}


def read_names() -> set[str]:
    table = Path("private/names/case-1_ct.tsv")
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    return {line.split("\t")[0] for line in table.read_text(encoding="utf-8").splitlines()}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"RescaleType": f"{NAME} units"}, "D407"),
        ({"ImagePositionPatient": None, "PatientComments": NAME}, "D"),
        ({"BurnedInAnnotation": "YES"}, "D601"),
    ],
)
def test_messages_that_quote_a_header_do_not_quote_her(hospital, changes, code, capfd) -> None:
    hospital.change("ct", **changes)
    log, said = hospital.refused("ct", capfd)
    assert f"ct2vq: {code}" in said
    assert "Traceback" not in log + said


def test_an_unexpected_error_does_not_quote_her_either(hospital, monkeypatch, capfd) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"cannot stack {hospital.files('ct')[0]} of {NAME}^Anna^Q")

    monkeypatch.setattr("ct2vq.convert.read_ct", fail)
    log, said = hospital.refused("ct", capfd)
    assert "Traceback" in log and "unexpected error" in log
    assert said.count("\n") == 1 and "RuntimeError: cannot stack" in said


def test_what_libraries_write_to_stderr_is_cleaned_too(hospital, monkeypatch) -> None:
    import os

    from ct2vq.convert import read_ct

    def chatty(*arguments: object) -> object:
        os.write(2, f"WARNING: In gdcm.cxx, file {hospital.files('ct')[0]} of {NAME}\n".encode())
        return read_ct(*arguments)

    monkeypatch.setattr("ct2vq.convert.read_ct", chatty)
    hospital.convert("ct")
    log = Path("logs/ct.log").read_text(encoding="utf-8")
    assert "WARNING: In gdcm.cxx, file " in log
    assert traces(Path("logs")) == []


@pytest.mark.parametrize(
    ("ids", "header", "column"),
    [
        ({"case_id": "SECRET-ID"}, {"PatientID": "SECRET-ID"}, "case_id"),
        ({"patient_id": "hospital7-884112"}, {"PatientID": "0884112".lstrip("0")}, "patient_id"),
        ({"case_id": "lung-quimby-2"}, {"PatientName": "Quimby^Rosa"}, "case_id"),
        ({"patient_id": "ROSA7"}, {"OtherPatientNames": ["X^Rosa"]}, "patient_id"),
        ({"case_id": "acc-20231144"}, {"AccessionNumber": "20231144"}, "case_id"),
        ({"patient_id": "born1950-01-02"}, {"PatientBirthDate": "19500102"}, "patient_id"),
        ({"case_id": "7"}, {"PatientID": "7"}, "case_id"),
    ],
)
def test_an_id_that_tells_the_patient_is_refused(tmp_path, monkeypatch, ids, header, column, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    hospital = Hospital(tmp_path, **ids)
    hospital.change("perfusion", **header)
    _, said = hospital.refused("perfusion", capfd)
    assert "D602" in said and f"key {column}" in said and next(iter(header)) in said
    hospital.change("perfusion", PatientIdentityRemoved="YES")
    hospital.convert("perfusion")


@pytest.mark.parametrize("ids", [{"case_id": "case-17"}, {"patient_id": "p-ann"}, {"patient_id": "7b"}])
def test_a_pseudonym_with_a_short_piece_in_common_passes(tmp_path, monkeypatch, ids) -> None:
    monkeypatch.chdir(tmp_path)
    hospital = Hospital(tmp_path, **ids)
    hospital.change("perfusion", PatientID="7", PatientName="Li^Ann", AccessionNumber="17")
    hospital.convert("perfusion")


def test_convert_without_a_study_still_hashes_with_a_key(tmp_path) -> None:
    write_series(series(thorax_like(SHAPE)), tmp_path / "in")
    for name in ("one", "two"):
        convert_ct(tmp_path / "in", tmp_path / f"{name}.nii.gz", tmp_path / f"{name}.json", CONFIG["convert"], "x")
    one, two = (read_json(tmp_path / f"{name}.json") for name in ("one", "two"))
    assert one["series"] == two["series"], "volumes of one process can be compared"
    import hashlib

    uid = pydicom.dcmread(next((tmp_path / "in").iterdir())).SeriesInstanceUID
    assert one["series"] != hashlib.sha256(uid.encode()).hexdigest()[:16]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "one.nii.gz", "one.json", "two.nii.gz", "two.json"}


def test_burned_in_text_is_refused_for_apply_too(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    slices[3].BurnedInAnnotation = "YES"
    write_series(slices, tmp_path / "in")
    with pytest.raises(DicomError, match="D601"):
        convert_ct(tmp_path / "in", tmp_path / "o.nii.gz", tmp_path / "o.json", CONFIG["convert"], "x")

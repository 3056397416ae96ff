"""`ct2vq discover` on exports as they come from a PACS: the proposal is right, and what is open stays open."""

from __future__ import annotations

import csv
import os
import stat
from pathlib import Path
from shutil import copyfile

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_factory import nm, series, thorax_like, uid, write
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import MediaStorageDirectoryStorage
from typer.testing import CliRunner

from ct2vq import cli
from ct2vq.cohort import load_cohort
from ct2vq.config import complete_config
from ct2vq.digests import files_digest, folder_digest
from ct2vq.discover.resolve import resolve_source
from ct2vq.discover.run import Discovery, discover
from ct2vq.discover.table import escape, read_private, unescape, write_private
from ct2vq.errors import ConfigError
from ct2vq.files import read_tsv
from ct2vq.identity.store import Store
from ct2vq.simulate.dicom import ACQUISITIONS, HABITS, draw_identity, write_ct_series, write_spect

SETTINGS = complete_config({"study": "x"})["discover"]
REALDATA = Path(os.environ.get("CT2VQ_REALDATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
SECRETS = ("PLANTED", "Secret", "SECRET", "1950", "2024", "Thorax 1.0", "scan_of")


class Export:
    """A raw folder that grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw = folder / "raw"
        self.raw.mkdir()

    def discover(self, **changes) -> Discovery:
        store = Store(self.folder / "private", b"k" * 32)
        table = self.folder / "config" / "cases.tsv"
        inventory = self.folder / "results" / "discover" / "inventory.tsv"
        return discover(self.raw, SETTINGS | changes, store, table, 1, inventory)

    def ct(
        self, name: str, *, spacing_z: float = 10.0, extent: float = 200, session: str = "ct", number: str = "2", **tags
    ) -> list[Path]:
        array = thorax_like((round(extent / spacing_z), 4, 4))
        slices = series(array, spacing=(2, 2, spacing_z), number=number)
        return self.put(slices, name, session, number, **tags)

    def spect(self, name: str, drug: str, *, number: str = "3", instance: str = "1", **tags) -> list[Path]:
        data = nm(np.ones((6, 4, 4)))
        data.RadiopharmaceuticalInformationSequence[0].Radiopharmaceutical = drug
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid(name, drug, number, instance)
        return self.put([data], name, "spect", number, **tags)

    def put(self, images: list[Dataset], name: str, session: str, number: str, **tags) -> list[Path]:
        """Write images under a folder of PLANTED name, without extension; `tags` change every one."""
        paths = []
        for k, data in enumerate(images):
            patient = tags.get("PatientID", "SECRET-ID")
            data.StudyInstanceUID = uid("study", patient, session)
            data.SeriesInstanceUID = uid("series", patient, session, number)
            data.SOPInstanceUID = uid(data.SOPInstanceUID, patient, session, number, name)
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            data.FrameOfReferenceUID = uid("frame", patient, session)
            data.SeriesDescription = "PLANTED"
            data.AcquisitionDate, data.AcquisitionTime = "20240304", "101500"
            for keyword, value in tags.items():
                setattr(data, keyword, value)
            paths.append(write(data, self.raw / "PLANTED^NAME" / name / f"{k:08X}"))
        return paths

    def case(self, patient: str = "SECRET-ID") -> None:
        """A complete case: CT, attenuation CT in the SPECT's frame of reference, perfusion and ventilation."""
        self.ct("A/ct", PatientID=patient)
        self.ct("A/low", spacing_z=20, session="spect", number="9", PatientID=patient)
        self.spect("A/q", "99mTc-MAA", number="3", PatientID=patient)
        self.spect("A/v", "Technegas", number="4", PatientID=patient)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


def claims(found: Discovery) -> dict[str, str]:
    (case,) = found.cases
    assert not case.obstacle
    return {role: claim.cell for role, claim in case.claims.items()}


def folders_by_role(found: Discovery) -> dict[str, str]:
    """Folder of the series for every role that is decided."""
    return {role: Path(_first(found, cell)).parent.name for role, cell in claims(found).items() if cell}


def _first(found: Discovery, cell: str) -> str:
    return next(finding.series.entries[0].path for finding in found.findings if finding.series.cell == cell)


def proposal_rows(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t"))


# --- the proposal ------------------------------------------------------------------------------------------------


def test_a_mixed_export_gives_one_complete_case(export: Export) -> None:
    export.case()
    export.ct("A/scout", extent=10, number="1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    export.ct("A/mpr", number="7", ImageType=["DERIVED", "SECONDARY", "MPR"])
    for k, sop_class in enumerate(("1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.481.3")):
        report = series(thorax_like((1, 4, 4)), number=f"5{k}")[0]
        report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = sop_class
        export.put([report], f"A/object{k}", "ct", f"5{k}")
    directory = series(thorax_like((1, 4, 4)), number="60")[0]
    directory.file_meta.MediaStorageSOPClassUID = directory.SOPClassUID = MediaStorageDirectoryStorage
    write(directory, export.raw / "DICOMDIR")
    (export.raw / "readme.txt").write_text("PLANTED notes")
    (export.raw / "empty").touch()
    whole = next((export.raw / "PLANTED^NAME" / "A" / "ct").iterdir())
    (export.raw / "damaged").write_bytes(whole.read_bytes()[:150])
    found = export.discover()
    assert folders_by_role(found) == {"ct": "ct", "attenuation_ct": "low", "perfusion": "q", "ventilation": "v"}
    kinds = {finding.kind for finding in found.findings}
    assert {"ct", "localizer", "ct_reformat", "nm_recon", "sr", "rt"} <= kinds
    states = sorted(entry.facts.state for entry in found.scan.entries if entry.facts.state)
    assert states == ["damaged", "dicomdir", "empty", "not_dicom"]
    assert all(count == total for count, total in accounts(found))


def accounts(found: Discovery) -> list[tuple[int, int]]:
    """Files in series, as copies, and left out, beside all files."""
    listed = sum(len(f.series.entries) + f.series.copies for f in found.findings)
    left_out = sum(bool(entry.facts.state) for entry in found.scan.entries)
    return [(listed + left_out, len(found.scan.entries))]


def test_the_proposal_is_a_cohort(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    export.case()
    found = export.discover()
    monkeypatch.chdir(export.folder)
    cohort = load_cohort(complete_config({"study": "x"}))
    (case,) = cohort.cases
    assert case.targets == ("perfusion", "ventilation")
    assert dict(case.sources) == {role: cell for role, cell in claims(found).items() if cell}
    root, files = resolve_source(case.sources["ct"], Path("private"))
    assert root == export.raw
    assert sorted(files) == sorted((export.raw / "PLANTED^NAME" / "A" / "ct").iterdir())
    root, files = resolve_source(case.sources["perfusion"], Path("private"))
    assert files == (export.raw / "PLANTED^NAME" / "A" / "q" / "00000000",)


def test_an_unknown_series_stops_with_its_line(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    export.case()
    export.discover()
    monkeypatch.chdir(export.folder)
    table = export.folder / "config" / "cases.tsv"
    table.write_text("case_id\tpatient_id\tct\tperfusion\nc\tp\tseries:0123456789\tobject:0\n")
    with pytest.raises(ConfigError, match=r"line 2: `ct`.*`series:0123456789`.*run `ct2vq discover` again"):
        load_cohort(complete_config({"study": "x"}))
    (export.folder / "private" / "files.tsv").unlink()
    with pytest.raises(ConfigError, match="the inventory does not exist"):
        load_cohort(complete_config({"study": "x"}))


def test_a_table_that_is_there_is_never_touched(export: Export) -> None:
    export.case()
    table = export.folder / "config" / "cases.tsv"
    table.parent.mkdir()
    table.write_text("mine")
    assert export.discover().proposal.name == "cases.proposed.tsv"
    assert table.read_text() == "mine"


def test_the_checkouts_template_is_filled(export: Export) -> None:
    export.case()
    table = export.folder / "config" / "cases.tsv"
    table.parent.mkdir()
    table.write_text("case_id\tpatient_id\tct\tperfusion\n# a comment\n# case001\tp\tct\tq\n")
    assert export.discover().proposal == table
    assert len(proposal_rows(table)) == 1
    written = table.read_text()
    assert export.discover().proposal.name == "cases.proposed.tsv"
    assert table.read_text() == written


def test_links_that_lead_in_a_circle_are_files_that_cannot_be_read(export: Export) -> None:
    export.case()
    (export.raw / "one").symlink_to("two")
    (export.raw / "two").symlink_to("one")
    (export.raw / os.fsdecode(b"M\xfcller")).mkdir()
    copyfile(next((export.raw / "PLANTED^NAME/A/ct").iterdir()), export.raw / os.fsdecode(b"M\xfcller/\xff"))
    found = export.discover()
    assert [entry.facts.state for entry in found.scan.entries if entry.path in ("one", "two")] == ["unreadable"] * 2
    assert folders_by_role(found).keys() == {"ct", "attenuation_ct", "perfusion", "ventilation"}


def test_two_patients_of_one_name_stay_apart(export: Export) -> None:
    export.case("FIRST-ID")
    os.rename(export.raw / "PLANTED^NAME" / "A", export.raw / "PLANTED^NAME" / "B")
    export.case("SECOND-ID")
    cases = export.discover().cases
    assert len(cases) == len({case.patient_id for case in cases}) == 2
    cells = [claim.cell for case in cases for claim in case.claims.values() if claim.cell]
    assert len(set(cells)) == len(cells) == 8


def test_a_number_with_two_birth_dates_is_not_proposed(export: Export) -> None:
    export.case()
    export.ct("A/other", session="later", PatientBirthDate="19600101")
    found = export.discover()
    assert "several birth dates" in found.cases[0].obstacle
    assert proposal_rows(found.proposal) == []


def test_a_number_without_issuer_belongs_to_its_only_issuer(export: Export) -> None:
    export.ct("A/ct", IssuerOfPatientID="HOSPITAL")
    export.spect("A/q", "MAA")
    assert folders_by_role(export.discover()) == {"ct": "ct", "perfusion": "q"}


def test_corrected_and_uncorrected_in_one_series(export: Export) -> None:
    export.ct("A/ct")
    export.spect("A/ac", "MAA", instance="1", CorrectedImage=["ATTN", "DECY"])
    export.spect("A/nac", "MAA", instance="2", CorrectedImage=["DECY"])
    assert folders_by_role(export.discover())["perfusion"] == "ac"
    assert folders_by_role(export.discover(attenuation_correction="uncorrected"))["perfusion"] == "nac"
    asked = export.discover(attenuation_correction="ask")
    assert claims(asked)["perfusion"] == ""
    assert "perfusion is open, 2 candidates" in asked.proposal.read_text()


def test_equal_claims_are_listed_and_never_decided(export: Export) -> None:
    export.case()
    export.ct("A/lung", number="21", ConvolutionKernel="B70f")
    found = export.discover()
    (case,) = found.cases
    names = {Path(f.series.entries[0].path).parent.name for f in case.claims["ct"].candidates}
    assert names == {"ct", "lung"}
    (row,) = proposal_rows(found.proposal)
    assert row["ct"] == ""
    text = found.proposal.read_text()
    assert all(f"#     {f.series.cell}" not in row for f in case.claims["ct"].candidates)
    assert all(f.series.cell in text for f in case.claims["ct"].candidates)


@pytest.mark.parametrize(
    ("change", "chosen"),
    [
        ({"spacing_z": 5.0}, "other"),
        ({"spacing_z": 25.0}, "ct"),
        ({"AcquisitionDate": "20240201"}, "ct"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, "ct"),
        ({"extent": 100}, "ct"),
        ({"SeriesDescription": "Thorax expiration"}, "ct"),
        ({"BodyPartExamined": "HEAD"}, "ct"),
    ],
)
def test_the_better_ct_is_proposed(export: Export, change: dict, chosen: str) -> None:
    export.case()
    export.ct("A/other", number="21", **change)
    assert folders_by_role(export.discover())["ct"] == chosen


def test_a_ct_too_far_away_is_not_proposed(export: Export) -> None:
    export.ct("A/ct", AcquisitionDate="20200304")
    export.spect("A/q", "MAA")
    found = export.discover()
    assert "days away" in found.cases[0].obstacle
    assert proposal_rows(found.proposal) == []


def test_only_the_cameras_ct_is_no_diagnostic_ct(export: Export) -> None:
    export.ct("A/low", session="spect", number="9")
    export.spect("A/q", "MAA")
    (case,) = export.discover().cases
    assert not case.obstacle
    low = case.claims["attenuation_ct"].cell
    assert low and [each.series.cell for each in case.claims["ct"].candidates] == [low]
    proposal = export.folder / "config" / "cases.tsv"
    (row,) = proposal_rows(proposal)
    assert row["ct"] == "" and row["attenuation_ct"] == low and row["perfusion"]
    assert f"{low} " in proposal.read_text() and "may be used as `ct`" in proposal.read_text()


@pytest.mark.parametrize(
    ("drug", "description", "target"),
    [
        ("99mTc-MAA", "", "perfusion"),
        ("", "Lung perfusion AC", "perfusion"),
        ("", "VENT OSEM", "ventilation"),
        ("DTPA aerosol", "", "ventilation"),
        ("Kr-81m", "", "ventilation"),
        ("", "LUNG_Q_AC", "perfusion"),
    ],
)
def test_the_tracer_decides(export: Export, drug: str, description: str, target: str) -> None:
    export.ct("A/ct")
    export.spect("A/spect", drug, SeriesDescription=description)
    found = claims(export.discover())
    assert {name for name in ("perfusion", "ventilation") if found[name]} == {target}


@pytest.mark.parametrize(
    ("drug", "description"), [("", "V/Q SPECT"), ("", "OSEM AC"), ("MAA", "Ventilation"), ("Tc99m", "")]
)
def test_a_tracer_that_does_not_decide_is_open(export: Export, drug: str, description: str) -> None:
    export.ct("A/ct")
    export.spect("A/spect", drug, SeriesDescription=description)
    found = export.discover()
    assert claims(found)["perfusion"] == claims(found)["ventilation"] == ""
    assert found.cases[0].is_ambiguous
    assert "may show perfusion or not" in found.proposal.read_text()


def test_raw_planar_and_positron_images_have_no_role(export: Export) -> None:
    export.ct("A/ct")
    export.spect("A/raw", "MAA", number="5", ImageType=["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"])
    export.spect("A/planar", "MAA", number="6", ImageType=["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"])
    drug = Dataset()
    drug.Radiopharmaceutical, drug.RadionuclidePositronFraction = "MAA", "0.89"
    pet = series(np.ones((6, 4, 4), np.int16), modality="PT", number="7")
    export.put(pet, "A/pet", "spect", "7", RadiopharmaceuticalInformationSequence=Sequence([drug]))
    found = export.discover()
    assert found.cases == []
    assert {"nm_projections", "nm_planar", "pet"} <= {finding.kind for finding in found.findings}


def test_sessions_apart_are_cases_apart(export: Export) -> None:
    export.case()
    export.spect("A/q2", "MAA", number="31", AcquisitionDate="20240501", StudyInstanceUID=uid("second"))
    cases = export.discover().cases
    assert len(cases) == len({case.case_id for case in cases}) == 2
    assert len({case.patient_id for case in cases}) == 1


@pytest.mark.parametrize("habit", sorted(HABITS))
def test_simulated_hospitals_are_understood(export: Export, habit: str) -> None:
    rng = np.random.default_rng(3)
    who = draw_identity(3, "case", "P3", ("F", 60, 1.7, 70.0), rng, rng)
    image = sitk.Image((8, 8, 20), sitk.sitkInt16)
    image.SetSpacing((4, 4, 12))
    for role in ("ct", "attenuation_ct"):
        write_ct_series(image, export.raw / role, who, role, rng)
    for role in ("perfusion", "ventilation"):
        write_spect(image + 1, export.raw / role, who, role, HABITS[habit], ACQUISITIONS[role])
    found = export.discover()
    assert folders_by_role(found) == {role: role for role in ("ct", "attenuation_ct", "perfusion", "ventilation")}
    assert not found.cases[0].is_ambiguous


def test_scans_of_two_cameras_take_an_attenuation_ct_each(export: Export) -> None:
    export.case()
    own = {"session": "second", "FrameOfReferenceUID": uid("frame", "second"), "AcquisitionDate": "20240305"}
    export.ct("A/other_low", spacing_z=20, number="10", **own)
    for path in (export.raw / "PLANTED^NAME" / "A" / "v").iterdir():
        data = pydicom.dcmread(path)
        data.FrameOfReferenceUID = own["FrameOfReferenceUID"]
        data.save_as(path)
    found = export.discover()
    expected = {"attenuation_ct_perfusion": "low", "attenuation_ct_ventilation": "other_low"}
    assert folders_by_role(found) == expected | {"ct": "ct", "perfusion": "q", "ventilation": "v"}
    (row,) = proposal_rows(found.proposal)
    assert row["attenuation_ct"] == ""
    assert row["attenuation_ct_perfusion"] != row["attenuation_ct_ventilation"]


def test_two_cts_in_one_frame_stay_open(export: Export) -> None:
    export.case()
    export.ct("A/other_low", spacing_z=20, session="spect", number="10")
    assert folders_by_role(export.discover()).keys() == {"ct", "perfusion", "ventilation"}
    assert "attenuation_ct is open, 2 candidates" in export.discover().proposal.read_text()


def test_another_sessions_attenuation_ct_is_no_diagnostic_ct(export: Export) -> None:
    export.case()
    later = {"AcquisitionDate": "20240404", "session": "second"}
    export.ct("A/later_low", number="41", spacing_z=5, **later)
    export.put([nm(np.ones((6, 4, 4)))], "A/later_q", number="42", **later)
    cases = export.discover().cases
    chosen = [Path(case.claims["ct"].chosen.series.entries[0].path).parent.name for case in cases]
    assert chosen == ["ct", "ct"]


# --- series ------------------------------------------------------------------------------------------------------


def test_copies_count_once_and_the_whole_one_wins(export: Export) -> None:
    export.case()
    first, second = export.ct("A/ct")[:2]
    copyfile(first, export.raw / "copy_of_a_slice")
    (export.raw / "AA_cut_off").write_bytes(second.read_bytes()[:-10])
    found = export.discover()
    (ct,) = [f for f in found.findings if f.series.cell == claims(found)["ct"]]
    assert (len(ct.series.entries), ct.series.copies) == (20, 2)
    _, files = resolve_source(ct.series.cell, export.folder / "private")
    assert second in files
    assert export.raw / "AA_cut_off" not in files
    assert len(files) == 20


def test_one_uid_for_different_images_is_said(export: Export) -> None:
    export.case()
    export.ct("A/ct", SOPInstanceUID=uid("same"))
    found = export.discover()
    (ct,) = [f for f in found.findings if f.series.slices == 20 and f.kind == "ct"]
    assert "20 image(s) share their UID with a different image" in ct.reasons


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "ImageType", "ConvolutionKernel", "ImageOrientationPatient"])
def test_stacks_of_one_series_are_told_apart(export: Export, keyword: str) -> None:
    values = {
        "AcquisitionNumber": (1, 2),
        "ImageType": (["ORIGINAL", "PRIMARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"]),
        "ConvolutionKernel": ("B30f", "B70f"),
        "ImageOrientationPatient": ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]),
    }[keyword]
    for k, value in enumerate(values):
        export.ct(f"A/stack{k}", number="2", **{keyword: value})
    stacks = export.discover().findings
    assert len({finding.series.cell for finding in stacks}) == 2
    assert [len(finding.series.entries) for finding in stacks] == [20, 20]


def test_an_acquisition_number_for_each_slice_does_not_split(export: Export) -> None:
    paths = export.ct("A/ct")
    for k, path in enumerate(paths):
        data = pydicom.dcmread(path)
        data.AcquisitionNumber = k
        data.save_as(path)
    (finding,) = export.discover().findings
    assert finding.series.slices == 20


# --- the inventory -----------------------------------------------------------------------------------------------


def test_only_what_changed_is_read_again(export: Export) -> None:
    export.case()
    first = export.discover()
    total = len(first.scan.entries)
    assert (first.scan.read, first.scan.kept, first.scan.vanished) == (total, 0, 0)
    tables = [export.folder / "private" / "files.tsv", export.folder / "results" / "discover" / "inventory.tsv"]
    before = [table.read_bytes() for table in tables]
    second = export.discover()
    assert (second.scan.read, second.scan.kept, second.scan.vanished) == (0, total, 0)
    assert [table.read_bytes() for table in tables] == before
    one, other = sorted((export.raw / "PLANTED^NAME" / "A" / "ct").iterdir())[:2]
    one.unlink()
    os.utime(other)
    (export.raw / "new").write_text("text")
    third = export.discover()
    assert (third.scan.read, third.scan.kept, third.scan.vanished) == (2, total - 2, 1)
    os.rename(export.raw, export.folder / "moved")
    export.raw = export.folder / "moved"
    fourth = export.discover()
    assert fourth.scan.read == 0
    assert claims(fourth) == claims(third)


def test_nothing_that_identifies_is_public(export: Export) -> None:
    export.case()
    export.ct("A/lung", number="21", ConvolutionKernel="PLANTED", Modality="CT", StudyDescription="PLANTED")
    odd = series(thorax_like((1, 4, 4)), number="8")[0]
    odd.SOPClassUID = odd.file_meta.MediaStorageSOPClassUID = "1.2.3.19500102"
    export.put([odd], "A/odd", "ct", "8", Modality="PLANTED", ImageType=["PLANTED"])
    (export.raw / "scan_of_PLANTED.txt").write_text("PLANTED")
    found = export.discover()
    public = [path for path in export.folder.rglob("*") if path.is_file()]
    public = [path for path in public if not path.is_relative_to(export.raw) and "private" not in path.parts]
    assert {path.name for path in public} == {"inventory.tsv", "cases.tsv"}
    for path in public:
        text = path.read_text()
        assert not [secret for secret in SECRETS if secret in text]
        assert str(uid("study", "SECRET-ID", "ct")) not in text
    inventory = read_tsv(export.folder / "results" / "discover" / "inventory.tsv")
    assert inventory["files"].sum() + inventory["copies"].fillna(0).replace("", 0).astype(int).sum() == len(
        found.scan.entries
    )


def test_private_tables_are_private(export: Export) -> None:
    export.case()
    export.discover()
    private = export.folder / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    for name in ("files.tsv", "candidates.tsv"):
        assert stat.S_IMODE((private / name).stat().st_mode) == 0o600
    candidates = (private / "candidates.tsv").read_text()
    assert "PLANTED" in candidates
    assert "20240304" in candidates


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_cell_holds_any_text(text: str) -> None:
    cell = escape(text)
    assert not set(cell) & set("\t\n\r")
    assert unescape(cell) == text


def test_paths_with_odd_characters_come_back(tmp_path: Path) -> None:
    odd = os.fsdecode(b"a\tb\nc\\d\xff")
    write_private(tmp_path / "t.tsv", "root\n", ["path"], [[odd]])
    comment, _, (cell,) = read_private(tmp_path / "t.tsv")
    assert (comment, unescape(cell)) == (["root\n"], odd)


def test_processes_agree_with_one(export: Export) -> None:
    export.case()
    alone = export.discover()
    (export.folder / "private" / "files.tsv").unlink()
    store = Store(export.folder / "private", b"k" * 32)
    together = discover(export.raw, SETTINGS, store, export.folder / "t.tsv", 2, export.folder / "i.tsv")
    assert together.scan.read == alone.scan.read
    assert together.scan.entries == alone.scan.entries


# --- command, digest, real files ---------------------------------------------------------------------------------


def test_the_command(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    export.case()
    monkeypatch.chdir(export.folder)
    done = CliRunner().invoke(cli.app, ["discover", "raw", "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert "1 of 1 case(s) are complete as proposed: config/cases.tsv" in done.stdout
    assert not [secret for secret in SECRETS if secret in done.stdout]
    again = CliRunner().invoke(cli.app, ["discover", "raw", "--jobs", "1"])
    assert "0 read, " in again.stdout
    assert "cp config/cases.proposed.tsv config/cases.tsv" in " ".join(again.stdout.split())
    wrong = CliRunner().invoke(cli.app, ["discover", "nowhere"])
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith("ct2vq: file nowhere")


def test_a_folder_without_a_case_leaves_the_table_alone(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    (export.raw / "note.txt").write_text("nothing here")
    template = export.folder / "config" / "cases.tsv"
    template.parent.mkdir(exist_ok=True)
    template.write_text("case_id\tpatient_id\tct\n# an example\n")
    monkeypatch.chdir(export.folder)
    done = CliRunner().invoke(cli.app, ["discover", "raw", "--jobs", "1"])
    assert done.exit_code == 1
    assert "no reconstructed SPECT of a patient is in it: no cohort table was written" in done.stderr
    assert template.read_text() == "case_id\tpatient_id\tct\n# an example\n"
    assert [path.name for path in template.parent.iterdir()] == ["cases.tsv"]


def test_a_wrong_pattern_names_its_key(export: Export) -> None:
    with pytest.raises(ConfigError, match=r"discover\.patterns\.perfusion"):
        export.discover(patterns=SETTINGS["patterns"] | {"perfusion": "("})


def test_the_digest_of_files_follows_contents_only(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text(path.name)
    cache = tmp_path / "cache"
    digest = files_digest(paths, cache)
    assert folder_digest((tmp_path, tuple(paths)), cache) == digest
    assert files_digest(paths[::-1], cache) == digest
    moved = [path.rename(tmp_path / f"PLANTED{path.name}") for path in paths]
    assert files_digest(moved, cache) == digest
    moved[0].write_text("other")
    assert files_digest(moved, cache) != digest
    moved[1].unlink()
    assert files_digest(moved, cache) == "missing"
    assert not [path for path in cache.iterdir() if "PLANTED" in path.read_text()]


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real images at {REALDATA}")
@pytest.mark.parametrize("name", ["awkward_dicom", "cip_chest_ct64", "mirp_LUNG1-001_ct", "pet_wholebody"])
def test_every_real_file_is_accounted_for(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "private", b"k" * 32)
    found = discover(REALDATA / name, SETTINGS, store, tmp_path / "cases.tsv", 1, tmp_path / "inventory.tsv")
    assert len(found.scan.entries) == sum(path.is_file() for path in (REALDATA / name).rglob("*"))
    assert all(count == total for count, total in accounts(found))
    assert found.scan.read == len(found.scan.entries)


def test_rows_that_are_comments_are_mentioned(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    export.ct("A/ct", AcquisitionDate="20200304")
    export.spect("A/q", "MAA")
    export.discover()
    monkeypatch.chdir(export.folder)
    with pytest.raises(ConfigError, match=r"no rows.*the 1 that begin with `#` are not read"):
        load_cohort(complete_config({"study": "x"}))

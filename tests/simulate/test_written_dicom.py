"""Written DICOM: valid, readable by the field's tools, right in place and value, and full of invented identities."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import PositronEmissionTomographyImageStorage

from ct2vq.config import complete_config
from ct2vq.convert import convert_ct, convert_spect
from ct2vq.dicom.pixels import stored_values
from ct2vq.errors import ConfigError, GeometryError
from ct2vq.files import read_json, sha256_file
from ct2vq.simulate import dicom
from ct2vq.simulate.dicom import ACQUISITIONS, HABITS, Acquisition, CtProtocol, write_ct_series, write_spect
from ct2vq.simulate.identity import ROLES, TOKEN, Identity, planted_identities
from ct2vq.volume import corners, from_array, make_grid, read_volume, to_array

CONVERT = complete_config({"study": "tests"})["convert"]
CONTRAST = CtProtocol("SHARP", thickness_mm=3.0, contrast_agent="Iomeprol 350", kvp=100.0, mas=75.0)
SPECT_GRID = make_grid((20, 24, 12), (4.0, 5.0, 6.5), (-40.1, -50.2, 300.3))
CT_GRID = make_grid((40, 32, 9), (0.9765625, 1.25, 2.5), (-50.123, -60.2, 310.3))
GRIDS = {role: CT_GRID if "ct" in role else SPECT_GRID for role in ROLES}
every_habit = pytest.mark.parametrize("habit", HABITS)
every_role = pytest.mark.parametrize("role", ROLES)

#: attributes of PS3.15 Table E.1-1 (Basic Profile) that every object carries with an invented text
IDENTIFYING = """
    AccessionNumber AdditionalPatientHistory AdmissionID AdmittingDiagnosesDescription Allergies BranchOfService
    CommentsOnThePerformedProcedureStep ConsultingPhysicianName CountryOfResidence CurrentPatientLocation
    DeviceSerialNumber EthnicGroup GantryID ImageComments ImagingServiceRequestComments InstitutionAddress
    InstitutionName InstitutionalDepartmentName InsurancePlanIdentification IssuerOfPatientID MedicalAlerts
    MedicalRecordLocator MilitaryRank NameOfPhysiciansReadingStudy NamesOfIntendedRecipientsOfResults Occupation
    OperatorsName OrderCallbackPhoneNumber OrderEnteredBy OtherPatientIDs OtherPatientNames PatientAddress
    PatientBirthName PatientComments PatientID PatientInstitutionResidence PatientMotherBirthName PatientName
    PatientReligiousPreference PatientState PatientTelecomInformation PatientTelephoneNumbers PerformedLocation
    PerformedProcedureStepDescription PerformedProcedureStepID PerformedStationAETitle PerformedStationName
    PerformingPhysicianName PhysiciansOfRecord ProtocolName ReferringPhysicianAddress ReferringPhysicianName
    ReferringPhysicianTelephoneNumbers RegionOfResidence RequestedProcedureComments RequestedProcedureDescription
    RequestingPhysician RequestingService ResponsibleOrganization ResponsiblePerson SeriesDescription
    ServiceEpisodeDescription ServiceEpisodeID SpecialNeeds StationName StudyDescription StudyID VisitComments
"""
#: sequences of that table with a text inside
IDENTIFYING_SEQUENCES = """
    ConsultingPhysicianIdentificationSequence ContributingEquipmentSequence IssuerOfAdmissionIDSequence
    OperatorIdentificationSequence OriginalAttributesSequence OtherPatientIDsSequence
    PerformingPhysicianIdentificationSequence PhysiciansOfRecordIdentificationSequence
    PhysiciansReadingStudyIdentificationSequence ReferringPhysicianIdentificationSequence RequestAttributesSequence
"""


@dataclass(frozen=True)
class Written:
    """What was written for each habit and role, and what should be read back."""

    root: Path
    who: Identity
    images: dict[str, sitk.Image]

    def folder(self, habit: str, role: str) -> Path:
        return self.root / habit / role

    def files(self, habit: str, role: str) -> list[Path]:
        return sorted(self.folder(habit, role).iterdir())

    def expected(self, habit: str, role: str) -> sitk.Image:
        """The written image in the units of the habit."""
        if "ct" in role:
            return self.images[role]
        factor = dicom.units_per_count(self.images[role], HABITS[habit], ACQUISITIONS[role])
        return sitk.Cast(self.images[role], sitk.sitkFloat64) * factor


def invent(case_id: str = "case-1") -> Identity:
    """A patient."""
    person = ("F", 61, 165.0, 70.0)
    return dicom.draw_identity(1, case_id, "P-1", person, np.random.default_rng(0), np.random.default_rng(1))


def draw_images() -> dict[str, sitk.Image]:
    """Images without any symmetry: whole counts for perfusion, fractions of counts for ventilation."""
    rng = np.random.default_rng(2)
    shapes = {role: tuple(reversed(grid.GetSize())) for role, grid in GRIDS.items()}
    hu = {role: rng.integers(-1024, 1500, shapes[role]).astype(np.int16) for role in ("ct", "attenuation_ct")}
    counts = rng.integers(0, 3000, shapes["perfusion"])
    counts[:, 5, 5] = 3000 + 100 * np.arange(len(counts))  # each slice has its own maximum
    parts = {"perfusion": counts.astype(np.uint16), "ventilation": (counts[:, ::-1] * 0.37).astype(np.float32)}
    return {role: from_array(array, GRIDS[role]) for role, array in (hu | parts).items()}


def write_all(root: Path, who: Identity, images: dict[str, sitk.Image]) -> None:
    """Each image in each habit; the diagnostic CT with contrast."""
    for name, habit in HABITS.items():
        for role in ("ct", "attenuation_ct"):
            rng, protocol = np.random.default_rng(3), CONTRAST if role == "ct" else None
            write_ct_series(images[role], root / name / role, who, role, rng, habit, protocol)
        for role in ("ventilation", "perfusion"):
            write_spect(images[role], root / name / role, who, role, habit, ACQUISITIONS[role])


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    """All roles in all habits."""
    result = Written(tmp_path_factory.mktemp("written"), invent(), draw_images())
    write_all(result.root, result.who, result.images)
    return result


def as_converted(written: Written, habit: str, role: str, folder: Path) -> tuple[sitk.Image, dict]:
    """Volume and sidecar that the workflow makes of what was written."""
    volume, sidecar, source = folder / "v.nii.gz", folder / "v.json", written.folder(habit, role)
    if "ct" in role:
        convert_ct(source, volume, sidecar, CONVERT, "case-1")
    else:
        convert_spect(source, volume, sidecar, CONVERT, "case-1", role)
    return read_volume(volume), read_json(sidecar)


def values_where(image: sitk.Image, grid: sitk.Image) -> np.ndarray:
    """Values of `image` at the voxels of `grid` (z, y, x), which must be voxels of `image` too, to 1e-3 mm."""
    assert sorted(image.GetSize()) == sorted(grid.GetSize())
    for corner in corners(grid):
        index = np.array(image.TransformPhysicalPointToContinuousIndex(corner.tolist()))
        assert np.abs((index - np.rint(index)) * image.GetSpacing()).max() < 1e-3
    return to_array(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, -1e9))


def relative_error(found: np.ndarray, expected: sitk.Image) -> float:
    """Largest difference in units of the largest value."""
    known = to_array(expected).astype(np.float64)
    return float(np.abs(found - known).max() / np.abs(known).max())


# --- valid ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@every_habit
@every_role
def test_every_object_conforms_to_its_iod(written, habit, role):
    for path in written.files(habit, role):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        lines = (said.stdout + said.stderr).splitlines()
        assert not [line for line in lines if line.startswith("Error")], path.name
        assert {"CTImage", "NMImage", "PETImage"} & set(lines), "not recognised as an image"


@every_habit
@every_role
def test_same_seed_same_bytes(written, habit, role, tmp_path_factory):
    again = tmp_path_factory.getbasetemp() / "again"
    if not again.exists():
        write_all(again, invent(), draw_images())
    digests = {p.name: sha256_file(p) for p in written.files(habit, role)}
    assert digests == {p.name: sha256_file(p) for p in (again / habit / role).iterdir()}


def test_habits_cover_every_way_of_storing():
    assert {h.spect for h in HABITS.values()} == {"detector", "descending", "top_level", "pt"}
    assert {h.ct_compression for h in HABITS.values()} == {"none", "rle", "jpeg_lossless", "jpeg2000"}
    assert {h.units for h in HABITS.values()} == {"CNTS", "BQML"}
    assert all(h.spect == "pt" for h in HABITS.values() if h.units == "BQML")  # NM objects have no Units


@every_habit
def test_compressed_ct_is_smaller_and_says_how_it_is_encoded(tmp_path, written, habit):
    smooth = sitk.Cast(sitk.SmoothingRecursiveGaussian(written.images["ct"], 3.0), sitk.sitkInt16)
    write_ct_series(smooth, tmp_path / "ct", written.who, "ct", np.random.default_rng(0), HABITS[habit])
    for path in (tmp_path / "ct").iterdir():
        header = pydicom.dcmread(path)
        assert header.file_meta.TransferSyntaxUID == dicom._SYNTAXES[HABITS[habit].ct_compression]
        assert header.file_meta.TransferSyntaxUID.is_compressed == (HABITS[habit].ct_compression != "none")
        if header.file_meta.TransferSyntaxUID.is_compressed:
            assert len(header.PixelData) < 2 * header.Rows * header.Columns


# --- readable ------------------------------------------------------------------------------------------------------


@every_habit
@every_role
def test_convert_gives_the_written_voxels_in_their_places(written, habit, role, tmp_path):
    image, sidecar = as_converted(written, habit, role, tmp_path)
    expected = written.expected(habit, role)
    assert image.GetSize() == expected.GetSize()
    assert np.abs(corners(image) - corners(expected)).max() < 1e-3
    assert relative_error(to_array(image), expected) < (1e-9 if "ct" in role else 2e-5)
    units = "HU" if "ct" in role else {"CNTS": "counts", "BQML": "Bq/mL"}[HABITS[habit].units]
    assert sidecar["units"] == units
    assert sidecar["manufacturer"] == HABITS[habit].manufacturer
    thickness = ["W304 SliceThickness is 3 mm, but the positions lie 2.5 mm apart: positions used"]
    assert sidecar["warnings"] == (thickness if role == "ct" else [])
    if "ct" not in role:
        assert sidecar["attenuation_corrected"] and sidecar["radiopharmaceutical"] == dicom.TRACERS[role].name


@every_habit
@every_role
def test_pydicom_decodes_every_slice(written, habit, role):
    """Of JPEG lossless pydicom has no decoder without a plugin: there the reader of ct2vq takes GDCM's."""
    scaled = []
    for path in written.files(habit, role):
        data = pydicom.dcmread(path)
        syntax = data.file_meta.TransferSyntaxUID
        stored = stored_values(data, path) if syntax == dicom.JPEGLosslessSV1 else data.pixel_array
        position = data.get("ImagePositionPatient") or data.DetectorInformationSequence[0].ImagePositionPatient
        slope = float(data.get("RescaleSlope", 1))
        if "RealWorldValueMappingSequence" in data:
            slope = float(data.RealWorldValueMappingSequence[0].RealWorldValueSlope)
        scaled.append((float(position[2]), stored * slope + float(data.get("RescaleIntercept", 0))))
    array = np.stack([values for _, values in sorted(scaled, key=lambda pair: pair[0])]).squeeze()
    if HABITS[habit].spect == "descending" and "ct" not in role:
        array = array[::-1]
    assert relative_error(array, written.expected(habit, role)) < (1e-9 if "ct" in role else 2e-5)


def nm_scale(written: Written, habit: str, role: str) -> float:
    """What an NM object's stored values must be multiplied with; other readers than ct2vq's do not look for it."""
    data = pydicom.dcmread(written.files(habit, role)[0], stop_before_pixels=True)
    maps = data.get("RealWorldValueMappingSequence")
    return float(maps[0].RealWorldValueSlope) if maps else 1.0


@every_habit
@every_role
def test_simpleitk_reads_voxels_and_geometry(written, habit, role):
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(written.folder(habit, role)))
    image = sitk.ReadImage(names if len(names) > 1 else names[0], sitk.sitkFloat64) * nm_scale(written, habit, role)
    expected = written.expected(habit, role)
    if HABITS[habit].spect == "top_level" and "ct" not in role:
        # GDCM looks for an NM object's geometry in the detector's item only, which is empty here.
        found = to_array(image)
        assert np.allclose(image.GetSpacing()[:2], expected.GetSpacing()[:2])
    else:
        found = values_where(image, expected)
    assert relative_error(found, expected) < 2e-5


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@every_habit
@every_role
def test_dcm2niix_reads_voxels_and_geometry(written, habit, role, tmp_path):
    command = ["dcm2niix", "-z", "y", "-f", "v", "-o", str(tmp_path), str(written.folder(habit, role))]
    subprocess.run(command, capture_output=True, check=True)
    volumes = sorted(tmp_path.glob("*.nii.gz"))
    assert len(volumes) == 1
    image = sitk.ReadImage(str(volumes[0]), sitk.sitkFloat64) * nm_scale(written, habit, role)
    expected = written.expected(habit, role)
    if HABITS[habit].spect == "descending" and "ct" not in role:
        # dcm2niix takes a negative SpacingBetweenSlices for a positive one: the volume stands upside down, on its head.
        top = SPECT_GRID.TransformIndexToPhysicalPoint((0, 0, SPECT_GRID.GetSize()[2] - 1))
        wrong = make_grid(SPECT_GRID.GetSize(), SPECT_GRID.GetSpacing(), top)
        found = values_where(image, wrong)[::-1]
    else:
        found = values_where(image, expected)
    assert relative_error(found, expected) < 2e-5


@settings(max_examples=20)
@given(
    habit=st.sampled_from(sorted(HABITS)),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 9)] * 3),
    peak=st.sampled_from([1.0, 0.004, 700.0, 65535.0, 65536.0, 4.0e6]),
    whole=st.booleans(),
)
def test_any_grid_and_any_counts_come_back(tmp_path_factory, habit, origin, spacing, peak, whole):
    root = tmp_path_factory.mktemp("any")
    values = np.random.default_rng(0).random((3, 4, 5)) * peak
    values[0, 0, 0], values[2] = peak, 0  # an empty slice has a slope too
    grid = make_grid((5, 4, 3), spacing, origin)
    image = from_array(np.ceil(values).astype(np.uint32) if whole else values.astype(np.float32), grid)
    write_spect(image, root / "in", invent(), "perfusion", HABITS[habit], ACQUISITIONS["perfusion"])
    convert_spect(root / "in", root / "v.nii.gz", root / "v.json", CONVERT, "c", "perfusion")
    found = read_volume(root / "v.nii.gz")
    factor = dicom.units_per_count(image, HABITS[habit], ACQUISITIONS["perfusion"])
    assert np.abs(corners(found) - corners(image)).max() < 1e-3
    assert relative_error(to_array(found), sitk.Cast(image, sitk.sitkFloat64) * factor) < 2e-5
    if whole and peak <= 65535 and HABITS[habit].spect != "pt":
        assert np.array_equal(to_array(found), to_array(image))


def test_a_mirrored_volume_is_refused(tmp_path):
    mirrored = make_grid((5, 4, 3), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, -1))
    with pytest.raises(GeometryError, match="left-handed"):
        write_spect(mirrored + 1, tmp_path / "q", invent(), "perfusion", HABITS["camera_a"], ACQUISITIONS["perfusion"])


# --- headers -------------------------------------------------------------------------------------------------------


def header(written: Written, habit: str, role: str) -> pydicom.Dataset:
    """The header of one object."""
    return pydicom.dcmread(written.files(habit, role)[0], stop_before_pixels=True)


def test_nm_geometry_stands_where_the_habit_puts_it(written):
    for name, habit in HABITS.items():
        if habit.spect == "pt":
            continue
        data = header(written, name, "perfusion")
        detector = data.DetectorInformationSequence[0]
        assert ("ImagePositionPatient" in data) == (habit.spect == "top_level")
        assert bool(detector.get("ImagePositionPatient")) == (habit.spect != "top_level")
        assert (data.SpacingBetweenSlices < 0) == (habit.spect == "descending")


@every_habit
def test_pt_slices_each_have_their_own_slope(written, habit):
    if HABITS[habit].spect != "pt":
        assert len(written.files(habit, "perfusion")) == 1
        return
    slices = [pydicom.dcmread(p, stop_before_pixels=True) for p in written.files(habit, "perfusion")]
    assert {s.SOPClassUID for s in slices} == {PositronEmissionTomographyImageStorage}
    assert len(slices) == slices[0].NumberOfSlices == len({float(s.RescaleSlope) for s in slices})
    assert {s.Units for s in slices} == {HABITS[habit].units}
    heights = [float(s.ImagePositionPatient[2]) for s in sorted(slices, key=lambda s: s.InstanceNumber)]
    assert all(upper > lower for upper, lower in pairwise(heights))
    in_order_of_names = [float(s.ImagePositionPatient[2]) for s in slices]
    assert in_order_of_names not in (heights, heights[::-1])


@every_habit
def test_times_and_doses_tell_one_story(written, habit):
    """Ventilation is over before the perfusion's tracer is given; durations and doses are those of the acquisitions."""
    ended = None
    for role in ("ventilation", "perfusion"):
        data, taken = header(written, habit, role), ACQUISITIONS[role]
        drug = data.RadiopharmaceuticalInformationSequence[0]
        start, given_at, made = (
            datetime.strptime(data.AcquisitionDate + clock, "%Y%m%d%H%M%S")
            for clock in (data.AcquisitionTime, drug.RadiopharmaceuticalStartTime, data.ContentTime)
        )
        assert given_at <= start < made
        assert start - given_at == timedelta(minutes=taken.start_minutes - taken.given_minutes)
        assert given_at - written.who.spect_time == timedelta(minutes=taken.given_minutes)
        assert ended is None or ended < given_at
        ended = start + timedelta(seconds=taken.duration_s)
        assert made > ended
        if data.Modality == "NM":
            turn = data.RotationInformationSequence[0]
            assert turn.ActualFrameDuration / 1000 * turn.NumberOfFramesInRotation / taken.heads == taken.duration_s
            assert float(turn.AngularStep) * turn.NumberOfFramesInRotation == pytest.approx(360)
            assert float(drug.RadionuclideTotalDose) == taken.activity_mbq
            assert data.CountsAccumulated == int(to_array(written.images[role]).sum(dtype=np.float64))
        else:
            assert data.ActualFrameDuration / 1000 == taken.duration_s
            assert float(drug.RadionuclideTotalDose) == taken.activity_mbq * 1e6
            assert 0.49 < float(data.FrameReferenceTime) / data.ActualFrameDuration < 0.5


def test_usual_count_rates_let_perfusion_outshine_ventilation():
    """At least threefold, with the usual counts: what is left of ventilation in the perfusion image stays small."""
    rate = {r: c / ACQUISITIONS[r].duration_s for r, c in {"perfusion": 5e6, "ventilation": 2e6}.items()}
    assert rate["perfusion"] / rate["ventilation"] >= 3


def test_units_per_count_is_activity_over_sensitivity():
    """1 MBq in one voxel of 1 mL, seen for 100 s by two heads without decay to speak of, gives 1e6 Bq/mL."""
    voxel = make_grid((1, 1, 1), (10, 10, 10), (0, 0, 0))
    taken = Acquisition(1.0, 0, 0, views=100, view_seconds=2.0)
    counts = 2 * dicom.SENSITIVITY_CPS_PER_MBQ * taken.duration_s
    assert counts * dicom.units_per_count(voxel, HABITS["camera_e"], taken) == pytest.approx(1e6, rel=2e-3)
    assert dicom.units_per_count(voxel, HABITS["camera_d"], taken) == 1


def test_decay_factor_undoes_decay():
    taken = Acquisition(100.0, 0, 0, views=120, view_seconds=2 * dicom.TC99M_HALF_LIFE_S / 120)
    assert taken.duration_s == pytest.approx(dicom.TC99M_HALF_LIFE_S)
    t = (np.arange(100_000) + 0.5) / 100_000
    assert taken.decay_factor == pytest.approx(1 / np.mean(0.5**t), rel=1e-6)


@pytest.mark.parametrize("wrong", [{"given_minutes": 20}, {"given_minutes": -1}, {"views": 121}])
def test_impossible_acquisitions_are_refused(wrong):
    with pytest.raises(ConfigError):
        Acquisition(**{"activity_mbq": 100.0, "given_minutes": 0, "start_minutes": 10} | wrong)


@every_habit
def test_ct_headers_follow_the_protocol(written, habit):
    data, plain = header(written, habit, "ct"), header(written, habit, "attenuation_ct")
    assert (data.ConvolutionKernel, data.ContrastBolusAgent) == ("SHARP", "Iomeprol 350")
    assert (float(data.SliceThickness), float(data.KVP), data.Exposure) == (3.0, 100.0, 75)
    assert data.XRayTubeCurrent * data.ExposureTime / 1000 == data.Exposure
    assert float(plain.SliceThickness) == 2.5 and "ContrastBolusAgent" not in plain
    assert plain.FrameOfReferenceUID == header(written, habit, "perfusion").FrameOfReferenceUID
    assert plain.FrameOfReferenceUID != data.FrameOfReferenceUID
    years = (written.who.ct_time - datetime.strptime(data.PatientBirthDate, "%Y%m%d")).days / 365.25
    assert data.PatientAge == f"{int(years):03d}Y"


# --- identities ----------------------------------------------------------------------------------------------------


def texts(data: pydicom.Dataset) -> list[tuple[str, str, str]]:
    """(keyword, VR, text) of all values in an object and in what is nested in it."""
    found = []
    for element in data.iterall():
        for value in element.value if element.VM > 1 else [element.value]:
            text = value.decode(errors="replace").rstrip("\0") if isinstance(value, bytes) else str(value)
            if element.VR != "SQ":
                found.append((element.keyword, element.VR, text))
    return found


@every_habit
@every_role
def test_every_identifying_attribute_holds_an_invented_identity(written, habit, role):
    data = header(written, habit, role)
    for keyword in IDENTIFYING.split():
        assert TOKEN in str(data.get(keyword)), keyword
    for keyword in IDENTIFYING_SEQUENCES.split():
        assert any(TOKEN in text for one in data[keyword].value for _, _, text in texts(one)), keyword
    for keyword in ("PatientBirthDate", "PatientBirthTime", "StudyDate", "AcquisitionTime", "DateOfLastCalibration"):
        assert data.get(keyword), keyword
    planted = planted_identities(written.who)
    for keyword, vr, text in [*texts(data), ("", "AE", data.file_meta.SourceApplicationEntityTitle)]:
        assert vr != "PN" or TOKEN in text, keyword
        if TOKEN in text or vr == "DA":
            assert text in planted, keyword
    assert {data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID} <= planted


@every_habit
def test_every_planted_identity_is_somewhere_in_the_case(written, habit):
    content = b"".join(p.read_bytes() for role in ROLES for p in written.files(habit, role)[:1])
    assert [text for text in planted_identities(written.who) if text.encode() not in content] == []


def test_private_blocks_hide_names_in_the_clear_in_bytes_and_in_depth(written):
    data = header(written, "camera_a", "perfusion")
    private = [element for element in data.iterall() if element.tag.is_private]
    assert sum(element.tag.is_private_creator for element in private) == 2
    assert {element.VR for element in private} == {"LO", "OB", "SQ", "PN"}
    assert all(TOKEN in str(element.value) for element in private)


def test_another_case_has_other_identifiers():
    one, other = planted_identities(invent("case-1")), planted_identities(invent("case-2"))
    uids = [{text for text in texts if text.startswith("2.25.")} for texts in (one, other)]
    assert len(uids[0]) == 8 and not uids[0] & uids[1]


@every_habit
@every_role
def test_nothing_identifying_passes_convert(written, habit, role, tmp_path):
    as_converted(written, habit, role, tmp_path)
    content = (tmp_path / "v.json").read_bytes() + gzip.decompress((tmp_path / "v.nii.gz").read_bytes())
    assert TOKEN.encode() not in content.upper()
    assert [text for text in planted_identities(written.who) if text.encode() in content] == []

"""The simulated cohort: same seed, same bytes; readable DICOM; truth that agrees with itself."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from ct2vq.errors import ConfigError, GeometryError
from ct2vq.files import read_json, read_tsv, sha256_file
from ct2vq.simulate import motion as motion_module
from ct2vq.simulate import simulate_case
from ct2vq.simulate.case import draw_case, grid_points
from ct2vq.simulate.dicom import make_uid
from ct2vq.simulate.disease import DISEASES
from ct2vq.volume import affine, make_grid, read_volume, same_grid, to_array

SETTINGS = {
    "ct": {"matrix": 64, "pixel_mm": 5.6, "slice_mm": 8.0, "noise_hu": 25},
    "attenuation_ct": {"matrix": 48, "pixel_mm": 8.2, "slice_mm": 10.0, "noise_hu": 40},
    "spect": {
        "matrix": 48,
        "voxel_mm": 8.0,
        "fwhm_mm": 11.0,
        "counts": {"perfusion": 5.0e6, "ventilation": 2.0e6},
    },
    "motion": {"diaphragm_mm": [5, 20], "rigid_mm": 6, "rigid_deg": 3},
}
SEED = 3
ROLES = ("ct", "attenuation_ct", "perfusion", "ventilation")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> dict[str, Path]:
    """One case of each diagnosis."""
    root = tmp_path_factory.mktemp("cohort")
    for diagnosis in DISEASES:
        simulate_case(f"case-{diagnosis}", f"P-{diagnosis}", diagnosis, SEED, SETTINGS, root / diagnosis)
    return {diagnosis: root / diagnosis for diagnosis in DISEASES}


def read_dicom(folder: Path) -> sitk.Image:
    """A DICOM folder as SimpleITK reads it."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    return sitk.ReadImage(names if len(names) > 1 else names[0])


def headers(folder: Path) -> list[pydicom.Dataset]:
    """Headers of a folder's files, in the order of their names."""
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*.dcm"))]


def in_ct_space(case: Path, role: str) -> np.ndarray:
    """A SPECT resampled onto the CT through the true displacement."""
    field = read_volume(case / "truth" / "ct_to_spect_displacement.nii.gz")
    transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    grid = read_volume(case / "truth" / "lungs.nii.gz")
    moving = sitk.Cast(read_dicom(case / "dicom" / role), sitk.sitkFloat32)
    return to_array(sitk.Resample(moving, grid, transform, sitk.sitkLinear, 0.0))


def truth(case: Path, name: str) -> np.ndarray:
    """A truth volume as an array."""
    return to_array(read_volume(case / "truth" / f"{name}.nii.gz"))


def test_the_same_seed_gives_the_same_bytes_and_replaces_what_was_there(cohort, tmp_path):
    (tmp_path / "dicom" / "ct").mkdir(parents=True)
    (tmp_path / "dicom" / "ct" / "old.dcm").write_text("old")
    simulate_case("case-embolism", "P-embolism", "embolism", SEED, SETTINGS, tmp_path)
    assert read_json(tmp_path / "manifest.json") == read_json(cohort["embolism"] / "manifest.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dicom", "manifest.json", "truth"]
    for path in sorted((tmp_path / "truth").iterdir()):
        assert sha256_file(path) == sha256_file(cohort["embolism"] / "truth" / path.name), path.name


def test_manifest_lists_every_dicom_file(cohort):
    case = cohort["normal"]
    manifest = read_json(case / "manifest.json")
    files = {p.relative_to(case).as_posix() for p in (case / "dicom").rglob("*") if p.is_file()}
    assert set(manifest) == files
    name = sorted(files)[0]
    assert manifest[name] == sha256_file(case / name)


def test_another_seed_and_another_case_give_another_person(tmp_path):
    drawn = [draw_case("a", "P", "normal", seed, SETTINGS) for seed in (1, 2)]
    assert drawn[0].subject.body.size != drawn[1].subject.body.size
    same_patient = draw_case("b", "P", "normal", 1, SETTINGS)
    assert same_patient.subject.body.size == drawn[0].subject.body.size
    assert same_patient.motion.diaphragm_mm != drawn[0].motion.diaphragm_mm


def test_unknown_diagnosis_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError, match="asthma"):
        simulate_case("c", "P", "asthma", SEED, SETTINGS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_motion_that_folds_is_refused_and_leaves_nothing_half_written(tmp_path):
    settings = copy.deepcopy(SETTINGS)
    settings["motion"]["diaphragm_mm"] = [400, 401]
    with pytest.raises(GeometryError, match="folds"):
        simulate_case("c", "P", "normal", SEED, settings, tmp_path)
    assert not list(tmp_path.iterdir())


def test_simpleitk_reads_the_ct_on_the_grid_of_the_truth(cohort):
    for case in cohort.values():
        ct, lungs = read_dicom(case / "dicom" / "ct"), read_volume(case / "truth" / "lungs.nii.gz")
        assert same_grid(ct, lungs)
        facts = read_json(case / "truth" / "truth.json")
        inside = to_array(lungs) > 0
        assert to_array(ct)[inside].mean() == pytest.approx(facts["volumes"]["ct_mean_lung_hu"], abs=0.01)
        assert -900 < facts["volumes"]["ct_mean_lung_hu"] < -550


def test_file_names_are_not_in_slice_order(cohort):
    z = [float(h.ImagePositionPatient[2]) for h in headers(cohort["normal"] / "dicom" / "ct")]
    assert z != sorted(z) and z != sorted(z, reverse=True)


def test_lung_volumes_are_those_of_adults(cohort):
    for case in cohort.values():
        volumes = read_json(case / "truth" / "truth.json")["volumes"]
        together = volumes["ct_right_ml"] + volumes["ct_left_ml"]
        assert 3300 < together < 6600
        assert 0.5 < volumes["ct_right_ml"] / together < 0.62
        assert volumes["spect_ml"] < together


def test_every_lung_voxel_belongs_to_a_lobe_a_segment_and_a_territory_of_its_own_side(cohort):
    case = cohort["normal"]
    lungs, lobes = truth(case, "lungs"), truth(case, "lobes")
    inside = lungs > 0
    for name in ("lobes", "segments", "territories"):
        assert np.array_equal(truth(case, name) > 0, inside)
    assert set(np.unique(lobes[lungs == 1])) == {1, 2, 3}
    assert set(np.unique(lobes[lungs == 2])) == {4, 5}
    described = read_json(case / "truth" / "truth.json")["territories"]
    assert {str(t) for t in np.unique(truth(case, "territories")) if t} <= set(described)
    assert len(np.unique(truth(case, "segments"))) > 15


def test_the_motion_never_folds_and_keeps_its_size(cohort):
    for case in cohort.values():
        field = read_volume(case / "truth" / "ct_to_spect_displacement.nii.gz")
        grid = make_grid(field.GetSize(), field.GetSpacing(), field.GetOrigin())
        mapped = grid_points(grid) + np.moveaxis(to_array(field), -1, 0)
        assert motion_module.jacobian_determinant(mapped, field.GetSpacing()).min() > 0.3
        assert 5 < np.linalg.norm(to_array(field), axis=-1).max() < 60


def test_landmarks_follow_the_displacement(cohort):
    case = cohort["normal"]
    table = read_tsv(case / "truth" / "landmarks.tsv")
    assert len(table) >= 60 and (table.region == "near diaphragm").sum() >= 8
    assert table.name.is_unique
    field = read_volume(case / "truth" / "ct_to_spect_displacement.nii.gz")
    transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    ct_mm = table[["x_ct_mm", "y_ct_mm", "z_ct_mm"]].to_numpy()
    expected = np.array([transform.TransformPoint(p) for p in ct_mm])
    found = table[["x_spect_mm", "y_spect_mm", "z_spect_mm"]].to_numpy()
    assert np.abs(found - expected).max() < 0.5


def test_the_diaphragm_moves_by_what_was_set(cohort):
    for case in cohort.values():
        facts, table = read_json(case / "truth" / "truth.json"), read_tsv(case / "truth" / "landmarks.tsv")
        low = table[table.region == "near diaphragm"]
        lift = (low.z_spect_mm - low.z_ct_mm).mean() - facts["motion"]["offset_mm"][2]
        assert lift == pytest.approx(facts["motion"]["diaphragm_mm"], abs=6)


def test_spects_hold_the_set_counts_and_lie_on_the_truth(cohort):
    for case in cohort.values():
        inside = truth(case, "lungs") > 0
        for role in ("perfusion", "ventilation"):
            counts = SETTINGS["spect"]["counts"][role]
            total = float(to_array(read_dicom(case / "dicom" / role)).sum(dtype=np.float64))
            assert total == pytest.approx(counts, rel=0.01)
            header = headers(case / "dicom" / role)[0]
            assert header.CountsAccumulated == int(total)
            found, expected = in_ct_space(case, role)[inside], truth(case, f"{role}_system")[inside]
            assert np.corrcoef(found, expected)[0, 1] > 0.8


def test_noise_is_less_with_more_counts(tmp_path):
    settings, spread = copy.deepcopy(SETTINGS), []
    for counts in (2.0e5, 2.0e7):
        settings["spect"]["counts"]["perfusion"] = counts
        simulate_case("c", "P", "normal", SEED, settings, tmp_path)
        inside = truth(tmp_path, "lungs") > 0
        ratio = in_ct_space(tmp_path, "perfusion")[inside] / truth(tmp_path, "perfusion_system")[inside]
        spread.append(ratio.std() / ratio.mean())
    assert spread[0] > 1.5 * spread[1]


def test_frames_are_stacked_by_the_sign_of_their_spacing(tmp_path):
    signs = {}
    for k in range(12):
        case = draw_case(f"case-{k}", "P", "normal", SEED, SETTINGS)
        signs.setdefault(case.descending, f"case-{k}")
        if len(signs) == 2:
            break
    assert set(signs) == {True, False}
    for descending, case_id in signs.items():
        output = tmp_path / case_id
        simulate_case(case_id, "P", "normal", SEED, SETTINGS, output)
        header = headers(output / "dicom" / "perfusion")[0]
        assert (header.SpacingBetweenSlices < 0) == descending
        assert "ImagePositionPatient" not in header
        detector = header.DetectorInformationSequence[0]
        image = read_dicom(output / "dicom" / "perfusion")
        last = np.array([0, 0, header.NumberOfFrames - 1, 1.0])
        step = np.array([0, 0, (header.NumberOfFrames - 1) * float(header.SpacingBetweenSlices)])
        expected = np.array(detector.ImagePositionPatient, dtype=float) + step
        assert np.allclose((affine(image) @ last)[:3], expected, atol=0.01)
        inside = truth(output, "lungs") > 0
        found, known = in_ct_space(output, "perfusion")[inside], truth(output, "perfusion_system")[inside]
        assert np.corrcoef(found, known)[0, 1] > 0.9


def relative_to_rest(case: Path, name: str, where: np.ndarray) -> float:
    """Mean of a truth map in a region over its mean in the rest of the lungs."""
    values, inside = truth(case, name), truth(case, "lungs") > 0
    return float(values[where & inside].mean() / values[~where & inside].mean())


def test_embolism_takes_perfusion_and_leaves_ventilation(cohort):
    case = cohort["embolism"]
    facts = read_json(case / "truth" / "truth.json")
    where = np.isin(truth(case, "territories"), [t["territory"] for t in facts["affected_territories"]])
    assert where.any() and np.array_equal(where, truth(case, "disease") > 0)
    assert relative_to_rest(case, "perfusion", where) < 0.5
    assert relative_to_rest(case, "ventilation", where) > 0.75
    assert {t["ventilation_loss"] for t in facts["affected_territories"]} == {0.0}


def test_invisible_emboli_leave_no_trace_on_the_ct():
    for k in range(5):
        state = draw_case(f"case-{k}", "P", "embolism", SEED, SETTINGS).subject.state
        for t in state.affected:
            trace = state.oligaemia[t["territory"]] > 0
            assert trace == t["visible_on_ct"] == (state.calibre[t["territory"]] < 1)
            assert (state.hidden_perfusion_loss[t["territory"]] > 0) != t["visible_on_ct"]


def test_emphysema_is_matched_and_dark_on_the_ct(cohort):
    case = cohort["emphysema"]
    where, inside = truth(case, "disease") > 0, truth(case, "lungs") > 0
    assert relative_to_rest(case, "perfusion", where) < 0.85
    assert relative_to_rest(case, "ventilation", where) < 0.85
    hu = to_array(read_dicom(case / "dicom" / "ct"))
    assert hu[where & inside].mean() < hu[~where & inside].mean() - 15


def test_obstruction_takes_more_ventilation_than_perfusion(cohort):
    case = cohort["obstruction"]
    where = truth(case, "disease") > 0
    ventilation, perfusion = (relative_to_rest(case, n, where) for n in ("ventilation", "perfusion"))
    assert ventilation < 0.7 and ventilation < perfusion < 1


def test_a_hilar_mass_takes_the_function_of_its_lobe(cohort):
    case = cohort["tumour"]
    facts = read_json(case / "truth" / "truth.json")
    assert 30 <= facts["mass"]["diameter_mm"] <= 60
    lobe = truth(case, "lobes") == facts["mass"]["lobe"]
    assert relative_to_rest(case, "perfusion", lobe) < 0.6
    assert relative_to_rest(case, "ventilation", lobe) < 0.6
    table = read_tsv(case / "truth" / "landmarks.tsv")
    assert len(table) >= 60


def test_hu_does_not_depend_on_function_seeds(cohort, monkeypatch, tmp_path):
    """With other perfusion and ventilation the CT stays the same, byte for byte."""
    from ct2vq.simulate import function

    monkeypatch.setattr(function, "HIDDEN_SD", 0.3)
    simulate_case("case-normal", "P-normal", "normal", SEED, SETTINGS, tmp_path)
    now, before = (read_json(folder / "manifest.json") for folder in (tmp_path, cohort["normal"]))
    differing = {name.split("/")[1] for name in now if now[name] != before[name]}
    assert differing == {"perfusion", "ventilation"}


def test_identities_frames_of_reference_and_uids(cohort):
    case = cohort["normal"]
    first = {role: headers(case / "dicom" / role)[0] for role in ROLES}
    for header in first.values():
        assert str(header.PatientName).startswith("SIMULATED^")
        for keyword in (
            "PatientBirthDate",
            "InstitutionName",
            "ReferringPhysicianName",
            "AccessionNumber",
            "PatientID",
        ):
            assert header.get(keyword), keyword
        assert header.SOPInstanceUID.startswith("2.25.")
        assert pydicom.uid.UID(header.SOPInstanceUID).is_valid
    spaces = {role: header.FrameOfReferenceUID for role, header in first.items()}
    assert spaces["attenuation_ct"] == spaces["perfusion"] == spaces["ventilation"] != spaces["ct"]
    assert list(first["perfusion"].ImageType) == ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    uids = [h.SOPInstanceUID for role in ROLES for h in headers(case / "dicom" / role)]
    assert len(set(uids)) == len(uids)


def test_uids_depend_on_every_part():
    assert make_uid("a", 1, "ct") == make_uid("a", 1, "ct")
    assert len({make_uid("a", 1, "ct"), make_uid("a", 2, "ct"), make_uid("b", 1, "ct"), make_uid("a", 1, "nm")}) == 4


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("role", ROLES)
def test_objects_conform_to_their_iod(cohort, role):
    path = sorted((cohort["tumour"] / "dicom" / role).glob("*.dcm"))[0]
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
    assert not errors

"""The simulated cohort: same seed, same bytes; readable DICOM; truth that agrees with itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import SEED, small_settings

from ct2vq.digests import AS_SIMULATED, simulated_digest
from ct2vq.errors import ConfigError, GeometryError
from ct2vq.files import read_json, read_tsv, sha256_file
from ct2vq.simulate import ct, simulate_case
from ct2vq.simulate import world as world_module
from ct2vq.simulate.case import ct_grid, draw_case, grid_points, rendered, slabs
from ct2vq.simulate.disease import DISEASES
from ct2vq.volume import affine, make_grid, read_volume, same_grid, to_array

ROLES = ("ct", "attenuation_ct", "perfusion", "ventilation")


def read_dicom(folder: Path) -> sitk.Image:
    """A DICOM folder as SimpleITK reads it."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    return sitk.ReadImage(names if len(names) > 1 else names[0])


def headers(folder: Path) -> list[pydicom.Dataset]:
    """Headers of a folder's files, in the order of their names."""
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.glob("*.dcm"))]


def facts(case: Path) -> dict:
    """What `truth.json` says."""
    return read_json(case / "truth" / "truth.json")


def truth(case: Path, name: str) -> np.ndarray:
    """A truth volume as an array."""
    return to_array(read_volume(case / "truth" / f"{name}.nii.gz"))


def carried(case: Path, role: str) -> np.ndarray:
    """A SPECT on the CT's grid, through the true displacement and the true shift of the scan."""
    field = read_volume(case / "truth" / "ct_to_spect_displacement.nii.gz")
    shifted = to_array(field).astype(float) + facts(case)["motion"]["shift_mm"][role]
    known = sitk.GetImageFromArray(shifted, isVector=True)
    known.CopyInformation(field)
    grid = read_volume(case / "truth" / "lungs.nii.gz")
    moving = sitk.Cast(read_dicom(case / "dicom" / role), sitk.sitkFloat32)
    return to_array(sitk.Resample(moving, grid, sitk.DisplacementFieldTransform(known), sitk.sitkLinear, 0.0))


def relative_to_rest(case: Path, name: str, where: np.ndarray) -> float:
    """Mean of a truth map in a region over its mean in the rest of the lungs."""
    values, inside = truth(case, name), truth(case, "lungs") > 0
    return float(values[where & inside].mean() / values[~where & inside].mean())


# --- files -------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_and_replaces_what_was_there(cohort, tmp_path):
    (tmp_path / "dicom" / "ct").mkdir(parents=True)
    (tmp_path / "dicom" / "ct" / "old.dcm").write_text("old")
    (tmp_path / ".1.part.truth").mkdir()
    simulate_case("case-embolism", "P-embolism", "embolism", SEED, small_settings(), tmp_path)
    assert read_json(tmp_path / "manifest.json") == read_json(cohort["embolism"] / "manifest.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dicom", "manifest.json", "truth"]
    for path in sorted((tmp_path / "truth").iterdir()):
        assert sha256_file(path) == sha256_file(cohort["embolism"] / "truth" / path.name), path.name


def test_manifest_lists_every_dicom_file(cohort):
    case = cohort["normal"]
    manifest = read_json(case / "manifest.json")
    assert set(manifest) == {p.relative_to(case).as_posix() for p in (case / "dicom").rglob("*") if p.is_file()}
    name = sorted(manifest)[0]
    assert manifest[name] == sha256_file(case / name)


@pytest.mark.parametrize("volume", ["ct", "attenuation_ct", "perfusion", "ventilation"])
def test_what_was_simulated_is_known_by_its_manifest(cohort, tmp_path, volume):
    """Else a job that was planned before its case was simulated has another digest than one that was planned after."""
    case = cohort["embolism"]
    assert simulated_digest(case / "dicom" / volume, case / "manifest.json", tmp_path) == AS_SIMULATED


def test_unknown_diagnosis_is_refused_and_leaves_nothing(tmp_path, settings):
    with pytest.raises(ConfigError, match="asthma"):
        simulate_case("c", "P", "asthma", SEED, settings, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_motion_that_folds_is_refused_and_leaves_nothing_half_written(tmp_path, settings):
    settings["motion"] |= {"diaphragm_mm": [400, 401], "full_inspiration": 0}
    with pytest.raises(GeometryError, match="folds"):
        simulate_case("c", "P", "normal", SEED, settings, tmp_path)
    assert not list(tmp_path.iterdir())


def test_slabs_cover_every_slice_once_and_overlap_by_one(monkeypatch):
    from ct2vq.simulate import case as case_module

    monkeypatch.setattr(case_module, "_SLAB_VOXELS", 3 * 20)
    grid = make_grid((5, 4, 8), (1, 1, 2.5), (0, 0, -10))
    seen = []
    for where, part, inner in slabs(grid):
        z = grid_points(part)[2, inner, 0, 0]
        seen += z.tolist()
        assert len(z) == where.stop - where.start and part.GetSize()[2] <= 5
    assert seen == grid_points(grid)[2, :, 0, 0].tolist()


def test_a_case_is_the_same_whatever_the_slabs(cohort, monkeypatch, tmp_path):
    from ct2vq.simulate import case as case_module

    monkeypatch.setattr(case_module, "_SLAB_VOXELS", 5 * 64 * 64)
    simulate_case("case-tumour", "P-tumour", "tumour", SEED, small_settings(), tmp_path)
    assert read_json(tmp_path / "manifest.json") == read_json(cohort["tumour"] / "manifest.json")
    for name in ("ct_to_spect_displacement", "units", "perfusion_system"):
        file = f"{name}.nii.gz"
        assert sha256_file(tmp_path / "truth" / file) == sha256_file(cohort["tumour"] / "truth" / file)


# --- who ---------------------------------------------------------------------------------------------------------


def test_another_seed_and_another_case_give_another_person(settings):
    drawn = [draw_case("a", "P", "normal", seed, settings) for seed in (1, 2)]
    assert drawn[0].chest.body.size != drawn[1].chest.body.size
    same_patient = draw_case("b", "P", "normal", 1, settings)
    assert same_patient.chest.body.size == drawn[0].chest.body.size
    assert same_patient.motion.diaphragm_mm != drawn[0].motion.diaphragm_mm


def test_frames_of_reference_and_uids(cohort):
    case = cohort["normal"]
    first = {role: headers(case / "dicom" / role)[0] for role in ROLES}
    spaces = {role: header.FrameOfReferenceUID for role, header in first.items()}
    assert spaces["attenuation_ct"] == spaces["perfusion"] == spaces["ventilation"] != spaces["ct"]
    uids = [h.SOPInstanceUID for role in ROLES for h in headers(case / "dicom" / role)]
    assert len(set(uids)) == len(uids)


def test_the_hospitals_habit_follows_the_config(settings):
    settings["habits"] = {"camera_b": 1, "camera_d": 0}
    assert {draw_case(f"c{k}", "P", "normal", SEED, settings).habit.name for k in range(4)} == {"camera_b"}


def test_contrast_and_kernel_reach_the_header(tmp_path, settings):
    settings["ct"] |= {"contrast": 1.0, "kernels": {"SHARP": 1}}
    simulate_case("c", "P", "normal", SEED, settings, tmp_path)
    header = headers(tmp_path / "dicom" / "ct")[0]
    assert header.ConvolutionKernel == "SHARP" and header.ContrastBolusAgent
    assert "ContrastBolusAgent" not in headers(tmp_path / "dicom" / "attenuation_ct")[0]
    known = facts(tmp_path)["ct"]
    assert known["kernel"] == "SHARP" and known["contrast_hu"] > 80


# --- anatomy and motion --------------------------------------------------------------------------------------------


def test_simpleitk_reads_the_ct_on_the_grid_of_the_truth(cohort):
    for case in cohort.values():
        ct, lungs = read_dicom(case / "dicom" / "ct"), read_volume(case / "truth" / "lungs.nii.gz")
        assert same_grid(ct, lungs)
        known = facts(case)["volumes"]["ct_mean_lung_hu"]
        assert to_array(ct)[to_array(lungs) > 0].mean() == pytest.approx(known, abs=0.01)
        assert -900 < known < -500


def test_file_names_are_not_in_slice_order(cohort):
    z = [float(h.ImagePositionPatient[2]) for h in headers(cohort["normal"] / "dicom" / "ct")]
    assert z != sorted(z) and z != sorted(z, reverse=True)


def test_every_lung_voxel_belongs_to_a_unit_a_subsegment_a_segment_and_a_lobe_of_its_own_side(cohort):
    case = cohort["normal"]
    lungs, lobes, segments, units = (truth(case, n) for n in ("lungs", "lobes", "segments", "units"))
    inside = lungs > 0
    for name in ("lobes", "segments", "subsegments", "units"):
        assert np.array_equal(truth(case, name) > 0, inside), name
    assert set(np.unique(lobes[lungs == 1])) == {1, 2, 3}
    assert set(np.unique(lobes[lungs == 2])) == {4, 5}
    assert {str(s) for s in np.unique(segments[inside])} == set(facts(case)["segments"])
    for label in np.unique(units[inside])[::50]:
        assert len(np.unique(segments[units == label])) == 1
    assert units.max() <= facts(case)["units"]["number"]


def test_lung_volume_follows_inspiration(cohort):
    for case in cohort.values():
        volumes, known = facts(case)["volumes"], facts(case)["jacobian"]
        together = volumes["ct_right_ml"] + volumes["ct_left_ml"]
        assert 2000 < volumes["reference_ml"] < 5600 and 0.4 < volumes["ct_right_ml"] / together < 0.7
        assert 0.2 < known["min"] < 1
        if facts(case)["diagnosis"] != "effusion":
            assert volumes["reference_ml"] < together


def test_landmarks_follow_the_displacement(cohort):
    for name in ("normal", "tumour"):
        case = cohort[name]
        table = read_tsv(case / "truth" / "landmarks.tsv")
        assert len(table) >= 60 and (table.region == "near diaphragm").sum() >= 8
        assert table.name.is_unique
        field = read_volume(case / "truth" / "ct_to_spect_displacement.nii.gz")
        transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
        ct_mm = table[["x_ct_mm", "y_ct_mm", "z_ct_mm"]].to_numpy()
        expected = np.array([transform.TransformPoint(p) for p in ct_mm])
        found = table[["x_spect_mm", "y_spect_mm", "z_spect_mm"]].to_numpy()
        error = np.abs(found - expected).max(axis=1)
        # near the pleura the coarse test grid interpolates between lung and chest wall, which slide on each other
        assert np.median(error) < 0.3 and np.mean(error < 1.0) > 0.8


def test_the_diaphragm_moves_by_what_was_set(cohort):
    for name, case in cohort.items():
        if name == "effusion":
            continue
        known, table = facts(case)["motion"], read_tsv(case / "truth" / "landmarks.tsv")
        low = table[table.region == "near diaphragm"]
        lift = np.percentile(low.z_spect_mm - low.z_ct_mm, 70) - known["offset_mm"][2]  # less beside the wall
        assert lift == pytest.approx(known["diaphragm_mm"], abs=4 + 0.2 * known["diaphragm_mm"])


def test_mass_is_kept_between_breathing_states(settings, monkeypatch):
    """Density times volume of the parenchyma is the same in a shallow and in a deep breath-hold."""
    monkeypatch.setattr(ct, "_render_tubes", lambda *args: None)
    settings["ct"] |= {"matrix": 96, "pixel_mm": 3.8, "slice_mm": 4.0}
    masses, volumes = [], []
    for excursion in (2.0, 45.0):
        settings["motion"] |= {"diaphragm_mm": [excursion, excursion], "full_inspiration": 0}
        case = draw_case("c", "P", "normal", SEED, settings)
        grid = ct_grid(case)
        ml, mass, volume = float(np.prod(grid.GetSpacing())) / 1000, 0.0, 0.0
        for slab, hu, _where in rendered(case, grid, case.motion, contrast=False):
            deep = slab.shape.lung < -6  # away from the border, where voxels hold some chest wall
            mass, volume = mass + float((hu[deep] / 1000 + 1).sum()) * ml, volume + deep.sum() * ml
        masses.append(mass)
        volumes.append(volume)
    assert volumes[1] > 1.2 * volumes[0]
    assert masses[1] == pytest.approx(masses[0], rel=0.03)


# --- function and SPECT -------------------------------------------------------------------------------------------


def test_spects_hold_the_set_counts_and_lie_on_the_truth(cohort):
    counts = small_settings()["spect"]["counts"]
    for case in cohort.values():
        inside = truth(case, "lungs") > 0
        for role in ("perfusion", "ventilation"):
            total = float(to_array(read_dicom(case / "dicom" / role)).sum(dtype=np.float64))
            assert total == pytest.approx(counts[role], rel=0.02)
            header = headers(case / "dicom" / role)[0]
            assert header.CountsAccumulated == int(total)
            found, expected = carried(case, role)[inside], truth(case, f"{role}_system")[inside]
            assert np.corrcoef(found, expected)[0, 1] > (0.8 if role == "perfusion" else 0.65)


def test_noise_is_less_with_more_counts(tmp_path, settings):
    spread = []
    for counts in (2.0e5, 2.0e7):
        settings["spect"]["counts"] = {"perfusion": counts, "ventilation": 2.0e6}
        settings["spect"]["count_rate_ratio"] = [1e6, 1e6]
        simulate_case("c", "P", "normal", SEED, settings, tmp_path)
        inside = truth(tmp_path, "lungs") > 0
        ratio = carried(tmp_path, "perfusion")[inside] / truth(tmp_path, "perfusion_system")[inside]
        spread.append(ratio.std() / ratio.mean())
    assert spread[0] > 1.5 * spread[1]


def test_ventilation_shines_through_by_rate_and_decay(settings):
    for low, high in ((3, 3), (6, 6)):
        settings["spect"]["count_rate_ratio"] = [low, high]
        protocol = draw_case("c", "P", "normal", SEED, settings).protocol
        v, q = protocol.scans["ventilation"], protocol.scans["perfusion"]
        counts = settings["spect"]["counts"]
        rates = [counts[t] / protocol.scans[t].duration_s for t in ("perfusion", "ventilation")]
        assert rates[0] / rates[1] == pytest.approx(low)
        minutes = q.start_minutes - v.start_minutes
        assert minutes * 60 > v.duration_s and v.start_minutes < q.given_minutes < q.start_minutes
        assert protocol.shine_through == pytest.approx(2 ** (-minutes / 360.4) / low, rel=1e-3)


def test_osem_is_given_the_body_and_the_misplaced_ct(monkeypatch, tmp_path, settings):
    """`osem` projects through the true attenuation and corrects with the one of the camera's own CT."""
    from ct2vq.simulate import osem

    calls = []

    def reconstruct(activity, attenuation, known, voxel_mm, counts, rng):
        calls.append((activity, attenuation, known, voxel_mm, counts))
        return (activity * (counts / activity.sum())).astype(np.float32)

    monkeypatch.setattr(osem, "reconstruct", reconstruct)
    settings["spect"]["fidelity"] = "osem"
    settings["motion"]["attenuation_mm"] = 25
    simulate_case("case-normal", "P-normal", "normal", SEED, settings, tmp_path)
    assert [call[4] for call in calls] == [settings["spect"]["counts"][t] for t in ("ventilation", "perfusion")]
    for activity, attenuation, known, voxel_mm, _counts in calls:
        assert voxel_mm == settings["spect"]["voxel_mm"] and activity.min() >= 0
        assert activity.sum() == pytest.approx(1.0, rel=1e-3)
        lung = activity > 0.3 * activity.max()
        assert attenuation[lung].mean() < 0.008 < 0.013 < np.percentile(attenuation, 99) < 0.03
        assert np.abs(attenuation - known).max() > 0.005, "the camera's CT shows another moment of breathing"
    total = to_array(read_dicom(tmp_path / "dicom" / "perfusion")).sum(dtype=np.float64)
    assert total == pytest.approx(settings["spect"]["counts"]["perfusion"], rel=0.01)


def test_embolism_takes_perfusion_and_leaves_ventilation(cohort):
    case = cohort["embolism"]
    where = truth(case, "disease") > 0
    assert where.any()
    assert relative_to_rest(case, "perfusion", where) < 0.5
    assert 0.7 < relative_to_rest(case, "ventilation", where) < 1.35
    known = facts(case)["findings"]
    assert {f["kind"] for f in known} == {"embolus"}
    assert {1 if f["visible_on_ct"] else 2 for f in known} >= set(np.unique(truth(case, "disease"))) - {0}


def test_emphysema_is_matched_and_dark_on_the_ct(cohort):
    case = cohort["emphysema"]
    where, inside = truth(case, "disease") > 0, truth(case, "lungs") > 0
    assert relative_to_rest(case, "perfusion", where) < 0.85
    assert relative_to_rest(case, "ventilation", where) < 0.85
    hu = to_array(read_dicom(case / "dicom" / "ct"))
    assert hu[where & inside].mean() < hu[~where & inside].mean() - 15


def test_what_a_lesion_takes_is_drawn_anew_where_only_its_place_shows(settings):
    for diagnosis in ("embolism", "obstruction", "tumour", "consolidation"):
        settings["disease"]["invisible_emboli"] = 0.0
        state = draw_case("c", "P", diagnosis, SEED, settings).state
        first, again = state.kept(np.random.default_rng(1)), state.kept(np.random.default_rng(2))
        untouched = np.ones(len(state.perfusion), dtype=bool)
        for lesion, lost_q, lost_v in state.lesions:
            untouched &= lesion.weight == 0
            low, high = lesion.ventilation
            assert low <= lost_v <= high and 0 <= lost_q <= 1
        assert any(not np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        for kept in (first, again, state.kept()):
            assert (kept[0][untouched] == 1).all() and (kept[1][untouched] == 1).all()


def test_fluid_is_no_lung_that_counts(settings):
    wet = draw_case("case-effusion", "P-effusion", "effusion", SEED, settings)
    dry = draw_case("x", "P-effusion", "normal", SEED, settings)
    assert wet.units.volume_ml.sum() < dry.units.volume_ml.sum() - 100
    assert (wet.units.volume_ml[wet.units.depth < -8] == 0).all() and (wet.units.depth < -8).any()
    assert wet.units.mean(wet.function.perfusion) == pytest.approx(1.0)


@pytest.mark.parametrize(("diagnosis", "less"), [("obstruction", "ventilation"), ("radiation", "perfusion")])
def test_which_function_is_lost_most(cohort, diagnosis, less):
    case, more = cohort[diagnosis], {"ventilation": "perfusion", "perfusion": "ventilation"}[less]
    where = truth(case, "disease") > 0
    assert relative_to_rest(case, less, where) < 0.8
    assert relative_to_rest(case, less, where) < relative_to_rest(case, more, where)


@pytest.mark.parametrize("diagnosis", ["consolidation", "radiation", "fibrosis", "effusion"])
def test_what_fills_or_squeezes_the_lung_is_bright_on_the_ct(cohort, diagnosis):
    case = cohort[diagnosis]
    where, inside = truth(case, "disease") > 0, truth(case, "lungs") > 0
    hu = to_array(read_dicom(case / "dicom" / "ct"))
    assert hu[where & inside].mean() > hu[~where & inside].mean() + 40
    assert relative_to_rest(case, "ventilation", where) < 0.8


def test_an_effusion_takes_lung_away_and_is_fluid(cohort, settings):
    drawn = draw_case("case-effusion", "P-effusion", "effusion", SEED, settings)
    points = drawn.chest.lattice(6.0)
    with_fluid, without = drawn.chest.measure(points), draw_case("x", "P-effusion", "normal", SEED, settings)
    gone = (without.chest.measure(points).lung < -6) & (with_fluid.lung > 6)
    volume = gone.sum() * 6.0**3 / 1000
    assert 100 < volume < 2500
    at = drawn.motion.to_scan(points[:, gone][:, ::50].astype(float))
    hu = read_dicom(cohort["effusion"] / "dicom" / "ct")
    values = [hu.GetPixel(hu.TransformPhysicalPointToIndex(p)) for p in at.T]
    assert abs(np.median(values) - 8) < 40
    spine = np.array([[-6.0, 0.0, 6.0], [61.0] * 3, [5.0] * 3]) * drawn.chest.body.size
    bone = [hu.GetPixel(hu.TransformPhysicalPointToIndex(p)) for p in drawn.motion.to_scan(spine).T]
    assert np.mean(bone) > 60, "no fluid in the vertebrae"


def test_a_mass_takes_the_function_behind_it(cohort):
    case = cohort["tumour"]
    mass = next(f for f in facts(case)["findings"] if f["kind"] == "mass")
    assert 24 <= mass["diameter_mm"] <= 58 and mass["volume_ml"] > 10
    where = truth(case, "disease") > 0
    assert relative_to_rest(case, "perfusion", where) < 0.7
    assert relative_to_rest(case, "ventilation", where) < 0.7


def test_comorbidity_follows_the_config_and_spares_normals(settings):
    settings["disease"]["comorbidity"] = {"emphysema": 1.0, "obstruction": 0.0}
    assert draw_case("c", "P", "embolism", SEED, settings).state.also == ["emphysema"]
    assert draw_case("c", "P", "emphysema", SEED, settings).state.also == []
    assert draw_case("c", "P", "normal", SEED, settings).state.also == []


# --- not circular -------------------------------------------------------------------------------------------------


def test_hu_does_not_depend_on_function(cohort, monkeypatch, tmp_path):
    """With other perfusion and ventilation the CTs stay the same, byte for byte."""
    from ct2vq.simulate import case as case_module
    from ct2vq.simulate.function import Function

    ones = Function
    monkeypatch.setattr(
        case_module.function,
        "regional_function",
        lambda model, state, units, world: ones(units.gravity + 1.0, units.height + 1.0),
    )
    simulate_case("case-normal", "P-normal", "normal", SEED, small_settings(), tmp_path)
    now, before = (read_json(folder / "manifest.json") for folder in (tmp_path, cohort["normal"]))
    assert {name.split("/")[1] for name in now if now[name] != before[name]} == {"perfusion", "ventilation"}


def test_function_does_not_depend_on_hu(cohort, monkeypatch, tmp_path):
    """With other density the SPECT images and the truth of function stay the same, byte for byte."""
    settings = small_settings()
    settings["ct"] |= {"noise_hu": 60, "contrast": 1.0, "kernels": {"SHARP": 1}}
    from ct2vq.simulate import ct as ct_module

    real = ct_module.lung_density
    monkeypatch.setattr(ct_module, "lung_density", lambda *args: tuple(v * 0.8 for v in real(*args)))
    simulate_case("case-normal", "P-normal", "normal", SEED, settings, tmp_path)
    now, before = (read_json(folder / "manifest.json") for folder in (tmp_path, cohort["normal"]))
    assert {name.split("/")[1] for name in now if now[name] != before[name]} == {"ct", "attenuation_ct"}
    for name in ("perfusion", "ventilation_visible_system"):
        file = f"{name}.nii.gz"
        assert sha256_file(tmp_path / "truth" / file) == sha256_file(cohort["normal"] / "truth" / file)


def test_invisible_emboli_leave_no_trace_on_the_ct(settings):
    settings["disease"]["invisible_emboli"] = 1.0
    for k in range(4):
        drawn = draw_case(f"case-{k}", "P", "embolism", SEED, settings)
        healthy = draw_case(f"case-{k}", "P", "normal", SEED, settings)
        for name in ("blood", "oligaemia", "trapped", "filled", "collapse", "calibre"):
            assert np.array_equal(getattr(drawn.state, name), getattr(healthy.state, name)), name
        assert (drawn.state.hidden_perfusion < 1).any() and set(np.unique(drawn.state.marks)) == {0, 2}


# --- the laws are frozen -------------------------------------------------------------------------------------------


def test_laws_and_what_they_give_change_only_with_the_cohort_version(cohort):
    kept = json.loads((Path(__file__).parent / "laws.json").read_text(encoding="utf-8"))
    said = (
        "the simulator changed: raise COHORT_VERSION and write it, with the new numbers, into tests/simulate/laws.json"
    )
    assert (kept["cohort_version"], kept["laws"]) == (world_module.COHORT_VERSION, world_module.laws_digest()), said
    for diagnosis, expected in kept["lobes"].items():
        case = draw_case("pinned", "P", diagnosis, SEED, small_settings())
        for target, means in expected.items():
            values, lobe, volume = getattr(case.function, target), case.units.lobe, case.units.volume_ml
            found = [np.average(values[lobe == k], weights=volume[lobe == k]) for k in range(1, 6)]
            assert found == pytest.approx(means, rel=2e-3), f"{diagnosis}, {target}: {said}"
        scan = [case.subject.density.mass_g, case.motion.diaphragm_mm, case.protocol.tidal_mm, len(case.spots)]
        assert scan == pytest.approx(kept["scans"][diagnosis], rel=2e-3), f"{diagnosis}: {said}"
    assert facts(cohort["normal"])["cohort_version"] == world_module.COHORT_VERSION


def test_another_world_gives_other_function(settings):
    first = draw_case("c", "P", "emphysema", SEED, settings)
    settings["world"] = "second"
    second = draw_case("c", "P", "emphysema", SEED, settings)
    assert first.chest.body.size == second.chest.body.size
    changed = np.abs(np.log(first.function.perfusion / second.function.perfusion))
    assert np.median(changed) > 0.03 and np.percentile(changed, 90) > 0.1


def test_every_disease_can_be_drawn_in_every_world(settings):
    for name in world_module.WORLDS:
        settings["world"] = name
        for diagnosis in DISEASES:
            case = draw_case("c", "P", diagnosis, SEED, settings)
            for values in (case.function.perfusion, case.function.ventilation, case.visible.perfusion):
                assert np.isfinite(values).all() and (values >= 0).all()
                assert case.units.mean(values) == pytest.approx(1.0)


def test_affine_of_the_spect(cohort):
    image = read_dicom(cohort["normal"] / "dicom" / "perfusion")
    assert np.allclose(np.diag(affine(image))[:3], 8.0)

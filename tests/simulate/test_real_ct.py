"""Known function on a real CT: the CT stays what it is, and every scan of the session agrees with the truth.

The "real" CT of the fast tests is a phantom: two ellipsoid lungs in an elliptic body, with noise and vessels, on an
oblique grid far from the origin.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from ct2vq import cli
from ct2vq.config import complete_config
from ct2vq.convert import convert_ct, convert_spect
from ct2vq.errors import ConfigError, DicomError, GeometryError
from ct2vq.files import read_json, read_tsv, sha256_file
from ct2vq.lungs import LEFT, RIGHT
from ct2vq.simulate import anatomy, disease, motion, real_ct, units
from ct2vq.simulate.chest import DrawnChest, chest_from_ct
from ct2vq.simulate.lungs import sample_units
from ct2vq.simulate.randomness import generator
from ct2vq.simulate.real_ct import Scan
from ct2vq.volume import affine, from_array, make_grid, read_volume, same_grid, to_array, write_volume

CONFIG = complete_config({"study": "real-ct"})
SETTINGS = {
    **{key: value for key, value in CONFIG["simulate"].items() if key != "cases"},
    "habits": {"camera_a": 1},
}
REALDATA = Path(os.environ.get("CT2VQ_REALDATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
needs_realdata = pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real images at {REALDATA}")
CASE, SEED = "case-1", 4
NOISE_HU = 30.0
MIDDLE = np.array([40.0, -170.0, -620.0])
TURN = np.deg2rad(18)
OBLIQUE = (np.cos(TURN), -np.sin(TURN), 0.0, np.sin(TURN), np.cos(TURN), 0.0, 0.0, 0.0, 1.0)
TRUTH_FILES = {
    "lungs",
    "lobes",
    "segments",
    "subsegments",
    "units",
    "disease",
    *(f"{target}{kind}" for target in ("perfusion", "ventilation") for kind in ("", "_system", "_visible_system")),
    "ct_to_spect_displacement",
}


def phantom(noise: float = NOISE_HU, bulla: bool = False, direction: tuple[float, ...] = OBLIQUE) -> Scan:
    """Two lungs (1.9 L each) in a body, with noise; a bulla in the right one if asked for."""
    size, spacing = (84, 72, 72), (4.0, 4.0, 5.0)
    half = np.reshape(direction, (3, 3)) @ ((np.array(size) - 1) / 2 * spacing)
    grid = make_grid(size, spacing, MIDDLE - half, direction)
    x, y, z = real_ct._positions(grid, slice(0, size[2])) - MIDDLE.reshape(3, 1, 1, 1).astype(np.float32)
    labels = np.zeros(x.shape, dtype=np.uint8)
    for side, sign in ((RIGHT, -1), (LEFT, 1)):
        ellipsoid = np.sqrt(((x - sign * 68) / 50) ** 2 + (y / 80) ** 2 + (z / 120) ** 2)
        labels[(ellipsoid < 1) & (z > -70 - 0.004 * ((x - sign * 68) ** 2 + y**2))] = side
    hu = np.where(np.hypot(x / 155, y / 115) < 1, 20.0, -1000.0)
    hu[labels > 0] = -840 + 0.4 * y[labels > 0]
    vessel = (np.hypot(y - 20, np.mod(z, 30) - 15) < 3) & (np.abs(x) < 100)
    hu[(labels > 0) & vessel] = 30
    if bulla:
        hu[bulla_at(x, y, z) < 26] = -990
    hu += np.random.default_rng(5).normal(0, noise, hu.shape)
    ct = from_array(np.rint(hu).clip(-1024, 3071).astype(np.float32), grid)
    return Scan(ct, from_array(labels, grid))


def bulla_at(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Distance to the middle of the bulla."""
    return np.sqrt((x + 70) ** 2 + (y + 10) ** 2 + (z - 30) ** 2)


def positions(image: sitk.Image) -> np.ndarray:
    return real_ct._positions(image, slice(0, image.GetSize()[2]))


def read_at(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Values of an image at positions (3, n)."""
    return Scan(image, image).read(to_array(image).astype(np.float32), points)


def convert_case(folder: Path, work: Path) -> dict[str, sitk.Image]:
    """The four images of a written case, as `convert` gives them."""
    images = {}
    for name in ("ct", "attenuation_ct", "perfusion", "ventilation"):
        volume, sidecar = work / f"{name}.nii.gz", work / f"{name}.json"
        if "ct" in name:
            convert_ct(folder / "dicom" / name, volume, sidecar, CONFIG["convert"], CASE)
        else:
            convert_spect(folder / "dicom" / name, volume, sidecar, CONFIG["convert"], CASE, name)
        images[name] = read_volume(volume)
    return images


def truth_of(folder: Path, name: str) -> np.ndarray:
    return to_array(read_volume(folder / "truth" / f"{name}.nii.gz"))


def displaced(folder: Path, ct: sitk.Image, chosen: np.ndarray) -> np.ndarray:
    """Where the chosen voxels (z, y, x boolean) of the CT lie in the SPECT, (3, n) mm."""
    return (positions(ct) + np.moveaxis(truth_of(folder, "ct_to_spect_displacement"), -1, 0))[:, chosen]


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def scan() -> Scan:
    return phantom()


@pytest.fixture(scope="module")
def embolism(scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embolism")
    real_ct.simulate_on_ct(scan, CASE, "patient-1", "embolism", SEED, SETTINGS, folder)
    return folder


@pytest.fixture(scope="module")
def converted(embolism: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, sitk.Image]:
    return convert_case(embolism, tmp_path_factory.mktemp("converted"))


# --- the chest and its reference state -----------------------------------------------------------------------------


def test_a_masked_chest_is_the_drawn_chest_that_its_mask_shows() -> None:
    drawn = DrawnChest(anatomy.draw_body(np.random.default_rng(1)))
    grid = make_grid((90, 70, 100), (4.0, 4.0, 4.0), (-178, -138, -200))
    points = positions(grid)
    distance, side = drawn.lung(points)
    lungs = from_array(np.where(distance < 0, side, 0).astype(np.uint8), grid)
    hu = np.where(drawn.skin(points) < 0, 30.0, -1000.0)
    hu[distance < 0] = -850
    found = chest_from_ct(from_array(hu.astype(np.float32), grid), lungs)
    known, sides = found.lung(points)
    near = np.abs(known) < 6  # the drawn distance is only distance-like
    assert np.median(np.abs(known - distance)[near]) < 1.0
    assert abs((known < 0).sum() / (distance < 0).sum() - 1) < 0.03
    assert (sides[distance < 0] == side[distance < 0]).mean() > 0.995
    skin = drawn.skin(points)
    inside = (np.abs(skin) < 25) & (np.abs(points[2]) < 150)
    assert np.abs(found.skin(points) - skin)[inside].mean() < 4
    assert abs(found.apex_z - points[2][distance < 0].max()) < 5
    assert abs(found.base_z - drawn.base_z) < 15
    lobes, expected = (c.lobe(points[:, distance < -3], side[distance < -3]) for c in (found, drawn))
    assert (lobes == expected).mean() > 0.7
    for lobe, hub in drawn.hubs.items():
        assert np.linalg.norm(found.hubs[lobe] - hub) < 35


@pytest.mark.parametrize("excursion", [[5, 20], [30, 60]])
def test_the_reference_state_holds_the_same_lungs(scan: Scan, excursion: list[float]) -> None:
    settings = {**SETTINGS["motion"], "diaphragm_mm": excursion, "full_inspiration": 0.0}
    placed = real_ct.place(chest_from_ct(scan.ct, scan.lungs), settings, np.random.default_rng(2))
    labels, points = to_array(scan.lungs), positions(scan.ct)
    body = placed.motion.body(points)
    distance, side = placed.chest.lung(body)
    overlap = 2 * ((distance < 0) & (labels > 0)).sum() / ((distance < 0).sum() + (labels > 0).sum())
    assert overlap > 0.985
    assert (side[labels > 0] == labels[labels > 0]).all()
    lung = placed.motion.slide(body[:, labels > 0])
    assert (placed.chest.lung(lung)[0] > 3).mean() < 0.005, "lung slides along the pleura, not through it"
    assert np.abs(np.mean(lung, axis=1)).max() < 40, "the reference's origin is the middle of the lungs"
    back = placed.back.lung(lung) - points[:, labels > 0]
    assert np.percentile(np.linalg.norm(back, axis=0), 99) < 0.6
    height = np.ptp(points[2][labels > 0])
    assert placed.motion.diaphragm_mm <= 0.2 * height + 4
    low = labels > 0
    low &= points[2] < np.percentile(points[2][low], 3)
    high = (labels > 0) & (points[2] > np.percentile(points[2][labels > 0], 97))
    rise = np.mean(placed.motion.lung(points[:, low])[2] - points[2][low])
    rise -= np.mean(placed.motion.lung(points[:, high])[2] - points[2][high])
    assert 0.5 * placed.motion.diaphragm_mm < rise < 1.3 * placed.motion.diaphragm_mm + 6


# --- the written case ----------------------------------------------------------------------------------------------


def test_the_files_are_those_of_a_simulated_case(embolism: Path) -> None:
    assert {p.name for p in (embolism / "dicom").iterdir()} == {"ct", "attenuation_ct", "perfusion", "ventilation"}
    names = {p.name.removesuffix(".nii.gz") for p in (embolism / "truth").glob("*.nii.gz")}
    assert names == TRUTH_FILES
    facts = read_json(embolism / "truth" / "truth.json")
    assert (facts["anatomy"], facts["diagnosis"], facts["case_id"]) == ("real", "embolism", CASE)
    manifest = read_json(embolism / "manifest.json")
    assert manifest == {name: value for name, value in contents(embolism).items() if name.endswith(".dcm")}


def test_the_ct_keeps_its_geometry_and_all_that_is_not_painted(
    scan: Scan, embolism: Path, converted: dict[str, sitk.Image]
) -> None:
    assert same_grid(converted["ct"], scan.ct)
    before, after = to_array(scan.ct), to_array(converted["ct"])
    lungs, marks = to_array(scan.lungs), truth_of(embolism, "disease")
    assert np.array_equal(truth_of(embolism, "lungs"), lungs)
    assert np.array_equal(before[marks != 1], after[marks != 1])
    assert {1, 2} == set(np.unique(marks[lungs > 0])) - {0}
    assert (marks[lungs == 0] == 0).all()
    density = ((after + 1000) / np.maximum(before + 1000, 1))[(marks == 1) & (before < -700) & (before > -980)]
    assert 0.8 < density.mean() < 0.99, "behind a clot that shows there is less blood"


def test_spect_lies_where_the_truth_says(embolism: Path, converted: dict[str, sitk.Image]) -> None:
    lungs = truth_of(embolism, "lungs") > 0
    at = displaced(embolism, converted["ct"], lungs)
    shifts = read_json(embolism / "truth" / "truth.json")["motion"]["shift_mm"]
    for target in ("perfusion", "ventilation"):
        values = read_at(converted[target], at + np.reshape(shifts[target], (3, 1)))
        expected = truth_of(embolism, f"{target}_system")[lungs]
        assert np.corrcoef(values, expected)[0, 1] > 0.8, target
        off = read_at(converted[target], at + 25.0)
        assert np.corrcoef(off, expected)[0, 1] < np.corrcoef(values, expected)[0, 1] - 0.2
    perfusion = read_at(converted["perfusion"], at + np.reshape(shifts["perfusion"], (3, 1)))
    sharp = truth_of(embolism, "perfusion")[lungs]
    deep = truth_of(embolism, "perfusion_system")[lungs] < 0.5
    assert deep.sum() > 100
    assert perfusion[deep & (sharp < 0.5)].mean() < 0.6 * perfusion[sharp > 0.8].mean()


def test_what_no_ct_shows_is_not_in_the_visible_truth(embolism: Path) -> None:
    sharp, system = truth_of(embolism, "perfusion"), truth_of(embolism, "perfusion_system")
    visible, marks = truth_of(embolism, "perfusion_visible_system"), truth_of(embolism, "disease")
    lungs = truth_of(embolism, "lungs") > 0
    hidden, shown = (marks == 2) & (sharp < 0.4), (marks == 1) & (sharp < 0.4)
    assert hidden.sum() > 50
    assert shown.sum() > 50
    assert visible[hidden].mean() > system[hidden].mean() + 0.2
    assert visible[shown].mean() < visible[lungs & (marks == 0)].mean() - 0.2


def test_landmarks_follow_the_displacement(embolism: Path, scan: Scan) -> None:
    table = read_tsv(embolism / "truth" / "landmarks.tsv")
    assert len(table) > 20
    ct, spect = (table[[f"{a}_{state}_mm" for a in "xyz"]].to_numpy(float).T for state in ("ct", "spect"))
    field = truth_of(embolism, "ct_to_spect_displacement")
    moved = ct + np.stack([scan.read(np.ascontiguousarray(field[..., a]), ct) for a in range(3)])
    assert np.percentile(np.linalg.norm(moved - spect, axis=0), 90) < 1.0


def test_the_attenuation_ct_lies_in_the_spects_state(embolism: Path, converted: dict[str, sitk.Image]) -> None:
    lungs = truth_of(embolism, "lungs") > 0
    near = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(from_array(lungs.astype(np.uint8), converted["ct"])))
    depth = np.sign(near) * np.sqrt(np.abs(near)) * 4  # index units of the smallest spacing: a bound is enough
    deep = lungs & (depth < -12)
    hu = read_at(converted["attenuation_ct"], displaced(embolism, converted["ct"], deep))
    assert (hu < -500).mean() > 0.9
    assert np.percentile(hu, 50) < -700
    body = ~lungs & (depth > 12) & (depth < 24)
    beside = read_at(converted["attenuation_ct"], displaced(embolism, converted["ct"], body))
    assert (beside > -300).mean() > 0.9


def test_the_lungs_mass_is_kept() -> None:
    scan = phantom(noise=0.0)
    settings = {**SETTINGS, "motion": {**SETTINGS["motion"], "attenuation_mm": 0.0}}
    real = real_ct.draw_case_on(scan, CASE, "patient-1", "normal", SEED, settings)
    grid = make_grid((100, 80, 90), (4.0, 4.0, 4.0), (-198, -158, -178))
    still = motion.Motion(chest=real.placed.chest, diaphragm_mm=0.0)
    hu = real_ct.warp_to(real, to_array(scan.ct), grid, still)
    distance, _side = real.placed.chest.lung(positions(grid))
    lungs = to_array(scan.lungs) > 0
    assert (distance < 0).sum() * 64 < 0.97 * lungs.sum() * 80, "a breath-hold holds more air"
    there = from_array(hu, grid)
    kept, changed = [], []
    for slab, where in real_ct.mapped_slabs(real):
        deep = (real.placed.chest.lung(slab.body)[0] < -12) & (to_array(scan.ct)[where] < -700)
        here = to_array(scan.ct)[where][deep] + 1000
        carried = read_at(there, slab.lung[:, deep]) + 1000
        kept.append((carried * slab.jacobian[deep]).sum() / here.sum() if deep.sum() > 1000 else np.nan)
        changed.append(carried.sum() / here.sum() if deep.sum() > 1000 else np.nan)
    assert abs(np.nanmean(kept) - 1) < 0.04
    assert np.nanmean(changed) > 1.04


def test_same_seed_same_bytes_and_another_seed_another_case(scan: Scan, embolism: Path, tmp_path: Path) -> None:
    for name, seed in (("same", SEED), ("other", SEED + 1)):
        real_ct.simulate_on_ct(scan, CASE, "patient-1", "embolism", seed, SETTINGS, tmp_path / name)
    assert contents(tmp_path / "same") == contents(embolism)
    first, second = (to_array(read_volume(p / "truth" / "perfusion.nii.gz")) for p in (embolism, tmp_path / "other"))
    assert np.abs(first - second).mean() > 0.01


# --- disease -------------------------------------------------------------------------------------------------------


def draw(scan: Scan, diagnosis: str, seed: int = SEED) -> real_ct.RealCase:
    settings = {**SETTINGS, "disease": {**SETTINGS["disease"], "comorbidity": {}}}
    return real_ct.draw_case_on(scan, CASE, "patient-1", diagnosis, seed, settings)


def painted(real: real_ct.RealCase, ct: sitk.Image | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The painted CT (or another one painted like it), and the marks, (z, y, x)."""
    hu = to_array(ct or real.scan.ct).astype(np.int16)
    marks = np.zeros(hu.shape, dtype=np.uint8)
    for slab, where in real_ct.mapped_slabs(real):
        inside = slab.shape.lung < 0
        unit = real.case.units.at(slab.lung[:, inside], slab.shape.side[inside])
        marks[where][inside] = real.case.state.marks[unit]
        hu[where] = real_ct.paint(real, slab, hu[where])
    return hu, marks


def test_a_normal_ct_stays_as_it_is(scan: Scan) -> None:
    hu, marks = painted(draw(scan, "normal"))
    assert np.array_equal(hu, to_array(scan.ct))
    assert not marks.any()


@pytest.mark.parametrize(
    ("diagnosis", "low", "high"),
    [
        ("obstruction", -120, -15),
        ("consolidation", 150, 900),
        ("fibrosis", 30, 700),
        ("tumour", 30, 900),
        ("radiation", 50, 600),
    ],
)
def test_disease_is_painted_where_the_truth_marks_it(scan: Scan, diagnosis: str, low: float, high: float) -> None:
    real = draw(scan, diagnosis)
    hu, marks = painted(real)
    before, lungs = to_array(scan.ct), to_array(scan.lungs) > 0
    assert np.array_equal(hu[~lungs], before[~lungs])
    change = hu - before
    if diagnosis == "tumour":
        assert (change[lungs] > 500).sum() * 0.08 > 0.2, "a mass of more than 0.2 mL lies in the lungs"
        return
    assert low < change[(marks == 1) & (before < -700)].mean() < high
    assert np.abs(change[lungs & (marks == 0)]).mean() < 0.25 * np.abs(change[marks == 1]).mean()


@pytest.mark.parametrize("diagnosis", ["obstruction", "consolidation"])
def test_the_ct_keeps_its_noise(scan: Scan, diagnosis: str) -> None:
    still, real = phantom(noise=0.0).ct, draw(scan, diagnosis)
    noisy, marks = painted(real)
    clean, _marks = painted(real, still)
    rest = (noisy - clean)[(marks == 1) & (to_array(still) < -700)]
    assert 0.75 * NOISE_HU < 1.4826 * np.median(np.abs(rest - np.median(rest))) < 1.15 * NOISE_HU
    assert abs(np.median(rest)) < 5


def test_emphysema_is_what_the_ct_shows() -> None:
    real = draw(phantom(bulla=True), "emphysema")
    divided = real.case.units
    back = real.placed.back.lung(divided.position.T.astype(np.float32)) - MIDDLE[:, None]
    distance, share = bulla_at(*back), real.case.state.destruction(sample_units(divided))
    assert share[distance < 12].mean() > 0.8
    assert share[distance > 45].max() < 0.05
    for values in (real.case.function.perfusion, real.case.function.ventilation, real.case.visible.perfusion):
        assert values[distance < 12].mean() < 0.35 * values[distance > 45].mean()
    assert (real.case.state.marks[distance < 12] == 1).all()
    hu, _marks = painted(real)
    assert np.array_equal(hu, to_array(real.scan.ct)), "what is taken from the CT is not painted as well"


def test_emphysema_comes_with_any_diagnosis() -> None:
    state = draw(phantom(bulla=True), "obstruction").case.state
    assert state.also == ["emphysema"]
    assert state.airway_disease
    assert {finding["kind"] for finding in state.findings} == {"obstructed airway", "emphysema"}


def test_noise_is_no_emphysema() -> None:
    noisy = phantom(noise=60.0)
    raw = to_array(noisy.ct)[to_array(noisy.lungs) > 0]
    _share, total = real_ct.low_attenuation(noisy)
    assert (raw < -950).mean() > 0.03
    assert total < 0.005
    with pytest.raises(ConfigError, match=r"diagnosis.*shows no emphysema"):
        draw(noisy, "emphysema")


def test_normal_variation_of_blood_and_air_counts_as_invisible(scan: Scan) -> None:
    placed = real_ct.place(chest_from_ct(scan.ct, scan.lungs), SETTINGS["motion"], np.random.default_rng(3))
    divided = units.divide_lungs(placed.chest, generator(1, "p", "units"))
    none = real_ct._destruction(scan, placed)
    state, shown, paint = real_ct.draw_state("embolism", divided, SETTINGS, 1, "c", none)
    assert state.blood.std() > 0.05
    assert np.allclose(shown.inflation, 1)
    assert (shown.blood == 1).all() and shown.oligaemia.max() > 0
    assert paint.destruction(sample_units(divided)).max() == 0
    assert state.dependent_atelectasis == 0


# --- input and errors ----------------------------------------------------------------------------------------------


def write_dicom(scan: Scan, folder: Path) -> None:
    """The phantom as a hospital's DICOM, with a real-looking identity."""
    from ct2vq.simulate import dicom, identity

    rngs = [np.random.default_rng(k) for k in (1, 2)]
    who = identity.draw_identity(77, "original-case", "original-patient", ("F", 60, 165.0, 70.0), *rngs)
    dicom.write_ct_series(scan.ct, folder, who, "ct", np.random.default_rng(3))
    for path in folder.glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.PatientName, data.PatientID, data.InstitutionName = "Mustermann^Erika", "PID-90210", "Haus am See"
        data.save_as(path)


def test_no_original_identity_in_the_output(scan: Scan, tmp_path: Path) -> None:
    source = tmp_path / "Mustermann_Erika"
    write_dicom(scan, source)
    write_volume(scan.lungs, tmp_path / "mask.nii.gz")
    config = tmp_path / "config.yaml"
    config.write_text("study: real\nsimulate: {habits: {camera_a: 1}, spect: {matrix: 64, voxel_mm: 6.0}}\n")
    options = ["--lungs", str(tmp_path / "mask.nii.gz"), "--diagnosis", "tumour", "--seed", "2"]
    options += ["--configfile", str(config), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, ["simulate-on", str(source), *options])
    assert done.exit_code == 0, done.output
    first = pydicom.dcmread(next(iter(source.glob("*.dcm"))))
    secrets = ["Mustermann", "PID-90210", "Haus am See", str(first.StudyInstanceUID), str(first.SeriesInstanceUID)]
    secrets += [str(first.FrameOfReferenceUID), str(first.AccessionNumber)]
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and not p.name.endswith(".gz")]
    assert len(files) > 100
    for path in files:
        content = path.read_bytes()
        assert not [s for s in secrets if s and s.encode() in content], path
    assert read_json(tmp_path / "out" / "truth" / "truth.json")["seeds"]["seed"] == 2
    assert pydicom.dcmread(next((tmp_path / "out" / "dicom" / "perfusion").iterdir())).NumberOfFrames == 64


def test_slices_that_run_against_their_normal_are_reversed(scan: Scan) -> None:
    turned = Scan(scan.ct[:, :, ::-1], scan.lungs[:, :, ::-1])
    assert np.linalg.det(np.reshape(turned.ct.GetDirection(), (3, 3))) < 0
    assert same_grid(real_ct.require_whole_lungs(turned).ct, scan.ct)


def test_one_lung_is_not_enough(scan: Scan) -> None:
    one = Scan(scan.ct, scan.lungs * sitk.Cast(scan.lungs == RIGHT, sitk.sitkUInt8))
    with pytest.raises(GeometryError, match=r"left lung has 0 mL.*\(take another CT\)"):
        real_ct.require_whole_lungs(one)
    with pytest.raises(GeometryError, match="no left lung"):
        chest_from_ct(one.ct, one.lungs)


def test_cut_lungs_are_refused(scan: Scan) -> None:
    cut = Scan(scan.ct[:, :, 30:], scan.lungs[:, :, 30:])
    with pytest.raises(GeometryError, match=r"border cuts the lungs \(\d+ cm2\)"):
        real_ct.require_whole_lungs(cut)


def test_a_mask_of_another_grid_is_refused(scan: Scan, tmp_path: Path) -> None:
    write_volume(scan.ct, tmp_path / "ct.nii.gz")
    write_volume(scan.lungs[:, :, 1:], tmp_path / "mask.nii.gz")
    with pytest.raises(GeometryError, match="do not share a grid"):
        real_ct.read_scan(tmp_path / "ct.nii.gz", tmp_path / "mask.nii.gz", CONFIG)


def test_fluid_cannot_be_painted(scan: Scan) -> None:
    assert set(real_ct.DIAGNOSES) | {"effusion"} == set(disease.DISEASES)
    with pytest.raises(ConfigError, match=r"key diagnosis: `effusion`.*one of consolidation"):
        draw(scan, "effusion")


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["simulate-on", str(tmp_path), "--output", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"ct2vq: D105 file {tmp_path}: no DICOM image found")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DicomError):
        real_ct.read_scan(tmp_path, None, CONFIG)
    (tmp_path / "wrong.yaml").write_text("study: [")
    options = ["--configfile", str(tmp_path / "wrong.yaml"), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, ["simulate-on", str(tmp_path), *options])
    assert done.exit_code == 1
    assert "wrong.yaml, key --configfile: not a readable YAML file" in done.stderr


# --- real images ---------------------------------------------------------------------------------------------------


def check_written_case(folder: Path, scan: Scan, work: Path, least: float) -> None:
    """Geometry survives, and SPECT and attenuation CT lie where the truth says."""
    images = convert_case(folder, work)
    assert same_grid(images["ct"], scan.ct)
    lungs = truth_of(folder, "lungs") > 0
    some = np.zeros(lungs.shape, dtype=bool)
    some.flat[np.random.default_rng(0).choice(np.flatnonzero(lungs), 20000, replace=False)] = True
    at = displaced(folder, images["ct"], some)
    for target in ("perfusion", "ventilation"):
        expected = truth_of(folder, f"{target}_system")[some]
        assert np.corrcoef(read_at(images[target], at), expected)[0, 1] > least, target
    assert (read_at(images["attenuation_ct"], at) < -400).mean() > 0.85


@pytest.mark.realdata
@needs_realdata
@pytest.mark.parametrize("name", ["ct-64.nrrd", "ct-64-transformed.nrrd"])
def test_a_coarse_real_ct_also_oblique(name: str, tmp_path: Path) -> None:
    folder = REALDATA / "cip_chest_ct64"
    ct = sitk.ReadImage(str(folder / name))
    mask = sitk.ReadImage(str(folder / "wholeLung-64.nrrd"), sitk.sitkUInt8)
    mask.CopyInformation(ct)
    write_volume(mask, tmp_path / "mask.nii.gz")
    scan = real_ct.read_scan(folder / name, tmp_path / "mask.nii.gz", CONFIG)
    assert np.array_equal(to_array(scan.lungs) > 0, to_array(mask) > 0)
    real_ct.simulate_on_ct(scan, CASE, "patient-1", "embolism", SEED, SETTINGS, tmp_path / "out")
    check_written_case(tmp_path / "out", scan, tmp_path, 0.7)
    written = affine(read_volume(tmp_path / "ct.nii.gz"))
    assert np.allclose(written, affine(ct), atol=2e-3)
    assert "emphysema" in read_json(tmp_path / "out" / "truth" / "truth.json")["also"]


@pytest.mark.realdata
@needs_realdata
def test_a_full_size_real_ct(tmp_path: Path) -> None:
    with tarfile.open(REALDATA / "mirp_LUNG1-001_ct" / "LUNG1-001_image.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    scan = real_ct.read_scan(tmp_path / "image", None, CONFIG)
    real_ct.simulate_on_ct(scan, CASE, "patient-1", "obstruction", SEED, SETTINGS, tmp_path / "out")
    check_written_case(tmp_path / "out", scan, tmp_path, 0.7)
    secret = b"LUNG1-001"
    assert not [p for p in (tmp_path / "out" / "dicom").rglob("*.dcm") if secret in p.read_bytes()]

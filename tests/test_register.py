"""Registration of a phantom whose true deformation is a formula; each run is a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from ct2vq.errors import GeometryError
from ct2vq.fields import read_transform
from ct2vq.files import read_json, sha256_file, write_json
from ct2vq.register import register_case, warp_spect
from ct2vq.register.frames import Frames
from ct2vq.volume import from_array, make_grid, read_volume, to_array, write_volume

SETTINGS = {
    "transform": "deformable",
    "spacing_mm": 8.0,
    "margin_mm": 24,
    "lung_margin_mm": 8,
    "linear_iterations": [40, 15],
    "deformable_iterations": [25, 10],
    "gradient_step": 0.2,
    "flow_sigma": 3,
    "total_sigma": 0,
    "field_spacing_mm": 8.0,
    "dice_flag": 0.9,
}
RUN = """
import json, sys
from pathlib import Path
from ct2vq.register import register_case
folder, names, settings = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
volumes = {name: folder.parent / f"{name}.nii.gz" for name in names}
sidecars = {name: folder.parent / f"{name}.json" for name in json.loads(sys.argv[4])}
register_case(volumes, sidecars, folder / "to.nii.gz", folder / "back.nii.gz", folder / "qc.json", settings, 5)
"""
SHIFT = np.array([9.0, -7.0, 6.0])
ANGLE = np.deg2rad(4.0)
DIAPHRAGM_MM = 12.0


def to_ct(q: np.ndarray) -> np.ndarray:
    """Where in the CT a point `(..., 3)` of the attenuation CT lies: the truth, rigid and then smooth."""
    c, s = np.cos(ANGLE), np.sin(ANGLE)
    x, y, z = np.moveaxis(q - SHIFT, -1, 0)
    x, y = c * x - s * y, s * x + c * y
    # the base moves most, the apex not at all
    z = z + DIAPHRAGM_MM * 0.5 * (1 - np.tanh((z + 40) / 40)) * np.exp(-((x / 120) ** 2) - (y / 120) ** 2)
    return np.stack([x, y, z], axis=-1)


def labels_at(p: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(p, -1, 0)
    labels = np.zeros(x.shape, np.uint8)
    for side, centre in ((1, -55.0), (2, 55.0)):
        labels[((x - centre) / 42) ** 2 + (y / 62) ** 2 + (z / 85) ** 2 < 1] = side
    return labels


def hu_at(p: np.ndarray) -> np.ndarray:
    """Chest with two lungs, vessels as waves of density, and a spine that tells front from back."""
    x, y, z = np.moveaxis(p, -1, 0)
    body = (x / 135) ** 2 + (y / 95) ** 2 < 1
    vessels = 60 * (np.sin(x / 9) * np.sin(y / 11) * np.sin(z / 10) + np.sin(z / 17 + x / 23))
    hu = np.where(body, np.where(labels_at(p) > 0, -820 + vessels, 40.0), -1000.0)
    return np.where((x / 15) ** 2 + ((y - 75) / 12) ** 2 < 1, 190.0, hu)


def points(grid: sitk.Image) -> np.ndarray:
    """Positions `(z, y, x, 3)` in mm of a grid along the patient's axes."""
    k, j, i = np.indices(grid.GetSize()[::-1])
    return np.stack([i, j, k], axis=-1) * np.array(grid.GetSpacing()) + np.array(grid.GetOrigin())


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    ct = make_grid((56, 44, 52), (5, 5, 5), (-138, -108, -128))
    low_dose = make_grid((48, 38, 44), (6, 6, 6), (-140, -112, -130))
    spect = make_grid((36, 30, 34), (8, 8, 8), (-138, -114, -132))
    noise = np.random.default_rng(0)
    p, q, r = points(ct), to_ct(points(low_dose)), to_ct(points(spect))
    activity = np.where(labels_at(r) > 0, 100.0 + 0.3 * r[..., 2], 1.0)
    volumes = {
        "ct": (hu_at(p) + noise.normal(0, 15, p.shape[:-1]), ct),
        "ct_lungs": (labels_at(p), ct),
        "attenuation_ct": (hu_at(q) + noise.normal(0, 30, q.shape[:-1]), low_dose),
        "attenuation_ct_lungs": (labels_at(q), low_dose),
        "perfusion": (activity, spect),
        "ventilation": (activity * 2, spect),
    }
    for name, (array, grid) in volumes.items():
        array = array.astype(np.uint8 if "lungs" in name else np.float32)
        write_volume(from_array(array, grid), folder / f"{name}.nii.gz")
    for name in FRAMES:
        write_json({"frame_of_reference": "one"}, folder / f"{name}.json")
    for name, frame in (("other", "another"), ("nameless", None)):
        write_json({"frame_of_reference": frame}, folder / f"{name}.json")
    return folder


THROUGH_CT = ["ct", "ct_lungs", "attenuation_ct", "attenuation_ct_lungs"]
#: sidecars of the volumes that one camera made
FRAMES = ["attenuation_ct", "perfusion", "ventilation"]


def register(phantom: Path, run: str, names: list[str], **changes) -> Path:
    folder = phantom / run
    folder.mkdir()
    sidecars = [name for name in FRAMES if name in names or "attenuation_ct" in names]
    words = [json.dumps(value) for value in (names, SETTINGS | changes, sidecars)]
    command = [sys.executable, "-c", RUN, str(folder), *words]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[1])
    return folder


@pytest.fixture(scope="module")
def deformable(phantom: Path) -> Path:
    return register(phantom, "deformable", THROUGH_CT)


def lung_points(phantom: Path) -> np.ndarray:
    lungs = read_volume(phantom / "ct_lungs.nii.gz")
    return points(lungs)[to_array(lungs) > 0][::23]


def moved(transform: sitk.Transform, where: np.ndarray) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in where.tolist()])


def truth_error(folder: Path, phantom: Path) -> np.ndarray:
    """How far from its CT point, in mm, the truth puts the point that the registration found for it."""
    where = lung_points(phantom)
    return np.linalg.norm(to_ct(moved(read_transform(folder / "to.nii.gz"), where)) - where, axis=1)


def test_a_known_deformation_is_found(deformable: Path, phantom: Path) -> None:
    before = np.linalg.norm(to_ct(lung_points(phantom)) - lung_points(phantom), axis=1)
    error = truth_error(deformable, phantom)
    assert before.mean() > 12
    assert error.mean() < 3.0, error.mean()
    assert np.percentile(error, 95) < 7.0
    record = read_json(deformable / "qc.json")
    assert record["dice_before"] < 0.9 < 0.95 < record["dice_after"]
    assert record["folding_percent"] == 0
    assert record["displacement_mean_mm"] == pytest.approx(before.mean(), abs=4)
    assert record["flags"] == []
    assert record["frame_of_reference"] == {"perfusion": "shared", "ventilation": "shared"}
    assert "attenuation CT" in record["method"]


def test_there_and_back(deformable: Path, phantom: Path) -> None:
    where = lung_points(phantom)
    there = moved(read_transform(deformable / "to.nii.gz"), where)
    back = moved(read_transform(deformable / "back.nii.gz"), there)
    distance = np.linalg.norm(back - where, axis=1)
    assert distance.mean() < 1.0
    record = read_json(deformable / "qc.json")
    assert record["inverse_consistency_mean_mm"] == pytest.approx(distance.mean(), abs=0.5)


def test_the_same_bytes_in_another_process(deformable: Path, phantom: Path) -> None:
    again = register(phantom, "again", THROUGH_CT)
    for name in ("to.nii.gz", "back.nii.gz", "qc.json"):
        assert sha256_file(again / name) == sha256_file(deformable / name), name


def test_the_spect_is_carried_onto_the_ct(deformable: Path, phantom: Path) -> None:
    output = phantom / "warped.nii.gz"
    warp_spect(phantom / "perfusion.nii.gz", phantom / "ct.nii.gz", deformable / "to.nii.gz", output)
    warped, lungs = read_volume(output), read_volume(phantom / "ct_lungs.nii.gz")
    assert warped.GetSize() == lungs.GetSize()
    inside = to_array(lungs) > 0
    expected = 100 + 0.3 * points(lungs)[..., 2]
    assert np.median(np.abs(to_array(warped) - expected)[inside]) < 5
    assert to_array(warped)[inside].mean() > 5 * to_array(warped)[~inside].mean()


def test_without_an_attenuation_ct_it_is_rigid_and_says_so(phantom: Path) -> None:
    folder = register(phantom, "fallback", ["ct", "ct_lungs", "perfusion", "ventilation"])
    record = read_json(folder / "qc.json")
    assert record["method"] == "rigid on the SPECT images"
    assert record["dice_after"] is None
    assert any("no attenuation CT" in flag for flag in record["flags"])
    assert record["jacobian_min"] == pytest.approx(1, abs=0.02)
    before = np.linalg.norm(to_ct(lung_points(phantom)) - lung_points(phantom), axis=1)
    assert truth_error(folder, phantom).mean() < 0.75 * before.mean()


def test_a_mask_on_another_grid_is_refused(phantom: Path, tmp_path: Path) -> None:
    volumes = {name: phantom / f"{name}.nii.gz" for name in THROUGH_CT}
    sidecars = {name: phantom / f"{name}.json" for name in FRAMES}
    outputs = [tmp_path / name for name in ("to.nii.gz", "back.nii.gz", "qc.json")]
    with pytest.raises(GeometryError, match="ct and ct_lungs"):
        register_case(volumes | {"ct_lungs": volumes["attenuation_ct_lungs"]}, sidecars, *outputs, SETTINGS, 1)
    with pytest.raises(GeometryError, match="attenuation_ct and its lungs"):
        register_case(volumes | {"attenuation_ct_lungs": volumes["ct_lungs"]}, sidecars, *outputs, SETTINGS, 1)
    assert not list(tmp_path.iterdir())


def test_a_spect_in_another_frame_of_reference_does_not_help(phantom: Path, tmp_path: Path) -> None:
    """The ventilation of another day lies elsewhere; added up, it would pull the perfusion along."""
    for path in phantom.glob("*.*"):
        shutil.copy(path, tmp_path)
    shutil.copy(phantom / "other.json", tmp_path / "ventilation.json")
    elsewhere = read_volume(phantom / "ventilation.nii.gz")
    elsewhere.SetOrigin([x + 40 for x in elsewhere.GetOrigin()])
    write_volume(elsewhere, tmp_path / "ventilation.nii.gz")
    alone = register(phantom, "alone", ["ct", "ct_lungs", "perfusion"])
    beside = register(tmp_path, "beside", ["ct", "ct_lungs", "perfusion", "ventilation"])
    assert sha256_file(beside / "to.nii.gz") == sha256_file(alone / "to.nii.gz")
    record = read_json(beside / "qc.json")
    assert record["frame_of_reference"] == {"ventilation": "different"}
    assert "ventilation has another frame of reference than perfusion: it does not help" in " ".join(record["flags"])
    assert read_json(alone / "qc.json")["frame_of_reference"] == {}


@pytest.mark.parametrize(
    ("sidecar", "relation"), [("perfusion", "shared"), ("other", "different"), ("nameless", "unknown")]
)
@pytest.mark.parametrize("of_what", ["attenuation_ct", "ventilation"])
def test_frames_of_reference_are_compared(phantom: Path, sidecar: str, relation: str, of_what: str) -> None:
    frames = Frames.of({of_what: phantom / f"{of_what}.json", "perfusion": phantom / f"{sidecar}.json"})
    assert frames.relations == {"perfusion": relation}
    assert len(frames.flags()) == (relation != "shared")
    assert frames.strangers == (["perfusion"] if of_what == "ventilation" and relation != "shared" else [])
    nameless = Frames.of({of_what: phantom / "nameless.json", "perfusion": phantom / "nameless.json"})
    assert nameless.relations == {"perfusion": "unknown"}, "two headers that name no frame do not name one frame"

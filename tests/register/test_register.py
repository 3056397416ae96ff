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
from chest_phantom import SETTINGS, chest, points, to_ct

from ct2vq.errors import GeometryError
from ct2vq.fields import read_transform
from ct2vq.files import read_json, sha256_file, write_json
from ct2vq.register.case import case_seed, register_case
from ct2vq.register.warp import warp_spect
from ct2vq.volume import read_volume, to_array, write_volume

RUN = """
import json, sys
from pathlib import Path
from ct2vq.register.case import register_case
from ct2vq.register.judge import judge_registration
folder, names, settings = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
volumes = {name: folder.parent / f"{name}.nii.gz" for name in names}
sidecars = {name: folder.parent / f"{name}.json" for name in json.loads(sys.argv[4])}
fields, record = (folder / "to.nii.gz", folder / "back.nii.gz"), folder / "record.json"
register_case(volumes, sidecars, *fields, record, settings, 5, "phantom")
judge_registration(volumes, fields, record, folder / "qc.json", folder / "accepted.txt", settings)
"""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    for name, image in chest().items():
        write_volume(image, folder / f"{name}.nii.gz")
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
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[2])
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
    # the phantom's vessels are finer than the voxels of this registration
    assert [flag for flag in record["flags"] if "lung detail" not in flag] == []
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
    for name in ("to.nii.gz", "back.nii.gz", "record.json", "qc.json"):
        assert sha256_file(again / name) == sha256_file(deformable / name), name


def test_each_case_has_its_own_seed() -> None:
    seeds = {case_seed(seed, case) for seed in (1, 2) for case in ("a", "b", "c")}
    assert len(seeds) == 6 and all(0 <= seed < 2**31 for seed in seeds)
    assert case_seed(1, "a") == case_seed(1, "a")


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
    assert record["dice_after"] is None and "diaphragm" in record["risk"]
    assert record["ct_frame_of_reference"]["relation"] == "unknown"
    assert any("no attenuation CT" in flag for flag in record["flags"])
    assert record["jacobian_min"] == pytest.approx(1, abs=0.02)
    before = np.linalg.norm(to_ct(lung_points(phantom)) - lung_points(phantom), axis=1)
    assert truth_error(folder, phantom).mean() < 0.75 * before.mean()


def test_a_mask_on_another_grid_is_refused(phantom: Path, tmp_path: Path) -> None:
    volumes = {name: phantom / f"{name}.nii.gz" for name in THROUGH_CT}
    sidecars = {name: phantom / f"{name}.json" for name in FRAMES}
    outputs = [tmp_path / name for name in ("to.nii.gz", "back.nii.gz", "record.json")]
    with pytest.raises(GeometryError, match="ct and ct_lungs"):
        register_case(volumes | {"ct_lungs": volumes["attenuation_ct_lungs"]}, sidecars, *outputs, SETTINGS, 1, "a")
    with pytest.raises(GeometryError, match="attenuation_ct and its lungs"):
        register_case(volumes | {"attenuation_ct_lungs": volumes["ct_lungs"]}, sidecars, *outputs, SETTINGS, 1, "a")
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


@pytest.mark.parametrize("kind", ["affine", "deformable"])
def test_more_than_rigid_on_the_spect_only_if_asked_for(phantom: Path, kind: str) -> None:
    names = ["ct", "ct_lungs", "perfusion", "ventilation"]
    folder = register(phantom, f"fallback_{kind}", names, without_attenuation_ct=kind)
    record = read_json(folder / "qc.json")
    assert record["method"] == f"{kind} on the SPECT images"
    assert any(flag.startswith("W801 no attenuation CT") and kind[:6] in flag for flag in record["flags"])
    assert max(abs(record["jacobian_p99"] - 1), abs(record["jacobian_p1"] - 1)) > 0.004, "volumes change"
    before = np.linalg.norm(to_ct(lung_points(phantom)) - lung_points(phantom), axis=1)
    assert truth_error(folder, phantom).mean() < 0.75 * before.mean()


def test_modulated_counts_are_kept(deformable: Path, phantom: Path) -> None:
    outputs = [phantom / f"{name}.nii.gz" for name in ("plain", "modulated")]
    for modulate, output in zip((False, True), outputs, strict=True):
        files = phantom / "perfusion.nii.gz", phantom / "ct.nii.gz", deformable / "to.nii.gz"
        warp_spect(*files, output, modulate)
    plain, modulated = (to_array(read_volume(output)).sum() * 5.0**3 for output in outputs)
    counts = to_array(read_volume(phantom / "perfusion.nii.gz")).sum() * 8.0**3
    assert modulated == pytest.approx(counts, rel=0.03)
    assert abs(plain - counts) > abs(modulated - counts)

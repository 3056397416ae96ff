"""Bad input stops with a code that says what was seen; the engine is replaced by transforms that are known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from chest_phantom import CT, LOW_DOSE, SETTINGS, chest, hu_at, labels_at, points, volume

from ct2vq.errors import Ct2vqError, RegistrationError
from ct2vq.files import read_json, write_json
from ct2vq.register import case as stage
from ct2vq.register.judge import ACCEPTED, judge_registration
from ct2vq.register.refusals import require_content, require_finite
from ct2vq.volume import from_array, to_array, write_volume

IMAGES = chest(moved=False)
STAYS = sitk.Transform(3, sitk.sitkIdentity)


def run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: dict[str, sitk.Image],
    transforms: tuple[sitk.Transform, sitk.Transform] = (STAYS, STAYS),
    frame_of_ct: str | None = "another",
    landmarks: Path | None = None,
    accept: bool = False,
    **changes: object,
) -> dict:
    """Register with transforms that are known instead of found; returns the record."""
    for name in ("register_through_ct", "register_through_spect"):
        monkeypatch.setattr(stage, name, lambda *_: transforms)
    sidecars = {name: folder / f"{name}.json" for name in images if "ct" not in name or name == "attenuation_ct"}
    for name, image in images.items():
        write_volume(image, folder / f"{name}.nii.gz")
    for path in sidecars.values():
        write_json({"frame_of_reference": "one"}, path)
    sidecars["ct"] = folder / "ct.json"
    write_json({"frame_of_reference": frame_of_ct}, sidecars["ct"])
    fields, record = (folder / "to.nii.gz", folder / "back.nii.gz"), folder / "record.json"
    volumes = {name: folder / f"{name}.nii.gz" for name in images}
    settings = SETTINGS | changes
    stage.register_case(volumes, sidecars, *fields, record, settings, 1, "a")
    judged = folder / "qc.json", folder / "accepted.txt"
    judge_registration(volumes, fields, record, *judged, settings, landmarks, accept=accept)
    assert (folder / "accepted.txt").read_text() == ACCEPTED
    return read_json(folder / "qc.json")


def one_lung(name: str) -> sitk.Image:
    return IMAGES[name] * sitk.Cast(IMAGES[name] == 1, sitk.sitkUInt8)


def test_a_case_that_is_right_has_no_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = run(tmp_path, monkeypatch, IMAGES)
    assert record["flags"] == [] and record["risk"] is None
    assert record["ct_frame_of_reference"]["relation"] == "different"


@pytest.mark.parametrize("name", ["ct_lungs", "attenuation_ct_lungs"])
def test_empty_lungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(RegistrationError, match="is empty") as caught:
        run(tmp_path, monkeypatch, IMAGES | {name: IMAGES[name] * 0})
    assert caught.value.code == "D801"
    assert ("attenuation CT" in str(caught.value)) == (name != "ct_lungs")


@pytest.mark.parametrize("name", ["ct_lungs", "attenuation_ct_lungs"])
def test_one_lung_against_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(RegistrationError, match="left 0 mL") as caught:
        run(tmp_path, monkeypatch, IMAGES | {name: one_lung(name)})
    assert caught.value.code == "D802"


def test_a_patient_with_one_lung_is_registered() -> None:
    require_content(IMAGES | {name: one_lung(name) for name in ("ct_lungs", "attenuation_ct_lungs")})


def test_a_spect_without_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegistrationError, match="ventilation SPECT holds no counts: its largest voxel is 0") as caught:
        run(tmp_path, monkeypatch, IMAGES | {"ventilation": IMAGES["ventilation"] * 0})
    assert caught.value.code == "D804"


def test_a_spect_with_voxels_that_are_no_numbers() -> None:
    values = to_array(IMAGES["perfusion"])
    values[3, 4, 5] = np.nan
    with pytest.raises(RegistrationError, match="no numbers"):
        require_content(IMAGES | {"perfusion": from_array(values, IMAGES["perfusion"])})


def test_a_spect_that_does_not_hold_the_lungs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = sitk.Image(IMAGES["perfusion"])
    away.SetOrigin([x + 400 for x in away.GetOrigin()])
    with pytest.raises(RegistrationError, match="perfusion: lungs outside the SPECT 100 %, above 50 %") as caught:
        run(tmp_path, monkeypatch, IMAGES | {"perfusion": away})
    assert caught.value.code == "D803"
    assert not (tmp_path / "accepted.txt").exists() and not (tmp_path / "qc.json").exists()
    assert (tmp_path / "to.nii.gz").exists(), "a looser limit needs no registration"


def test_a_spect_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts only below the lungs: a liver."""
    p = points(IMAGES["perfusion"])
    liver = np.where(np.linalg.norm(p - [0, 0, -110], axis=-1) < 40, 100.0, 0.1)
    with pytest.raises(RegistrationError, match="perfusion: share of the counts inside the lungs") as caught:
        run(tmp_path, monkeypatch, IMAGES | {"perfusion": volume(liver, IMAGES["perfusion"])})
    assert caught.value.code == "D804"


def test_another_patients_attenuation_ct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lungs overlap as well as a registration can make them, but their vessels are another's."""
    noise = np.random.default_rng(2).normal(0, 30, points(LOW_DOSE).shape[:-1])
    other = IMAGES | {"attenuation_ct": volume(hu_at(points(LOW_DOSE), vessels=1.31) + noise, LOW_DOSE)}
    with pytest.raises(RegistrationError, match="correlation of lung detail after") as caught:
        run(tmp_path, monkeypatch, other)
    assert caught.value.code == "D805"
    assert "of one patient" in str(caught.value) and "name it in register.accept" in str(caught.value)
    lenient = SETTINGS["refuse"] | {"lung_detail_after_below": None}
    flags = run(tmp_path, monkeypatch, other, refuse=lenient)["flags"]
    assert any(flag.startswith("W804 correlation of lung detail after") for flag in flags)


def test_a_case_that_somebody_accepts_is_flagged_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = IMAGES | {"attenuation_ct": volume(hu_at(points(LOW_DOSE), vessels=1.31), LOW_DOSE)}
    flags = run(tmp_path, monkeypatch, other, accept=True)["flags"]
    assert flags[0].startswith("W805 accepted by register.accept: correlation of lung detail after")
    assert any(flag.startswith("W804 correlation of lung detail after") for flag in flags)
    (tmp_path / "right").mkdir()
    assert run(tmp_path / "right", monkeypatch, IMAGES, accept=True)["flags"] == [], "nothing to accept"


def test_lungs_of_a_child_and_of_an_adult(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"attenuation_ct_lungs": volume(labels_at(points(LOW_DOSE) * 2), LOW_DOSE)}
    with pytest.raises(RegistrationError, match=r"lung volume, CT to attenuation CT, 7\.\d+, above 5") as caught:
        run(tmp_path, monkeypatch, IMAGES | small)
    assert caught.value.code == "D805"


def test_ants_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Ct2vqError("ANTs' stage Rigid failed: all samples map outside the moving image")

    monkeypatch.setattr(stage, "register_through_ct", fail)
    for name, image in IMAGES.items():
        write_volume(image, tmp_path / f"{name}.nii.gz")
    write_json({"frame_of_reference": "one"}, tmp_path / "attenuation_ct.json")
    volumes = {name: tmp_path / f"{name}.nii.gz" for name in IMAGES}
    outputs = [tmp_path / name for name in ("to.nii.gz", "back.nii.gz", "record.json")]
    with pytest.raises(RegistrationError, match="all samples map outside") as caught:
        stage.register_case(volumes, {"attenuation_ct": tmp_path / "attenuation_ct.json"}, *outputs, SETTINGS, 1, "a")
    assert caught.value.code == "D806"
    assert not any(path.exists() for path in outputs)


def test_displacements_that_are_no_numbers() -> None:
    vectors = np.zeros((4, 4, 4, 3))
    vectors[1, 2, 3, 0] = np.inf
    with pytest.raises(RegistrationError, match="1 of 64 displacements") as caught:
        require_finite([sitk.GetImageFromArray(vectors, isVector=True)])
    assert caught.value.code == "D807"


@pytest.mark.parametrize(
    ("matrix", "code"), [((1, 0, 0, 0, 1, 0, 0, 0, 5), "D805"), ((1, 0, 0, 0, 1, 0, 0, 0, -1), "D809")]
)
def test_transforms_that_no_breathing_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, matrix: tuple[float, ...], code: str
) -> None:
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix)
    limits = SETTINGS["refuse"] | (
        dict.fromkeys(("dice_after_below", "lung_detail_after_below")) if code == "D809" else {}
    )
    with pytest.raises(RegistrationError) as caught:
        run(tmp_path, monkeypatch, IMAGES, (transform, transform.GetInverse()), refuse=limits)
    assert caught.value.code == code
    if code == "D805":
        assert "largest displacement against the lungs' median" in str(caught.value), "every breach is told"


WITHOUT_CT = {name: IMAGES[name] for name in ("ct", "ct_lungs", "perfusion", "ventilation")}


def test_a_spect_in_the_cts_frame_is_used_as_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = sitk.TranslationTransform(3, (30, 0, 0))
    record = run(tmp_path, monkeypatch, WITHOUT_CT, (elsewhere, elsewhere), frame_of_ct="one")
    assert record["method"] == "as scanned, in the CT's own frame of reference"
    assert record["displacement_max_mm"] == 0
    assert record["ct_frame_of_reference"]["used_as_scanned"] and record["ct_frame_of_reference"]["borne_out"]
    assert [flag[:4] for flag in record["flags"]] == ["W801"]


def test_a_frame_that_the_images_deny_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shift = (0.0, 0.0, 30.0)
    moved = {name: sitk.Image(image) for name, image in WITHOUT_CT.items()}
    for name in ("perfusion", "ventilation"):
        moved[name].SetOrigin(np.add(moved[name].GetOrigin(), shift).tolist())
    there = sitk.TranslationTransform(3, shift)
    record = run(tmp_path, monkeypatch, moved, (there, there.GetInverse()), frame_of_ct="one")
    assert record["method"] == "rigid on the SPECT images"
    assert record["displacement_mean_mm"] == pytest.approx(30)
    assert any(flag.startswith("W802 registered in spite of one frame of reference") for flag in record["flags"])
    assert re.search(r"if moved by (29|3[0-2]) mm", record["ct_frame_of_reference"]["why"])


@pytest.mark.parametrize("lost", ["bases", "left lung"])
def test_a_large_defect_is_no_movement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """Activity in half the lungs: a rigid registration would move the rest into the defect."""
    p = points(IMAGES["perfusion"])
    kept = np.where(p[..., 2] < 0 if lost == "bases" else labels_at(p) == 2, 0.1, 1.0)
    sick = {name: volume(to_array(IMAGES[name]) * kept, IMAGES[name]) for name in ("perfusion", "ventilation")}
    elsewhere = sitk.TranslationTransform(3, (30, 0, 0))
    record = run(tmp_path, monkeypatch, WITHOUT_CT | sick, (elsewhere, elsewhere), frame_of_ct="one")
    assert record["ct_frame_of_reference"]["used_as_scanned"] and record["displacement_max_mm"] == 0
    flags = " ".join(flag for flag in record["flags"] if flag.startswith("W802"))
    assert "a large defect, or movement" in flags and "header" not in flags


@pytest.mark.parametrize("registered", ["perfusion", "ventilation"])
def test_only_the_spect_that_is_registered_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: str
) -> None:
    """The other one helps; its figures stand in the record of its own registration."""
    faint = volume(to_array(IMAGES["ventilation"])[::-1] ** 2, IMAGES["ventilation"])
    images = WITHOUT_CT | {"ventilation": faint}
    other = {"perfusion": "ventilation", "ventilation": "perfusion"}[registered]
    ordered = {name: images[name] for name in ("ct", "ct_lungs", registered, other)}
    record = run(tmp_path, monkeypatch, ordered)
    assert list(record["spect"]) == [registered] == [record["registered_to"]]
    (tmp_path / "alone").mkdir()
    alone = run(tmp_path / "alone", monkeypatch, {name: ordered[name] for name in ("ct", "ct_lungs", registered)})
    assert alone["mutual_information_after"] == record["mutual_information_after"]


def test_activity_beside_the_lungs_of_its_own_camera_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headers claim one frame of reference; the patient moved between the camera's CT and the SPECT."""
    moved = sitk.Image(IMAGES["perfusion"])
    moved.SetOrigin(np.add(moved.GetOrigin(), (0, 0, 28)).tolist())
    record = run(tmp_path, monkeypatch, IMAGES | {"perfusion": moved})
    assert record["frame_of_reference"] == {"perfusion": "shared", "ventilation": "shared"}
    assert record["spect"]["perfusion"]["content_shift_mm"] == pytest.approx(28, abs=4)
    flags = [flag for flag in record["flags"] if flag.startswith("W803")]
    assert len(flags) == 1 and "perfusion: distance of the activity" in flags[0]
    assert "movement, or a large defect" in flags[0]


def test_landmarks_are_measured_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "marks.tsv"
    header = "name\tx_ct_mm\ty_ct_mm\tz_ct_mm\tx_spect_mm\ty_spect_mm\tz_spect_mm"
    table.write_text(f"{header}\nhilum\t0\t0\t0\t3\t0\t4\ncarina\t10\t0\t0\t10\t0\t15\n")
    record = run(tmp_path, monkeypatch, IMAGES, landmarks=table)
    assert record["landmarks"] == 2 and record["tre_mean_after_mm"] == pytest.approx(10)
    assert "W804 mean error at landmarks after 10 mm, above 5 mm" in record["flags"]


def test_fields_lie_over_the_whole_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ct2vq.volume import corners, read_volume

    run(tmp_path, monkeypatch, IMAGES)
    for name, image in (("to", CT), ("back", LOW_DOSE)):
        field = read_volume(tmp_path / f"{name}.nii.gz")
        inside = [field.TransformPhysicalPointToContinuousIndex(corner.tolist()) for corner in corners(image)]
        assert np.min(inside) >= -1e-3 and (np.max(inside, axis=0) <= np.array(field.GetSize()) - 1 + 1e-3).all()

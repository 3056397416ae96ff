"""The benchmark of right and wrong patients: who meets whom, what is measured once, and what the table says."""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import run_wrong_patients as bench
import SimpleITK as sitk
from patients import measure, scans, summary
from patients.measure import AS_SCANNED, SPECT, Meeting, figures_of
from patients.scans import Scan
from registration.cases import positions

from ct2vq.errors import Ct2vqError
from ct2vq.files import write_json, write_tsv
from ct2vq.volume import from_array, make_grid, to_array, write_volume

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("ct", "ct_lungs", "attenuation_ct", "attenuation_ct_lungs", "perfusion", "ventilation")


def scan(name: str, folder: Path | None = None) -> Scan:
    return Scan(name, {kind: (folder or Path(name)) / f"{kind}.nii.gz" for kind in NAMES})


def who_meets(meetings: list[Meeting]) -> list[tuple[str, str]]:
    return [(meeting.ct.name, meeting.camera.name) for meeting in meetings]


# --- who meets whom -------------------------------------------------------------------------------------------------


def test_each_ct_meets_its_own_camera_and_the_next_ones() -> None:
    three = [scan(f"demo/{name}") for name in "abc"]
    right = [(f"demo/{name}", f"demo/{name}") for name in "abc"]
    wrong = [("demo/a", "demo/b"), ("demo/b", "demo/c"), ("demo/c", "demo/a")]
    assert who_meets(list(bench._meet(bench.FINE, three, (1,)))) == right + wrong
    assert who_meets(list(bench._meet(bench.FINE, three[:2], (1,), right=False))) == [
        ("demo/a", "demo/b"),
        ("demo/b", "demo/a"),
    ]
    assert who_meets(list(bench._meet(SPECT, three, (3,)))) == right, "nobody is wrong with himself"


def test_real_cts_meet_their_cameras_and_the_first_of_others() -> None:
    patients = {name: [scan(f"real/{name}, 5 mm {noise} HU") for noise in (30, 60)] for name in ("CIP", "LUNG1-001")}
    assert who_meets(list(bench._meet_real(patients))) == [
        ("real/CIP", "real/CIP, 5 mm 30 HU"),
        ("real/CIP", "real/CIP, 5 mm 60 HU"),
        ("real/LUNG1-001", "real/LUNG1-001, 5 mm 30 HU"),
        ("real/LUNG1-001", "real/LUNG1-001, 5 mm 60 HU"),
        ("real/CIP", "real/LUNG1-001, 5 mm 30 HU"),
        ("real/LUNG1-001", "real/CIP, 5 mm 30 HU"),
    ]


def options_of(work: Path, **given: Any) -> argparse.Namespace:
    usual = {"demo": None, "study": None, "tiny": None, "real": None, "arms": list(bench.CONFIGS), "jobs": 1}
    usual |= {"wrong": None, "full": None, "shallow": bench.SHALLOW, "stop_after": float("inf")}
    return argparse.Namespace(work=work, output=work, **usual | given)


def finished_study(folder: Path, cases: int) -> Path:
    for number in range(1, cases + 1):
        for name in NAMES:
            stage = "segment" if name.endswith("lungs") else "convert"
            path = folder / "results" / stage / f"sim{number:03d}" / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{number} {name}".encode())
        truth = folder / "results" / "simulate" / f"sim{number:03d}"
        write_json({"motion": {"full_inspiration": number == 2}}, truth / "truth" / "truth.json")
        write_json({}, truth / "manifest.json")
    return folder


def test_without_a_study_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(Ct2vqError, match="nothing to measure"):
        bench._plan(options_of(tmp_path))
    with pytest.raises(Ct2vqError, match="fewer than two cases"):
        bench._plan(options_of(tmp_path, demo=finished_study(tmp_path / "demo", 1)))


def test_what_is_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = finished_study(tmp_path / "demo", 4)
    monkeypatch.setattr(bench, "_in_processes", lambda what, tasks, jobs: [what(*task) for task in tasks])
    seen: list[tuple[str, str]] = []

    def known(meeting: Meeting) -> dict[str, dict[str, float]]:
        seen.append((meeting.ct.name, meeting.camera.name))
        return {"": {"lung_detail_after": 0.5, "refused": 1.0}}

    monkeypatch.setattr(bench, "figures_of", known)
    options = options_of(tmp_path / "work", demo=demo, arms=[bench.FINE])
    planned = bench._plan(options)
    assert len(planned) == 8
    nothing = bench._measured(planned, options_of(tmp_path / "work", demo=demo, stop_after=-1))
    assert nothing == {} and seen == []
    assert list(bench._measured(planned, options)) == list(range(8)) and len(seen) == 8
    bench._measured(planned, options)
    assert len(seen) == 8
    (demo / "results" / "convert" / "sim001" / "attenuation_ct.nii.gz").write_bytes(b"another")
    bench._measured(planned, options)
    assert seen[8:] == [("demo/sim001", "demo/sim001"), ("demo/sim004", "demo/sim001")]
    header = bench._header(planned, options)
    assert header["full_inspiration"] == ["demo/sim002"]
    assert header["command"].endswith('--demo DIR --arms "attenuation CT, 6 mm"')


# --- what is measured -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chest() -> dict[str, sitk.Image]:
    """Two ellipsoids of lung with round vessels in a body of water."""
    grid = make_grid((72, 52, 60), (4.0, 4.0, 4.0), (-142.0, -102.0, -118.0))
    x, y, z = np.moveaxis(positions(grid), -1, 0)
    labels = np.zeros(x.shape, dtype=np.uint8)
    for number, middle in ((1, -55.0), (2, 55.0)):
        labels[((x - middle) / 44) ** 2 + (y / 60) ** 2 + (z / 84) ** 2 < 1] = number
    hu = np.where(labels > 0, -820.0, 30.0)
    return {"ct": from_array(hu.astype(np.float32), grid), "ct_lungs": from_array(labels, grid)}


def write_scan(folder: Path, lungs: sitk.Image, shift_mm: float = 0.0) -> Scan:
    """SPECT images that show the lungs, moved to the left, and an attenuation CT's lungs that do not."""
    images = {"attenuation_ct_lungs": lungs, "ct_lungs": lungs}
    for target in ("perfusion", "ventilation"):
        image = from_array((to_array(lungs) > 0).astype(np.float32), lungs)
        image.SetOrigin((image.GetOrigin()[0] + shift_mm, *image.GetOrigin()[1:]))
        images[target] = image
    for name, image in images.items():
        write_volume(image, folder / f"{name}.nii.gz")
    return scan(f"demo/{folder.name}", folder)


def test_a_spect_that_lies_elsewhere_agrees_less(chest: dict[str, sitk.Image], tmp_path: Path) -> None:
    here, there = (write_scan(tmp_path / str(shift), chest["ct_lungs"], shift) for shift in (0.0, 30.0))
    right, wrong = (figures_of(Meeting(AS_SCANNED, here, camera, {}, 1)) for camera in (here, there))
    for target in ("perfusion", "ventilation"):
        assert right[target]["content_agreement"] > 0.9
        assert wrong[target]["content_agreement"] < right[target]["content_agreement"] - 0.15


def test_a_pair_that_stops_is_refused(chest: dict[str, sitk.Image], tmp_path: Path) -> None:
    settings, seed = bench._settings(SPECT)
    empty = from_array(np.zeros_like(to_array(chest["ct_lungs"])), chest["ct_lungs"])
    write_volume(chest["ct"], tmp_path / "empty" / "ct.nii.gz")
    camera = write_scan(tmp_path / "empty", empty)
    assert figures_of(Meeting(SPECT, camera, camera, settings, seed)) == {"": {"refused": 1.0}}


def test_a_camera_sees_the_same_patient_in_larger_voxels(chest: dict[str, sitk.Image]) -> None:
    voxel = (5.0, 5.0, 10.0)
    one, other = (scans.as_camera(chest["ct"], chest["ct_lungs"], voxel, noise) for noise in (30.0, 30.0))
    assert one.GetSpacing() == voxel
    assert np.array_equal(to_array(one), to_array(other))
    values = to_array(one)
    assert values.std() > 300, "lungs and body"
    quiet = to_array(scans.as_camera(chest["ct"], chest["ct_lungs"], voxel, 0.0))
    assert np.std(values - quiet) == pytest.approx(30.0, rel=0.05)


def test_scans_say_whose_they_are(tmp_path: Path) -> None:
    found = scans.real_scans("LUNG1-001", tmp_path)
    assert [one.name for one in found] == [
        f"real/LUNG1-001, {mm} mm {noise} HU" for mm in (5, 10) for noise in (30, 60)
    ]
    assert {one.patient for one in found} == {"real/LUNG1-001"}
    assert found[0].files["ct"] == tmp_path / "ct.nii.gz"
    assert found[1].files["attenuation_ct"] == tmp_path / "5 mm 60 HU" / "attenuation_ct.nii.gz"


# --- the table ------------------------------------------------------------------------------------------------------


def rows_of(arm: str, ct: str, camera: str, detail: float) -> list[list[Any]]:
    figures = {"lung_detail_after": detail, "mutual_information_after": 1 + detail, "dice_after": 0.9}
    return [[arm, ct, "", camera, metric, value, "1"] for metric, value in figures.items()]


@pytest.fixture
def table() -> tuple[pd.DataFrame, dict[str, Any]]:
    pairs = [
        (bench.FINE, "demo/a", "demo/a", 0.8), (bench.FINE, "study/b", "study/b", 0.66),
        (bench.FINE, "study/c", "study/c", 0.56), (bench.FINE, "demo/a", "demo/b", 0.4),
        (bench.FINE, "demo/b", "demo/a", 0.6), (bench.FINE, "real/CIP", "real/CIP, 5 mm 30 HU", 0.9),
        (bench.FINE, "real/CIP", "real/X, 5 mm 30 HU", 0.2), (bench.COARSE, "tiny/a", "tiny/a", 0.8),
        (bench.COARSE, "tiny/a", "tiny/b", 0.59), (bench.DEFAULT, "demo/a", "demo/b", 0.3),
    ]  # fmt: skip
    rows = [row for pair in pairs for row in rows_of(*pair)]
    for camera, agreement in (("demo/a", 0.94), ("demo/b", 0.7)):
        rows.append([SPECT, "demo/a", "perfusion", camera, "content_agreement", agreement, "1"])
    header = {
        "full_inspiration": ["study/b", "study/c"],
        "fine": bench.FINE,
        "limits": {"refused": 0.57, "flagged": 0.65},
        "done": 11,
        "planned": 12,
    }
    return pd.DataFrame(rows, columns=bench.COLUMNS), header


def test_right_and_wrong_pairs_by_hand(table: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    found = summary.of_cts(*table).set_index("pairs")
    assert list(found.index) == [
        "right, simulated, shallow breath",
        "right, simulated, full inspiration",
        "right, real CTs",
        "wrong, simulated",
        "wrong, real CTs",
        "wrong, simulated, 4 mm",
        "right, voxels of config/tiny.yaml, 8 mm",
        "wrong, voxels of config/tiny.yaml, 8 mm",
    ]
    deep = found.loc["right, simulated, full inspiration"]
    assert (deep["number"], deep["lung detail"], deep["refused"], deep["flagged"]) == (2, "0.56 to 0.66", 1, 1)
    wrong = found.loc["wrong, simulated"]
    assert (wrong["number"], wrong["lung detail"], wrong["refused"], wrong["flagged"]) == (2, "0.40 to 0.60", 1, 2)


def test_how_far_the_limit_separates(table: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    found = summary.separation(*table)
    assert (found["right"], found["wrong"]) == (4, 3), "other voxels are not counted"
    assert (found["right_refused"], found["wrong_refused"]) == (1, 2)
    assert (found["lowest_right"], found["highest_wrong"]) == (0.56, 0.6)
    # a share of s among n all found: s^n = 0.05
    rows, header = table
    clean = rows[~rows["reference"].isin(["demo/a", "study/c"]) | (rows["case"] == "demo/a")]
    all_found = summary.separation(clean, header)
    assert (all_found["wrong"], all_found["wrong_refused"]) == (2, 2)
    assert all_found["sensitivity"] == pytest.approx(0.05 ** (1 / 2))
    assert all_found["false"] == pytest.approx(1 - 0.05 ** (1 / all_found["right"]))
    assert "refuses 2 of 2 wrong pairs and 0 of 3 right ones" in summary.sentence(all_found, 0.57)


def test_spects_by_hand(table: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    found = summary.of_spects(table[0])
    assert found.to_numpy().tolist() == [
        ["right, SPECT, rigid", "perfusion", 1, "0.94 to 0.94"],
        ["wrong, SPECT, rigid", "perfusion", 1, "0.70 to 0.70"],
    ]


def test_the_page_and_the_blocks_of_other_pages(table: tuple[pd.DataFrame, dict[str, Any]], tmp_path: Path) -> None:
    rows, header = table
    machine = {"title": "Patients", "explanation": "What.", "command": "x", "date": "2026-01-01", "cpu": "CPU"}
    machine |= {"cores": 1, "memory_gib": 8, "python": "3.11", "versions": {"ants": "1"}}
    write_tsv(rows, tmp_path / "wrong_patients.tsv")
    write_json(machine | header, tmp_path / "wrong_patients.json")
    made = runpy.run_path(str(ROOT / "docs" / "make_benchmarks.py"))
    row = "| right, simulated, full inspiration | 2 | 0.56 to 0.66 | 1.56 to 1.66 | 0.90 to 0.90 | 1 | 1 |"
    page = made["benchmarks_page"](tmp_path)
    assert row in page and "Measured so far: 11 of 12 pairs" in page and "nan" not in page
    text = "Before.\n\n<!-- made of wrong_patients: pairs of CTs -->\nold\n<!-- end -->\n\nAfter.\n"
    filled = made["filled"](text, tmp_path)
    assert row in filled and "old" not in filled
    assert filled.startswith("Before.\n\n<!--") and filled.endswith("<!-- end -->\n\nAfter.\n")
    assert made["filled"](filled, tmp_path) == filled
    assert made["filled"](text, tmp_path / "nothing") == text


def test_a_measured_figure_is_one_of_qc_json() -> None:
    from ct2vq.register.figures import FIGURES, SPECT_FIGURES

    assert set(measure.KEPT) <= set(FIGURES)
    assert set(measure.KEPT_OF_SPECT) <= set(SPECT_FIGURES)

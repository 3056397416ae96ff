"""The registration's benchmark measures what it says: known fields, strata, defect volumes, each arm's direction."""

from __future__ import annotations

import argparse
import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import run_register
import SimpleITK as sitk
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from registration import arms, cases, measures, summary
from scipy import ndimage

from ct2vq.cohort import load_cohort
from ct2vq.config import complete_config
from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.files import write_json, write_tsv
from ct2vq.simulate import simulate_case
from ct2vq.volume import from_array, make_grid, to_array

ROOT = Path(__file__).resolve().parents[1]

SHIFT = np.array([4.0, -3.0, 6.0])


@pytest.fixture(scope="module")
def lungs() -> sitk.Image:
    """Two ellipsoids as lungs on a 3 mm grid, labels 1 and 2."""
    grid = make_grid((76, 48, 66), (3.0, 3.0, 3.0), (-114.0, -72.0, -99.0))
    x, y, z = np.moveaxis(cases.positions(grid), -1, 0)
    labels = np.zeros(x.shape, dtype=np.uint8)
    for number, middle in ((1, -52.0), (2, 52.0)):
        labels[((x - middle) / 46) ** 2 + (y / 58) ** 2 + (z / 80) ** 2 < 1] = number
    return from_array(labels, grid)


def shifted(image: sitk.Image, shift: np.ndarray) -> sitk.Image:
    """The same content at positions that lie farther by a shift."""
    moved = sitk.Image(image)
    moved.SetOrigin((np.asarray(image.GetOrigin()) + shift).tolist())
    return moved


def translation(shift: np.ndarray) -> sitk.Transform:
    return sitk.TranslationTransform(3, [float(v) for v in shift])


@pytest.fixture(scope="module")
def case(lungs: sitk.Image) -> cases.BenchmarkCase:
    """A patient who only lies elsewhere, with one ball of a defect in the right lung."""
    distance = np.linalg.norm(cases.positions(lungs) - [-52.0, 0.0, 10.0], axis=-1)
    defect = from_array((distance < 20).astype(np.uint8), lungs)
    sharp = np.where(distance < 20, 0.1, 1.0) * (to_array(lungs) > 0)
    perfusion = from_array(ndimage.gaussian_filter(sharp, 5.0 / 3.0).astype(np.float32), lungs)
    points = pd.DataFrame([{"name": "here", "x_ct_mm": -52.0, "y_ct_mm": 0.0, "z_ct_mm": 10.0, "region": "right lung"}])
    for axis, value in zip("xyz", SHIFT, strict=True):
        points[f"{axis}_spect_mm"] = points[f"{axis}_ct_mm"] + value
    hu = from_array(np.where(to_array(lungs) > 0, -850.0, 40.0).astype(np.float32), lungs)
    images = {"ct": hu, "ct_lungs": lungs, "attenuation_ct": shifted(hu, SHIFT)}
    images["attenuation_ct_lungs"] = shifted(lungs, SHIFT)
    true = np.broadcast_to(SHIFT, (*to_array(lungs).shape, 3)).astype(np.float32)
    there = {"spect": shifted(defect, SHIFT)}
    return cases.BenchmarkCase(
        "ball", "shallow", images, lungs, shifted(lungs, SHIFT), {"spect": true}, points, defect, there,
        {"spect": shifted(perfusion, SHIFT)},
    )  # fmt: skip


def test_the_truth_has_no_error_and_keeps_every_volume(case) -> None:
    figures = measures.evaluate(translation(SHIFT), translation(-SHIFT), case)
    assert figures["lung_dice_true"] == figures["lung_dice_segmented"] == 1.0
    assert figures["folding_percent"] == 0.0
    assert figures["jacobian_min"] == pytest.approx(1.0, abs=1e-6)
    assert figures["inverse_p95"] == pytest.approx(0.0, abs=1e-6)
    spect = figures["truth_spect"]
    assert [spect["tre_mean"], spect["tre_diaphragm_p95"]] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert spect["landmarks_mean"] == pytest.approx(0.0, abs=1e-6)
    (defect,) = spect["defects"]
    assert defect["label_ratio"] == defect["image_ratio"] == 1.0
    assert defect["true_ml"] == pytest.approx(4 / 3 * np.pi * 2.0**3, rel=0.03)


@settings(max_examples=5, deadline=None)
@given(st.tuples(*[st.floats(-8, 8)] * 3))
def test_the_error_of_a_shift_is_its_length(case, wrong) -> None:
    spect = measures.evaluate(translation(SHIFT + np.array(wrong)), None, case)["truth_spect"]
    length = float(np.linalg.norm(wrong))
    for name in ("tre_mean", "tre_p95", "tre_diaphragm_mean", "landmarks_mean"):
        assert spect[name] == pytest.approx(length, abs=1e-4)


def test_a_registration_that_shrinks_shrinks_the_defect_by_as_much(case) -> None:
    # CT points are carried away from the ball's centre, so the ball comes out smaller by the cube of the factor
    centre, factor = np.array([-52.0, 0.0, 10.0]), 1.15
    scale = sitk.AffineTransform((np.eye(3) * factor).ravel().tolist(), SHIFT.tolist(), centre.tolist())
    (defect,) = measures.evaluate(scale, None, case)["truth_spect"]["defects"]
    assert defect["label_ratio"] == pytest.approx(factor**-3, rel=0.05)
    assert defect["image_ratio"] == pytest.approx(factor**-3, rel=0.08)


def test_folding_is_found_where_the_field_folds(case) -> None:
    points = cases.positions(case.lungs)
    field = np.zeros_like(points)
    field[..., 0] = np.where(points[..., 0] < 0, -1.5 * (points[..., 0] + 52), 0)
    folded = sitk.DisplacementFieldTransform(cases.pull_image(field, case.lungs))
    assert measures.evaluate(folded, None, case)["folding_percent"] == pytest.approx(50, abs=3)


def test_near_the_diaphragm_is_the_lowest_two_centimetres(lungs) -> None:
    inside = to_array(lungs) > 0
    low = cases.above_lower_surface(inside, 3.0)
    assert not (low & ~inside).any()
    columns = low.sum(axis=0)[inside.any(axis=0)]
    assert columns.max() == 7  # 0 to 18 mm above the lowest voxel: seven slices of 3 mm
    height = cases.positions(lungs)[..., 2]
    assert height[low].max() <= 20.0


def test_the_drawn_deformation_is_as_large_as_said_and_its_inverse_undoes_it(lungs) -> None:
    inside = to_array(lungs) > 0
    field = cases.drawn_deformation(lungs, np.random.default_rng(3))
    assert np.linalg.norm(field, axis=-1)[inside].max() == pytest.approx(cases.LARGEST_MM)
    again = cases.drawn_deformation(lungs, np.random.default_rng(3))
    assert np.array_equal(field, again)
    back = sitk.DisplacementFieldTransform(cases.pull_image(cases.inverted(field, lungs), lungs))
    forward = sitk.DisplacementFieldTransform(cases.pull_image(field, lungs))
    for point in cases.positions(lungs)[inside][::997].tolist():
        assert back.TransformPoint(forward.TransformPoint(point)) == pytest.approx(point, abs=0.2)


def test_a_fold_is_not_taken_for_a_truth(lungs, monkeypatch) -> None:
    monkeypatch.setattr(cases, "LARGEST_MM", 400.0)
    with pytest.raises(GeometryError, match="folds"):
        cases.drawn_deformation(lungs, np.random.default_rng(3))


def test_a_case_is_read_as_it_was_written(case, tmp_path) -> None:
    case.save(tmp_path)
    read = cases.load_case(tmp_path)
    assert (read.name, read.stratum, list(read.truths)) == (case.name, case.stratum, ["spect"])
    there = translation(SHIFT + 2.0)
    assert measures.evaluate(there, None, read) == measures.evaluate(there, None, case)


def quick_maps(maps_of):
    """Elastix's defaults with fewer iterations: a minute is too long for a test of the direction."""

    def changed(maps):
        maps = maps_of(maps)
        for index in range(2):
            maps.SetParameter(index, "MaximumNumberOfIterations", ["64"])
        return maps

    return changed


@pytest.mark.parametrize(
    ("arm", "module"),
    [
        ("none", "SimpleITK"),
        ("ANTs affine", "ants"),
        ("elastix affine + B-spline", "itk"),
        ("greedy NCC", "picsl_greedy"),
    ],
)
def test_every_program_maps_points_of_the_ct_to_the_attenuation_ct(arm, module, lungs, tmp_path, monkeypatch) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed here (requirements-bench.txt)")
    monkeypatch.setattr(arms, "_elastix_maps", quick_maps(arms._elastix_maps))
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.normal(size=to_array(lungs).shape), 2.0) * 1500
    hu = from_array((np.where(to_array(lungs) > 0, -800, 0) + texture).astype(np.float32), lungs)
    # other origin, size and content order than the fixed image's: a wrong direction or axis cannot pass
    moving = shifted(sitk.RegionOfInterest(hu, (72, 46, 62), (2, 1, 2)), SHIFT)
    forward, inverse = arms.ARMS[arm]({"ct": hu, "attenuation_ct": moving}, tmp_path)
    expected = np.zeros(3) if arm == "none" else SHIFT
    for point in ([-45.0, 0.0, 0.0], [40.0, 20.0, -30.0], [45.0, -15.0, 35.0]):
        found = np.array(forward.TransformPoint(point))
        assert found - point == pytest.approx(expected, abs=1.0)
        if inverse is not None:
            assert inverse.TransformPoint(found.tolist()) == pytest.approx(point, abs=0.3)


# --- simulated patients ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_study(tmp_path_factory) -> tuple[Path, dict]:
    """One patient with emboli of the smallest configuration, simulated, and its configuration."""
    config = complete_config(yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text(encoding="utf-8")))
    cohort = load_cohort(config)
    chosen = next(case for case in cohort.cases if case.attributes["diagnosis"] == "embolism")
    study = tmp_path_factory.mktemp("study")
    simulate_case(
        chosen.case_id,
        chosen.patient_id,
        "embolism",
        config["seed"],
        config["simulate"],
        study / "results" / "simulate" / chosen.case_id,
    )
    return study, config | {"case": chosen.case_id}


@pytest.fixture(scope="module")
def simulated(tiny_study) -> cases.BenchmarkCase:
    study, config = tiny_study
    return cases.simulated_case(study, config["case"], config)


def test_a_simulated_case_knows_the_way_to_both_states(simulated) -> None:
    drawn_apart = simulated.truths["attenuation_ct"] - simulated.truths["spect"]
    apart = np.linalg.norm(drawn_apart[simulated.inside], axis=-1)
    assert 0 < apart.max() <= 7.0  # quiet breathing moves the diaphragm by up to 5 mm
    for reference in ("attenuation_ct", "spect"):
        truth = measures.true_transform(simulated, reference)
        figures = measures.evaluate(truth, None, simulated)[f"truth_{reference}"]
        assert figures["tre_p95"] == pytest.approx(0.0, abs=1e-4)
        # landmarks are stored apart from the dense field, by another inversion
        assert figures["landmarks_mean"] < 0.3
        for defect in figures["defects"]:
            assert defect["label_ratio"] == defect.get("image_ratio", 1.0) == 1.0
    through_ct = measures.evaluate(measures.true_transform(simulated, "attenuation_ct"), None, simulated)
    assert through_ct["lung_dice_true"] > 0.95


def test_defects_are_dark_pieces_of_lung(simulated) -> None:
    labels = to_array(simulated.defects)
    assert set(np.unique(labels[~simulated.inside])) <= {0}
    for number in range(1, labels.max() + 1):
        here = labels == number
        assert here.sum() * np.prod(simulated.lungs.GetSpacing()) / 1000 >= 0.8 * cases.DEFECT_ML
        for reference in ("attenuation_ct", "spect"):
            there = to_array(simulated.defects_there[reference]) == number
            assert there.sum() * cases.LABEL_MM**3 / 1000 > 0.4 * cases.DEFECT_ML


def test_another_seed_is_not_taken_for_the_case_on_disk(tiny_study) -> None:
    study, config = tiny_study
    with pytest.raises(Ct2vqError, match="drawn again differs in"):
        cases.simulated_case(study, config["case"], config | {"seed": config["seed"] + 1})


# --- the run and its table ------------------------------------------------------------------------------------------


def plan_of(monkeypatch, study: Path | None, shared: Path | None) -> dict[str, list[str]]:
    monkeypatch.setattr(run_register, "_installed", list)
    options = argparse.Namespace(study=study, shared=shared, cases=None, arms=list(arms.ARMS))
    return run_register._plan(options)


def test_the_last_cases_of_each_stratum_are_measured(tmp_path, monkeypatch) -> None:
    for number in range(1, 31):
        folder = tmp_path / "results" / "simulate" / f"sim{number:03d}"
        write_json({"motion": {"full_inspiration": number % 2 == 0}}, folder / "truth" / "truth.json")
        write_json({}, folder / "manifest.json")
    plan = plan_of(monkeypatch, tmp_path, tmp_path)
    assert plan["LUNG1-001"] == list(arms.ARMS)
    assert [case for case, names in plan.items() if len(names) > 2] == [
        "LUNG1-001",
        "sim027",
        "sim029",
        "sim028",
        "sim030",
    ]
    assert len(plan) == 21
    assert plan["sim011"] == plan["sim012"] == ["none", "ct2vq"]
    assert "sim010" not in plan


def test_without_data_nothing_is_measured(monkeypatch) -> None:
    with pytest.raises(Ct2vqError, match="nothing to measure"):
        plan_of(monkeypatch, None, None)


def figures_of(tre: float, ratio: float) -> dict:
    truth = {"tre_mean": tre, "tre_p95": 2 * tre, "tre_diaphragm_p95": 3 * tre}
    truth["defects"] = [
        {"true_ml": 30.0, "label_ratio": ratio, "image_ratio": ratio},
        {"true_ml": 25.0, "label_ratio": 1.0},
    ]
    common = {"processor_time": 10 * tre, "peak_memory_mib": 300.0, "lung_dice_true": 0.98, "folding_percent": 0.0}
    return common | {"truth_attenuation_ct": truth, "truth_spect": truth}


@pytest.fixture
def table() -> tuple[pd.DataFrame, dict]:
    """Two shallow cases by three arms, a third one and a deep one by this project alone."""
    measured = {
        ("none", "a"): (9.0, 0.5), ("ct2vq", "a"): (1.0, 1.02), ("greedy NCC", "a"): (2.0, 1.0),
        ("none", "b"): (7.0, 0.5), ("ct2vq", "b"): (2.0, 0.9), ("greedy NCC", "b"): (4.0, 1.0),
        ("none", "c"): (8.0, 0.5), ("ct2vq", "c"): (4.5, 0.5),
        ("none", "deep"): (30.0, 0.5), ("ct2vq", "deep"): (6.0, 1.0),
    }  # fmt: skip
    rows = [row for key, values in measured.items() for row in run_register._rows(*key, figures_of(*values))]
    strata = {"a": "shallow", "b": "shallow", "c": "shallow", "deep": "full inspiration"}
    return pd.DataFrame(rows, columns=run_register.COLUMNS), {
        "strata": strata,
        "voxel_diagonal_mm": dict.fromkeys(strata, 6.5),
    }


def test_arms_are_compared_on_the_cases_that_all_of_them_have(table) -> None:
    rows, header = table
    shared = summary.compared_cases(rows, header, "shallow")
    assert shared == ["a", "b"]
    means = summary.side_by_side(rows, shared, "attenuation_ct")
    assert list(means.index) == ["ct2vq", "greedy NCC", "none"]
    assert means.loc["ct2vq", "TRE"] == 1.5
    assert means.loc["greedy NCC", "seconds"] == 30.0
    assert summary.compared_cases(rows, header, "full inspiration") == []


def test_aims_are_judged_by_stratum(table) -> None:
    judged = summary.aims(*table).set_index(["stratum", "reference", "what"])
    shallow = judged.loc[("shallow", "SPECT", "tre_mean")]
    assert (shallow["mean"], shallow["worst"], shallow["before"], shallow["cases"]) == (2.5, 4.5, 8.0, 3)
    assert shallow["reached"] == "no"
    deep = judged.loc[("full inspiration", "SPECT", "tre_mean")]
    assert (deep["aim"], deep["reached"]) == (3.0, "within a voxel")  # its diagonal is 6.5 mm
    assert judged.loc[("full inspiration", "SPECT", "tre_p95")]["reached"] == "no"
    assert judged.loc[("shallow", "", "lung_dice_true")]["reached"] == "yes"


def test_defects_are_judged_by_median_and_by_what_is_far_off(table) -> None:
    volumes = summary.defects(*table).set_index(["stratum", "reference", "what"])
    label = volumes.loc[("shallow", "SPECT", "defect_label")]
    assert (label["defects"], label["median"]) == (6, 1.0)
    assert label["p95"] == pytest.approx(np.percentile([0.02, 0.1, 0.5, 0, 0, 0], 95))
    assert label["reached"] == "no"
    assert volumes.loc[("shallow", "SPECT", "defect_image")]["defects"] == 3
    assert volumes.loc[("full inspiration", "SPECT", "defect_label")]["reached"] == "yes"


def test_the_page_shows_arms_aims_and_defects(table, tmp_path) -> None:
    rows, header = table
    write_tsv(rows, tmp_path / "register.tsv")
    machine = {"title": "Registration", "explanation": "What.", "command": "x", "date": "2026-01-01", "cpu": "CPU"}
    machine |= {"cores": 1, "memory_gib": 8, "python": "3.11", "versions": {"greedy": "1"}}
    write_json(machine | header, tmp_path / "register.json")
    page = runpy.run_path(str(ROOT / "docs" / "make_benchmarks.py"))["benchmarks_page"](tmp_path)
    assert "Shallow (a, b), error to the attenuation CT's state" in page
    assert "| ct2vq | 15 | 300 | 1.50 | 3.00 | 4.50 | 0.980 | 0.000 |" in page
    assert "| full inspiration | SPECT | tre_mean | 30 | 6 | 6 | 3 | within a voxel | 1 |" in page
    assert "nan" not in page


def test_the_memory_of_an_arm_is_its_own(case, tmp_path) -> None:
    case.save(tmp_path)
    ballast = np.ones(60_000_000)  # 458 MiB that the child must not count
    figures = run_register._in_a_process("none", tmp_path, tmp_path / "figures.json")
    assert ballast.all()
    assert 50 < figures["peak_memory_mib"] < 420
    assert figures["truth_spect"]["tre_mean"] == pytest.approx(float(np.linalg.norm(SHIFT)), abs=1e-4)


def test_an_arm_that_fails_says_what_it_said(tmp_path) -> None:
    with pytest.raises(Ct2vqError, match=r"none failed on .*: .*ct\.nii\.gz"):
        run_register._in_a_process("none", tmp_path, tmp_path / "figures.json")

"""The truth lands where it belongs, in the lungs that were found, normalised as the SPECT; emboli keep their kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from lung_phantom import ARMS, SETTINGS, coarse_lungs, fine_lungs, function, phantom_case, write_phantom

from ct2vq.config import complete_config
from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.evaluate.case import evaluate_case
from ct2vq.evaluate.truth import (
    INVISIBLE_EMBOLUS,
    OTHER_DISEASE,
    VISIBLE_EMBOLUS,
    KnownTruth,
    carry_truth,
    label_findings,
)
from ct2vq.files import read_tsv, write_json
from ct2vq.lungs import grid_around, resample_labels
from ct2vq.volume import from_array, make_grid, read_volume, to_array, write_volume

SPECT = complete_config({"study": "x"})["crop"]["spect"]
NAMES = [f"{reference}_{target}" for reference in ("truth", "truth_visible") for target in ("perfusion", "ventilation")]
SEGMENTS = {"1": "right upper lobe, apical", "2": "left lower lobe, superior"}


def embolus(segment: str, visible: bool) -> dict:
    return {"kind": "embolus", "visible_on_ct": visible, "segments": [segment]}


def ramp(image: sitk.Image) -> np.ndarray:
    """A function of the place alone, linear in mm: where a value is found tells where it came from."""
    z, y, x = np.indices(image.GetSize()[::-1])
    spacing, origin = image.GetSpacing(), image.GetOrigin()
    return sum(w * (o + s * i) for w, o, s, i in zip((1, 2, 3), origin, spacing, (x, y, z), strict=True)) + 2000.0


def write_truth(folder: Path, image: np.ndarray | None = None, findings: tuple = (), **labels: np.ndarray) -> Path:
    """A truth folder on the CT's grid."""
    lungs = fine_lungs()
    inside = to_array(lungs) > 0
    volumes = {"lungs": to_array(lungs), "disease": np.zeros(inside.shape, np.uint8), "segments": to_array(lungs)}
    sharp = {target: np.where(inside, 1.0, 0.0) for target in ("perfusion", "ventilation")}
    values = function(3, lungs) + 0.1 if image is None else image
    blurred = {f"{target}_{kind}": values for target in sharp for kind in ("system", "visible_system")}
    for name, array in {**volumes, **sharp, **blurred, **labels}.items():
        array = array.astype(np.uint8 if name in volumes else np.float32)
        write_volume(from_array(array, lungs), folder / f"{name}.nii.gz")
    zero = sitk.GetImageFromArray(np.zeros((*inside.shape, 3), np.float32), isVector=True)
    zero.CopyInformation(lungs)
    write_volume(zero, folder / "ct_to_spect_displacement.nii.gz")
    write_json({"findings": list(findings), "segments": SEGMENTS}, folder / "truth.json")
    return folder


def carried(folder: Path, grid: sitk.Image, *, modulate: bool = False) -> dict[str, np.ndarray]:
    write_volume(grid, folder / "found_lungs.nii.gz")
    outputs = {name: folder / "carried" / f"{name}.nii.gz" for name in (*NAMES, "findings")}
    carry_truth(KnownTruth(folder, SPECT, modulate), folder / "found_lungs.nii.gz", outputs)
    return {name: to_array(read_volume(path)) for name, path in outputs.items()}


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (3.0, -5.0, 7.0)])
def test_the_truth_is_carried_to_the_right_place(tmp_path, shift) -> None:
    """A grid that lies elsewhere finds the same patient: values follow positions in mm, not indices."""
    folder = write_truth(tmp_path, ramp(fine_lungs()))
    own = grid_around(fine_lungs(), 8.0, 8.0)
    moved = make_grid(own.GetSize(), own.GetSpacing(), np.asarray(own.GetOrigin()) + shift)
    grid = resample_labels(fine_lungs(), moved)
    found = carried(folder, grid)["truth_perfusion"]
    deep = to_array(grid) > 0
    for axis in range(3):
        deep &= np.roll(to_array(grid) > 0, 2, axis) & np.roll(to_array(grid) > 0, -2, axis)
    wanted, values = ramp(grid)[deep], found[deep]
    kept = values < 1
    ratio = values[kept] / wanted[kept]
    assert kept.sum() > 200
    assert ratio.std() / ratio.mean() < 1e-4


def test_it_is_normalised_and_empty_outside(tmp_path) -> None:
    found = carried(write_truth(tmp_path), coarse_lungs())
    inside = to_array(coarse_lungs()) > 0
    for name in NAMES:
        assert found[name].dtype == np.float32
        assert found[name][inside].max() == 1
        assert not found[name][~inside].any()


def test_lungs_that_reach_beyond_the_true_ones_take_the_nearest_truth(tmp_path) -> None:
    lungs = coarse_lungs()
    wide = sitk.Cast(sitk.DilateObjectMorphology(lungs, (1, 1, 1), sitk.sitkBall, 1), sitk.sitkUInt8)
    values = np.where(to_array(fine_lungs()) > 0, 7.0, -1000.0)
    found = carried(write_truth(tmp_path, values), wide)["truth_perfusion"]
    assert (to_array(wide) > 0).sum() > (to_array(lungs) > 0).sum()
    assert np.allclose(found[to_array(wide) > 0], 1, atol=1e-4)


def test_a_modulated_spect_has_a_modulated_truth(tmp_path) -> None:
    folder = write_truth(tmp_path, np.full(to_array(fine_lungs()).shape, 5.0))
    lungs = fine_lungs()
    x = np.indices(lungs.GetSize()[::-1])[2] * 4.0
    # stretched more and more towards the left: the Jacobian determinant grows with x
    field = np.stack([x**2 / 2000, np.zeros_like(x), np.zeros_like(x)], axis=-1).astype(np.float32)
    vector = sitk.GetImageFromArray(field, isVector=True)
    vector.CopyInformation(lungs)
    write_volume(vector, folder / "ct_to_spect_displacement.nii.gz")
    grid = coarse_lungs()
    plain, modulated = (carried(folder, grid, modulate=on)["truth_perfusion"] for on in (False, True))
    inside = to_array(grid) > 0
    assert np.ptp(plain[inside]) < 1e-4
    # d(x + x**2 / 2000) / dx, and the percentile that becomes 1
    wanted = 1 + (np.nonzero(inside)[2] * 8.0 + 2) / 1000
    kept = modulated[inside] < 1
    ratio = modulated[inside][kept] / wanted[kept]
    assert ratio.std() / ratio.mean() < 0.005
    assert np.ptp(wanted[kept]) > 0.15


def test_emboli_are_told_from_other_disease_and_by_what_a_ct_shows(tmp_path) -> None:
    sides = to_array(fine_lungs())
    shape = sides.shape
    z = np.indices(shape)[0]
    disease, perfusion, ventilation = np.zeros(shape, np.uint8), np.ones(shape), np.ones(shape)
    clot = (sides == 1) & (z > 30)
    disease[clot], perfusion[clot] = 1, 0.2
    emphysema = (sides == 1) & (z < 15)
    disease[emphysema], perfusion[emphysema], ventilation[emphysema] = 1, 0.3, 0.3
    hidden = (sides == 2) & (z > 30)
    disease[hidden], perfusion[hidden] = 2, 0.2
    findings = (embolus(SEGMENTS["1"], True), embolus(SEGMENTS["2"], False))
    truth = {"disease": disease, "segments": sides, "lungs": sides, "perfusion": perfusion, "ventilation": ventilation}
    labels = label_findings(truth, {"findings": findings, "segments": SEGMENTS})
    assert (labels[clot] == VISIBLE_EMBOLUS).all()
    assert (labels[emphysema] == OTHER_DISEASE).all()
    assert (labels[hidden] == INVISIBLE_EMBOLUS).all()
    assert not labels[(sides > 0) & (disease == 0)].any()
    without = label_findings(truth, {"findings": [], "segments": SEGMENTS})
    assert (without[clot] == OTHER_DISEASE).all()
    folder = write_truth(tmp_path, None, findings, disease=disease, perfusion=perfusion, ventilation=ventilation)
    on_grid = carried(folder, coarse_lungs())["findings"]
    assert set(np.unique(on_grid)) == {0, VISIBLE_EMBOLUS, INVISIBLE_EMBOLUS, OTHER_DISEASE}
    ml = (on_grid == VISIBLE_EMBOLUS).sum() * 8**3
    assert ml == pytest.approx(clot.sum() * 4**3, rel=0.15)


@given(seed=st.integers(0, 20))
@settings(max_examples=5)
def test_healthy_lungs_have_no_findings(seed) -> None:
    sides = to_array(fine_lungs())
    ratio = np.random.default_rng(seed).uniform(0.1, 2, sides.shape)
    truth = {"disease": np.zeros_like(sides), "segments": sides, "lungs": sides, "perfusion": ratio}
    findings = {"findings": [embolus(SEGMENTS["1"], True)], "segments": SEGMENTS}
    assert not label_findings(truth | {"ventilation": np.ones(sides.shape)}, findings).any()


def test_a_case_is_evaluated_against_its_truth(tmp_path) -> None:
    folder, files = write_truth(tmp_path / "truth"), write_phantom(tmp_path, phantom_case())
    outputs = {name: tmp_path / f"{name}.tsv" for name in ("metrics", "density", "detection", "defects")}
    known = {name: tmp_path / "known" / f"{name}.nii.gz" for name in (*NAMES, "findings")}
    evaluate_case("c1", files, outputs, SETTINGS, ARMS, truth=KnownTruth(folder, SPECT), truth_outputs=known)
    table = read_tsv(outputs["metrics"])
    assert set(table["reference"]) == {"spect", "truth", "truth_visible"}
    assert {"noise_ceiling", "visible_ceiling", "ddran"} == set(table["model"])
    # truth and visible truth are the same volume here
    same = table[(table["model"] == "visible_ceiling") & (table["reference"] == "truth") & (table["region"] == "lungs")]
    value = same.set_index(["target", "metric", "definition"])["value"]
    assert value["perfusion", "spearman", ""] == pytest.approx(1)
    assert value["ventilation", "dice_low", "p40"] == 1


def test_a_truth_that_is_not_there_says_so(tmp_path) -> None:
    with pytest.raises(Ct2vqError, match=r"lungs\.nii\.gz"):
        carried(tmp_path, coarse_lungs())
    folder = write_truth(tmp_path)
    other = make_grid((10, 10, 10), (4.0, 4.0, 4.0), (0, 0, 0))
    write_volume(sitk.Cast(other, sitk.sitkFloat32), folder / "perfusion_system.nii.gz")
    with pytest.raises(GeometryError, match="do not share a grid"):
        carried(folder, coarse_lungs())

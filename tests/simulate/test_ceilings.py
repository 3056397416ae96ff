"""The arms of the ceilings do what they claim on contrived cases, and truth carries a simulated SPECT onto its CT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from factories import DEFAULTS, TARGETS, lung_labels
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from ct2vq.baselines import FITS, predict_baseline
from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.evaluate.truth import LungInterpolator
from ct2vq.files import read_json
from ct2vq.inputs import CroppedCase
from ct2vq.lungs import normalised_position
from ct2vq.metrics.agreement import spearman
from ct2vq.metrics.value import RegionValues
from ct2vq.simulate import ceilings
from ct2vq.simulate.ceilings import KnownCase
from ct2vq.volume import from_array, make_grid, to_array

LABELS = lung_labels((28, 26, 40))
INSIDE = LABELS > 0
HEIGHT, DEPTH, _ = normalised_position(LABELS)
CASES = 10


def smooth_field(seed: int) -> np.ndarray:
    """A random field (z, y, x) with unit variance and a correlation of some centimetres."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=LABELS.shape), 2.5)
    return noise / noise.std()


def contrived(seed: int, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> CroppedCase:
    """A case on 8 mm voxels: HU follow a random field, the targets a function of that field and of another one."""
    field = smooth_field(seed)
    hu = np.where(INSIDE, -830 + 60 * field, 40).astype(np.float32)
    image = np.where(INSIDE, np.clip(function(field, smooth_field(1000 + seed)), 0, 1), 0).astype(np.float32)
    return CroppedCase(
        f"c{seed}", hu, np.zeros_like(hu), np.zeros((3, *hu.shape)), LABELS, 8.0, dict.fromkeys(TARGETS, image)
    )


def of_hu(field: np.ndarray, _other: np.ndarray) -> np.ndarray:
    return 0.15 + 0.7 / (1 + np.exp(-2 * field)) + 0.1 * DEPTH


def of_position(_field: np.ndarray, other: np.ndarray) -> np.ndarray:
    return 0.5 + 0.15 * DEPTH - 0.1 * HEIGHT**2 + 0.08 * other


def of_both(field: np.ndarray, _other: np.ndarray) -> np.ndarray:
    return 0.5 + 0.2 * DEPTH + 0.15 * field


def rank_correlation(image: np.ndarray, reference: np.ndarray, inside: np.ndarray) -> float:
    return spearman(RegionValues.of(image, inside), RegionValues.of(reference, inside)).number


def mean_rs(images: list[np.ndarray], cases: list[CroppedCase]) -> float:
    """Mean over cases of Spearman's correlation with the perfusion."""
    return float(
        np.mean([rank_correlation(i, c.targets["perfusion"], c.inside) for i, c in zip(images, cases, strict=True)])
    )


def inverted(cases: list[CroppedCase]) -> list[np.ndarray]:
    fitted = ceilings.fit_smooth_function(cases)
    return [ceilings.predict_smooth_function(fitted, case)["perfusion"] for case in cases]


def baseline(kind: str, training: list[CroppedCase], test: list[CroppedCase]) -> list[np.ndarray]:
    tensors = FITS[kind](training, TARGETS)
    return [predict_baseline(kind, tensors, case, "perfusion") for case in test]


def test_the_inversion_finds_a_smooth_function_of_hu() -> None:
    cases = [contrived(seed, of_hu) for seed in range(CASES)]
    assert mean_rs(inverted(cases), cases) > 0.97
    assert mean_rs(inverted([ceilings.without_hu(case) for case in cases]), cases) < 0.5


def test_the_inversion_corrects_each_case_for_its_own_inflation_and_calibration() -> None:
    cases = [contrived(seed, of_hu) for seed in range(CASES)]
    inflated = [replace(c, hu=(c.hu + 830) * (0.6 + 0.08 * i) - 860 + 7 * i) for i, c in enumerate(cases)]
    assert mean_rs(inverted(inflated), inflated) > 0.95


def test_the_inversion_falls_to_the_map_of_position_where_hu_tell_nothing() -> None:
    cases = [contrived(seed, of_position) for seed in range(CASES)]
    blind = [ceilings.without_hu(case) for case in cases]
    with_hu, without = mean_rs(inverted(cases), cases), mean_rs(inverted(blind), cases)
    truth = [np.clip(0.5 + 0.15 * DEPTH - 0.1 * HEIGHT**2, 0, 1)] * CASES
    assert with_hu == pytest.approx(without, abs=0.06)
    assert with_hu == pytest.approx(mean_rs(truth, cases), abs=0.08)


def test_a_few_cases_are_fitted_more_closely_than_many() -> None:
    """Why the number of test cases behind an inversion stands beside it."""
    cases = [contrived(seed, of_position) for seed in range(CASES)]
    assert mean_rs(inverted(cases[:2]), cases[:2]) > mean_rs(inverted(cases), cases) + 0.05


def test_exchanged_cts_make_the_regression_fall_to_the_mean_map() -> None:
    cases = [contrived(seed, of_both) for seed in range(20)]
    training, test = cases[:14], cases[14:]
    exchanged = [replace(own, hu=other.hu) for own, other in zip(training, [*training[1:], training[0]], strict=True)]
    mean_map = mean_rs(baseline("mean_map", training, test), test)
    assert mean_rs(baseline("hu_regression", training, test), test) > mean_map + 0.25
    assert mean_rs(baseline("hu_regression", exchanged, test), test) == pytest.approx(mean_map, abs=0.06)


def test_a_predicted_image_is_a_spect_in_the_lungs_and_the_same_every_time() -> None:
    cases = [contrived(seed, of_hu) for seed in range(3)]
    first, second = inverted(cases), inverted(cases)
    for image, again in zip(first, second, strict=True):
        assert image.dtype == np.float32
        assert (image[~INSIDE] == 0).all()
        assert 0 <= image.min() <= image.max() <= 1
        np.testing.assert_array_equal(image, again)


def known(seed: int) -> KnownCase:
    """A contrived case whose noise-free truth is its SPECT, and whose visible part is a function of position."""
    case = contrived(seed, of_hu)
    truth = {f"{target}_system": case.targets[target] for target in TARGETS}
    visible = np.where(INSIDE, 0.5 + 0.2 * DEPTH, 0).astype(np.float32)
    return KnownCase(case, truth | {f"{target}_visible_system": visible for target in TARGETS})


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> pd.DataFrame:
    """The rows of three test cases after four training cases."""
    folder = tmp_path_factory.mktemp("stored")
    files = [ceilings.store(known(seed), folder) for seed in range(7)]
    return pd.DataFrame(ceilings.measure_fold(files[:4], files[4:], DEFAULTS), columns=list(ceilings.COLUMNS))


def test_every_arm_has_every_metric_of_every_test_case_once(table) -> None:
    keys = ["arm", "case", "target", "metric"]
    expected = [
        (a, c, t, m) for a in ceilings.ARMS for c in ("c4", "c5", "c6") for t in TARGETS for m in ceilings.METRICS
    ]
    assert sorted(table[keys].itertuples(index=False, name=None)) == sorted(expected)
    assert set(table["reference"]) == {"spect"}
    assert np.isfinite(table["value"]).all()


def test_the_ceilings_are_the_truth_itself(table) -> None:
    noise_free = table[table["arm"] == "noise_ceiling"]
    np.testing.assert_allclose(noise_free["value"], 1.0, atol=1e-6)
    case = known(5).cropped
    expected = spearmanr(DEPTH[INSIDE], case.targets["perfusion"][INSIDE]).statistic
    row = table.query("arm == 'visible_ceiling' and case == 'c5' and metric == 'spearman' and target == 'perfusion'")
    assert row["value"].item() == pytest.approx(expected, abs=1e-3)


def test_only_the_training_cases_shape_the_baselines(tmp_path: Path, table) -> None:
    files = [ceilings.store(known(seed), tmp_path) for seed in (0, 1, 2, 3, 4)]
    alone = pd.DataFrame(ceilings.measure_fold(files[:4], files[4:], DEFAULTS), columns=list(ceilings.COLUMNS))
    same = table[table["case"] == "c4"]
    for arm in ("hu_regression", "mean_map"):
        np.testing.assert_array_equal(alone[alone["arm"] == arm]["value"], same[same["arm"] == arm]["value"])
    rs = [rows.query("arm == 'inversion' and metric == 'spearman'")["value"].mean() for rows in (alone, same)]
    assert rs[0] > rs[1]


def test_margins_are_mean_differences_and_compared_with_what_is_required() -> None:
    rs = {"visible_ceiling": (0.8, 0.7), "inversion": (0.65, 0.65), "mean_map": (0.6, 0.5)}
    rows = [
        (arm, f"c{i}", target, "spect", "spearman", value, "1")
        for arm, values in rs.items()
        for i, value in enumerate(values)
        for target in TARGETS
    ]
    found = ceilings.margins(pd.DataFrame(rows, columns=list(ceilings.COLUMNS))).set_index(["target", "arm"])
    for target in TARGETS:
        inversion, mean_map = found.loc[(target, "inversion")], found.loc[(target, "mean_map")]
        assert inversion["margin"] == pytest.approx(0.10)
        assert inversion["error"] == pytest.approx(np.std([0.15, 0.05], ddof=1) / np.sqrt(2))
        assert mean_map["margin"] == pytest.approx(0.20)
        assert not mean_map["reached"]


def test_means_by_arm_and_by_group(table) -> None:
    means = ceilings.mean_metrics(table, "perfusion")
    assert list(means.index) == list(ceilings.ARMS)
    assert list(means.columns) == ["Rs", "DSC low", "DSC high", "SSIM"]
    chosen = table.query("arm == 'mean_map' and metric == 'ssim' and target == 'perfusion'")["value"]
    assert means.loc["mean_map", "SSIM"] == pytest.approx(chosen.mean())
    groups = ceilings.mean_by_group(
        table, {"c4": "normal", "c5": "tumour", "c6": "normal", "c0": "fibrosis"}, "perfusion"
    )
    assert groups["n"].to_dict() == {"normal": 2, "tumour": 1}
    assert groups.loc["normal", "noise_ceiling"] == pytest.approx(1.0)


def test_an_embolism_is_grouped_by_what_of_its_loss_shows() -> None:
    def embolus(visible: bool, volume: float, loss: float) -> dict:
        return {"kind": "embolus", "visible_on_ct": visible, "volume_ml": volume, "perfusion_loss": loss}

    facts = {"diagnosis": "embolism", "findings": [embolus(True, 100, 0.9), embolus(False, 300, 0.2)]}
    assert ceilings.group_of(facts) == "embolism, mostly visible"
    facts["findings"].append(embolus(False, 100, 0.9))
    assert ceilings.group_of(facts) == "embolism, mostly invisible"
    assert ceilings.group_of(facts | {"diagnosis": "tumour"}) == "tumour"


def test_folds_never_split_a_patient() -> None:
    facts = {f"c{i}": {"patient_id": f"p{i // 2}", "diagnosis": "normal"} for i in range(20)}
    folds = ceilings.folds_of(facts, DEFAULTS)
    assert set(folds.values()) == {1, 2, 3, 4, 5}
    assert all(folds[f"c{2 * i}"] == folds[f"c{2 * i + 1}"] for i in range(10))


# --- truth and geometry --------------------------------------------------------------------------------------------


@pytest.fixture
def lungs() -> sitk.Image:
    return from_array(LABELS, make_grid(LABELS.shape[::-1], (5.0, 5.0, 5.0), (-100.0, -60.0, -70.0)))


def fine_grid(lungs: sitk.Image) -> sitk.Image:
    """Labels on half the spacing around the same lungs, shifted by a fraction of a voxel."""
    grid = make_grid([2 * n for n in lungs.GetSize()], (2.5, 2.5, 2.5), [o + 0.7 for o in lungs.GetOrigin()])
    return sitk.Resample(lungs, grid, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor)


def test_nothing_from_outside_the_lungs_is_mixed_in(lungs) -> None:
    values = np.where(INSIDE, 7.0, -1000.0).astype(np.float32)
    grid = fine_grid(lungs)
    found = LungInterpolator(lungs, grid)(from_array(values, lungs))
    np.testing.assert_allclose(found, 7.0, rtol=1e-4)


def test_displacements_are_interpolated_as_the_images_are(lungs) -> None:
    z, y, x = np.indices(LABELS.shape).astype(np.float32)
    vector = sitk.GetImageFromArray(np.stack([x, 2 * y, -z], axis=-1), isVector=True)
    vector.CopyInformation(lungs)
    grid = fine_grid(lungs)
    at = LungInterpolator(lungs, grid)
    found = at(vector)
    assert found.shape == (*to_array(grid).shape, 3)
    np.testing.assert_allclose(found[..., 1], at(from_array(2 * y, lungs)), rtol=1e-5)
    # deep in the lungs, where all eight neighbours are lung, a linear function stays itself
    deep = to_array(grid) > 0
    for axis in range(3):
        for step in (-2, -1, 1, 2):
            deep &= np.roll(to_array(grid) > 0, step, axis)
    index = (np.indices(deep.shape)[2] * 2.5 + 0.7) / 5.0
    np.testing.assert_allclose(np.median(np.abs(found[..., 0] - index)[deep]), 0, atol=1e-4)


def test_truth_on_another_grid_is_an_error(lungs) -> None:
    other = make_grid(lungs.GetSize(), (4.0, 4.0, 4.0), lungs.GetOrigin())
    with pytest.raises(GeometryError, match="do not share a grid"):
        LungInterpolator(lungs, fine_grid(lungs))(sitk.Cast(other, sitk.sitkFloat32))


def test_a_spect_is_read_where_displacement_and_shift_point(lungs) -> None:
    spect = sitk.Cast(make_grid((60, 60, 60), (6.0, 6.0, 6.0), (-180.0, -180.0, -180.0)), sitk.sitkFloat32)
    z, y, x = (np.indices((60, 60, 60)) * 6.0 - 180.0).astype(np.float32)
    spect = from_array(1000 + x + 2 * y + 3 * z, spect)
    displacement = np.zeros((*LABELS.shape, 3), dtype=np.float32)
    displacement[..., 0], displacement[..., 2] = 4.0, -7.0
    found = ceilings.carry(spect, lungs, displacement, [1.0, 2.0, 3.0])
    k, j, i = np.indices(LABELS.shape) * 5.0
    expected = 1000 + (i - 100 + 5) + 2 * (j - 60 + 2) + 3 * (k - 70 - 4)
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_a_simulated_spect_meets_its_truth_on_the_ct(cohort: dict[str, Path]) -> None:
    folder = cohort["emphysema"]
    settings = DEFAULTS | {"crop": DEFAULTS["crop"] | {"spacing_mm": 6.0}}
    read = ceilings.read_known_case(folder, settings)
    inside = read.cropped.inside
    assert read.cropped.spacing_mm == 6.0
    assert -950 < read.cropped.hu[inside].mean() < -650
    for target in TARGETS:
        spect = read.cropped.targets[target]
        assert rank_correlation(read.truth[f"{target}_system"], spect, inside) > 0.85
        assert rank_correlation(np.roll(read.truth[f"{target}_system"], 3, axis=0), spect, inside) < 0.8
        for name in ("system", "visible_system"):
            assert read.truth[f"{target}_{name}"][inside].max() == pytest.approx(1.0)


def test_an_unfinished_case_says_so(cohort: dict[str, Path], tmp_path: Path) -> None:
    assert read_json(cohort["normal"] / "truth" / "truth.json")["diagnosis"] == "normal"
    with pytest.raises(Ct2vqError, match=r"truth\.json"):
        ceilings.read_known_case(tmp_path, DEFAULTS)

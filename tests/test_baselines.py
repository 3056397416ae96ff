"""The trivial baselines learn what they can, look at nothing that they must not, and survive odd patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import SHAPE, TARGETS, case_in_memory, lung_labels
from scipy.stats import spearmanr

from ct2vq.baselines import FITS, predict_baseline, train_baseline
from ct2vq.files import read_json, sha256_file
from ct2vq.inputs import CroppedCase
from ct2vq.lungs import normalised_position
from ct2vq.synthesize.header import read_header

KINDS = ("mean_map", "hu_regression")
HEIGHT, DEPTH, _ = normalised_position(lung_labels())


def with_target(case: CroppedCase, image: np.ndarray) -> CroppedCase:
    targets = {target: np.where(case.inside, image, 0).astype(np.float32) for target in TARGETS}
    return replace(case, targets=targets)


def error(kind: str, cases: list[CroppedCase], test: CroppedCase) -> np.ndarray:
    tensors = FITS[kind](cases, TARGETS)
    predicted = predict_baseline(kind, tensors, test, "perfusion")
    return np.abs(predicted - test.targets["perfusion"])[test.inside]


def test_the_mean_map_recovers_a_function_of_position() -> None:
    def made(seed: int) -> CroppedCase:
        case = case_in_memory(seed)
        height, depth, _ = normalised_position(case.lungs)
        return with_target(case, 0.5 - 0.3 * height + 0.1 * depth)

    errors = error("mean_map", [made(seed) for seed in range(3)], made(3))
    assert np.mean(errors) < 0.03


def test_the_mean_map_knows_left_from_right() -> None:
    def made(seed: int) -> CroppedCase:
        case = case_in_memory(seed)
        return with_target(case, np.where(case.lungs == 1, 0.8, 0.2))

    assert np.max(error("mean_map", [made(0), made(1)], made(2))) < 1e-3


def test_the_regression_recovers_a_polynomial() -> None:
    """HU that are constant along the smoothing (a plane) stay themselves, so the polynomial is known exactly."""

    def made(seed: int) -> CroppedCase:
        case = case_in_memory(seed)
        hu = np.full(SHAPE, -800.0 - 30 * seed, dtype=np.float32)
        case = replace(case, hu=hu)
        height, depth, side = normalised_position(case.lungs)
        density = (hu + 800) / 100
        image = 0.5 - 0.2 * height * depth + 0.1 * density * height**2 + 0.05 * side
        return with_target(case, np.where(case.lungs == 1, image, image - 0.05 * depth))

    assert np.max(error("hu_regression", [made(seed) for seed in range(4)], made(2))) < 0.01


def test_the_regression_beats_the_map_where_the_image_follows_the_ct() -> None:
    cases = [case_in_memory(seed) for seed in range(4)]
    generator = np.random.default_rng(0)
    shifted = []
    for case in cases:
        dark = np.where(case.inside, case.hu - generator.uniform(0, 100) * (DEPTH * generator.choice([-1, 1]) > 0), 0)
        case = replace(case, hu=dark.astype(np.float32), targets={})
        shifted.append(with_target(case, np.clip((dark + 1000) / 400, 0, 1)))
    maps, regression = (error(kind, shifted[:3], shifted[3]).mean() for kind in KINDS)
    assert regression < maps


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_never_sees_the_truth_and_stays_in_the_lungs(kind: str) -> None:
    tensors = FITS[kind]([case_in_memory(0), case_in_memory(1)], TARGETS)
    case = case_in_memory(2)
    blind = replace(case, targets={})
    for target in TARGETS:
        image = predict_baseline(kind, tensors, blind, target)
        np.testing.assert_array_equal(image, predict_baseline(kind, tensors, case, target))
        assert image.dtype == np.float32
        assert (image[~case.inside] == 0).all()
        assert 0 <= image.min() <= image.max() <= 1
        assert spearmanr(image[case.inside], case.targets[target][case.inside]).statistic > 0.5


def test_the_mean_map_never_sees_the_ct() -> None:
    tensors = FITS["mean_map"]([case_in_memory(0)], TARGETS)
    case = case_in_memory(1)
    other = replace(case, hu=case.hu * 0, targets={})
    for target in TARGETS:
        np.testing.assert_array_equal(
            predict_baseline("mean_map", tensors, case, target), predict_baseline("mean_map", tensors, other, target)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_patient_with_one_lung_spoils_nothing(kind: str) -> None:
    whole = [case_in_memory(0), case_in_memory(1)]
    one_lung = np.where(lung_labels() == 1, 1, 0).astype(np.uint8)
    tensors = FITS[kind]([*whole, case_in_memory(2, lungs=one_lung)], TARGETS)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    test = case_in_memory(3)
    image = predict_baseline(kind, tensors, test, "perfusion")
    for side in (1, 2):
        here = test.lungs == side
        assert np.abs(image - test.targets["perfusion"])[here].mean() < 0.15
    alone = predict_baseline(kind, tensors, case_in_memory(3, lungs=one_lung), "perfusion")
    assert (alone[one_lung == 0] == 0).all()
    assert alone[one_lung == 1].mean() > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_of_a_baseline(kind: str, cohort: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    images, _ = cohort
    model = {"kind": kind, "targets": list(TARGETS)}
    for name in ("a", "b"):
        weights, record = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.json"
        train_baseline(images, model, weights, record, simulated=True)
    assert sha256_file(tmp_path / "a.safetensors") == sha256_file(tmp_path / "b.safetensors")
    facts = read_json(tmp_path / "a.json")
    assert facts["cases"] == ["c0", "c1", "c2", "c3"]
    assert facts["parameters"] > 0
    assert read_header(tmp_path / "a.safetensors") == {"kind": kind, "targets": list(TARGETS), "simulated": True}

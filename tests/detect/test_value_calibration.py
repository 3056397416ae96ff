"""Calibration of values: least squares over all voxels, groups of equal size, the share of low voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detection_tables import binned
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.config import complete_config
from ct2vq.detect.calibration import calibrate_share, calibrate_values, equal_groups
from ct2vq.detect.scored import CENTRES, Members, VoxelCounts
from ct2vq.files import write_tsv

SETTINGS = complete_config({"study": "x", "detect": {"bootstrap": 400}})["detect"]


def patients(number: int = 8, voxels: int = 600, slope: float = 0.7, intercept: float = 0.1) -> list[np.ndarray]:
    """Synthesised values at bin centres and reference values of each patient; patients differ by an offset."""
    made = []
    for seed in range(number):
        generator = np.random.default_rng(seed)
        image = CENTRES[generator.integers(5, 95, voxels)]
        offset = generator.normal(0, 0.05)
        made.append(np.stack([image, intercept + offset + slope * image + generator.normal(0, 0.05, voxels)]))
    return made


def histograms(study: list[np.ndarray], folder: Path) -> tuple[VoxelCounts, Members]:
    cases = {f"c{number}": f"p{number}" for number in range(len(study))}
    members = Members(cases, dict.fromkeys(cases.values(), 1))
    paths = [folder / f"{case}.tsv" for case in cases]
    for path, case, (image, reference) in zip(paths, cases, study, strict=True):
        write_tsv(binned(case, image, reference, reference < 0.4), path)
    return VoxelCounts.read(paths, members), members


def test_the_line_is_least_squares_over_all_voxels(tmp_path: Path) -> None:
    study = patients()
    counts, _ = histograms(study, tmp_path)
    rows = calibrate_values(*counts.values["m", "perfusion", "spect"].weighted(), SETTINGS, seed=1)
    image, reference = np.concatenate(study, axis=1)
    expected = np.polyfit(image, reference, 1)
    found = {row["kind"]: row for row in rows if row["kind"] != "reference_mean"}
    for kind, value in zip(("slope", "intercept"), expected, strict=True):
        assert found[kind]["value"] == pytest.approx(value)
        assert found[kind]["value_low"] < value < found[kind]["value_high"]
    # patients share an offset: an interval over voxels (0.05 / sqrt(4800) = 0.0007) would be far too narrow
    assert found["intercept"]["value_high"] - found["intercept"]["value_low"] > 0.02


def test_deciles_by_hand(tmp_path: Path) -> None:
    study = patients()
    counts, _ = histograms(study, tmp_path)
    rows = calibrate_values(*counts.values["m", "perfusion", "spect"].weighted(), SETTINGS, seed=1)
    deciles = [row for row in rows if row["kind"] == "reference_mean"]
    image, reference = np.concatenate(study, axis=1)
    assert [row["bin"] for row in deciles] == list(range(1, 11))
    assert sum(row["voxels"] for row in deciles) == image.size
    assert all(0.8 < row["voxels"] / (image.size / 10) < 1.2 for row in deciles)
    edges = np.cumsum([0, *(row["voxels"] for row in deciles)]).astype(int)
    order = np.argsort(image, kind="stable")
    for row, start, stop in zip(deciles, edges[:-1], edges[1:], strict=True):
        here = order[start:stop]  # groups are whole bins, so that no value stands in two of them
        assert row["image_mean"] == pytest.approx(image[here].mean())
        assert row["value"] == pytest.approx(reference[here].mean())
        assert row["value_low"] < row["value"] < row["value_high"]
        assert row["n_patients"] == 8


def test_the_share_of_low_voxels_by_hand(tmp_path: Path) -> None:
    study = patients()
    counts, _ = histograms(study, tmp_path)
    rows = calibrate_share(*counts.low["m", "perfusion", "spect", "p40"].weighted(), "p40", SETTINGS, seed=1)
    image, reference = np.concatenate(study, axis=1)
    assert {row["kind"] for row in rows} == {"share_low"} and {row["definition"] for row in rows} == {"p40"}
    assert [row["bin"] for row in rows] == list(range(2, 20))
    for row in rows:
        here = (image >= (row["bin"] - 1) / 20) & (image < row["bin"] / 20)
        assert row["voxels"] == here.sum()
        assert row["value"] == pytest.approx((reference[here] < 0.4).mean())
        assert row["image_mean"] == pytest.approx(image[here].mean())


def test_a_constant_image_has_no_line_and_says_why(tmp_path: Path) -> None:
    study = [np.stack([np.full(50, CENTRES[30]), np.linspace(0, 1, 50)]) for _ in range(3)]
    counts, _ = histograms(study, tmp_path)
    rows = calibrate_values(*counts.values["m", "perfusion", "spect"].weighted(), SETTINGS, seed=1)
    assert [row["kind"] for row in rows] == ["reference_mean", "slope", "intercept"]
    assert rows[0]["value"] == pytest.approx(0.5)
    for row in rows[1:]:
        assert np.isnan([row["value"], row["value_low"], row["value_high"]]).all()
        assert row["reason"] == "all synthesised values lie in one bin"


def test_patients_weigh_by_their_mean_case(tmp_path: Path) -> None:
    """A case a second time changes nothing."""
    study = patients(3)
    cases = {"c0": "p0", "c1": "p1", "c2": "p2", "again": "p2"}
    members = Members(cases, {"p0": 1, "p1": 1, "p2": 1})
    paths = [tmp_path / f"{case}.tsv" for case in cases]
    for path, case, (image, reference) in zip(paths, cases, [*study, study[2]], strict=True):
        write_tsv(binned(case, image, reference, reference < 0.4), path)
    twice = VoxelCounts.read(paths, members).values["m", "perfusion", "spect"].weighted()
    once = VoxelCounts.read(paths[:3], members).values["m", "perfusion", "spect"].weighted()
    assert np.allclose(twice, once)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 12))
def test_groups_are_in_order_and_hold_whole_bins(voxels: list[int], number: int) -> None:
    counts = np.array(voxels, dtype=float)
    groups = equal_groups(counts, number)
    assert (np.diff(groups) >= 0).all()
    assert ((groups >= 0) & (groups < number)).all()
    held = np.bincount(groups, counts, number)
    assert held.max() <= counts.sum() / number + counts.max() + 1e-9

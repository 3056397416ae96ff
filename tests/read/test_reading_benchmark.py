"""The benchmark of the reader study: drawn studies have the shares that they shall have, tables say what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import run_reading_endpoint as bench
from reading import summary
from reading_study import small_study

from ct2vq.files import read_json, read_tsv
from ct2vq.read.plan import _few_readers
from ct2vq.volume import read_volume, to_array

TABLES = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


@pytest.mark.parametrize("kind", list(bench.READERS_DIFFER))
def test_the_average_reader_is_right_as_often_as_the_margin_says(kind: str) -> None:
    generator = np.random.default_rng(1)
    hits = bench.at_the_margin(generator, 40, 400, *bench.READERS_DIFFER[kind])
    many = [bench.at_the_margin(generator, 40, 400, *bench.READERS_DIFFER[kind]).mean(axis=(1, 2)) for _ in range(300)]
    assert hits.shape == (2, 400, 40)
    assert np.mean(many, axis=0) == pytest.approx([0.85, 0.75], abs=0.01)


def test_equally_good_sources_differ_in_as_many_patients_as_told() -> None:
    hits = bench.equally_good(np.random.default_rng(2), 40_000, 3, 0.4)
    assert hits.mean(axis=(1, 2)) == pytest.approx([0.85, 0.85], abs=0.01)
    assert (hits[0] != hits[1]).mean() == pytest.approx(bench.DISCORDANCE, abs=0.01)
    difference = hits[1] - hits[0]
    assert np.corrcoef(difference)[0, 1] == pytest.approx(0.4, abs=0.02)


def test_studies_are_judged_by_the_workflow() -> None:
    generator = np.random.default_rng(3)

    def far_worse(_: np.random.Generator) -> np.ndarray:
        return (generator.random((2, 3, 60)) < np.array([0.95, 0.4])[:, None, None]).astype(float)

    def as_good(_: np.random.Generator) -> np.ndarray:
        return np.repeat((generator.random((1, 5, 80)) < 0.9).astype(float), 2, axis=0) * (
            generator.random((2, 5, 80)) < 0.97
        )

    assert bench.shares(far_worse, 10, generator) == {bench.ENDPOINT: 0.0, bench.RANDOM_ONLY: 0.0}
    assert bench.shares(as_good, 40, generator)[bench.ENDPOINT] >= 0.9


def test_the_same_seed_draws_the_same_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "ERROR_STUDIES", [(20, 2)])
    monkeypatch.setattr(bench, "POWER_STUDIES", [(2, 0.5)])
    once, again = bench.simulated(15), bench.simulated(15)
    pd.testing.assert_frame_equal(once, again)
    assert list(once["case"].unique()) == [
        "20 patients, 2 readers, alike",
        "20 patients, 2 readers, unlike",
        "89 patients, 2 readers, correlation 0.5",
    ]


def test_the_tables_by_hand() -> None:
    rows: list[list[Any]] = []
    for who, shares in ((bench.ENDPOINT, (0.01, 0.04, 0.5)), (bench.RANDOM_ONLY, (0.02, 0.05, 0.6))):
        for arm, case, share in zip(
            ("error", "error", "power"),
            (
                "60 patients, 2 readers, alike",
                "60 patients, 2 readers, unlike",
                "77 patients, 2 readers, correlation 0.3",
            ),
            shares,
            strict=True,
        ):
            rows.append([arm, case, "", who, "non-inferior", share, "1"])
    table = pd.DataFrame(rows, columns=bench.COLUMNS)
    assert summary.errors(table).to_numpy().tolist() == [["60", "2", "0.010", "0.040", "0.020", "0.050"]]
    assert summary.powers(table).to_numpy().tolist() == [["2", "0.3", "77", "0.50", "0.60"]]
    told = list(summary.power_parts(table, {"studies": 2000}))[-1]
    assert told == "2000 studies a row, so that a share of 0.8 is known to 0.018 (95 %)."


def test_the_plan_says_what_was_simulated() -> None:
    """The plan of a study with few readers tells the powers of the benchmark's table."""
    powers = summary.powers(read_tsv(TABLES / "reading_endpoint.tsv"))
    words = " ".join(_few_readers(2))
    for readers, name in (("2", "two"), ("3", "three")):
        found = powers[powers["readers"] == readers]["power"].astype(float) * 100
        assert f"{found.min():.0f} to {found.max():.0f}% with {name}" in words


# --- what it costs --------------------------------------------------------------------------------------------------


def test_images_become_finer_and_labels_stay_labels(tmp_path: Path) -> None:
    reading = pytest.importorskip("run_reading")
    images = small_study(tmp_path / "study", 1).images
    finer = reading.finer(images, tmp_path / "finer")
    lungs, coarse = (read_volume(found["case00"]["lungs"]) for found in (finer, images))
    assert lungs.GetSpacing() == (4.0, 4.0, 4.0)
    assert set(np.unique(to_array(lungs))) == set(np.unique(to_array(coarse)))
    volumes = [float((to_array(one) > 0).sum()) * np.prod(one.GetSpacing()) for one in (lungs, coarse)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.1)


def test_a_step_costs_its_own_seconds_and_memory(tmp_path: Path) -> None:
    reading = pytest.importorskip("run_reading")
    cases = {"c0": {"patient_id": "p0", "diagnosis": "normal", "reference": "normal"}}
    study = reading.Study(tmp_path, "costs", cases, {"perfusion": "ddran", "ventilation": "ddran"})
    rows = list(reading._step("design", "", study.design_job()))
    assert [row[4] for row in rows] == ["processor_time", "wall_time", "peak_memory"]
    assert 0 < rows[0][5] < 30 and 5 < rows[2][5] < 200
    made = read_json(study.design)
    assert made["study"] == "costs" and set(made["readers"]) == set(reading.READERS)
    study.cases = {"c0": {}}
    with pytest.raises(reading.Ct2vqError, match="a step failed"):
        list(reading._step("design", "", study.design_job()))


def test_costs_stand_in_three_tables() -> None:
    rows = [
        ["ct2vq", "pack, 8 mm", "", "8 mm", "items", 44, "1"],
        ["ct2vq", "pack, 8 mm", "", "8 mm", "size", 2.87, "MiB"],
        ["ct2vq", "pack, 8 mm", "", "8 mm", "processor_time", 1.8, "s"],
        ["ct2vq", "design", "", "", "processor_time", 0.2, "s"],
        ["ct2vq", "page, 8 mm", "", "8 mm", "page", 0.83, "s"],
    ]
    parts = list(summary.cost_parts(pd.DataFrame(rows, columns=bench.COLUMNS), {}))
    assert [part for part in parts if isinstance(part, str)] == [
        "A reader's pack:",
        "Steps, each a process of its own, imports included:",
        "The page in headless Chromium:",
    ]
    tables = [part for part in parts if not isinstance(part, str)]
    assert tables[0].to_dict("records") == [{"": "pack, 8 mm", "items": "44", "size, MiB": "2.87"}]
    assert tables[1].to_numpy().tolist() == [["pack, 8 mm", "1.8"], ["design", "0.2"]]

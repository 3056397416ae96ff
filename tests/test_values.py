"""The patient is the unit of tables and figures."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from ct2vq import values
from ct2vq.files import write_tsv
from ct2vq.values import patient_means, patient_values, read_metrics

LABELS = ("ddran", "ran_perfusion", "mean_map")


def metric_rows() -> pd.DataFrame:
    """Two cases of patient p1, one of p2; a second Dice definition and a second region that must not count."""
    columns = ["case_id", "model", "target", "metric", "region", "definition", "reference", "value", "unit"]
    rows = []
    for case, rs in (("a", 0.5), ("b", 0.7), ("c", 0.8)):
        for model in LABELS:
            rows += [
                (case, model, "perfusion", "spearman", "lungs", "", "spect", rs, "1"),
                (case, model, "perfusion", "spearman", "core", "", "spect", 0.0, "1"),
                (case, model, "perfusion", "ssim", "lungs", "sigma=1.5", "spect", rs, "1"),
                (case, model, "perfusion", "dice_low", "lungs", "p40", "spect", rs, "1"),
                (case, model, "perfusion", "dice_low", "lungs", "p25_p75", "spect", 0.0, "1"),
                (case, model, "perfusion", "dice_low_chance", "lungs", "p40", "spect", 0.4, "1"),
                (case, model, "perfusion", "dice_high", "lungs", "p40", "spect", rs, "1"),
            ]
    return pd.DataFrame(rows, columns=columns)


def test_the_patient_is_the_unit() -> None:
    found = patient_values(metric_rows(), {"a": "p1", "b": "p1", "c": "p2"}, "p40")
    for metric in ("spearman", "dice_low"):
        chosen = found[(found["model"] == "ddran") & (found["metric"] == metric)].set_index("patient_id")["value"]
        assert chosen.to_dict() == pytest.approx({"p1": 0.6, "p2": 0.8})


def test_repeated_trainings_are_averaged_before_the_cases_of_a_patient() -> None:
    """Three seeds of one case do not outweigh one of another; a missing seed leaves the others."""
    row = {"model": "ddran", "target": "perfusion", "metric": "spearman"}
    row |= {"region": "lungs", "definition": "", "reference": "spect"}
    rows = [row | {"case_id": case, "value": value} for case, value in (("a", 0.1), ("a", 0.2), ("a", 0.3), ("b", 0.6))]
    table = pd.DataFrame([*rows, row | {"case_id": "b", "value": math.nan}])
    found = patient_values(table, {"a": "p1", "b": "p1"}, "p40")
    assert found["value"].tolist() == pytest.approx([0.4])
    means = patient_means(table.astype(dict.fromkeys(row, "category")), {"a": "p1", "b": "p1"}, list(row))
    assert means["value"].tolist() == pytest.approx([0.4]) and means["model"].tolist() == ["ddran"]


def test_metrics_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tsv(metric_rows().assign(reason=""), tmp_path / "metrics.tsv")
    whole = read_metrics(tmp_path / "metrics.tsv", ["ssim", "spearman"], ["lungs"])
    assert len(whole) == 18 and set(whole["metric"]) == {"ssim", "spearman"}
    monkeypatch.setattr(values, "CHUNK_ROWS", 4)
    pd.testing.assert_frame_equal(read_metrics(tmp_path / "metrics.tsv", ["ssim", "spearman"], ["lungs"]), whole)
    assert len(read_metrics(tmp_path / "metrics.tsv", ["spearman"])) == 18, "all regions"

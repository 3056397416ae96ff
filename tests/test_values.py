"""The patient is the unit of tables and figures."""

from __future__ import annotations

import pandas as pd
import pytest

from ct2vq.values import patient_values

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
    values = patient_values(metric_rows(), {"a": "p1", "b": "p1", "c": "p2"}, "p40")
    for metric in ("spearman", "dice_low"):
        chosen = values[(values["model"] == "ddran") & (values["metric"] == metric)].set_index("patient_id")["value"]
        assert chosen.to_dict() == pytest.approx({"p1": 0.6, "p2": 0.8})

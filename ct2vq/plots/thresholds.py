"""Threshold curves: Dice of low and high function at every percentile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ct2vq.figures import METRIC_NAMES, PALE, REFERENCE_NAMES, Look, draw_missing, study_figure
from ct2vq.names import DICE_METRICS
from ct2vq.plots.parts import NAMES_OF_TARGETS, legend, model_line, present_targets, title
from ct2vq.values import patient_means

CURVE = r"curve_p(\d+(?:\.\d+)?)"
COLUMNS = ("target", "metric", "model", "percentile", "patients", "q1", "median", "q3", "chance")


def draw_threshold_curves(metrics: pd.DataFrame, patients: Mapping[str, str], output: str | Path, look: Look) -> None:
    """Median Dice over patients against the percentile that divides the lungs; bands are networks' quartiles.

    Args:
        metrics: the long table of metrics, with definitions `curve_p10` and so on.
        patients: patient of each case.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
    """
    data = curves_of(metrics, patients, look)
    targets = present_targets(data)
    if not targets:
        draw_missing(output, look, COLUMNS, "Dice against the threshold", "No threshold curve could be computed.")
        return
    note = "lines: medians over patients, bands: quartiles of networks; low function lies at or below the percentile"
    with study_figure(output, 2.1 * len(targets) + 0.6, look, data, note) as figure:
        rows = figure.subplots(len(targets), 2, squeeze=False, sharex=True)
        for row, target in zip(rows, targets, strict=True):
            for axes, metric in zip(row, DICE_METRICS, strict=True):
                _panel(axes, data[(data["target"] == target) & (data["metric"] == metric)], look)
                title(axes, f"{NAMES_OF_TARGETS[target]}: {METRIC_NAMES[metric]}")
            row[0].set_ylabel("DSC")
        for axes in rows[-1]:
            axes.set_xlabel("threshold (percentile of each image's values in the lungs)")
        chance = Line2D([], [], color=PALE, linewidth=2.2, label="expected by chance")
        legend(figure, [*(model_line(look, model) for model in look.sorted(data["model"])), chance])


def curves_of(metrics: pd.DataFrame, patients: Mapping[str, str], look: Look) -> pd.DataFrame:
    """Quartiles over patients of Dice, and its mean by chance, at every percentile."""
    kept = metrics[(metrics["region"] == "lungs") & (metrics["reference"] == "spect")]
    kept = kept[kept["model"].isin([*look.labels, *REFERENCE_NAMES])]
    kept = kept.assign(percentile=kept["definition"].astype(str).str.extract(f"^{CURVE}$")[0].astype(float))
    kept = kept.dropna(subset=["percentile"])
    values = patient_means(kept, patients, ["target", "metric", "model", "percentile"]).dropna(subset="value")
    keys = ["target", "metric", "model", "percentile"]
    if values.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    groups = values[values["metric"].isin(DICE_METRICS)].groupby(keys)["value"]
    quartiles = groups.quantile([0.25, 0.5, 0.75]).unstack().set_axis(["q1", "median", "q3"], axis=1)
    chance = values[values["metric"].str.endswith("_chance")]
    chance = chance.assign(metric=chance["metric"].str.removesuffix("_chance")).groupby(keys)["value"].mean()
    table = quartiles.assign(patients=groups.size()).join(chance.rename("chance"))
    return table.reset_index().reindex(columns=COLUMNS)


def _panel(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    chance = data.groupby("percentile")["chance"].mean()
    axes.plot(chance.index, chance.to_numpy(), color=PALE, linewidth=2.2, zorder=1)
    curves = dict(list(data.groupby("model", sort=False)))
    for model in look.sorted(curves):
        curve, colour = curves[model].sort_values("percentile"), look.colour(model)
        if look.is_network(model):
            axes.fill_between(curve["percentile"], curve["q1"], curve["q3"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(curve["percentile"], curve["median"], color=colour, linestyle=look.line(model), zorder=3)
    percentiles = np.unique(data["percentile"])
    if len(percentiles):
        axes.set_xlim(percentiles.min(), percentiles.max())
    axes.set_ylim(0, 1.02)

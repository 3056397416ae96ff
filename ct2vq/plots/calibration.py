"""Calibration: what SPECT shows on average where a synthesised image has a certain value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ct2vq.figures import PALE, Look, draw_missing, study_figure
from ct2vq.plots.parts import interval, legend, model_line, outer_labels, present_targets, title

#: a value that fewer of a model's voxels have has no share of low voxels worth drawing
RAREST = 0.001
#: a value that fewer of a model's voxels have is dotted, without its interval: it rests on a few spots
FEW = 0.01
COLUMNS = ("target", "model", "definition", "kind", "bin", "image_mean", "value", "value_low", "value_high", "voxels")


def draw_calibration(calibration: pd.DataFrame, output: str | Path, look: Look) -> None:
    """For each target the mean of SPECT and the share of low voxels against the synthesised value.

    Args:
        calibration: rows of kind `reference_mean` (deciles of the image's values), `share_low`, `slope`, `intercept`.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
    """
    kept = calibration["model"].isin(list(look.labels)) & (calibration["reference"] == "spect")
    data = calibration[kept & calibration["value"].notna()].reindex(columns=COLUMNS)
    data = _without_rare_values(data)
    targets = present_targets(data)
    if not targets:
        draw_missing(output, look, COLUMNS, "calibration", "No image could be compared with SPECT.")
        return
    definitions = list(data.loc[data["kind"] == "share_low", "definition"].dropna().unique())
    columns = 1 + len(definitions)
    side = min((look.width - 0.5) / columns, 2.9)
    note = "left: means in deciles of the synthesised values, bars: intervals (patients drawn again); grey: "
    note += f"perfect agreement; numbers: slope and intercept; dotted: fewer than {FEW:.0%} of a model's voxels"
    with study_figure(output, len(targets) * (side + 0.35) + 0.6, look, data, note) as figure:
        rows = figure.subplots(len(targets), columns, squeeze=False)
        for row, target in zip(rows, targets, strict=True):
            here = data[data["target"] == target]
            _means(row[0], here, look)
            outer_labels(row[:1], 1, "synthesised value" if target == targets[-1] else "", "SPECT, mean")
            outer_labels(row[1:], columns, "synthesised value" if target == targets[-1] else "", "low on SPECT (share)")
            title(row[0], f"{target.capitalize()}: mean of SPECT")
            for axes, definition in zip(row[1:], definitions, strict=True):
                _shares(axes, here[(here["kind"] == "share_low") & (here["definition"] == definition)], look)
                title(axes, f"{target.capitalize()}: low, {str(definition).replace('_', ' ')}")
        legend(figure, [model_line(look, model, marker="o") for model in look.sorted(data["model"])])


def _without_rare_values(data: pd.DataFrame) -> pd.DataFrame:
    """Shares of low voxels only where a model has enough voxels for a share."""
    groups = data.groupby(["target", "model", "definition", "kind"], dropna=False)["voxels"]
    rare = (data["kind"] == "share_low") & (data["voxels"] < RAREST * groups.transform("sum"))
    return data[~rare]


def _means(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.8, zorder=0)
    deciles = dict(list(data[data["kind"] == "reference_mean"].groupby("model", sort=False)))
    for model in look.sorted(deciles):
        curve, colour = deciles[model].sort_values("image_mean"), look.colour(model)
        for row in curve.itertuples():
            interval(axes, row.image_mean, row.value_low, row.value_high, across=False, color=colour, linewidth=0.7)
        label = _fit(data[data["model"] == model])
        axes.plot(
            curve["image_mean"],
            curve["value"],
            color=colour,
            linestyle=look.line(model),
            marker="o",
            markersize=2.2,
            label=label,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    if deciles:
        axes.legend(loc="upper left", handlelength=1.0, handletextpad=0.4, labelspacing=0.15, borderpad=0.1)


def _fit(data: pd.DataFrame) -> str:
    """Slope and intercept in a few letters."""
    values = data.drop_duplicates("kind").set_index("kind")["value"].reindex(["slope", "intercept"])
    if not np.isfinite(values.to_numpy(float)).all():
        return "not fitted"
    return f"{values['slope']:.2f} x {values['intercept']:+.2f}".replace("-", "−")


def _shares(axes: Axes, data: pd.DataFrame, look: Look) -> None:
    curves = dict(list(data.groupby("model", sort=False)))
    for model in look.sorted(curves):
        curve, colour = curves[model].sort_values("image_mean"), look.colour(model)
        many = curve["voxels"] >= FEW * curve["voxels"].sum()
        ends = {"color": colour, "alpha": 0.15, "linewidth": 0, "where": many.to_numpy()}
        axes.fill_between(curve["image_mean"], curve["value_low"], curve["value_high"], **ends)
        axes.plot(curve["image_mean"], curve["value"].where(many), color=colour, linestyle=look.line(model))
        axes.plot(curve["image_mean"], curve["value"], color=colour, linestyle=":", linewidth=0.7)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.set_box_aspect(1)

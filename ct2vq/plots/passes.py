"""Shares of patients that pass thresholds of metrics."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from ct2vq.figures import METRIC_NAMES, Look, draw_missing, study_figure
from ct2vq.plots.parts import NAMES_OF_TARGETS, dot_rows, legend, model_marker, present_targets, title

COLUMNS = ("target", "model", "metric", "threshold", "n", "passed", "share", "wilson_low", "wilson_high")
NAMES = METRIC_NAMES | {
    "all": "all of them",
    "pearson": "Pearson's r",
    "mae": "MAE",
    "rmse": "RMSE",
    "psnr": "PSNR (dB)",
}
SIGNS = {"at least": "≥", "at most": "≤"}


def draw_passes(passes: pd.DataFrame, output: str | Path, look: Look) -> None:
    """A row for each criterion, a point with Wilson's interval for each model, a panel for each target.

    Args:
        passes: the table of shares.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
    """
    data = passes[passes["model"].isin(list(look.labels)) & passes["share"].notna()]
    targets = present_targets(data)
    if not targets:
        draw_missing(output, look, COLUMNS, "shares of patients that pass thresholds", "No threshold could be tested.")
        return
    metrics = list(dict.fromkeys(data["metric"]))
    models = look.sorted(data["model"])
    height = len(metrics) * max(0.3, 0.085 * len(models)) + 1.15
    with study_figure(output, height, look, data, "bars: Wilson's intervals of the share") as figure:
        row = figure.subplots(1, len(targets), squeeze=False, sharey=True)[0]
        for axes, target in zip(row, targets, strict=True):
            _panel(axes, data[data["target"] == target], metrics, look)
            n = data.loc[data["target"] == target, "n"]
            title(axes, f"{NAMES_OF_TARGETS[target]}, {int(n.max())} patients")
        legend(figure, [model_marker(look, model) for model in models])


def _panel(axes: Axes, data: pd.DataFrame, metrics: list[str], look: Look) -> None:
    models = look.sorted(data["model"])
    percent = data.assign(**{name: 100 * data[name] for name in ("share", "wilson_low", "wilson_high")})
    rows = [percent[percent["metric"] == metric] for metric in metrics]
    dot_rows(axes, rows, look, models, "share", "wilson_{}")
    axes.set_yticklabels([_criterion(data, metric) for metric in metrics])
    axes.set(xlim=(-2, 102), xlabel="patients that pass (%)")


def _criterion(data: pd.DataFrame, metric: str) -> str:
    rows = data[data["metric"] == metric]
    threshold = rows["threshold"].dropna()
    if threshold.empty:
        return NAMES.get(metric, metric)
    direction = rows["direction"].iloc[0]
    return f"{NAMES.get(metric, metric)} {SIGNS[direction]} {threshold.iloc[0]:g}"

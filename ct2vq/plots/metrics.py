"""Metrics of every model: boxes over patients, a line for each patient, p of the declared comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ct2vq.figures import (
    DARK,
    METRIC_NAMES,
    REFERENCE_COLOURS,
    REFERENCE_NAMES,
    SMALLEST_TEXT,
    Look,
    draw_missing,
    study_figure,
)
from ct2vq.names import CEILINGS, DICE_METRICS
from ct2vq.plots.parts import NAMES_OF_TARGETS, box, dots, joined, legend, p_text, present_targets, say, title
from ct2vq.values import patient_values

COLUMNS = ("target", "metric", "model", "other", "patient_id", "statistic", "value")


def draw_metrics(
    metrics: pd.DataFrame,
    pairs: pd.DataFrame,
    patients: Mapping[str, str],
    output: str | Path,
    look: Look,
    *,
    definition: str,
) -> None:
    """Box plots over patients of some metrics (columns) and targets (rows) for every model.

    Brackets give p after Holm's correction; dashed bands are the ceilings of a simulated cohort.

    Args:
        metrics: the long table of metrics.
        pairs: the paired comparisons.
        patients: patient of each case.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
        definition: threshold that Dice rows are taken of.
    """
    values = patient_values(metrics, patients, definition).dropna(subset="value")
    chance = [f"{metric}_chance" for metric in DICE_METRICS]
    values = values[values["metric"].isin([*METRIC_NAMES, *chance])]
    values = values[values["model"].isin([*look.labels, *CEILINGS])]
    tests = _tests(pairs, definition)
    targets = present_targets(values)
    if not targets:
        draw_missing(output, look, COLUMNS, "agreement with SPECT", "No metric in the lungs could be computed.")
        return
    data = _drawn(values, tests)
    ceilings = [name for name in CEILINGS if (values["model"] == name).any()]
    note = "points and grey lines are patients, boxes quartiles, whiskers 1.5 interquartile ranges; p after Holm"
    note += f"; DSC by threshold “{definition}”"
    with study_figure(output, 2.35 * len(targets) + 0.45, look, data, note) as figure:
        rows = figure.subplots(len(targets), len(METRIC_NAMES), squeeze=False)
        for row, target in zip(rows, targets, strict=True):
            for axes, metric in zip(row, METRIC_NAMES, strict=True):
                here = values[values["target"] == target]
                _panel(axes, here, tests[tests["target"] == target], metric, look)
                title(axes, METRIC_NAMES[metric])
            row[0].set_ylabel(f"{NAMES_OF_TARGETS[target]}\nagreement with SPECT")
        legend(figure, _legend(ceilings, chance=values["metric"].isin(chance).any()))


def _tests(pairs: pd.DataFrame, definition: str) -> pd.DataFrame:
    """The declared comparisons whose p the figure shows: in the lungs, against SPECT, of the first threshold."""
    tests = pairs[pairs["metric"].isin(list(METRIC_NAMES)) & pairs["p_holm"].notna()]
    for column, wanted in (("region", "lungs"), ("reference", "spect")):
        if column in tests:
            tests = tests[tests[column] == wanted]
    return tests[~tests["metric"].isin(DICE_METRICS) | (tests["definition"] == definition)]


def _drawn(values: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """Values of patients and adjusted p, one a row."""
    statistic = np.where(values["metric"].str.endswith("_chance"), "expected by chance", "patient")
    points = values.assign(statistic=statistic, other=None)
    p = tests.rename(columns={"first": "model", "second": "other", "p_holm": "value"}).assign(statistic="p_holm")
    parts = [part.reindex(columns=COLUMNS) for part in (points, p) if len(part)]
    return pd.concat(parts, ignore_index=True).sort_values(["target", "statistic"], kind="stable")


def _panel(axes: Axes, values: pd.DataFrame, tests: pd.DataFrame, metric: str, look: Look) -> None:
    table = values[values["metric"] == metric].pivot(index="patient_id", columns="model", values="value")
    models = [model for model in look.order if model in table]
    if not models:
        say(axes, "not computed")
        return
    _boxes(axes, table[models], look)
    for ceiling in (name for name in CEILINGS if name in table):
        low, median, high = np.percentile(table[ceiling].dropna(), [25, 50, 75])
        colour = REFERENCE_COLOURS[ceiling]
        axes.axhspan(low, high, facecolor=colour, alpha=0.13, zorder=0, linewidth=0)
        axes.axhline(median, color=colour, linestyle="--", linewidth=0.9, zorder=1)
    chance = values.loc[values["metric"] == f"{metric}_chance", "value"]
    if len(chance):
        axes.axhline(chance.mean(), color=DARK, linestyle=":", linewidth=0.9, zorder=1)
    _brackets(axes, tests[tests["metric"] == metric], models)


def _boxes(axes: Axes, table: pd.DataFrame, look: Look) -> None:
    positions = np.arange(table.shape[1])
    axes.plot(*joined(positions, table.to_numpy()), color="#9a9a9a", linewidth=0.4, alpha=0.7, zorder=2)
    for position, model in zip(positions, table.columns, strict=True):
        values, colour = table[model].dropna().to_numpy(), look.colour(model)
        box(axes, position, values, colour)
        dots(axes, np.full(len(values), position), values, color=colour, markersize=2.2, zorder=4)
    axes.set_xlim(-0.6, len(positions) - 0.4)
    names = [look.short(model) for model in table.columns]
    axes.set_xticks(positions, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.grid(False, axis="x")


def _brackets(axes: Axes, tests: pd.DataFrame, models: Sequence[str]) -> None:
    """The adjusted p of a comparison over the two boxes compared."""
    low, high = axes.get_ylim()
    step = 0.11 * (high - low)
    drawn = 0
    for test in tests.itertuples():
        if test.first not in models or test.second not in models:
            continue
        a, b = sorted((models.index(test.first), models.index(test.second)))
        y = high + drawn * step
        axes.plot([a, a, b, b], [y, y + 0.2 * step, y + 0.2 * step, y], color=DARK, linewidth=0.6)
        left = a < len(models) / 4
        axes.text(
            a if left else (a + b) / 2,
            y + 0.25 * step,
            p_text(test.p_holm),
            ha="left" if left else "center",
            va="bottom",
            fontsize=SMALLEST_TEXT,
        )
        drawn += 1
    axes.set_ylim(low, high + (drawn + 0.3) * step if drawn else high)


def _legend(ceilings: Sequence[str], *, chance: bool) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Patch(
            facecolor=REFERENCE_COLOURS[name],
            alpha=0.4,
            edgecolor=REFERENCE_COLOURS[name],
            linestyle="--",
            label=f"{REFERENCE_NAMES[name]}, against SPECT (quartiles)",
        )
        for name in ceilings
    ]
    if chance:
        handles.append(Line2D([], [], color=DARK, linestyle=":", linewidth=0.9, label="DSC expected by chance"))
    return handles

"""Figures of the whole study: metrics of every model, training curves, cohort flow."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from ct2vq.config import TARGETS
from ct2vq.figures import METRIC_NAMES, SIMULATED_NOTE, TARGET_NAMES, hide_axes, model_colours, new_figure
from ct2vq.files import read_tsv

DICE_METRICS = ("dice_low", "dice_high")


def patient_values(metrics: pd.DataFrame, patients: Mapping[str, str], definition: str) -> pd.DataFrame:
    """Metrics in the whole lungs, averaged over the cases of a patient, because the patient is the unit.

    Args:
        metrics: the table of `results/evaluate/metrics.tsv`.
        patients: patient of each case.
        definition: threshold that Dice rows are taken of; other metrics have one definition.

    Returns:
        Columns `patient_id model target metric value`.
    """
    is_dice = metrics["metric"].str.startswith("dice_")
    kept = metrics[
        (~is_dice | (metrics["definition"] == definition))
        & (metrics["region"] == "lungs")
        & (metrics["reference"] == "spect")
    ]
    kept = kept.assign(patient_id=kept["case_id"].map(patients))
    return kept.groupby(["patient_id", "model", "target", "metric"], as_index=False)["value"].mean()


def draw_metrics(
    metrics: str | Path,
    pairs: str | Path,
    folds: str | Path,
    output: str | Path,
    *,
    labels: Mapping[str, str],
    networks: Sequence[str],
    definition: str,
    simulated: bool,
    figure: Mapping[str, Any],
) -> None:
    """Box plots of every metric and target over models; a grey line joins the values of one patient.

    Args:
        metrics: long table of metrics.
        pairs: table of paired comparisons; their adjusted p is written over the boxes.
        folds: table that names the patient of each case.
        output: `*.png`.
        labels: name of each model, in the order of the configuration.
        networks: models that are networks; they stand first.
        definition: name of the threshold that Dice rows are taken of.
        simulated: whether the patients are simulated.
        figure: the `report.figure` block of the configuration.
    """
    patients = dict(read_tsv(folds, dtype=str)[["case_id", "patient_id"]].itertuples(index=False))
    values = patient_values(read_tsv(metrics, dtype={"case_id": str}), patients, definition)
    tests = read_tsv(pairs)
    targets = [target for target in TARGETS if (values["target"] == target).any()]
    order = [*networks, *(model for model in labels if model not in networks)]
    colours = model_colours(list(labels), networks)
    size = (2.85 * len(METRIC_NAMES), 3.0 * max(len(targets), 1) + 0.5)
    with new_figure(output, size, figure, layout="constrained") as drawing:
        rows = drawing.subplots(max(len(targets), 1), len(METRIC_NAMES), squeeze=False)
        for row, target in zip(rows, targets, strict=False):
            for axes, metric in zip(row, METRIC_NAMES, strict=True):
                selected = values[values["target"] == target]
                table = selected.pivot(index="patient_id", columns=["metric", "model"], values="value")
                _boxes(axes, _metric_columns(table, metric, order), labels, colours)
                _chance(axes, selected, metric)
                shown = [model for model in order if (metric, model) in table]
                _brackets(axes, _tests_of(tests, target, metric, definition), shown)
                axes.set_title(METRIC_NAMES[metric])
            row[0].set_ylabel(f"{TARGET_NAMES[target]}\nagreement with SPECT (no unit)")
        note = f"DSC: function by threshold “{definition}”; each point and grey line is one patient"
        drawing.supxlabel(note + (f"; {SIMULATED_NOTE}" if simulated else ""), fontsize=8, color="#333333")


def _metric_columns(table: pd.DataFrame, metric: str, order: Sequence[str]) -> pd.DataFrame:
    """One column a model, in order, a row for each patient."""
    return pd.DataFrame({model: table[(metric, model)] for model in order if (metric, model) in table})


def _boxes(axes: Axes, table: pd.DataFrame, labels: Mapping[str, str], colours: Mapping[str, str]) -> None:
    positions = np.arange(table.shape[1])
    for values in table.to_numpy():
        axes.plot(positions, values, color="#9a9a9a", linewidth=0.6, alpha=0.7, zorder=1)
    for position, model in zip(positions, table.columns, strict=True):
        values = table[model].dropna().to_numpy()
        axes.boxplot(
            values,
            positions=[position],
            widths=0.55,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": colours[model], "alpha": 0.35, "edgecolor": colours[model]},
            medianprops={"color": "#222222", "linewidth": 1.4},
            whiskerprops={"color": colours[model]},
            capprops={"color": colours[model]},
            zorder=2,
        )
        axes.scatter(np.full(len(values), position), values, s=11, color=colours[model], linewidths=0, zorder=3)
    axes.set_xlim(-0.6, max(len(positions), 1) - 0.4)
    axes.set_xticks(positions, [labels[model] for model in table.columns], rotation=25, ha="right", fontsize=8)
    axes.grid(False, axis="x")


def _chance(axes: Axes, values: pd.DataFrame, metric: str) -> None:
    """A dashed line at the mean Dice of two random regions of the same volumes."""
    chance = values.loc[values["metric"] == f"{metric}_chance", "value"] if metric in DICE_METRICS else pd.Series()
    if chance.notna().any():
        axes.axhline(chance.mean(), color="#444444", linestyle="--", linewidth=0.9, zorder=0)
        axes.annotate(
            "expected by chance",
            (0.02, chance.mean()),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=7,
            color="#444444",
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )


def _tests_of(tests: pd.DataFrame, target: str, metric: str, definition: str) -> pd.DataFrame:
    chosen = tests[(tests["target"] == target) & (tests["metric"] == metric)]
    return chosen[chosen["definition"] == definition] if metric in DICE_METRICS else chosen


def _brackets(axes: Axes, tests: pd.DataFrame, models: Sequence[str]) -> None:
    """The adjusted p of a comparison over the two boxes compared."""
    low, high = axes.get_ylim()
    step = 0.09 * (high - low)
    drawn = 0
    for test in tests.itertuples():
        if test.first not in models or test.second not in models or pd.isna(test.p_holm):
            continue
        a, b = sorted((models.index(test.first), models.index(test.second)))
        y = high + drawn * step
        axes.plot([a, a, b, b], [y, y + 0.25 * step, y + 0.25 * step, y], color="#333333", linewidth=0.8)
        text = "p < 0.001" if test.p_holm < 0.001 else f"p = {test.p_holm:.3f}"
        axes.text((a + b) / 2, y + 0.3 * step, text, ha="center", va="bottom", fontsize=7)
        drawn += 1
    axes.set_ylim(low, high + (drawn + 0.4) * step if drawn else high)


def draw_training(
    histories: Sequence[str | Path],
    output: str | Path,
    *,
    labels: Mapping[str, str],
    networks: Sequence[str],
    simulated: bool,
    figure: Mapping[str, Any],
) -> None:
    """Loss and validation Rs over epochs, a column for each network, a thin line for each fold.

    Args:
        histories: `results/train/<model>/fold<k>/history.tsv`, the model's name being the folder's.
        output: `*.png`.
        labels: name of each model.
        networks: their order.
        simulated: whether the patients are simulated.
        figure: the `report.figure` block of the configuration.
    """
    tables = {model: [read_tsv(p) for p in histories if Path(p).parts[-3] == model] for model in networks}
    tables = {model: folds for model, folds in tables.items() if folds}
    colours = model_colours(list(labels), networks)
    columns = max(len(tables), 1)
    with new_figure(output, (max(3.3 * columns, 4.5), 5.2), figure, layout="constrained") as drawing:
        rows = drawing.subplots(2, columns, squeeze=False, sharex="col", sharey="row")
        for column, (model, folds) in enumerate(tables.items()):
            _curves(rows[0][column], folds, "loss", colours[model], "-", "training, mean of folds")
            _curves(rows[0][column], folds, "validation_loss", "#222222", "--", "validation, mean of folds")
            _curves(rows[1][column], folds, "validation_spearman", "#222222", "--", "validation, mean of folds")
            rows[0][column].set_title(labels[model])
            rows[1][column].set_xlabel("epoch")
            rows[1][column].xaxis.set_major_locator(MaxNLocator(integer=True))
        rows[0][0].set_ylabel("loss (no unit)")
        rows[1][0].set_ylabel("validation Spearman's Rs (no unit)")
        for axes in rows.flat:
            _legend_or_note(axes)
        drawing.supxlabel("thin lines: folds" + (f"; {SIMULATED_NOTE}" if simulated else ""), fontsize=8)


def _curves(axes: Axes, folds: Sequence[pd.DataFrame], column: str, colour: str, line: str, label: str) -> None:
    series = [fold.set_index("epoch")[column].astype(float).dropna() for fold in folds]
    series = [fold for fold in series if len(fold)]
    for fold in series:
        axes.plot(fold.index, fold.to_numpy(), color=colour, linestyle=line, linewidth=0.6, alpha=0.45)
    if series:
        mean = pd.concat(series, axis=1).mean(axis=1)
        marker = "o" if len(mean) == 1 else None
        axes.plot(mean.index, mean.to_numpy(), color=colour, linestyle=line, linewidth=1.8, label=label, marker=marker)


def _legend_or_note(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    else:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color="#777777")


def draw_cohort(
    flow: Mapping[str, Any],
    folds: str | Path,
    output: str | Path,
    *,
    simulated: bool,
    figure: Mapping[str, Any],
) -> None:
    """Boxes from the cases listed, through each exclusion, to targets and folds.

    Args:
        flow: `listed`, `exclusions` (rows of case, stage, reason), `analysed`, `patients` and `targets` (number of
            cases for each).
        folds: table of the fold of each case.
        output: `*.png`.
        simulated: whether the patients are simulated.
        figure: the `report.figure` block of the configuration.
    """
    excluded = [f"{row['case_id']}: {row['reason']} ({row['stage']})" for row in flow["exclusions"]]
    lines = _wrapped(excluded, 46)
    side = 0.55 + 0.17 * len(lines)
    gap = max(0.45, side - 0.25)
    height = 0.6 + gap + 0.6 + 0.45 + 0.5 + 0.55 + 0.5 + 0.3
    with new_figure(output, (8.2, height), figure) as drawing:
        axes = drawing.add_axes((0, 0, 1, 1))
        hide_axes(axes)
        axes.set(xlim=(0, 8.2), ylim=(0, height))
        listed, analysed = height - 0.45, height - 0.45 - 0.6 - gap
        kind = "simulated cases" if simulated else "cases listed"
        _box(axes, 2.6, listed, 3.0, 0.5, [f"{flow['listed']} {kind}"], "#e8eef4")
        kept = f"{flow['analysed']} cases of {flow['patients']} patients analysed"
        _box(axes, 2.6, analysed, 3.0, 0.5, [kept], "#dcecdf")
        _arrow(axes, (2.6, listed - 0.25), (2.6, analysed + 0.25))
        middle = (listed + analysed) / 2
        heading = f"{len({row['case_id'] for row in flow['exclusions']})} excluded"
        _box(axes, 6.2, middle, 3.7, side - 0.2, [heading, *lines], "#f7e6dc", left=True)
        _arrow(axes, (2.6, middle), (4.35, middle))
        targets = [f"{target}: {number} cases" for target, number in flow["targets"].items()]
        counts = read_tsv(folds)["fold"].value_counts().sort_index()
        bottom = _row(axes, analysed - 0.25, targets, "#e8eef4", arrows=True)
        axes.text(0.2, bottom - 0.32, "cases in each test fold; no patient is in two folds", va="center", fontsize=8)
        _row(
            axes, bottom - 0.1, [f"fold {number}: {cases}" for number, cases in counts.items()], "#f2f2f2", arrows=False
        )


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    return [piece for line in lines for piece in textwrap.wrap(line, width, subsequent_indent="    ")]


def _row(axes: Axes, top: float, texts: Sequence[str], colour: str, *, arrows: bool) -> float:
    """A row of boxes below `top`, joined to it by arrows if wanted; returns the boxes' lower edge."""
    centre, width = top - 0.7, min(2.4, 7.8 / max(len(texts), 1) - 0.12)
    size = 9.0 if width > 1.1 else 7.5
    start = 2.6 - (len(texts) - 1) * (width + 0.12) / 2
    start = max(start, width / 2 + 0.2)
    for number, text in enumerate(texts):
        x = start + number * (width + 0.12)
        if arrows:
            _arrow(axes, (2.6, top), (x, centre + 0.25))
        _box(axes, x, centre, width, 0.5, [text], colour, size=size)
    return centre - 0.25


def _box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    lines: Sequence[str],
    colour: str,
    *,
    left: bool = False,
    size: float = 9.0,
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=colour,
            edgecolor="#555555",
            linewidth=0.9,
        )
    )
    place = {"x": x - width / 2 + 0.1, "ha": "left"} if left else {"x": x, "ha": "center"}
    axes.text(y=y, s="\n".join(lines), va="center", fontsize=7.8 if left else size, **place)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#555555", "linewidth": 1.0})

"""The specification curve: a declared difference under every choice that the paper leaves open.

Simonsohn, Simmons & Nelson, Nat Hum Behav 2020;4:1208.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ct2vq.compare.scores import LOWER_IS_BETTER
from ct2vq.figures import AGAINST, DARK, METRIC_NAMES, MIDDLE, SMALLEST_TEXT, Look, draw_missing, study_figure
from ct2vq.plots.parts import MOST_VECTOR_POINTS, NAMES_OF_TARGETS, dots, joined, legend, title

COLUMNS = (
    "first", "second", "target", "place", "effect", "low", "high", "favours", "clear", "own",
    "metric", "region", "definition", "spect", "reference", "n", "p",
)  # fmt: skip
#: choices below the curve, and how the page calls them
CHOICES = {"metric": "metric", "region": "region", "definition": "threshold", "spect": "SPECT", "reference": "against"}
NAMES = METRIC_NAMES | {"pearson": "Pearson's r", "mae": "MAE", "rmse": "RMSE", "study": "as in the study"}
NAMES |= AGAINST
#: decibels have no place on an axis of numbers without a unit
NOT_DRAWN = ("psnr",)
ROW_INCHES = 0.125
NEITHER = "#9a9a9a"
PALE_ALPHA = 0.4


def draw_sensitivity(sensitivity: pd.DataFrame, output: str | Path, look: Look, *, confidence: float) -> None:
    """A panel for each declared pair: differences with intervals, sorted, and below them the choices of each.

    Args:
        sensitivity: a row for each combination of choices.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
        confidence: level of the intervals.
    """
    data = specifications(sensitivity)
    pairs = list(dict.fromkeys(zip(data["first"], data["second"], data["target"], strict=True)))
    if not pairs:
        draw_missing(output, look, COLUMNS, "the specification curve", "No declared pair was compared.")
        return
    rows = choice_rows(data)
    blocks = [pairs[first : first + 2] for first in range(0, len(pairs), 2)]
    matrix = ROW_INCHES * len(rows) + 0.1
    note = (
        f"bars: {confidence:.0%} intervals of the Hodges-Lehmann difference; a column is one combination of choices; "
    )
    note += "pale where the interval holds 0; numbers: combinations against SPECT, in brackets those whose interval "
    note += "excludes 0; dashed: the study's own choices"
    note += "; MAE and RMSE turned round" if data["metric"].isin(LOWER_IS_BETTER).any() else ""
    height = len(blocks) * (1.75 + matrix) + 0.75
    with study_figure(output, height, look, data, note) as figure:
        places = figure.subplots(
            2 * len(blocks),
            2 if len(pairs) > 1 else 1,
            squeeze=False,
            sharex="col",
            height_ratios=[1.5, matrix] * len(blocks),
        )
        _fill(places, blocks, data, rows, look)
        legend(figure, _legend(data, look))


def specifications(sensitivity: pd.DataFrame) -> pd.DataFrame:
    """The rows drawn: positive differences favour the first model, `place` counts from the smallest."""
    data = sensitivity[sensitivity["hodges_lehmann"].notna() & ~sensitivity["metric"].isin(NOT_DRAWN)]
    data = turned(data).rename(columns={"hodges_lehmann": "effect", "ci_low": "low", "ci_high": "high"})
    data["clear"] = np.where((data["low"] > 0) | (data["high"] < 0), "yes", "no")
    data["definition"] = data["definition"].where(data["metric"].str.startswith("dice_"), None)
    pair = ["first", "second", "target"]
    data = data.sort_values([*pair, "effect", *CHOICES], kind="stable", ignore_index=True)
    data["place"] = data.groupby(pair).cumcount()
    return data.reindex(columns=COLUMNS)


def turned(table: pd.DataFrame) -> pd.DataFrame:
    """Differences `hodges_lehmann` and their intervals, signed so that positive ones favour the first model."""
    sign = np.where(table["metric"].isin(LOWER_IS_BETTER), -1.0, 1.0)
    ends = np.sort(np.stack([sign * table["ci_low"], sign * table["ci_high"]]), axis=0)
    return table.assign(hodges_lehmann=sign * table["hodges_lehmann"], ci_low=ends[0], ci_high=ends[1])


def choice_rows(data: pd.DataFrame) -> list[tuple[str, str | None]]:
    """Rows of the matrix: a choice with its options; the option None is the row of its name."""
    rows: list[tuple[str, str | None]] = []
    for choice in CHOICES:
        options = [str(option) for option in data[choice].dropna().unique()]
        options.sort(key=lambda option: (option not in ("study", "lungs", "spect", *METRIC_NAMES), option))
        if len(options) > 1:
            rows += [(choice, None), *((choice, option) for option in options)]
    return rows


def _fill(
    places: np.ndarray,
    blocks: Sequence[Sequence[tuple[str, str, str]]],
    data: pd.DataFrame,
    rows: Sequence[tuple[str, str | None]],
    look: Look,
) -> None:
    for number, block in enumerate(blocks):
        for column, axes in enumerate(places[2 * number]):
            below = places[2 * number + 1, column]
            if column >= len(block):
                axes.set_visible(False)
                below.set_visible(False)
                continue
            first, second, target = block[column]
            here = data[(data["first"] == first) & (data["second"] == second) & (data["target"] == target)]
            _effects(axes, here, look, first, second)
            title(axes, f"{NAMES_OF_TARGETS[target]}: {look.short(first, 14)} − {look.short(second, 14)}")
            _matrix(below, here, rows, look, first, second, named=column == 0)
    for axes in places[::2, 0]:
        axes.set_ylabel("difference (no unit)")


def _effects(axes: Axes, data: pd.DataFrame, look: Look, first: str, second: str) -> None:
    axes.axhline(0, color=DARK, linewidth=0.7, zorder=1)
    pixels = len(data) > MOST_VECTOR_POINTS
    for chosen, style in _coloured(data, look, first, second):
        known = chosen[np.isfinite(chosen[["low", "high"]].to_numpy(float)).all(axis=1)]
        _, y = joined([0, 1], known[["low", "high"]].to_numpy(float))
        x = np.repeat(known["place"].to_numpy(float), 3)
        axes.plot(x, y, linewidth=0.8, rasterized=pixels, zorder=2, **style)
        dots(axes, chosen["place"], chosen["effect"], markersize=2.2, zorder=3, **style)
    _own(axes, data)
    low, high = axes.get_ylim()
    axes.set(xlim=(-1, len(data)), ylim=(low, high + 0.15 * (high - low)))
    axes.tick_params(labelbottom=False, bottom=False)
    axes.grid(False, axis="x")
    axes.text(
        0.01, 0.98, _counts(data, look, first, second), transform=axes.transAxes, va="top", fontsize=SMALLEST_TEXT
    )


def _counts(data: pd.DataFrame, look: Look, first: str, second: str) -> str:
    """How many combinations against SPECT favour each model, and in brackets how many of them clearly.

    The truth is another question than SPECT, not another choice: its combinations are drawn, and counted on the page.
    """
    here, parts = data[data["reference"] == "spect"], []
    for side, model in (("first", first), ("second", second)):
        ahead = here[here["favours"] == side]
        parts.append(f"{look.short(model, 14)}: {len(ahead)} ({(ahead['clear'] == 'yes').sum()})")
    return f"of {len(here)} favour {', '.join(parts)}"


def _own(axes: Axes, data: pd.DataFrame) -> None:
    for place in data.loc[data["own"] == "yes", "place"]:
        axes.axvline(place, color=MIDDLE, linestyle="--", linewidth=0.6, zorder=0)


def _matrix(
    axes: Axes,
    data: pd.DataFrame,
    rows: Sequence[tuple[str, str | None]],
    look: Look,
    first: str,
    second: str,
    *,
    named: bool,
) -> None:
    for place, (choice, option) in enumerate(rows):
        if option is None:
            axes.axhline(place, color="#e3e3e3", linewidth=0.5)
            continue
        for chosen, style in _coloured(data[data[choice] == option], look, first, second):
            axes.plot(
                chosen["place"],
                np.full(len(chosen), place),
                linestyle="",
                marker="|",
                markersize=4.5,
                markeredgewidth=0.9,
                rasterized=len(data) > MOST_VECTOR_POINTS,
                **style,
            )
    _own(axes, data)
    axes.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)))
    axes.set_yticklabels([_row_name(*row) for row in rows] if named else [])
    for label, (_, option) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if option is None else "normal")
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(False)


def _row_name(choice: str, option: str | None) -> str:
    return CHOICES[choice] if option is None else NAMES.get(option, option.replace("_", " "))


def _coloured(data: pd.DataFrame, look: Look, first: str, second: str) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    """The rows that favour each model with their colour, which is pale where the interval holds 0."""
    for side, colour in {"neither": NEITHER, "first": look.colour(first), "second": look.colour(second)}.items():
        for clear, alpha in (("no", PALE_ALPHA), ("yes", 1.0)):
            chosen = data[(data["favours"] == side) & (data["clear"] == clear)]
            if len(chosen):
                yield chosen, {"color": colour, "alpha": alpha}


def _legend(data: pd.DataFrame, look: Look) -> list[Line2D]:
    favoured = {
        row.first if row.favours == "first" else row.second for row in data.itertuples() if row.favours != "neither"
    }
    style = {"linestyle": "", "marker": "o", "markersize": 4}
    handles = [
        Line2D([], [], color=look.colour(model), label=f"favours {look.label(model)}", **style)
        for model in look.sorted(favoured)
    ]
    return [*handles, Line2D([], [], color=NEITHER, label="neither", **style)]

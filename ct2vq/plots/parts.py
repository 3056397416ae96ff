"""What the figures share: panels, legends, points with intervals, texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ct2vq.config import TARGETS
from ct2vq.figures import DARK, MIDDLE, SMALLEST_TEXT, TARGET_NAMES, Look

#: more points than this are pixels in PDF and SVG, which would else be slow to open
MOST_VECTOR_POINTS = 2000
NAMES_OF_TARGETS = TARGET_NAMES | {"vq": "V and Q"}


def present_targets(table: pd.DataFrame) -> list[str]:
    """Targets that a table has, in the project's order."""
    return [target for target in (*TARGETS, "vq") if (table["target"] == target).any()]


def panels(figure: Figure, number: int, columns: int, **kwargs: object) -> list[Axes]:
    """Axes in rows of at most `columns`; the places that are left over stay empty."""
    columns = min(columns, number)
    rows = -(-number // columns)
    axes = list(figure.subplots(rows, columns, squeeze=False, **kwargs).flat)
    for empty in axes[number:]:
        empty.set_visible(False)
    return axes[:number]


def title(axes: Axes, text: str, beside: str = "") -> None:
    """A panel's title, left-aligned, and a result at its right end."""
    axes.set_title(text, loc="left")
    if beside:
        axes.set_title(beside, loc="right", fontsize=SMALLEST_TEXT)


def outer_labels(axes: Sequence[Axes], columns: int, x: str, y: str) -> None:
    """Names of axes and ticks only at the left and below the lowest of a grid of panels that share them."""
    columns = min(columns, len(axes))
    for number, one in enumerate(axes):
        first, lowest = number % columns == 0, number + columns >= len(axes)
        one.set(xlabel=x if lowest else "", ylabel=y if first else "")
        one.tick_params(labelbottom=lowest, labelleft=first)


def legend(figure: Figure, handles: Sequence[Line2D | Patch]) -> None:
    """A legend above all panels; nothing if there is nothing to explain."""
    if not handles:
        return
    longest = max(len(str(handle.get_label())) for handle in handles)
    letters = figure.get_size_inches()[0] * 17
    columns = int(np.clip(letters // (longest + 7), 1, len(handles)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.4)


def model_line(look: Look, model: str, **kwargs: object) -> Line2D:
    """A legend's entry for a model that is a line."""
    return Line2D([], [], color=look.colour(model), linestyle=look.line(model), label=look.label(model), **kwargs)


def model_marker(look: Look, model: str) -> Line2D:
    """A legend's entry for a model that is a marker."""
    return Line2D(
        [], [], color=look.colour(model), linestyle="", marker=look.marker(model), markersize=4, label=look.label(model)
    )


def dots(axes: Axes, x: np.ndarray, y: np.ndarray, **kwargs: object) -> None:
    """Points without a line, as pixels where they are many."""
    style = {"linestyle": "", "marker": "o", "markeredgewidth": 0, "rasterized": len(x) > MOST_VECTOR_POINTS}
    axes.plot(x, y, **(style | kwargs))


def box(axes: Axes, place: float, values: np.ndarray, colour: str, width: float = 0.55) -> None:
    """A box plot of Tukey's kind (quartiles, median, whiskers to the last value within 1.5 interquartile ranges)."""
    if not len(values):
        return
    low, median, high = np.percentile(values, [25, 50, 75])
    reach = 1.5 * (high - low)
    least, most = values[values >= low - reach].min(), values[values <= high + reach].max()
    half = width / 2
    corners = {"facecolor": colour, "alpha": 0.35, "edgecolor": colour, "linewidth": 0.7, "zorder": 3}
    axes.add_patch(Rectangle((place - half, low), width, high - low, **corners))
    x = [place, place, np.nan, place, place, np.nan, place - half / 2, place + half / 2, np.nan]
    y = [least, low, np.nan, high, most, np.nan, least, least, np.nan]
    axes.plot([*x, *x[6:8]], [*y, most, most], color=colour, linewidth=0.7, zorder=3)
    axes.plot([place - half, place + half], [median] * 2, color=DARK, linewidth=1.1, solid_capstyle="butt", zorder=3)


def interval(axes: Axes, place: float, low: float, high: float, *, across: bool, **kwargs: object) -> None:
    """A confidence interval as a line: along x if `across`, else along y; nothing if it is not known."""
    if np.isfinite([low, high]).all():
        x, y = ([low, high], [place, place]) if across else ([place, place], [low, high])
        axes.plot(x, y, **({"linewidth": 1.0, "solid_capstyle": "butt"} | kwargs))


def dot_rows(
    axes: Axes, rows: Sequence[pd.DataFrame], look: Look, models: Sequence[str], value: str, ends: str
) -> None:
    """Rows of points with intervals, a point for each model.

    Args:
        axes: an empty panel; the first row stands on top.
        rows: the numbers of each row, with a column `model`.
        look: colours and markers.
        models: side by side in every row.
        value: column of the points.
        ends: columns of the intervals, with `{}` for `low` and `high`.
    """
    for place, row in enumerate(rows):
        for offset, model in zip(spread(len(models), 0.8), models, strict=True):
            for found in row[row["model"] == model].to_dict("records"):
                ends_of = [found[ends.format(end)] for end in ("low", "high")]
                style = {"color": look.colour(model)}
                interval(axes, place + offset, *ends_of, across=True, **style)
                axes.plot([found[value]], [place + offset], marker=look.marker(model), linestyle="", **style)
    for place in range(1, len(rows)):
        axes.axhline(place - 0.5, color="#e3e3e3", linewidth=0.5)
    axes.set(ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)))
    axes.grid(False, axis="y")


def spread(number: int, width: float) -> np.ndarray:
    """Offsets that place `number` marks side by side within `width` of one place."""
    return (np.arange(number) - (number - 1) / 2) * width / max(number, 1)


def jitter(number: int, width: float) -> np.ndarray:
    """Offsets within ±`width` / 2 that look random and are the same every time (the golden ratio's multiples)."""
    return ((np.arange(number) * 0.6180339887498949) % 1 - 0.5) * width


def say(axes: Axes, text: str) -> None:
    """A panel that says why it shows nothing."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=MIDDLE, fontsize=SMALLEST_TEXT)
    axes.set(xticks=[], yticks=[])


def joined(x: Sequence[float], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Many broken lines over the same `x` as one line with gaps, which is far faster to draw.

    Args:
        x: places, `(points,)`.
        rows: one line a row, `(lines, points)`.

    Returns:
        `x` and `y` of the line, missing values between the rows.
    """
    gap = np.full((len(rows), 1), np.nan)
    return np.hstack([np.tile(np.asarray(x, float), (len(rows), 1)), gap]).ravel(), np.hstack([rows, gap]).ravel()


def p_text(p: float) -> str:
    """A p value as figures say it, never zero."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"

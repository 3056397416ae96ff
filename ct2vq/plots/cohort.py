"""The cohort's flow from the cases listed, through each exclusion, to targets and folds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from ct2vq.figures import Look, hide_axes, study_figure

COLUMNS = ("step", "name", "cases", "reason")
#: text of the boxes at the drawing's own width of 8.2, which is scaled to the figure's
DRAWN_WIDTH = 8.2
SIZE, SMALL_SIZE = 8.0, 7.0


def draw_cohort(flow: Mapping[str, Any], folds: Mapping[int, int], output: str | Path, look: Look) -> None:
    """Boxes from the cases listed, through each exclusion, to targets and folds.

    Args:
        flow: `listed`, `exclusions` (rows of case, stage, reason), `analysed`, `patients` and `targets` (number of
            cases for each).
        folds: number of cases of each fold.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: colours and settings.
    """
    excluded = [f"{row['case_id']}: {row['reason']} ({row['stage']})" for row in flow["exclusions"]]
    lines = _wrapped(excluded, 48)
    side = 0.55 + 0.15 * len(lines)
    gap = max(0.45, side - 0.25)
    height = 0.6 + gap + 0.6 + 0.45 + 0.5 + 0.55 + 0.5 + 0.3
    with study_figure(output, height * look.width / DRAWN_WIDTH + 0.3, look, flow_table(flow, folds)) as figure:
        axes = figure.add_subplot()
        hide_axes(axes)
        axes.set(xlim=(0, DRAWN_WIDTH), ylim=(0, height))
        listed, analysed = height - 0.35, height - 0.35 - 0.6 - gap
        _box(
            axes, 2.6, listed, 3.0, 0.5, [f"{flow['listed']} {'simulated cases' if look.simulated else 'cases listed'}"]
        )
        kept = f"{flow['analysed']} cases of {flow['patients']} patients analysed"
        _box(axes, 2.6, analysed, 3.4, 0.5, [kept], "#dcecdf")
        _arrow(axes, (2.6, listed - 0.25), (2.6, analysed + 0.25))
        middle = (listed + analysed) / 2
        heading = f"{len({row['case_id'] for row in flow['exclusions']})} excluded"
        _box(axes, 6.2, middle, 3.8, side - 0.2, [heading, *lines], "#f7e6dc", left=True)
        _arrow(axes, (2.6, middle), (4.3, middle))
        targets = [f"{target}: {number} cases" for target, number in flow["targets"].items()]
        bottom = _row(axes, analysed - 0.25, targets, "#e8eef4", arrows=True)
        said = "cases in each test fold; no patient is in two folds"
        axes.text(0.2, bottom - 0.32, said, va="center", fontsize=SMALL_SIZE)
        texts = [f"fold {number}: {cases}" for number, cases in sorted(folds.items())]
        _row(axes, bottom - 0.1, texts, "#f2f2f2", arrows=False)


def flow_table(flow: Mapping[str, Any], folds: Mapping[int, int]) -> pd.DataFrame:
    """The boxes' numbers."""
    rows = [("listed", "", flow["listed"], "")]
    rows += [(f"excluded at {row['stage']}", row["case_id"], 1, row["reason"]) for row in flow["exclusions"]]
    rows += [("analysed", "", flow["analysed"], ""), ("patients", "", flow["patients"], "")]
    rows += [("target", target, number, "") for target, number in flow["targets"].items()]
    rows += [("fold", number, cases, "") for number, cases in sorted(folds.items())]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    return [piece for line in lines for piece in textwrap.wrap(line, width, subsequent_indent="    ")]


def _row(axes: Axes, top: float, texts: Sequence[str], colour: str, *, arrows: bool) -> float:
    """A row of boxes below `top`, joined to it by arrows if wanted; returns the boxes' lower edge."""
    centre, width = top - 0.7, min(2.4, 7.8 / max(len(texts), 1) - 0.12)
    size = SIZE if width > 1.1 else SMALL_SIZE
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
    colour: str = "#e8eef4",
    *,
    left: bool = False,
    size: float = SIZE,
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
    axes.text(y=y, s="\n".join(lines), va="center", fontsize=SMALL_SIZE if left else size, **place)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "#555555", "linewidth": 1.0})

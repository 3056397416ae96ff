"""Distributions of the figures of registration quality over the cohort."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ct2vq.figures import DARK, MIDDLE, NETWORK_COLOURS, PALE, Look, draw_missing, study_figure
from ct2vq.plots.parts import box, dots, jitter, joined, legend, panels, title

COLUMNS = ("panel", "figure", "target", "case_id", "value", "unit", "below", "above")
#: panels, and the figures of `results/register/quality.tsv` side by side in each
PANELS: Mapping[str, Mapping[str, str]] = {
    "lung Dice": {"dice_before": "before", "dice_after": "after"},
    "lung detail (correlation)": {"lung_detail_before": "before", "lung_detail_after": "after"},
    "mutual information (nat)": {"mutual_information_before": "before", "mutual_information_after": "after"},
    "landmark error (mm)": {"tre_mean_before_mm": "before", "tre_mean_after_mm": "after"},
    "counts inside the lungs": {"counts_inside_before": "before", "counts_inside_after": "after"},
    "activity off lungs (mm)": {"content_shift_mm": "shift"},
    "displacement p95 (mm)": {"displacement_p95_mm": "p95"},
    "inverse error p95 (mm)": {"inverse_consistency_p95_mm": "p95"},
    "Jacobian": {"jacobian_p1": "1st", "jacobian_p99": "99th"},
    "folded share (%)": {"folding_percent": "share"},
}
COLUMNS_OF_PANELS = 4
LIMIT = "#D55E00"
TARGET_COLOURS = {"perfusion": NETWORK_COLOURS[0], "ventilation": NETWORK_COLOURS[2]}


def draw_registration(
    quality: pd.DataFrame, output: str | Path, look: Look, *, limits: Mapping[str, float | None]
) -> None:
    """A panel for each figure of quality: boxes and points are registrations, lines join before and after.

    Args:
        quality: the table of `results/register/quality.tsv`.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: settings.
        limits: `register.flags`: `<figure>_below` and `<figure>_above`, beyond which a case is flagged.
    """
    data = figures_of(quality, limits)
    shown = [panel for panel in PANELS if (data["panel"] == panel).any()]
    if not shown:
        draw_missing(output, look, COLUMNS, "the quality of the registrations", "No figure of quality was measured.")
        return
    cases = data["case_id"].nunique()
    note = f"points are registrations ({cases} cases), boxes quartiles; flagged cases are never dropped"
    rows = -(-len(shown) // COLUMNS_OF_PANELS)
    with study_figure(output, 1.75 * rows + 0.6, look, data, note) as figure:
        for axes, panel in zip(panels(figure, len(shown), COLUMNS_OF_PANELS), shown, strict=True):
            _panel(axes, data[data["panel"] == panel], PANELS[panel])
            title(axes, panel)
        legend(figure, _legend(data))


def figures_of(quality: pd.DataFrame, limits: Mapping[str, float | None]) -> pd.DataFrame:
    """The figures drawn, with their limits."""
    panel_of = {name: panel for panel, names in PANELS.items() for name in names}
    data = quality.rename(columns={"metric": "figure"})
    data = data.assign(panel=data["figure"].map(panel_of), value=data["value"].astype(float))
    for side in ("below", "above"):
        of_figure = {name: limits.get(f"{name}_{side}") for name in panel_of}
        data[side] = data["figure"].map({name: limit for name, limit in of_figure.items() if limit is not None})
    return data.dropna(subset=["panel", "value"]).reindex(columns=COLUMNS)


def _panel(axes: Axes, data: pd.DataFrame, names: Mapping[str, str]) -> None:
    present = [name for name in names if (data["figure"] == name).any()]
    data = data.assign(target=data["target"].fillna(""))
    wide = data.pivot(index=["case_id", "target"], columns="figure", values="value").reindex(columns=present)
    axes.plot(*joined(range(len(present)), wide.to_numpy()), color=PALE, linewidth=0.4, zorder=1)
    for place, name in enumerate(present):
        values = wide[name].dropna()
        box(axes, place, values.to_numpy(), MIDDLE, width=0.5)
        x = place + jitter(len(values), 0.3) * (len(present) == 1)
        for target in np.unique(values.index.get_level_values("target")):
            chosen = values.index.get_level_values("target") == target
            at = np.broadcast_to(x, len(values))[chosen]
            dots(axes, at, values[chosen], color=TARGET_COLOURS.get(target, DARK), markersize=2.2, alpha=0.8, zorder=4)
        _limits(axes, place, data[data["figure"] == name].iloc[0])
    axes.set_xticks(range(len(present)), [names[name] for name in present])
    axes.set_xlim(-0.6, len(present) - 0.4)
    if not data["value"].any():
        axes.set_ylim(-0.05, 1)
    axes.grid(False, axis="x")


def _limits(axes: Axes, place: float, row: pd.Series) -> None:
    for limit in row[["below", "above"]].dropna():
        axes.plot([place - 0.4, place + 0.4], [limit, limit], color=LIMIT, linestyle="--", linewidth=1.1, zorder=5)


def _legend(data: pd.DataFrame) -> list[Line2D]:
    style = {"linestyle": "", "marker": "o", "markersize": 4}
    handles = (
        [Line2D([], [], color=DARK, label="CT and attenuation CT", **style)] if data["target"].isna().any() else []
    )
    for target, colour in TARGET_COLOURS.items():
        if (data["target"] == target).any():
            handles.append(Line2D([], [], color=colour, label=f"{target} SPECT", **style))
    if data[["below", "above"]].notna().any(axis=None):
        handles.append(Line2D([], [], color=LIMIT, linestyle="--", label="limit of a flag"))
    return handles

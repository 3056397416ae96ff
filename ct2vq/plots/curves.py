"""ROC and precision-recall curves of the detection of low function, by voxels, regions and cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ct2vq.config import TARGETS
from ct2vq.figures import PALE, Look, draw_missing, study_figure
from ct2vq.plots.parts import NAMES_OF_TARGETS, legend, model_line, outer_labels, panels, title

COLUMNS = (
    "level",
    "target",
    "definition",
    "model",
    "threshold",
    "x",
    "y",
    "area",
    "area_low",
    "area_high",
    "prevalence",
)
#: which columns are x and y of a kind of curve, and which column of the table of detection is the area below it
KINDS = {"roc": ("fpr", "tpr", "auroc"), "precision_recall": ("recall", "precision", "auprc")}
AXES = {
    "roc": ("1 − specificity", "sensitivity"),
    "precision_recall": ("recall (sensitivity)", "precision (PPV)"),
}
NAMES = {"roc": "AUROC", "precision_recall": "AUPRC"}
COLUMNS_OF_PANELS = 4
#: height below a panel for each of its numbers, of 1 for the panel
NUMBER_ROOM = 0.1
LEVELS = {"voxel": "voxels", "region": "regions", "case": "cases"}
#: what a curve is scored against; the truth of simulated cases stands in the tables only
REFERENCES = ("spect", "diagnosis")


def draw_curves(roc: pd.DataFrame, detection: pd.DataFrame, output: str | Path, look: Look, *, kind: str) -> None:
    """A panel for each level, definition and target; a line for each model, with the area below it in the legend.

    Args:
        roc: points of all curves.
        detection: areas with confidence intervals, and prevalence.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
        kind: `roc` or `precision_recall`.
    """
    data = curve_points(roc, detection, kind)
    found = list(_headings(data))
    if not found:
        draw_missing(output, look, COLUMNS, f"the {NAMES[kind]} curves", "No patient or no class could be told apart.")
        return
    note = f"numbers: {NAMES[kind]} of networks and SPECT (interval: patients drawn again); "
    note += "grey: no discrimination" if kind == "roc" else "grey: everything called low or ill (the prevalence)"
    for arm in [model for model in look.sorted(data["model"]) if look.is_network(model) and model not in look.networks]:
        note += f"; cases need both images: {look.label(arm)} are the networks of both targets together"
    rows = -(-len(found) // COLUMNS_OF_PANELS)
    room = NUMBER_ROOM * max(len(_numbered(points, look)) for _, points in found)
    with study_figure(output, (2.1 + 1.35 * room) * rows + 0.75, look, data, note) as figure:
        places = panels(figure, len(found), COLUMNS_OF_PANELS)
        for axes, (heading, points) in zip(places, found, strict=True):
            _panel(axes, points, look, kind, room)
            title(axes, heading)
        outer_labels(places, COLUMNS_OF_PANELS, *AXES[kind])
        legend(figure, _legend(look, look.sorted(data["model"])))


def _legend(look: Look, models: Sequence[str]) -> list[Line2D]:
    """An entry for each look of a line: networks of one target share theirs with the pair that both make."""
    named: dict[tuple[str, str], list[str]] = {}
    for model in models:
        named.setdefault((look.colour(model), look.line(model)), []).append(model)
    handles = [model_line(look, alike[0]) for alike in named.values()]
    for handle, alike in zip(handles, named.values(), strict=True):
        handle.set_label(" / ".join(look.label(model) for model in alike))
    return handles


def curve_points(roc: pd.DataFrame, detection: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Points of the curves with the areas below them, in the order of the panels."""
    x, y, area = KINDS[kind]
    keys = ["level", "target", "definition", "model", "reference"]
    areas = detection[[*keys, area, f"{area}_low", f"{area}_high", "prevalence"]]
    areas = areas.rename(columns={area: "area", f"{area}_low": "area_low", f"{area}_high": "area_high"})
    points = roc[roc["reference"].isin(REFERENCES)].assign(x=roc[x], y=roc[y])
    points = points.merge(areas, on=keys, how="left")
    return points.dropna(subset=["x", "y"]).reindex(columns=COLUMNS)


def _headings(data: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Heading and points of each panel; perfusion stands on the left and ventilation on the right."""
    for level, what in LEVELS.items():
        of_level = data[data["level"] == level]
        for definition in of_level["definition"].unique():
            for target in (*TARGETS, "vq"):
                chosen = of_level[(of_level["definition"] == definition) & (of_level["target"] == target)]
                if len(chosen):
                    who = "" if target == "vq" else f"{NAMES_OF_TARGETS[target]}, "
                    yield f"{who}{what}:\n{str(definition).replace('_', ' ')}", chosen


def _numbered(points: pd.DataFrame, look: Look) -> list[str]:
    """Models whose area is told in the panel."""
    return [model for model in look.sorted(points["model"]) if model == "spect" or look.is_network(model)]


def _panel(axes: Axes, points: pd.DataFrame, look: Look, kind: str, room: float) -> None:
    """Curves over the unit square, numbers below it."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.03 - room, 1.02), aspect="equal")
    axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.spines["left"].set_bounds(0, 1)
    prevalence = points["prevalence"].dropna()
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.8, zorder=0)
    elif len(prevalence):
        axes.axhline(prevalence.iloc[0], color=PALE, linewidth=0.8, zorder=0)
    curves = dict(list(points.groupby("model", sort=False)))
    numbered = _numbered(points, look)
    for model in look.sorted(curves):
        curve = curves[model]
        axes.plot(
            curve["x"],
            curve["y"],
            color=look.colour(model),
            linestyle=look.line(model),
            # what lies below an equal curve shows beside it
            linewidth=2.0 if [model] == numbered[:1] else 1.2,
            label=_area(curve.iloc[0]) if model in numbered else None,
        )
    if numbered:
        short = {"handlelength": 1.0, "handletextpad": 0.4, "labelspacing": 0.15, "borderpad": 0.1}
        axes.legend(loc="lower left", **short)


def _area(row: pd.Series) -> str:
    if not np.isfinite(row["area"]):
        return "not computed"
    known = np.isfinite([row["area_low"], row["area_high"]]).all()
    return f"{row['area']:.2f}" + (f" ({row['area_low']:.2f}–{row['area_high']:.2f})" if known else "")

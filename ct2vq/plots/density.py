"""Synthesised against SPECT values of all lung voxels: joint histograms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ct2vq.config import TARGETS
from ct2vq.evaluate.curves import DENSITY_BINS
from ct2vq.figures import Look, draw_missing, study_figure
from ct2vq.plots.parts import NAMES_OF_TARGETS, title

COLUMNS = ("target", "model", "image_bin", "reference_bin", "image", "reference", "voxels", "share")
COLUMNS_OF_PANELS = 4
#: equal steps of lightness for every reader, colour-blind ones too (Nunez et al., PLoS One 2018;13:e0199239)
COLOURS = "cividis"


def read_density(paths: list[str | Path]) -> pd.DataFrame:
    """Sum of the cases' histograms; every patient counts by their voxels.

    Args:
        paths: `results/evaluate/density/<case>.tsv`.

    Returns:
        Columns `model target image_bin reference_bin voxels`.
    """
    keys = ["model", "target", "image_bin", "reference_bin"]
    tables = [pd.read_csv(path, sep="\t", usecols=[*keys, "voxels"]) for path in paths]
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame(columns=[*keys, "voxels"])
    return pd.concat(tables, ignore_index=True).groupby(keys, as_index=False, sort=False)["voxels"].sum()


def draw_density(density: pd.DataFrame, output: str | Path, look: Look, *, bins: int = DENSITY_BINS) -> None:
    """A panel for each target and model: colour is the share of lung voxels on a logarithmic scale.

    Args:
        density: numbers of voxels of all cases (`read_density`).
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
        bins: number of bins between 0 and 1.
    """
    data = _shares(density[density["model"].isin(list(look.labels))], bins)
    found = [
        (target, model)
        for target in TARGETS
        for model in look.order
        if ((data["target"] == target) & (data["model"] == model)).any()
    ]
    if not found:
        draw_missing(output, look, COLUMNS, "the values of all voxels", "No case was evaluated.")
        return
    rows = _rows(found)
    columns = max(map(len, rows))
    side = min((look.width - 1.1) / columns, 2.2)
    note = (
        f"shares of lung voxels of all cases in {bins} × {bins} bins; 1 is the SPECT's reference in the lungs, beyond "
    )
    note += "which values are clipped; line: identity"
    with study_figure(output, len(rows) * (side + 0.35) + 0.4, look, data, note) as figure:
        _draw(figure, rows, columns, data, look, bins)


def _rows(found: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Targets and models in rows of panels; a new row for each target, unless there is one model only."""
    if len({model for _, model in found}) == 1:
        return [found]
    rows = []
    for target in TARGETS:
        here = [item for item in found if item[0] == target]
        rows += [here[first : first + COLUMNS_OF_PANELS] for first in range(0, len(here), COLUMNS_OF_PANELS)]
    return rows


def _shares(density: pd.DataFrame, bins: int) -> pd.DataFrame:
    """The bins' centres, and their voxels as a share of all of a model and target."""
    keys = ["target", "model", "image_bin", "reference_bin"]
    data = density.groupby(keys, as_index=False, sort=False)["voxels"].sum().sort_values(keys, ignore_index=True)
    data["image"] = (data["image_bin"] + 0.5) / bins
    data["reference"] = (data["reference_bin"] + 0.5) / bins
    data["share"] = data["voxels"] / data.groupby(["target", "model"])["voxels"].transform("sum")
    return data.reindex(columns=COLUMNS)


def _draw(
    figure: Figure, rows: list[list[tuple[str, str]]], columns: int, data: pd.DataFrame, look: Look, bins: int
) -> None:
    scale = LogNorm(max(float(data["share"].min()), 1e-7), float(data["share"].max()))
    places = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    mesh = None
    for number, row in enumerate(rows):
        one_target = len({target for target, _ in row}) == 1
        for axes in places[number, len(row) :]:
            axes.set_visible(False)
        for axes, (target, model) in zip(places[number], row, strict=False):
            chosen = data[(data["target"] == target) & (data["model"] == model)]
            mesh = _panel(axes, chosen, scale, bins)
            title(axes, look.short(model, 22) if one_target else NAMES_OF_TARGETS[target])
        places[number, 0].set_ylabel(f"{NAMES_OF_TARGETS[row[0][0]] if one_target else look.short(row[0][1])}\nSPECT")
    for column in range(columns):
        lowest = max(number for number, row in enumerate(rows) if len(row) > column)
        places[lowest, column].set_xlabel("synthesised")
        places[lowest, column].tick_params(labelbottom=True)
    bar = figure.colorbar(mesh, ax=list(places.flat), shrink=0.7, aspect=30, pad=0.01)
    bar.set_label("share of lung voxels")


def _panel(axes: Axes, data: pd.DataFrame, scale: LogNorm, bins: int) -> object:
    counts = np.full((bins, bins), np.nan)
    counts[data["reference_bin"].astype(int), data["image_bin"].astype(int)] = data["share"]
    edges = np.linspace(0, 1, bins + 1)
    mesh = axes.pcolormesh(edges, edges, counts, norm=scale, cmap=COLOURS, rasterized=True)
    axes.plot([0, 1], [0, 1], color="#d55e00", linewidth=0.9)
    axes.set(aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.grid(False)
    return mesh

"""Training curves of every network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ct2vq.figures import DARK, MIDDLE, Look, draw_missing, study_figure
from ct2vq.files import read_tsv
from ct2vq.plots.parts import legend, title

COLUMNS = ("model", "fold", "epoch", "loss", "validation_loss", "validation_spearman")
COLUMNS_OF_PANELS = 4


def read_histories(paths: Sequence[str | Path]) -> pd.DataFrame:
    """The histories of all trainings with columns `model` and `fold`.

    Args:
        paths: `results/train/<model>/fold<k>/history.tsv`.
    """
    tables = [
        read_tsv(path).assign(model=Path(path).parts[-3], fold=int(Path(path).parts[-2].removeprefix("fold")))
        for path in paths
    ]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return table.reindex(columns=COLUMNS)


def draw_training(histories: pd.DataFrame, output: str | Path, look: Look) -> None:
    """Loss over epochs, and validation Rs if it was measured: a column for each network, a thin line for each fold.

    Args:
        histories: as `read_histories` returns it.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
    """
    models = [model for model in look.networks if (histories["model"] == model).any()]
    if not models:
        draw_missing(output, look, COLUMNS, "training curves", "The study has no network.")
        return
    blocks = [models[first : first + COLUMNS_OF_PANELS] for first in range(0, len(models), COLUMNS_OF_PANELS)]
    columns = max(map(len, blocks))
    measured = histories["validation_spearman"].notna().any()
    lines = ("loss", "validation Rs")[: 1 + measured]
    note = "thin lines: folds, thick lines: their mean"
    note += "; Rs: Spearman's, of the validation patients" if measured else "; no patient was kept for validation"
    with study_figure(output, 1.6 * len(lines) * len(blocks) + 0.6, look, histories, note) as figure:
        rows = figure.subplots(len(lines) * len(blocks), columns, squeeze=False, sharex=True)
        for number, block in enumerate(blocks):
            panels = rows[len(lines) * number : len(lines) * (number + 1)]
            for axes in panels[:, len(block) :].flat:
                axes.set_visible(False)
            for column, model in enumerate(block):
                _column(panels[:, column], histories[histories["model"] == model], look, model)
            for axes, name in zip(panels[:, 0], lines, strict=True):
                axes.set_ylabel(name)
        legend(figure, _legend(histories))


def _column(panels: Sequence[Axes], folds: pd.DataFrame, look: Look, model: str) -> None:
    """The loss, and below it Rs where patients were kept for validation."""
    loss, *agreement = panels
    curves(loss, folds, "loss", look.colour(model), "-")
    curves(loss, folds, "validation_loss", DARK, "--")
    for axes in agreement:
        curves(axes, folds, "validation_spearman", DARK, "--")
    title(loss, look.short(model, 24))
    lowest = panels[-1]
    lowest.set_xlabel("epoch")
    lowest.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    lowest.tick_params(labelbottom=True)


def curves(axes: Axes, folds: pd.DataFrame, column: str, colour: str, line: str) -> None:
    """A thin line for each fold and a thick one for their mean; nothing if nothing was measured."""
    known = folds.dropna(subset=[column])
    for _, fold in known.groupby("fold"):
        axes.plot(fold["epoch"], fold[column], color=colour, linestyle=line, linewidth=0.5, alpha=0.5)
    mean: pd.Series = known.groupby("epoch")[column].mean()
    if len(mean):
        marker = "o" if len(mean) == 1 else None
        axes.plot(mean.index, mean.to_numpy(), color=colour, linestyle=line, linewidth=1.5, marker=marker)


def _legend(histories: pd.DataFrame) -> list[Line2D]:
    names: Mapping[str, str] = {"-": "training (in the network's colour)"}
    if histories[["validation_loss", "validation_spearman"]].notna().any(axis=None):
        names = {**names, "--": "validation"}
    return [
        Line2D([], [], color=MIDDLE if line == "-" else DARK, linestyle=line, label=label)
        for line, label in names.items()
    ]

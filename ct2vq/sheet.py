"""Figures of many images on one sheet: axes that cover the figure and measure inches from its top left corner.

Axes cost more than what is drawn in them, so a figure of thirty images has one. A box is `(left, top, width, height)`
in inches.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from ct2vq.figures import hide_axes

Box = tuple[float, float, float, float]

HALO = [patheffects.withStroke(linewidth=1.6, foreground="black")]
LINE = {"color": "#333333", "linewidth": 0.8}


def new_sheet(drawing: Figure) -> Axes:
    """The sheet of a figure."""
    width, height = drawing.get_size_inches()
    sheet = drawing.add_axes((0, 0, 1, 1))
    sheet.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    hide_axes(sheet)
    return sheet


def show(sheet: Axes, rgb: np.ndarray, box: Box, title: str = "", letters: tuple[str, str] | None = None) -> None:
    """Show an RGB image `(row, column, 3)` in a box, its title above it and the letters of its sides in its corners."""
    left, top, width, height = box
    rgb = (255 * np.clip(rgb, 0, 1) + 0.5).astype(np.uint8)  # floats take matplotlib several times as long
    # the sheet's rows run downwards
    sheet.imshow(rgb, extent=(left, left + width, top + height, top), interpolation="antialiased", aspect="auto")
    if title:
        sheet.text(left + width / 2, top - 0.04, title, ha="center", va="bottom", fontsize=8.5)
    for x, letter, side in zip((0.04, width - 0.04), letters or (), ("left", "right"), strict=False):
        sheet.text(left + x, top + 0.05, letter, ha=side, va="top", color="white", fontsize=8, path_effects=HALO)


def outline(sheet: Axes, share: np.ndarray, box: Box, colour: str = "white", width: float = 0.6) -> None:
    """Draw where the share of a structure `(row, column)` in an image in a box passes one half."""
    if not (share.min() < 0.5 < share.max()):
        return
    left, top, wide, tall = box
    rows, columns = share.shape
    x = left + (np.arange(columns) + 0.5) * wide / columns
    y = top + (np.arange(rows) + 0.5) * tall / rows
    sheet.contour(x, y, share, levels=[0.5], colors=[colour], linewidths=width)


def colour_bar(sheet: Axes, colours: Colormap, box: Box, ticks: Mapping[float, str], words: str) -> None:
    """A horizontal colour bar in a box; `ticks` are texts by their share of its length, `words` stand below."""
    left, top, width, height = box
    gradient = colours(np.linspace(0, 1, 256))[None, :, :3]
    sheet.imshow(gradient, extent=(left, left + width, top + height, top), aspect="auto")
    # a frame: the bar's upper end may be as white as the paper
    sheet.plot(left + width * np.array([0, 1, 1, 0, 0]), top + height * np.array([0, 0, 1, 1, 0]), **LINE)
    for share, text in ticks.items():
        x = left + share * width
        sheet.plot([x, x], [top + height, top + height + 0.04], **LINE)
        sheet.text(x, top + height + 0.06, text, ha="center", va="top", fontsize=7)
    sheet.text(left + width / 2, top + height + 0.2, words, ha="center", va="top", fontsize=7.5)

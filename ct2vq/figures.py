"""One look for all figures: style, colours, and a way of writing that gives the same bytes for the same content.

No pyplot: figures are plain objects without global state, drawn with Agg.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from ct2vq.errors import ConfigError
from ct2vq.files import replacing

#: DejaVu comes with matplotlib, so text looks the same on every machine
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#555555",
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "ct2vq",
}
#: distinguishable with every common colour blindness (Okabe & Ito 2008, Wong, Nat Methods 2011;8:441)
NETWORK_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
BASELINE_COLOURS = ("#8c8c8c", "#bdbdbd", "#6b6b6b")
#: the order of colours that readers of nuclear medicine know from their consoles. Not perceptually uniform and not
#: safe for colour-blind readers: `report.figure.colour_map: cividis` is.
NUCLEAR_COLOURS = (
    (0.00, "#000000"),
    (0.15, "#1a1aa6"),
    (0.32, "#00a8e0"),
    (0.48, "#00b050"),
    (0.65, "#f5e800"),
    (0.82, "#ff2a00"),
    (1.00, "#ffffff"),
)
TARGET_NAMES = {"perfusion": "Perfusion (Q)", "ventilation": "Ventilation (V)"}
METRIC_NAMES = {
    "ssim": "SSIM",
    "spearman": "Spearman's Rs",
    "dice_low": "DSC, low function",
    "dice_high": "DSC, high function",
}
SIMULATED_NOTE = "simulated patients"


def colour_map(name: str) -> Colormap:
    """The colour map for function: `nuclear`, or any map that matplotlib knows.

    Raises:
        ConfigError: no such map.
    """
    if name == "nuclear":
        return LinearSegmentedColormap.from_list("nuclear", NUCLEAR_COLOURS, N=256)
    try:
        return mpl.colormaps[name]
    except KeyError as error:
        raise ConfigError(
            f"no colour map `{name}`", key="report.figure.colour_map", hint="for instance nuclear, cividis, viridis"
        ) from error


def model_colours(models: Sequence[str], networks: Sequence[str]) -> dict[str, str]:
    """One colour for a model in all figures: colours for networks, greys for baselines."""
    baselines = [model for model in models if model not in networks]
    colours = {model: NETWORK_COLOURS[i % len(NETWORK_COLOURS)] for i, model in enumerate(networks)}
    return colours | {model: BASELINE_COLOURS[i % len(BASELINE_COLOURS)] for i, model in enumerate(baselines)}


@contextmanager
def new_figure(
    path: str | Path, size: tuple[float, float], settings: Mapping[str, Any], **kwargs: Any
) -> Iterator[Figure]:
    """Yield a figure in the project's style and write it as PNG when the block succeeds.

    The user's matplotlibrc, the clock and the version of matplotlib leave no trace in the file.

    Args:
        path: `*.png`.
        size: width and height in inches.
        settings: the `report.figure` block of the configuration (`dpi`).
        kwargs: passed to `matplotlib.figure.Figure`.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=size, dpi=settings["dpi"], facecolor="white", **kwargs)
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=settings["dpi"], metadata={"Software": None})


def hide_axes(axes: Axes) -> None:
    """No frame, ticks or grid, for images and drawings."""
    axes.set_axis_off()
    axes.grid(False)

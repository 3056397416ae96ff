"""One look for all figures: style, colours, and a way of writing that gives the same bytes for the same content.

No pyplot: figures are plain objects without global state, drawn with Agg.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from ct2vq.config import TARGETS
from ct2vq.errors import ConfigError
from ct2vq.files import replacing, write_tsv

if TYPE_CHECKING:
    import pandas as pd

# it tells every table of every font that it puts into a PDF
logging.getLogger("fontTools").setLevel(logging.WARNING)

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
#: figures of the study are drawn at their size in print: no text below 7 points (the smallest that most journals take);
#: letters are outlines in SVG, which look the same everywhere, and embedded TrueType in PDF, which stays text
PRINT_STYLE = {
    "font.size": 7.5,
    "axes.titlesize": 8.0,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 7.0,
    "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.3,
    "legend.labelspacing": 0.3,
    "figure.labelsize": 7.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.0,
    "grid.linewidth": 0.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
}
SMALLEST_TEXT = 7.0
#: on either side of the note below a figure, inches
NOTE_MARGIN = 0.1
MM_PER_INCH = 25.4
#: libraries put the clock and their versions into files, if they are let
NO_TRACES = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
#: of a figure for each case: half the time of zlib's default level for a file 10 % larger
QUICK_PNG = {"compress_level": 4}
#: distinguishable with every common colour blindness (Okabe & Ito 2008, Wong, Nat Methods 2011;8:441)
NETWORK_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
BASELINE_COLOURS = ("#8c8c8c", "#bdbdbd", "#6b6b6b")
#: the palette Hot Iron of DICOM (PS3.6, B.1.1), which consoles of nuclear medicine have. Luminance rises all along it:
#: more is brighter with every colour blindness, and in print without colours.
HOT_IRON_COLOURS = ((0.0, "#000000"), (0.5, "#ff0000"), (0.75, "#ff8000"), (1.0, "#ffffff"))
#: a rainbow that consoles of nuclear medicine have too. Its steps of colour look like edges where there are none, and
#: colour-blind readers take some of its values for others.
NUCLEAR_COLOURS = (
    (0.00, "#000000"),
    (0.15, "#1a1aa6"),
    (0.32, "#00a8e0"),
    (0.48, "#00b050"),
    (0.65, "#f5e800"),
    (0.82, "#ff2a00"),
    (1.00, "#ffffff"),
)
OWN_MAPS = {"hot_iron": HOT_IRON_COLOURS, "nuclear": NUCLEAR_COLOURS}
TARGET_NAMES = {"perfusion": "Perfusion (Q)", "ventilation": "Ventilation (V)"}
METRIC_NAMES = {
    "ssim": "SSIM",
    "spearman": "Spearman's Rs",
    "dice_low": "DSC, low function",
    "dice_high": "DSC, high function",
}
SIMULATED_NOTE = "simulated patients"
DARK, MIDDLE, PALE = "#222222", "#777777", "#bdbdbd"
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P")
#: what tables name beside the models: ceilings are the truth of simulated cases, scored as if a model had made it
REFERENCE_NAMES = {
    "noise_ceiling": "ceiling: truth",
    "visible_ceiling": "ceiling: truth that CT shows",
    "spect": "SPECT itself",
}
#: what images are compared with
AGAINST = {"spect": "SPECT", "truth": "truth", "truth_visible": "truth that CT shows"}
REFERENCE_COLOURS = {
    "noise_ceiling": "#444444",
    "visible_ceiling": "#8a5a2b",
    "spect": "#000000",
}


def colour_map(name: str) -> Colormap:
    """The colour map for function: `hot_iron`, `nuclear`, or any map that matplotlib knows.

    Raises:
        ConfigError: no such map.
    """
    if name in OWN_MAPS:
        return LinearSegmentedColormap.from_list(name, OWN_MAPS[name], N=256)
    try:
        return mpl.colormaps[name]
    except KeyError as error:
        raise ConfigError(
            f"no colour map `{name}`", key="report.figure.colour_map", hint="for instance hot_iron, cividis, viridis"
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
    """Yield a figure of images in the project's style, without grids, and write it as PNG when the block succeeds.

    The user's matplotlibrc, the clock and the version of matplotlib leave no trace in the file.

    Args:
        path: `*.png`.
        size: width and height in inches.
        settings: the `report.figure` block of the configuration (`dpi`).
        kwargs: passed to `matplotlib.figure.Figure`.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"axes.grid": False})  # a grid makes ticks even where axes are hidden
        figure = Figure(figsize=size, dpi=settings["dpi"], facecolor="white", **kwargs)
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=settings["dpi"], metadata=NO_TRACES["png"], pil_kwargs=QUICK_PNG)


@dataclass(frozen=True)
class Look:
    """How the figures of a study name and colour its models.

    Attributes:
        labels: name of each model, in the order of the configuration.
        networks: models that are networks; they stand first and have colours, the others are grey.
        simulated: whether the patients are simulated.
        settings: the `report.figure` block of the configuration.
    """

    labels: Mapping[str, str]
    networks: Sequence[str]
    simulated: bool
    settings: Mapping[str, Any]

    @property
    def width(self) -> float:
        """Width of a study's figure in inches."""
        return self.settings["width_mm"] / MM_PER_INCH

    @property
    def order(self) -> list[str]:
        """Models, networks first."""
        return [*self.networks, *(model for model in self.labels if model not in self.networks)]

    def sorted(self, models: Iterable[str]) -> list[str]:
        """Models in the figures' order; pairs of models (`_arm`) after networks, ceilings and SPECT last."""
        places = {model: place for place, model in enumerate([*self.order, *REFERENCE_NAMES])}

        def place(model: str) -> tuple[float, str]:
            members = [places[member] for member in self._arm(model)]
            return (places[model] if model in places else min(members, default=len(self.networks) - 1) + 0.5), model

        return sorted(set(models), key=place)

    def label(self, model: str) -> str:
        """The name of a model; that of a pair of models is what their names share."""
        if model in self.labels or model in REFERENCE_NAMES:
            return self.labels.get(model) or REFERENCE_NAMES[model]
        letters = zip(*(self.labels[member] for member in self._arm(model)), strict=False)
        shared = "".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, letters))
        return shared.rstrip(" (-_,") or model.replace("_", " ")

    def short(self, model: str, letters: int = 18) -> str:
        """The label, cut to `letters`."""
        label = self.label(model)
        return label if len(label) <= letters else label[: letters - 1].rstrip() + "…"

    def colour(self, model: str) -> str:
        """One colour for a model in all figures; a pair of models has that of its first."""
        colours = model_colours(list(self.labels), self.networks) | REFERENCE_COLOURS
        return colours[next(iter([model] if model in colours else self._arm(model)), "spect")]

    def line(self, model: str) -> str:
        """A dash pattern that tells models of equal colour apart."""
        return LINES[self._round(model) % len(LINES)]

    def marker(self, model: str) -> str:
        """A marker that tells models of equal colour apart."""
        return MARKERS[self._round(model) % len(MARKERS)]

    def is_known(self, model: str) -> bool:
        """Whether it is a model, a pair of models, a ceiling or SPECT itself."""
        return model in self.labels or model in REFERENCE_NAMES or bool(self._arm(model))

    def is_network(self, model: str) -> bool:
        """Whether it is a network or a pair of networks."""
        return model in self.networks or any(member in self.networks for member in self._arm(model))

    def _arm(self, model: str) -> list[str]:
        """The models `<stem>_<target>` that a table calls `<stem>` where it needs both targets."""
        return [name for name in (f"{model}_{target}" for target in TARGETS) if name in self.labels]

    def _round(self, model: str) -> int:
        """How often the colours were used up before this model."""
        if model in REFERENCE_NAMES:
            return 1
        known = model if model in self.labels else next(iter(self._arm(model)), None)
        baselines = [name for name in self.labels if name not in self.networks]
        for names, colours in ((list(self.networks), NETWORK_COLOURS), (baselines, BASELINE_COLOURS)):
            if known in names:
                return names.index(known) // len(colours)
        return 0


@contextmanager
def study_figure(path: str | Path, height: float, look: Look, data: pd.DataFrame, note: str = "") -> Iterator[Figure]:
    """Yield a figure of the study; write it as PNG, PDF and SVG, and what it shows as TSV, when the block succeeds.

    PDF and SVG only if `report.figure.vector_formats` names them. The files lie side by side; the layout is computed
    once, so that all formats show the same.

    Args:
        path: `*.png`.
        height: in inches; the width is `report.figure.width_mm`.
        look: names, colours, settings.
        data: the numbers drawn.
        note: what a reader must know to read the figure, below it; that patients are simulated is added.
    """
    dpi = look.settings["print_dpi"]
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | PRINT_STYLE)
        figure = Figure(figsize=(look.width, height), dpi=dpi, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        _write_note(figure, note, look)
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine(None)  # "none" would lay it out anew for every format
        for suffix in ("png", *look.settings["vector_formats"]):
            with replacing(Path(path).with_suffix(f".{suffix}")) as temporary:
                figure.savefig(temporary, dpi=dpi, metadata=NO_TRACES[suffix])
    write_tsv(data, Path(path).with_suffix(".tsv"))


def _write_note(figure: Figure, note: str, look: Look) -> None:
    text = "; ".join(filter(None, [note, SIMULATED_NOTE if look.simulated else ""]))
    figure.supxlabel(wrapped(figure, text, SMALLEST_TEXT), fontsize=SMALLEST_TEXT, color="#333333")


def wrapped(figure: Figure, text: str, size: float) -> str:
    """A text in lines that fit into a figure, by the widths of its letters; a word that is too long is broken.

    Args:
        figure: with its canvas.
        text: one paragraph.
        size: of its letters in points.
    """
    room = (figure.get_figwidth() - 2 * NOTE_MARGIN) * figure.dpi
    renderer, font = figure.canvas.get_renderer(), FontProperties(size=size)

    def fits(line: str) -> bool:
        return renderer.get_text_width_height_descent(line, font, ismath=False)[0] <= room

    lines: list[str] = []
    for word in text.split():
        if lines and fits(f"{lines[-1]} {word}"):
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return "\n".join(lines)


def draw_missing(path: str | Path, look: Look, columns: Sequence[str], what: str, why: str) -> None:
    """A figure that says what is missing, in the place of one that has nothing to show.

    Args:
        path: `*.png`.
        look: names, colours, settings.
        columns: of the table beside it, which has no row.
        what: what the figure would show.
        why: why it does not.
    """
    import pandas as pd

    with study_figure(path, 1.1, look, pd.DataFrame(columns=list(columns))) as figure:
        axes = figure.add_subplot()
        hide_axes(axes)
        text = wrapped(figure, f"Not drawn: {what}. {why}", mpl.rcParams["font.size"])
        axes.text(0.5, 0.5, text, ha="center", va="center", color="#555555", transform=axes.transAxes)


def hide_axes(axes: Axes) -> None:
    """No frame, ticks or grid, for images and drawings."""
    axes.set_axis_off()

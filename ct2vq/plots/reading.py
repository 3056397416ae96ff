"""Figures of the reader study. With simulated readers every one says so in its title."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ct2vq.figures import DARK, MIDDLE, NETWORK_COLOURS, SMALLEST_TEXT, Look, draw_missing, study_figure
from ct2vq.plots.parts import box, dots, interval, jitter, legend, panels, spread, title
from ct2vq.read.accuracy import FIXED, METRICS, RANDOM
from ct2vq.read.agreement import ACROSS, BETWEEN, WITHIN
from ct2vq.read.answers import SIMULATED, Reading
from ct2vq.read.settings import SOURCES

SIMULATED_READERS = "SIMULATED READERS"
SOURCE_COLOURS = dict(zip(SOURCES, (DARK, NETWORK_COLOURS[0]), strict=True))
SOURCE_MARKERS = dict(zip(SOURCES, ("o", "s"), strict=True))
#: from bad to good, told apart with every colour blindness (Brewer's BrBG, its middle greyer)
RATING_COLOURS = ("#a6611a", "#dfc27d", "#dcdcdc", "#80cdc1", "#018571")
STATISTICS = {"Cohen's kappa": "o", "Gwet's AC": "s", "ICC(2,1)": "^"}
PART_NAMES = {
    "diagnosis": "diagnosis from V and Q alone",
    "diagnosis_ct": "diagnosis with CT",
    "acceptability": "acceptability",
}
METRIC_NAMES = {"accuracy": "Accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity", "auc": "AUC"}
#: height of a row of points in inches
ROW = 0.21


def draw_reading(
    tables: Mapping[str, pd.DataFrame], reading: Reading, figures: Mapping[str, str | Path], look: Look
) -> None:
    """Draw every figure; one without answers says what is missing.

    Args:
        tables: by name (`ct2vq.read.names.TABLES`).
        reading: what they were made from.
        figures: `<name>.png` by name (`ct2vq.read.names.FIGURES`); PDF, SVG and TSV lie beside it.
        look: width and formats, whether the patients are simulated.
    """
    drawings = {
        "reading_endpoint": draw_endpoint,
        "reading_accuracy": draw_accuracy,
        "reading_roc": draw_roc,
        "reading_confusion": draw_confusion,
        "reading_acceptability": draw_acceptability,
        "reading_agreement": draw_agreement,
        "reading_blinding": draw_blinding,
        "reading_times": draw_times,
    }
    for name, path in figures.items():
        drawings[name](tables, reading, path, look)


@contextmanager
def reading_figure(
    path: str | Path, height: float, look: Look, data: pd.DataFrame, reading: Reading, note: str
) -> Iterator[Figure]:
    """A figure of the study whose title says whether the readers are simulated."""
    simulated = reading.readers == SIMULATED
    note = "; ".join(filter(None, [note, "the readers are a noise model, not people" if simulated else ""]))
    with study_figure(path, height + 0.2 * simulated, look, data, note) as figure:
        yield figure
        if simulated:
            _say_simulated(figure)


def _say_simulated(figure: Figure) -> None:
    """The title; it belongs to the legend above the panels, if there is one, which it would else lie upon."""
    style = {"fontsize": 9, "fontweight": "bold", "color": "#b00020"}
    if figure.legends:
        figure.legends[0].set_title(SIMULATED_READERS)
        figure.legends[0].get_title().set(**style)
    else:
        figure.suptitle(SIMULATED_READERS, **style)


def _missing(path: str | Path, look: Look, data: pd.DataFrame, reading: Reading, what: str) -> None:
    of = f" ({SIMULATED_READERS})" if reading.readers == SIMULATED else ""
    draw_missing(path, look, list(data.columns), what + of, "No answers are there, or the study does not ask for it.")


def _source_marks() -> list[Line2D]:
    return [
        Line2D([], [], color=SOURCE_COLOURS[source], marker=SOURCE_MARKERS[source], linestyle="", label=source)
        for source in SOURCES
    ]


def _who(reading: Reading, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Groups that have rows, as pairs of kind and name: all readers, levels of several, then each reader."""
    return [
        (group.kind, group.name)
        for group in reading.groups
        if ((rows["kind"] == group.kind) & (rows["group"] == group.name)).any()
        and not (group.kind == "level" and len(group.readers) == 1)
    ]


def _lacking(rows: pd.DataFrame) -> str:
    """Why rows have no interval, for the note below a figure; the first reason stands for all."""
    reasons = sorted(set(rows.loc[rows["low"].isna(), "reason"].dropna()) - {""})
    return f"no interval: {reasons[0].removesuffix(' for an interval')}" if reasons else ""


def _label(reading: Reading, kind: str, name: str) -> str:
    if kind == "reader":
        return f"{name} ({reading.levels[name]})"
    return "all readers" if kind == "all" else f"level: {name}"


def _points(axes: Axes, rows: pd.DataFrame, who: Sequence[tuple[str, str]], value: str, ends: tuple[str, str]) -> None:
    """A row for each group, a point with its interval for each source."""
    for place, (kind, name) in enumerate(who):
        for offset, source in zip(spread(2, 0.6), SOURCES, strict=True):
            chosen = rows[(rows["kind"] == kind) & (rows["group"] == name) & (rows["source"] == source)]
            for row in chosen.dropna(subset=[value]).to_dict("records"):
                interval(axes, place + offset, row[ends[0]], row[ends[1]], across=True, color=SOURCE_COLOURS[source])
                marker = {"marker": SOURCE_MARKERS[source], "linestyle": "", "color": SOURCE_COLOURS[source]}
                axes.plot([row[value]], [place + offset], **marker)
    _rows_of(axes, len(who))


def _rows_of(axes: Axes, number: int) -> None:
    for place in range(1, number):
        axes.axhline(place - 0.5, color="#e3e3e3", linewidth=0.5)
    axes.set(ylim=(number - 0.5, -0.5), yticks=range(number))
    axes.grid(False, axis="y")


def draw_endpoint(tables: Mapping[str, pd.DataFrame], reading: Reading, path: str | Path, look: Look) -> None:
    """The primary endpoint's difference for each reader, each level and all, beside the margin."""
    endpoint, row = reading.endpoint, tables["endpoint"].iloc[0]
    rows = tables["mrmc"]
    wanted = rows["readers_are"].eq(FIXED).where(rows["kind"] == "reader", rows["readers_are"] == RANDOM)
    rows = rows[(rows["part"] == row["part"]) & (rows["metric"] == endpoint["metric"]) & wanted]
    rows = _with_endpoint(rows, row)
    known = rows.dropna(subset=["difference"])
    if known.empty:
        _missing(path, look, rows, reading, "the primary endpoint")
        return
    who = _who(reading, known)
    words = [
        f"bars: {reading.confidence:.0%} intervals, for levels: of readers like these",
        f"for all: the endpoint's {100 - 200 * endpoint['alpha']:g}% interval",
        "dashed: the margin",
    ]
    note = "; ".join(filter(None, [*words, _lacking(known)]))
    with reading_figure(path, ROW * len(who) + 1.0, look, known, reading, note) as figure:
        axes = figure.add_subplot()
        axes.axvline(0, color=MIDDLE, linewidth=0.8)
        axes.axvline(-endpoint["margin"], color="#b00020", linewidth=1.0, linestyle="--")
        for place, (kind, name) in enumerate(who):
            one = known[(known["kind"] == kind) & (known["group"] == name)].iloc[0]
            colour = SOURCE_COLOURS["synthesised"] if kind != "all" else DARK
            interval(axes, place, one["low"], one["high"], across=True, color=colour)
            axes.plot([one["difference"]], [place], marker="D" if kind == "all" else "o", color=colour, linestyle="")
        _rows_of(axes, len(who))
        axes.set_yticklabels([_label(reading, *group) for group in who])
        axes.set_xlabel(f"{METRIC_NAMES[endpoint['metric']]}, synthesised minus real")
        title(axes, PART_NAMES[row["part"]], str(row["conclusion"]))


def _with_endpoint(rows: pd.DataFrame, endpoint: pd.Series) -> pd.DataFrame:
    """Rows of the analysis whose row of all readers is that of the endpoint, with its level and its interval."""
    rows, everybody = rows.copy(), rows["kind"] == "all"
    for name in ("readers_are", "difference", "low", "high", "df", "reason"):
        rows.loc[everybody, name] = endpoint[name]
    # these belong to the analysis that was there before
    rows.loc[everybody, ["se", "statistic", "p"]] = np.nan
    return rows


def draw_accuracy(tables: Mapping[str, pd.DataFrame], reading: Reading, path: str | Path, look: Look) -> None:
    """Accuracy, sensitivity, specificity and AUC of each reader, each level and all, real beside synthesised."""
    table, endpoint = tables["diagnosis"], "+".join(reading.endpoint["positive"])
    data = table[table["positive"].isin(["", endpoint])].dropna(subset=["value"])
    data = data.drop_duplicates(["part", "kind", "group", "source", "metric"])
    if data.empty:
        _missing(path, look, data, reading, "accuracy of the readers' diagnoses")
        return
    who = _who(reading, data)
    parts = [part for part in reading.diagnosis_parts if (data["part"] == part).any()]
    words = [f"bars: {reading.confidence:.0%} intervals; all but accuracy: {endpoint} against all else", _lacking(data)]
    note = "; ".join(filter(None, words))
    height = (ROW * len(who) + 0.45) * len(parts) + 0.75
    with reading_figure(path, height, look, data, reading, note) as figure:
        grid = figure.subplots(len(parts), len(METRICS), squeeze=False, sharey=True)
        for part, line in zip(parts, grid, strict=True):
            for metric, axes in zip(METRICS, line, strict=True):
                rows = data[(data["part"] == part) & (data["metric"] == metric)]
                _points(axes, rows, who, "value", ("low", "high"))
                axes.set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1))
                title(axes, METRIC_NAMES[metric])
            line[0].set_yticklabels([_label(reading, *group) for group in who])
            line[0].set_ylabel(PART_NAMES[part] if len(parts) > 1 else "")
        legend(figure, _source_marks())


def roc_points(suspicion: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of an empirical ROC curve, from (0, 0) to (1, 1)."""
    cuts = np.unique(suspicion)[::-1]
    rates = [np.array([(suspicion[which] >= cut).mean() for cut in cuts]) for which in (~positive, positive)]
    false, true = (np.concatenate([[0.0], rate]) for rate in rates)
    return false, true


def draw_roc(tables: Mapping[str, pd.DataFrame], reading: Reading, path: str | Path, look: Look) -> None:
    """Empirical ROC curves of each reader, and all answers pooled, one panel for each source."""
    del tables
    curves = pd.DataFrame(list(_curves(reading)), columns=["part", "source", "reader", "fpr", "tpr"])
    if curves.empty:
        _missing(path, look, curves, reading, "ROC curves of the readers")
        return
    parts = list(dict.fromkeys(curves["part"]))
    readers = [reader for reader in reading.levels if (curves["reader"] == reader).any()]
    colours = {reader: NETWORK_COLOURS[place % len(NETWORK_COLOURS)] for place, reader in enumerate(readers)}
    lines = {reader: ("-", "--", ":")[place // len(NETWORK_COLOURS) % 3] for place, reader in enumerate(readers)}
    note = "steps of the signed confidence; thick: all answers pooled; the grey diagonal is chance"
    with reading_figure(path, 2.6 * len(parts) + 0.7, look, curves, reading, note) as figure:
        for axes, (part, source) in zip(
            panels(figure, 2 * len(parts), 2, sharex=True, sharey=True),
            [(part, source) for part in parts for source in SOURCES],
            strict=True,
        ):
            axes.plot([0, 1], [0, 1], color="#bdbdbd", linewidth=0.8)
            for reader, one in curves[(curves["part"] == part) & (curves["source"] == source)].groupby("reader"):
                pooled = reader == "all"
                style = {"color": DARK if pooled else colours[reader], "linestyle": "-" if pooled else lines[reader]}
                axes.plot(one["fpr"], one["tpr"], linewidth=2.0 if pooled else 0.9, **style)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axes.set(xlabel="false positive rate", ylabel="true positive rate" if source == SOURCES[0] else "")
            title(axes, f"{source}, {PART_NAMES[part]}")
        marks = [
            Line2D([], [], color=colours[r], linestyle=lines[r], label=_label(reading, "reader", r)) for r in readers
        ]
        legend(figure, [*marks, Line2D([], [], color=DARK, linewidth=2.0, label="all, pooled")])


def _curves(reading: Reading) -> Iterator[tuple[str, str, str, float, float]]:
    for part in reading.diagnosis_parts:
        for group in [group for group in reading.groups if group.kind != "level"]:
            for source in SOURCES:
                answers = reading.of(part, group, source).dropna(subset=["positive", "suspicion"])
                positive = answers["positive"].to_numpy(dtype=float) > 0
                if positive.any() and not positive.all():
                    rates = roc_points(answers["suspicion"].to_numpy(dtype=float), positive)
                    yield from ((part, source, group.name, *map(float, rate)) for rate in zip(*rates, strict=True))


def draw_confusion(tables: Mapping[str, pd.DataFrame], reading: Reading, path: str | Path, look: Look) -> None:
    """How each reference was called by all readers together, one matrix for each source."""
    table = tables["confusion"]
    data = table[(table["kind"] == "all") & table["n"].groupby([table["part"], table["source"]]).transform("sum").gt(0)]
    if data.empty:
        _missing(path, look, data, reading, "confusion of the readers' diagnoses")
        return
    parts, names = list(dict.fromkeys(data["part"])), list(reading.choices)
    note = "numbers of answers of all readers; colour: share of the row's answers"
    with reading_figure(path, 2.7 * len(parts) + 0.5, look, data, reading, note) as figure:
        where = [(part, source) for part in parts for source in SOURCES]
        for axes, (part, source) in zip(panels(figure, len(where), 2), where, strict=True):
            rows = data[(data["part"] == part) & (data["source"] == source)]
            _matrix(axes, rows, names)
            axes.set(xlabel="called", ylabel="reference" if source == SOURCES[0] else "")
            title(axes, f"{source}, {PART_NAMES[part]}")


def _matrix(axes: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    wide = rows.pivot(index="reference", columns="called", values="share").reindex(index=names, columns=names)
    counts = rows.pivot(index="reference", columns="called", values="n").reindex(index=names, columns=names)
    axes.imshow(wide.to_numpy(dtype=float), vmin=0, vmax=1, cmap="Blues")
    for (row, column), share in np.ndenumerate(wide.to_numpy(dtype=float)):
        text = "–" if np.isnan(share) else f"{counts.iloc[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.55 else DARK)
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], **turned)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.grid(False)


def draw_acceptability(tables: Mapping[str, pd.DataFrame], reading: Reading, path: str | Path, look: Look) -> None:
    """Distribution of the ratings of each question, real above synthesised: all readers, then each level."""
    table = tables["acceptability"]
    data = table[table["kind"].isin(["all", "level"]) & (table["n"] > 0)]
    if data.empty:
        _missing(path, look, data, reading, "ratings of acceptability")
        return
    who = list(dict.fromkeys(zip(data["kind"], data["group"], strict=True)))
    columns = min(2, len(who))
    height = (0.34 * len(reading.questions) + 0.55) * -(-len(who) // columns) + 0.75
    note = "upper bar of each pair: real (r), lower: synthesised (s); at the right the share of ratings of 3 and more"
    with reading_figure(path, height, look, data, reading, note) as figure:
        axes_of = panels(figure, len(who), columns, sharey=True)
        for number, (axes, (kind, name)) in enumerate(zip(axes_of, who, strict=True)):
            rows = data[(data["kind"] == kind) & (data["group"] == name)]
            _stacked(axes, rows, reading)
            if number % columns == 0:
                axes.set_yticklabels([question.replace("_", " ") for question in reading.questions])
            axes.set_xlabel("ratings (%)" if number + columns >= len(who) else "")
            title(axes, _label(reading, kind, name))
        words = [f"{value}" for value in reading.scale]
        legend(figure, [Patch(color=c, label=w) for c, w in zip(RATING_COLOURS, words, strict=False)])


def _stacked(axes: Axes, rows: pd.DataFrame, reading: Reading) -> None:
    for place, question in enumerate(reading.questions):
        for offset, source in zip((-0.2, 0.2), SOURCES, strict=True):
            for row in rows[(rows["question"] == question) & (rows["source"] == source)].to_dict("records"):
                left = 0.0
                for value, colour in zip(reading.scale, RATING_COLOURS, strict=False):
                    width = 100 * row[f"n_{value}"] / row["n"]
                    axes.barh(place + offset, width, 0.34, left=left, color=colour, edgecolor="white", linewidth=0.4)
                    left += width
                style = {"va": "center", "fontsize": SMALLEST_TEXT, "color": DARK}
                axes.text(101.5, place + offset, f"{source[0]} {100 * row['least_3']:.0f} %", **style)
    _rows_of(axes, len(reading.questions))
    axes.set(xlim=(0, 116), xticks=(0, 25, 50, 75, 100))


def draw_agreement(tables: Mapping[str, pd.DataFrame], reading: Reading, path: str | Path, look: Look) -> None:
    """Kappa, Gwet's AC and ICC of every question: between readers, within a reader, real against synthesised."""
    table = tables["agreement"]
    data = table[(table["group"] == "all") & table["statistic"].isin(list(STATISTICS))].dropna(subset=["value"])
    if data.empty:
        _missing(path, look, data, reading, "agreement of the readers")
        return
    shown = [
        ("between readers, real", data[(data["kind"] == BETWEEN) & (data["source"] == SOURCES[0])]),
        ("between readers, synthesised", data[(data["kind"] == BETWEEN) & (data["source"] == SOURCES[1])]),
        ("same reader, repeated item", data[data["kind"] == WITHIN]),
        ("same reader, real and synthesised", data[data["kind"] == ACROSS]),
    ]
    names = list(dict.fromkeys(zip(data["part"], data["question"], strict=True)))
    note = f"bars: {reading.confidence:.0%} intervals, none for too few patients; ratings have quadratic weights"
    with reading_figure(path, 2 * (ROW * len(names) + 0.45) + 0.7, look, data, reading, note) as figure:
        for number, (axes, (heading, rows)) in enumerate(zip(panels(figure, 4, 2, sharey=True), shown, strict=True)):
            _coefficients(axes, rows, names)
            if number % 2 == 0:
                axes.set_yticklabels([_question_label(*name) for name in names])
            title(axes, heading)
        marks = {"linestyle": "", "markersize": 4}
        legend(
            figure,
            [
                Line2D([], [], color=colour, marker=marker, label=name, **marks)
                for (name, marker), colour in zip(STATISTICS.items(), NETWORK_COLOURS, strict=False)
            ],
        )


def _question_label(part: str, question: str) -> str:
    return question.replace("_", " ") + (" (with CT)" if part == "diagnosis_ct" else "")


def _coefficients(axes: Axes, rows: pd.DataFrame, names: Sequence[tuple[str, str]]) -> None:
    offsets = spread(len(STATISTICS), 0.75)
    for place, (part, question) in enumerate(names):
        asked = rows[(rows["part"] == part) & (rows["question"] == question)]
        for offset, (name, marker), colour in zip(offsets, STATISTICS.items(), NETWORK_COLOURS, strict=False):
            for row in asked[asked["statistic"] == name].to_dict("records"):
                interval(axes, place + offset, row["low"], row["high"], across=True, color=colour)
                axes.plot([row["value"]], [place + offset], marker=marker, color=colour, linestyle="")
    axes.axvline(0, color=MIDDLE, linewidth=0.8)
    _rows_of(axes, len(names))
    axes.set_xlim(min(-0.55, rows["low"].min() - 0.05, rows["value"].min() - 0.05), 1.05)
    if rows.empty:  # `say` would take the ticks of the panels that share this axis
        centre = {"ha": "center", "va": "center", "fontsize": SMALLEST_TEXT, "color": DARK}
        axes.text(0.5, 0.5, "no item has two answers", transform=axes.transAxes, **centre)


def draw_blinding(tables: Mapping[str, pd.DataFrame], reading: Reading, path: str | Path, look: Look) -> None:
    """Bang's blinding index of each reader, each level and all, for real and synthesised images."""
    data = tables["blinding"].dropna(subset=["index"])
    if data.empty:
        _missing(path, look, data, reading, "Bang's blinding index")
        return
    who = _who(reading, data)
    note = f"0: blind; 1: all guess right; -1: all guess wrong; bars: {reading.confidence:.0%} intervals"
    with reading_figure(path, ROW * len(who) + 1.1, look, data, reading, note) as figure:
        axes = figure.add_subplot()
        axes.axvline(0, color=MIDDLE, linewidth=0.8)
        _points(axes, data, who, "index", ("low", "high"))
        axes.set_yticklabels([_label(reading, *group) for group in who])
        axes.set(xlim=(-1.05, 1.05), xlabel="Bang's blinding index")
        legend(figure, _source_marks())


def draw_times(tables: Mapping[str, pd.DataFrame], reading: Reading, path: str | Path, look: Look) -> None:
    """Seconds of every item by reader and source, a panel for each part."""
    del tables
    answers = reading.first[reading.first["seconds"] > 0]
    data = answers[["part", "reader", "level", "source", "order", "seconds"]]
    if data.empty:
        _missing(path, look, data, reading, "reading times")
        return
    parts = [part for part in reading.parts if (data["part"] == part).any()]
    readers = [reader for reader in reading.levels if (data["reader"] == reader).any()]
    note = "points are items (first showings), boxes quartiles; logarithmic scale"
    with reading_figure(path, 2.3, look, data, reading, note) as figure:
        row = figure.subplots(1, len(parts), squeeze=False, sharey=True)[0]
        for axes, part in zip(row, parts, strict=True):
            for place, reader in enumerate(readers):
                for offset, source in zip(spread(2, 0.8), SOURCES, strict=True):
                    chosen = (data["part"] == part) & (data["reader"] == reader) & (data["source"] == source)
                    seconds = data.loc[chosen, "seconds"].to_numpy(dtype=float)
                    box(axes, place + offset, seconds, SOURCE_COLOURS[source], 0.3)
                    x = place + offset + jitter(len(seconds), 0.2)
                    dots(axes, x, seconds, markersize=2, color=SOURCE_COLOURS[source], alpha=0.7)
            axes.set(yscale="log", xlim=(-0.6, len(readers) - 0.4))
            turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(range(len(readers)), readers, **turned)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "25" else "")
            title(axes, PART_NAMES[part])
        row[0].set_ylabel("seconds")
        legend(figure, [Patch(color=SOURCE_COLOURS[source], alpha=0.6, label=source) for source in SOURCES])

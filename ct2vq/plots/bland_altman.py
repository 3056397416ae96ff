"""Bland-Altman plots of the shares of function that lungs, thirds and lobes hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ct2vq.config import TARGETS
from ct2vq.figures import DARK, MARKERS, MIDDLE, NETWORK_COLOURS, Look, draw_missing, study_figure
from ct2vq.lungs import LOBES, THIRDS
from ct2vq.plots.parts import dots, legend, say, title
from ct2vq.values import patient_means

#: the left lung's share is 1 minus the right lung's: its points would be the same points turned upside down
GROUPS: Mapping[str, Sequence[str]] = {
    "right lung": ("right",),
    "thirds": tuple(THIRDS.values()),
    "lobes": tuple(LOBES.values()),
}
#: of the normal distribution, for limits that hold 95 % of differences (Bland & Altman, Lancet 1986;1:307)
NORMAL_95 = 1.959964
BOOTSTRAP = 1000
#: more networks than this are in the table only, those of the declared comparisons first
MOST_NETWORKS = 3
COLUMNS = ("target", "model", "group", "region", "patient_id", "reference", "image", "mean", "difference")


@dataclass(frozen=True)
class Agreement:
    """Mean difference and 95 % limits of agreement, each with the interval of bootstrapped patients."""

    bias: tuple[float, float, float]
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]


def draw_bland_altman(
    metrics: pd.DataFrame,
    patients: Mapping[str, str],
    output: str | Path,
    look: Look,
    *,
    first: Sequence[str],
    seed: int,
    confidence: float,
) -> None:
    """Synthesised minus SPECT share against their mean, in percentage points; a row for each target and network.

    Args:
        metrics: the long table of metrics.
        patients: patient of each case.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
        first: models that are drawn before others, if there are many.
        seed: of the bootstrap.
        confidence: level of the intervals.
    """
    data = shares(metrics, patients, look)
    rows = _rows(data, look, first)
    if not rows:
        draw_missing(output, look, COLUMNS, "shares of function of lungs, thirds and lobes", "No share was computed.")
        return
    groups = [name for name in GROUPS if (data["group"] == name).any()]
    note = "differences in percentage points; dashed: their mean, dotted: 95 % limits of agreement, bands: confidence "
    note += "intervals (patients drawn again); thirds and lobes sum to 100 %, so their mean difference is 0"
    with study_figure(output, 1.75 * len(rows) + 0.75, look, data, note) as figure:
        places = figure.subplots(len(rows), len(groups), squeeze=False, sharey="col")
        for row, (target, model) in zip(places, rows, strict=True):
            for axes, group in zip(row, groups, strict=True):
                here = data[(data["target"] == target) & (data["model"] == model) & (data["group"] == group)]
                found = _panel(axes, here, group, seed, confidence)
                limits = f"{found.lower[0]:+.1f} to {found.upper[0]:+.1f}".replace("-", "−") if found else ""
                title(axes, group, limits)
            row[0].set_ylabel(f"{look.short(model)}, {target}\nsynthesised − SPECT")
        for axes in places[-1]:
            axes.set_xlabel("mean of both (% of function)")
        legend(figure, _legend(groups))


def shares(metrics: pd.DataFrame, patients: Mapping[str, str], look: Look) -> pd.DataFrame:
    """Shares of function (%) of each patient, model, target and region."""
    names = {"share_image": "image", "share_reference": "reference"}
    kept = metrics[metrics["metric"].isin(list(names)) & (metrics["reference"] == "spect")]
    kept = kept[kept["model"].isin(list(look.labels))]
    keys = ["target", "model", "region", "metric"]
    wide = patient_means(kept, patients, keys).set_index([*keys, "patient_id"])["value"].unstack("metric")
    wide = (100 * wide.rename(columns=names).reindex(columns=names.values())).dropna().reset_index()
    group_of = {region: group for group, regions in GROUPS.items() for region in regions}
    wide = wide.assign(
        group=wide["region"].map(group_of),
        mean=(wide["image"] + wide["reference"]) / 2,
        difference=wide["image"] - wide["reference"],
    )
    return wide.dropna(subset=["group"]).reindex(columns=COLUMNS)


def _rows(data: pd.DataFrame, look: Look, first: Sequence[str]) -> list[tuple[str, str]]:
    """Targets and networks that have a row; models that learnt nothing only if there is no network."""
    rows = []
    for target in TARGETS:
        here = set(data.loc[data["target"] == target, "model"])
        networks = [model for model in look.order if model in here and model in look.networks]
        chosen = sorted(
            networks or [model for model in look.order if model in here], key=lambda model: model not in first
        )
        rows += [(target, model) for model in chosen[:MOST_NETWORKS]]
    return rows


def agreement(data: pd.DataFrame, seed: int, confidence: float) -> Agreement:
    """Mean difference and limits of agreement; the bootstrap draws patients with all their regions.

    Args:
        data: columns `patient_id` and `difference`.
        seed: of the bootstrap.
        confidence: level of the intervals.
    """
    groups = data.groupby("patient_id")["difference"]
    number, total = groups.size().to_numpy(), groups.sum().to_numpy()
    square = data.assign(square=data["difference"] ** 2).groupby("patient_id")["square"].sum().to_numpy()
    generator = np.random.default_rng([seed, len(number)])
    drawn = generator.integers(0, len(number), (BOOTSTRAP, len(number)))
    found = _limits(number[drawn].sum(1), total[drawn].sum(1), square[drawn].sum(1))
    estimate = _limits(number.sum(), total.sum(), square.sum())
    tail = 50 * (1 - confidence)
    ends = np.nanpercentile(found, [tail, 100 - tail], axis=1) if len(number) > 1 else np.full((2, 3), np.nan)
    return Agreement(*((float(estimate[i]), float(ends[0, i]), float(ends[1, i])) for i in range(3)))


def _limits(number: np.ndarray, total: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Bias, lower and upper limit from numbers, sums and sums of squares of differences."""
    bias = total / number
    sd = np.sqrt(np.maximum(square - number * bias**2, 0) / np.maximum(number - 1, 1))
    return np.stack([bias, bias - NORMAL_95 * sd, bias + NORMAL_95 * sd])


def _panel(axes: Axes, data: pd.DataFrame, group: str, seed: int, confidence: float) -> Agreement | None:
    if data.empty:
        say(axes, "not computed")
        return None
    for region in GROUPS[group]:
        chosen = data[data["region"] == region]
        colour, marker = _mark(group, region)
        dots(axes, chosen["mean"], chosen["difference"], color=colour, marker=marker, markersize=2.6, alpha=0.75)
    found = agreement(data, seed, confidence)
    for (value, low, high), line in ((found.bias, "--"), (found.lower, ":"), (found.upper, ":")):
        axes.axhline(value, color=DARK, linestyle=line, linewidth=0.9)
        if np.isfinite([low, high]).all() and high - low > 1e-9:
            axes.axhspan(low, high, facecolor=MIDDLE, alpha=0.18, linewidth=0, zorder=0)
    return found


def _mark(group: str, region: str) -> tuple[str, str]:
    """A colour for the height of a region, a marker for its side."""
    if group == "right lung":
        return DARK, "o"
    number = list(GROUPS[group]).index(region)
    heights = [word for word in ("upper", "middle", "lower") if word in region]
    colour = NETWORK_COLOURS[("upper", "middle", "lower").index(heights[0]) if heights else number % 3]
    return colour, MARKERS[0] if "right" in region else MARKERS[2]


def _legend(groups: Sequence[str]) -> list[Line2D]:
    if set(groups) <= {"right lung"}:
        return []
    style = {"linestyle": "", "markersize": 4}
    heights = zip(("upper", "middle", "lower"), NETWORK_COLOURS, strict=False)
    handles = [Line2D([], [], color=colour, marker="s", label=name, **style) for name, colour in heights]
    sides = (("right", MARKERS[0]), ("left", MARKERS[2]))
    return handles + [Line2D([], [], color=MIDDLE, marker=marker, label=side, **style) for side, marker in sides]

"""Bland-Altman plots of the shares of function that lungs, thirds and lobes hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ct2vq.config import TARGETS
from ct2vq.figures import DARK, MIDDLE, Look, draw_missing, study_figure
from ct2vq.lungs import LOBES, THIRDS
from ct2vq.plots.parts import dots, legend, say, title
from ct2vq.values import patient_means

#: the left lung's share is 1 minus the right lung's: its points would be the same points turned upside down
GROUPS: Mapping[str, Sequence[str]] = {
    "right lung": ("right",),
    "thirds": tuple(THIRDS.values()),
    "lobes": tuple(LOBES.values()),
}
#: share of the differences of further patients that the limits of agreement hold (Bland & Altman, Lancet 1986;1:307)
LIMITS = 0.95
#: more networks than this are in the table only, those of the declared comparisons first
MOST_NETWORKS = 3
REGION = ("target", "model", "group", "region")
STATISTICS = ("n", "bias", "bias_low", "bias_high", "limit_low", "limit_high")
COLUMNS = (*REGION, "patient_id", "reference", "image", "mean", "difference", *STATISTICS)
#: half the width that the points of a region take, of 1 between neighbours
HALF = 0.36


def draw_bland_altman(
    metrics: pd.DataFrame,
    patients: Mapping[str, str],
    output: str | Path,
    look: Look,
    *,
    first: Sequence[str],
    confidence: float,
) -> None:
    """Synthesised minus SPECT share of every region, in percentage points; a row for each target and network.

    Args:
        metrics: the long table of metrics.
        patients: patient of each case.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
        first: models that are drawn before others, if there are many.
        confidence: level of the intervals.
    """
    points = shares(metrics, patients, look)
    data = points.merge(region_agreement(points, confidence), on=list(REGION)).reindex(columns=COLUMNS)
    rows = _rows(data, look, first)
    if not rows:
        draw_missing(output, look, COLUMNS, "shares of function of lungs, thirds and lobes", "No share was computed.")
        return
    groups = [name for name in GROUPS if (data["group"] == name).any()]
    note = "points: patients, in each region from the smallest to the largest mean of both; R, L: right, left lung; "
    note += f"limits of agreement of each region by itself (Student's t, {_number_of(data)})"
    with study_figure(output, 1.75 * len(rows) + 0.75, look, data, note) as figure:
        widths = [len(GROUPS[group]) + 0.6 for group in groups]
        places = figure.subplots(len(rows), len(groups), squeeze=False, sharey="col", width_ratios=widths)
        for row, (target, model) in zip(places, rows, strict=True):
            for axes, group in zip(row, groups, strict=True):
                here = data[(data["target"] == target) & (data["model"] == model) & (data["group"] == group)]
                _panel(axes, here, group, look.colour(model))
                title(axes, group)
            row[0].set_ylabel(f"{look.short(model)}, {target}\nsynthesised − SPECT (% points)")
        legend(figure, _legend(confidence))


def _number_of(data: pd.DataFrame) -> str:
    low, high = int(data["n"].min()), int(data["n"].max())
    return f"{low} patients" if low == high else f"{low} to {high} patients"


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
    return wide.dropna(subset=["group"])[[name for name in COLUMNS if name not in STATISTICS]]


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


def region_agreement(data: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Bias and limits of agreement of each region: a sum over regions has no bias, because shares sum to 1.

    Patients are independent, regions of one patient are not, so no two regions are pooled.

    Args:
        data: columns `REGION` and `difference`, a row for each patient.
        confidence: level of the interval of the bias.

    Returns:
        Columns `REGION` and `STATISTICS`. With `n` patients and the standard deviation `sd` of their differences: bias
        ± t sd / √n, and limits bias ± t sd √(1 + 1 / n), between which a further patient lies (prediction interval;
        t of n - 1 degrees of freedom). Both are missing with one patient.
    """
    from scipy.stats import t

    groups = data.groupby(list(REGION), sort=False)["difference"]
    table = groups.agg(n="size", bias="mean", sd="std").reset_index()
    free = np.maximum(table["n"] - 1, 1)
    half = t.ppf((1 + confidence) / 2, free) * table["sd"] / np.sqrt(table["n"])
    limit = t.ppf((1 + LIMITS) / 2, free) * table["sd"] * np.sqrt(1 + 1 / table["n"])
    ends = {"bias_low": table["bias"] - half, "bias_high": table["bias"] + half}
    ends |= {"limit_low": table["bias"] - limit, "limit_high": table["bias"] + limit}
    return table.assign(**ends)[[*REGION, *STATISTICS]]


def _panel(axes: Axes, data: pd.DataFrame, group: str, colour: str) -> None:
    if data.empty:
        say(axes, "not computed")
        return
    axes.axhline(0, color=MIDDLE, linewidth=0.6, zorder=1)
    for place, region in enumerate(GROUPS[group]):
        here = data[data["region"] == region]
        if here.empty:
            continue
        low, high = here["mean"].min(), here["mean"].max()
        offsets = (here["mean"] - (low + high) / 2) / max(high - low, 1e-9) * 2 * HALF
        dots(axes, place + offsets, here["difference"], color=colour, markersize=2.6, alpha=0.75, zorder=3)
        row = here.iloc[0]
        ends = [place - HALF - 0.06, place + HALF + 0.06]
        axes.plot(ends, [row["bias"]] * 2, color=DARK, linewidth=1.4, zorder=4)
        if np.isfinite(row["limit_low"]):
            axes.fill_between(ends, row["bias_low"], row["bias_high"], color=MIDDLE, alpha=0.3, linewidth=0, zorder=2)
            for limit in ("limit_low", "limit_high"):
                axes.plot(ends, [row[limit]] * 2, color=DARK, linestyle=":", linewidth=0.9, zorder=2)
    axes.set(xlim=(-0.55, len(GROUPS[group]) - 0.45), xticks=range(len(GROUPS[group])))
    axes.set_xticklabels([_short(region) for region in GROUPS[group]])
    axes.grid(False, axis="x")


def _short(region: str) -> str:
    """`R upper` of `right upper third`."""
    side, *height = region.split()
    return f"{side[0].upper()} {height[0]}" if height else "R"


def _legend(confidence: float) -> list[Line2D | Patch]:
    return [
        Line2D([], [], color=DARK, linewidth=1.4, label="bias (mean difference)"),
        Patch(color=MIDDLE, alpha=0.3, linewidth=0, label=f"its {confidence:.0%} interval"),
        Line2D([], [], color=DARK, linestyle=":", linewidth=0.9, label=f"{LIMITS:.0%} limits of agreement"),
    ]

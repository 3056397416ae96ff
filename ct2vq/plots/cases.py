"""Volumes of mismatched, matched and reverse defects of every case, by diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ct2vq.figures import DARK, Look, draw_missing, study_figure
from ct2vq.names import CEILINGS
from ct2vq.plots.parts import dots, jitter, legend, model_marker, spread, title

COLUMNS = ("kind", "diagnosis", "case_id", "model", "volume_ml")
KINDS = {
    "mismatch": "mismatch: perfusion low, ventilation kept",
    "matched": "matched: both low",
    "reverse": "reverse mismatch: ventilation low, perfusion kept",
}
#: volumes below this are drawn on a linear scale, larger ones on a logarithmic one
LINEAR_ML = 20.0


def draw_case_level(metrics: pd.DataFrame, diagnoses: Mapping[str, str], output: str | Path, look: Look) -> None:
    """A panel for each kind of defect, a group for each diagnosis, a column of cases for SPECT and each model.

    Args:
        metrics: the long table of metrics; rows of target `vq`.
        diagnoses: diagnosis of each case.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
    """
    data = defect_volumes(metrics, diagnoses)
    kinds = [kind for kind in KINDS if (data["kind"] == kind).any()]
    if not kinds:
        why = "It needs images of perfusion and ventilation of one case."
        draw_missing(output, look, COLUMNS, "volumes of mismatched and matched defects", why)
        return
    groups = _groups(data)
    models = look.sorted(data["model"])
    note = "points are cases, bars medians; linear below 20 mL, logarithmic above; number of cases in brackets"
    with study_figure(output, 1.75 * len(kinds) + 0.95, look, data, note) as figure:
        rows = figure.subplots(len(kinds), 1, squeeze=False, sharex=True)[:, 0]
        for axes, kind in zip(rows, kinds, strict=True):
            _panel(axes, data[data["kind"] == kind], groups, models, look)
            title(axes, KINDS[kind])
        names = [f"{name} ({data.loc[data['diagnosis'] == name, 'case_id'].nunique()})" for name in groups]
        turned = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, names)) > 85 else {}
        rows[-1].set_xticks(range(len(groups)), names, **turned)
        legend(figure, [model_marker(look, model) for model in models])


def defect_volumes(metrics: pd.DataFrame, diagnoses: Mapping[str, str]) -> pd.DataFrame:
    """Volume (mL) of each kind of defect in each case, of SPECT and of every model that makes both images."""
    kept = metrics[(metrics["region"] == "lungs") & (metrics["reference"] == "spect") & (metrics["target"] == "vq")]
    kept = kept[~kept["model"].isin(CEILINGS)]
    parts = kept["metric"].str.extract(r"^(mismatch|matched|reverse)_volume_(image|reference)$")
    data = kept.assign(kind=parts[0], of=parts[1], diagnosis=kept["case_id"].map(diagnoses).fillna("unknown"))
    data = data.dropna(subset=["kind", "value"]).rename(columns={"value": "volume_ml"})
    data["model"] = data["model"].where(data["of"] == "image", "spect")
    data = data.drop_duplicates(["kind", "case_id", "model"])
    return data.sort_values(["kind", "diagnosis", "model", "case_id"], ignore_index=True).reindex(columns=COLUMNS)


def _groups(data: pd.DataFrame) -> list[str]:
    """Diagnoses, normal patients first, then the most frequent."""
    counts = data.groupby("diagnosis")["case_id"].nunique()
    return sorted(counts.index, key=lambda name: (name != "normal", -counts[name], name))


def _panel(axes: Axes, data: pd.DataFrame, groups: Sequence[str], models: Sequence[str], look: Look) -> None:
    width = 0.8 / len(models)
    for offset, model in zip(spread(len(models), 0.8), models, strict=True):
        chosen = data[data["model"] == model]
        colour = look.colour(model)
        x, y = [], []
        for place, group in enumerate(groups):
            volumes = chosen.loc[chosen["diagnosis"] == group, "volume_ml"].to_numpy(float)
            if len(volumes):
                x.append(place + offset + jitter(len(volumes), 0.5 * width))
                y.append(volumes)
                ends = [place + offset - 0.45 * width, place + offset + 0.45 * width]
                axes.plot(ends, [np.median(volumes)] * 2, color=DARK, linewidth=1.0, zorder=4)
        if x:
            style = {"markersize": 2.4, "alpha": 0.8, "marker": look.marker(model), "color": colour}
            dots(axes, np.concatenate(x), np.concatenate(y), **style)
    axes.set_yscale("symlog", linthresh=LINEAR_ML, linscale=0.5)
    ticks = [0, 20, 100, 500, 2000]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(-2, max(1.3 * data["volume_ml"].max(), 30))
    axes.set(xlim=(-0.5, len(groups) - 0.5), ylabel="volume (mL)")
    axes.grid(False, axis="x")
    for place in range(1, len(groups)):
        axes.axvline(place - 0.5, color="#e3e3e3", linewidth=0.5)

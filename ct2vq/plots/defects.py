"""Detection of single defects: how many are found, and how many false ones there are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ct2vq.figures import AGAINST, Look, draw_missing, study_figure
from ct2vq.plots.parts import NAMES_OF_TARGETS, dot_rows, legend, model_marker, present_targets, title

COLUMNS = (
    "target", "model", "reference", "kind", "visible", "n_defects", "found", "sensitivity", "sensitivity_low",
    "sensitivity_high", "false_per_case", "false_per_case_low", "false_per_case_high",
)  # fmt: skip
VISIBLE = {"yes": ", CT shows it", "no": ", CT does not"}


def draw_defects(defects: pd.DataFrame, output: str | Path, look: Look) -> None:
    """Left: share of defects found, a row for each kind; right: false defects a case; a row of panels for each target.

    Args:
        defects: the table of defects found.
        output: `*.png`; PDF, SVG and TSV lie beside it.
        look: names and colours.
    """
    data = defects[defects[["sensitivity", "false_per_case"]].notna().any(axis=1)].reindex(columns=COLUMNS)
    data = data[data["model"].isin([model for model in data["model"].unique() if look.is_known(model)])]
    targets = present_targets(data)
    if not targets:
        draw_missing(output, look, COLUMNS, "defects found", "No case has a defect above the smallest volume.")
        return
    models = look.sorted(data["model"])
    parts = {target: _rows(data[data["target"] == target]) for target in targets}
    inches = [max(len(parts[target]), 2) * max(0.24, 0.075 * len(models)) + 0.2 for target in targets]
    note = "found: enough of the defect is low in the synthesised image; bars: confidence intervals, from patients"
    with study_figure(output, sum(inches) + 0.5 * len(targets) + 0.55, look, data, note) as figure:
        rows = figure.subplots(len(targets), 2, squeeze=False, height_ratios=inches, width_ratios=[1.5, 1])
        for (left, right), target in zip(rows, targets, strict=True):
            found = parts[target]
            dot_rows(left, list(found.values()), look, models, "sensitivity", "sensitivity_{}")
            left.set_yticklabels(list(found))
            left.set(xlim=(-0.03, 1.03), xlabel="share of defects found")
            title(left, f"{NAMES_OF_TARGETS[target]}: defects found")
            false = _false(data[data["target"] == target])
            dot_rows(right, list(false.values()), look, models, "false_per_case", "false_per_case_{}")
            right.set_yticklabels(list(false))
            right.set_xlim(left=0)
            right.set_xlabel("false defects a case")
            title(right, f"{NAMES_OF_TARGETS[target]}: false defects")
        legend(figure, [model_marker(look, model) for model in models])


def _rows(data: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of found defects by their labels; SPECT knows no kinds, and a kind is not drawn beside its own two parts."""
    rows = {}
    found = data[data["sensitivity"].notna()].fillna({"visible": ""})
    found = found[(found["reference"] != "spect") | (found["kind"] == "all")]
    for reference in AGAINST:
        here = found[found["reference"] == reference]
        told_apart = set(here.loc[here["visible"] != "", "kind"]) - {"all"}
        for (kind, visible), row in here.groupby(["kind", "visible"], sort=False):
            if kind in told_apart and not visible:
                continue
            number = int(row["n_defects"].max())
            what = str(kind).replace("_", " ") + VISIBLE.get(visible, "")
            rows[f"{AGAINST[reference]}: {what} ({number})"] = row
    return rows


def _false(data: pd.DataFrame) -> dict[str, pd.DataFrame]:
    false = data[data["false_per_case"].notna()]
    return {
        f"not in {name}": false[false["reference"] == key]
        for key, name in AGAINST.items()
        if (false["reference"] == key).any()
    }

"""The regions' shares of function: bias and limits of agreement of each, as the Bland-Altman figure shows them."""

from __future__ import annotations

from typing import Any

from ct2vq.findings import number
from ct2vq.plots.bland_altman import GROUPS, region_agreement, shares
from ct2vq.report.study import Study


def regions_table(study: Study) -> list[dict[str, Any]]:
    """A row for each target, network and region: patients, bias with interval and limits of agreement, in % points."""
    data = shares(study.metrics, study.patients, study.look)
    table = region_agreement(data[data["model"].isin(study.networks)], study.confidence)
    for column, order in (("model", study.networks), ("region", [name for names in GROUPS.values() for name in names])):
        table[f"{column}_place"] = table[column].map({name: place for place, name in enumerate(order)})
    table = table.sort_values(["target", "model_place", "region_place"], kind="stable")
    return [
        {
            "target": study.target_name(row.target),
            "model": study.name(row.model),
            "region": row.region + (" lung" if row.region in ("right", "left") else ""),
            "n": row.n,
            "bias": {"value": _signed(row.bias), "small": _ends(row.bias_low, row.bias_high)},
            "limits": _ends(row.limit_low, row.limit_high) or "n/a",
        }
        for row in table.itertuples()
    ]


def _signed(value: float) -> str:
    text = number(value, 2)
    return text if value < 0 or text == "n/a" else f"+{text}"


def _ends(low: float, high: float) -> str:
    return "" if number(low) == "n/a" else f"{_signed(low)} to {_signed(high)}"

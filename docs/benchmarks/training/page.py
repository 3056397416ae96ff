"""The tables of docs/benchmarks.md made of train.tsv and its like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ct2vq.config import TARGETS
from ct2vq.names import SPECT, TRUTH

#: columns of the first table: metric and reference
SHOWN = {
    "Rs": ("rs", SPECT),
    "Rs to truth": ("rs", TRUTH),
    "SSIM": ("ssim", SPECT),
    "SSIM to truth": ("ssim", TRUTH),
    "DSC low": ("dsc_low", SPECT),
    "DSC high": ("dsc_high", SPECT),
    "DSC low to truth": ("dsc_low", TRUTH),
    "DSC high to truth": ("dsc_high", TRUTH),
    "Rs in the core": ("rs", f"{SPECT}, core"),
}
COSTS = {
    "epochs": ("epochs", "{:.0f}"),
    "s a case": ("seconds_a_case", "{:.3f}"),
    "of two RANs": ("", "{:.2f}"),
    "processor min": ("processor_minutes", "{:.1f}"),
    "peak MiB": ("peak_memory", "{:.0f}"),
    "parameters, million": ("parameters", "{:.2f}"),
}
PAIR = "ran"


def tables(table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of each table, best first."""
    labels = header["labels"]
    for target in TARGETS:
        own = table[table["target"] == target]
        ranked = own[(own["metric"] == "rs") & (own["reference"] == SPECT)].sort_values("value", ascending=False)
        arms = list(ranked["arm"])
        yield (
            f"{target.capitalize()}, means over patients; of Rs with its interval and the SD between seeds",
            ["", *SHOWN],
            [[_named(arm, labels), *_scores(own, arm)] for arm in arms],
        )
        yield (
            f"{target.capitalize()}, Rs as a share of the visible ceiling's, and of the way to it from the mean map",
            ["", "share of the ceiling", "way to the ceiling", f"{_named(header['ours'], labels)} less it", "p, Holm"],
            [[_named(arm, labels), *_relative(own, arm)] for arm in arms if "ceiling" not in arm],
        )
    costs = _costs(table)
    if not costs.empty:
        rows = [
            [_named(str(arm), labels), *(form.format(row[name]) for name, (_, form) in COSTS.items())]
            for arm, row in costs.iterrows()
        ]
        yield "Costs", ["", *COSTS], rows


def _named(arm: str, labels: Mapping[str, str]) -> str:
    return {PAIR: "two RANs"}.get(arm) or labels.get(arm, arm.replace("_", " "))


def _value(own: pd.DataFrame, arm: str, metric: str, reference: str) -> float:
    chosen = own[(own["arm"] == arm) & (own["metric"] == metric) & (own["reference"] == reference)]["value"]
    return float(chosen.iloc[0]) if len(chosen) else float("nan")


def _scores(own: pd.DataFrame, arm: str) -> Iterator[str]:
    for name, (metric, reference) in SHOWN.items():
        value = _value(own, arm, metric, reference)
        if pd.isna(value):
            yield ""
        elif name == "Rs":
            deviation = _value(own, arm, "rs_seed_sd", SPECT)
            seeds = "" if pd.isna(deviation) else f", SD {deviation:.4f}"
            yield f"{value:.3f} ({_interval(own, arm, 'rs')}{seeds})"
        else:
            yield f"{value:.3f}"


def _interval(own: pd.DataFrame, arm: str, metric: str, digits: int = 3) -> str:
    low, high = (_value(own, arm, f"{metric}_{end}", SPECT) for end in ("low", "high"))
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _relative(own: pd.DataFrame, arm: str) -> Iterator[str]:
    for metric in ("share_of_ceiling", "way_to_ceiling"):
        yield f"{_value(own, arm, metric, SPECT):.1%} ({_interval(own, arm, metric)})"
    difference = _value(own, arm, "behind_ours", SPECT)
    if pd.isna(difference):
        yield from ("", "")
        return
    yield f"{difference:+.4f} ({_interval(own, arm, 'behind_ours', 4)})"
    yield f"{_value(own, arm, 'behind_ours_p_holm', SPECT):.2g}"


def _costs(table: pd.DataFrame) -> pd.DataFrame:
    names = {metric: name for name, (metric, _) in COSTS.items()}
    chosen = table[table["metric"].isin(names)]
    wide = chosen.assign(column=chosen["metric"].map(names)).pivot(index="arm", columns="column", values="value")
    if PAIR in wide.index:
        wide["of two RANs"] = wide["s a case"] / wide.loc[PAIR, "s a case"]
    return wide.reindex(columns=list(COSTS))

"""Threshold-based classification, first reading: which share of the patients passes thresholds on the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ct2vq.compare.paired import holm
from ct2vq.compare.scores import LOWER_IS_BETTER, Item, Scores, definition_of, together
from ct2vq.intervals import newcombe, wilson

#: row of patients that pass every threshold
ALL = "all"


def thresholds_of(settings: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that have a threshold (config `compare.acceptance`)."""
    return {metric: value for metric, value in settings["acceptance"].items() if value is not None}


def count_passes(
    scores: Scores, patients: Mapping[str, str], settings: Mapping[str, Any], threshold: str
) -> pd.DataFrame:
    """Share of patients of every model and target that pass each threshold, and all of them, with Wilson's interval.

    In the lungs, against SPECT. A patient of the cohort without the metric, for `all`
    without one of them, counts as missing, not as failed.

    Args:
        scores: values of cases.
        patients: patient of each case.
        settings: config block `compare`.
        threshold: name of the definition of low and high function.
    """
    limits = thresholds_of(settings)
    arms = dict.fromkeys((item.model, item.target) for item in scores if item.metric in limits)
    rows = []
    for model, target in arms:
        items = _items(scores, model, target, limits, threshold)
        # `together` for `all` only: each metric by itself counts every patient that has it
        alone = {metric: together(scores, [item], patients)[0] for metric, item in items.items()}
        every = together(scores, list(items.values()), patients).set_axis(list(items), axis=1)
        for metric, value in limits.items():
            passed = passes(alone[metric], metric, value, settings["decimals"])
            rows.append(_row(model, target, metric, value, passed, settings))
        rows.append(_row(model, target, ALL, np.nan, passes_all(every, limits, settings["decimals"]), settings))
    nothing = _row("", "", ALL, np.nan, pd.Series(dtype=float), settings)
    return pd.DataFrame(rows, columns=list(nothing))


def passes(values: pd.Series, metric: str, threshold: float, decimals: int) -> pd.Series:
    """1 where a value reaches the threshold, 0 where not, NaN where it is missing; round-off decides nothing."""
    rounded = values.round(decimals)
    reached = rounded <= threshold if metric in LOWER_IS_BETTER else rounded >= threshold
    return reached.astype(float).where(values.notna())


def passes_all(values: pd.DataFrame, limits: Mapping[str, float], decimals: int) -> pd.Series:
    """1 where every column reaches its threshold, NaN where one is missing."""
    each = pd.DataFrame({metric: passes(values[metric], metric, limit, decimals) for metric, limit in limits.items()})
    return each.min(axis=1, skipna=False) if len(limits) else pd.Series(dtype=float)


def compare_passes(
    scores: Scores, patients: Mapping[str, str], settings: Mapping[str, Any], threshold: str
) -> pd.DataFrame:
    """McNemar's exact test of every declared pair and threshold, Holm's correction over all rows.

    Only patients that one model passes and the other fails bear on it: under no difference each of them is a fair coin
    (McNemar, Psychometrika 1947;12:153; exact form: Fagerland et al., BMC Med Res Methodol 2013;13:91).
    """
    limits, rows = thresholds_of(settings), []
    for first, second, target in settings["pairs"]:
        items = [_items(scores, model, target, limits, threshold) for model in (first, second)]
        for metric in (*limits, *([ALL] if limits else [])):
            wanted = list(limits) if metric == ALL else [metric]
            values = together(scores, [of[name] for of in items for name in wanted], patients)
            chosen = {name: limits[name] for name in wanted}
            halves = [values.iloc[:, : len(wanted)], values.iloc[:, len(wanted) :]]
            passed = [passes_all(half.set_axis(wanted, axis=1), chosen, settings["decimals"]) for half in halves]
            row = {"first": first, "second": second, "target": target, "metric": metric}
            row["threshold"] = limits.get(metric, np.nan)
            rows.append(row | mcnemar(*passed, settings))
    nothing = mcnemar(pd.Series(dtype=float), pd.Series(dtype=float), settings)
    table = pd.DataFrame(rows, columns=["first", "second", "target", "metric", "threshold", *nothing])
    table.insert(table.columns.get_loc("p") + 1, "p_holm", holm(table["p"].to_numpy(dtype=float)))
    return table


def mcnemar(first: pd.Series, second: pd.Series, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fourfold table of two models' passes on the same patients, exact two-sided p, and the difference of shares.

    The interval of the difference is Newcombe's: a bootstrap would claim certainty where all patients agree.

    Args:
        first: 1 passed, 0 failed, NaN missing, by patient.
        second: the same for the other model.
        settings: config block `compare`.
    """
    both = pd.concat([first, second], axis=1, keys=["first", "second"]).dropna()
    a, b = (both[name].to_numpy(dtype=float) > 0 for name in ("first", "second"))
    fourfold = [int(cell.sum()) for cell in (a & b, a & ~b, ~a & b, ~a & ~b)]
    _, only_first, only_second, _ = fourfold
    discordant = only_first + only_second
    low, high = newcombe(fourfold, settings["confidence"])
    p = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    note = "" if discordant else "no patient passes with one model only"
    return {
        "n": a.size,
        **dict(zip(("both", "only_first", "only_second", "neither"), fourfold, strict=True)),
        "share_first": a.mean() if a.size else np.nan,
        "share_second": b.mean() if a.size else np.nan,
        "difference": a.mean() - b.mean() if a.size else np.nan,
        "difference_low": low,
        "difference_high": high,
        "p": p if a.size else np.nan,
        "note": note if a.size else "no patient has both",
    }


def _items(scores: Scores, model: str, target: str, limits: Mapping[str, float], threshold: str) -> dict[str, Item]:
    return {metric: definition_of(scores, Item(model, target, metric), threshold) for metric in limits}


def _row(
    model: str, target: str, metric: str, threshold: float, passed: pd.Series, settings: Mapping[str, Any]
) -> dict[str, Any]:
    known = passed.dropna()
    count, n = int(known.sum()), len(known)
    low, high = wilson(count / n, n, settings["confidence"]) if n else (np.nan, np.nan)
    direction = "" if metric == ALL else "at most" if metric in LOWER_IS_BETTER else "at least"
    return {
        "model": model,
        "target": target,
        "metric": metric,
        "direction": direction,
        "threshold": threshold,
        "n": n,
        "passed": count,
        "share": count / n if n else np.nan,
        "wilson_low": low,
        "wilson_high": high,
        "missing": len(passed) - n,
        "note": "" if n else "no patient has the metric",
    }

"""Threshold-based classification, first reading: which share of the patients passes thresholds on the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from ct2vq.compare.paired import bootstrap_mean, holm
from ct2vq.compare.scores import LOWER_IS_BETTER, Item, Scores, definition_of, of_patients, together

#: row of patients that pass every threshold
ALL = "all"


def thresholds_of(settings: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that have a threshold (config `compare.acceptance`)."""
    return {metric: value for metric, value in settings["acceptance"].items() if value is not None}


def count_passes(
    scores: Scores, patients: Mapping[str, str], settings: Mapping[str, Any], threshold: str
) -> pd.DataFrame:
    """Share of patients of every model and target that pass each threshold, and all of them, with Wilson's interval.

    In the lungs, against SPECT. A patient without one of the metrics counts as missing in `all`, not as failed.

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
        alone = {metric: of_patients(scores[item], patients) for metric, item in items.items() if item in scores}
        every = together(scores, list(items.values()), patients).set_axis(list(items), axis=1)
        for metric, value in limits.items():
            values = alone.get(metric, pd.Series(dtype=float))
            passed = passes(values, metric, value, settings["decimals"])
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
    scores: Scores, patients: Mapping[str, str], settings: Mapping[str, Any], threshold: str, seed: int
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
            rows.append(row | mcnemar(*passed, settings, seed))
    nothing = mcnemar(pd.Series(dtype=float), pd.Series(dtype=float), settings, seed)
    table = pd.DataFrame(rows, columns=["first", "second", "target", "metric", "threshold", *nothing])
    table.insert(table.columns.get_loc("p") + 1, "p_holm", holm(table["p"].to_numpy(dtype=float)))
    return table


def mcnemar(first: pd.Series, second: pd.Series, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The fourfold table of two models' passes on the same patients, exact two-sided p, and the difference of shares.

    Args:
        first: 1 passed, 0 failed, NaN missing, by patient.
        second: the same for the other model.
        settings: config block `compare`.
        seed: seed of the bootstrap, for the interval of the difference.
    """
    both = pd.concat([first, second], axis=1, keys=["first", "second"]).dropna()
    a, b = (both[name].to_numpy(dtype=float) > 0 for name in ("first", "second"))
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    discordant = only_first + only_second
    low, high = bootstrap_mean(a.astype(float) - b, settings, seed)
    p = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    note = "" if discordant else "no patient passes with one model only"
    return {
        "n": a.size,
        "both": int((a & b).sum()),
        "only_first": only_first,
        "only_second": only_second,
        "neither": int((~a & ~b).sum()),
        "share_first": a.mean() if a.size else np.nan,
        "share_second": b.mean() if a.size else np.nan,
        "difference": a.mean() - b.mean() if a.size else np.nan,
        "bootstrap_low": low,
        "bootstrap_high": high,
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
    low, high = (
        proportion_confint(count, n, alpha=1 - settings["confidence"], method="wilson") if n else (np.nan, np.nan)
    )
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
        # Wilson's interval ends at 0 and 1 there; round-off must not show
        "wilson_low": 0.0 if n and not count else low,
        "wilson_high": 1.0 if n and count == n else high,
        "missing": len(passed) - n,
        "note": "" if n else "no patient has the metric",
    }

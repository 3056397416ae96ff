"""Every model over patients, and beside what has learnt nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.compare.paired import bootstrap_mean
from ct2vq.compare.scores import LUNGS, OVERLAPS, SPECT, Item, Scores, patient_values, together

#: metrics of the summary, in its order; the last four concern ventilation minus perfusion
METRICS = (
    *("ssim", "spearman", "pearson", "mae", "rmse", "psnr"),
    *OVERLAPS,
    *(f"{metric}_chance" for metric in OVERLAPS),
    *("difference_spearman", "difference_mae", "mismatch_dice", "matched_dice"),
)
#: regions of the summary; the first comes first in the table, as the first reference does
REGIONS = (LUNGS, "core", "crop")
REFERENCES = (SPECT, "truth", "truth_visible")
#: kinds of models that have learnt nothing; every network must beat the best of them
BASELINE_KINDS = ("mean_map", "hu_regression")
#: metrics of the short table of a run
SHORT = ("ssim", "spearman", *OVERLAPS)


def summarise(table: pd.DataFrame, patients: Mapping[str, str], settings: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Mean with bootstrap interval, SD, median and quartiles over patients, of every model, region and reference.

    Args:
        table: rows of `results/evaluate/metrics.tsv`.
        patients: patient of each case.
        settings: config block `compare`.
        seed: seed of the bootstrap.
    """
    chosen = table[table["metric"].isin(METRICS) & table["region"].isin(REGIONS)]
    groups = patient_values(chosen, patients).groupby(list(Item._fields), sort=False)["value"]
    rows = [Item(*key)._asdict() | _spread(values.to_numpy(dtype=float), settings, seed) for key, values in groups]
    rows.sort(key=lambda row: (REGIONS.index(row["region"]), REFERENCES.index(row["reference"])))
    nothing = _spread(np.empty(0), settings, seed)
    return pd.DataFrame(rows, columns=[*Item._fields, *nothing])


def _spread(values: np.ndarray, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Location and spread of the patients' values; `missing` counts patients without one."""
    x = values[~np.isnan(values)]
    low, high = bootstrap_mean(x, settings, seed)
    q1, median, q3 = np.percentile(x, [25, 50, 75]) if x.size else [np.nan] * 3
    return {
        "n": x.size,
        "missing": values.size - x.size,
        "mean": x.mean() if x.size else np.nan,
        "sd": x.std(ddof=1) if x.size > 1 else np.nan,
        "median": median,
        "q1": q1,
        "q3": q3,
        "ci_low": low,
        "ci_high": high,
    }


def against_baselines(scores: Scores, patients: Mapping[str, str], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Mean Spearman of every other model beside the best trivial baseline's, on the patients that all of these have.

    Args:
        scores: values of cases.
        patients: patient of each case.
        kinds: kind of each model.
    """
    agreement = [item for item in scores if item == Item(item.model, item.target, "spearman")]
    rows = []
    for target in dict.fromkeys(item.target for item in agreement):
        here = [item.model for item in agreement if item.target == target]
        baselines = [model for model in here if kinds.get(model) in BASELINE_KINDS]
        if not baselines:
            continue
        for model in [model for model in kinds if model in here and model not in baselines]:
            items = [Item(name, target, "spearman") for name in (model, *baselines)]
            common = together(scores, items, patients).set_axis([model, *baselines], axis=1).dropna()
            rows.append({"network": model, "target": target} | _beside_the_best(common, model, baselines))
    columns = ["network", "target", "mean_spearman", "best_baseline", "baseline_mean_spearman", "difference"]
    return pd.DataFrame(rows, columns=[*columns, "cases_better", "n", "beats"])


def _beside_the_best(common: pd.DataFrame, model: str, baselines: Sequence[str]) -> dict[str, Any]:
    """A model beside the baseline with the highest mean, over patients that have all of them."""
    if common.empty:
        return {"best_baseline": "", "cases_better": 0, "n": 0, "beats": ""}
    means = common.mean()
    best = means[baselines].idxmax()
    return {
        "mean_spearman": means[model],
        "best_baseline": best,
        "baseline_mean_spearman": means[best],
        "difference": means[model] - means[best],
        "cases_better": int((common[model] > common[best]).sum()),
        "n": len(common),
        "beats": "yes" if means[model] > means[best] else "no",
    }


def summary_lines(summary: pd.DataFrame) -> Sequence[str]:
    """The short table of a run: model x target with the means of SSIM, Rs and Dice of low and high function.

    In the lungs, against SPECT, Dice by the first threshold.
    """
    shown = summary[(summary["region"] == LUNGS) & (summary["reference"] == SPECT) & summary["metric"].isin(SHORT)]
    first = shown.drop_duplicates(["model", "target", "metric"])
    wide = first.set_index(["model", "target", "metric"])["mean"].unstack(sort=False).reindex(columns=SHORT)
    header = f"{'model':<18}{'target':<13}{'SSIM':>7}{'Rs':>7}{'DSC low':>9}{'DSC high':>10}"
    rows = [
        f"{model:<18}{target:<13}{row['ssim']:>7.3f}{row['spearman']:>7.3f}"
        f"{row['dice_low']:>9.3f}{row['dice_high']:>10.3f}"
        for (model, target), row in wide.iterrows()
    ]
    return [header, *rows]

"""Every model over patients, and beside what has learnt nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.compare.paired import bootstrap_mean, paired_statistics
from ct2vq.compare.scores import Item, Scores, together
from ct2vq.names import CEILINGS, DICE_METRICS, LUNGS, REFERENCES, SPECT
from ct2vq.values import case_means, patient_means

#: metrics of the summary, in its order; the last four concern ventilation minus perfusion
METRICS = (
    *("ssim", "spearman", "pearson", "mae", "rmse", "psnr"),
    *DICE_METRICS,
    *(f"{metric}_chance" for metric in DICE_METRICS),
    *("difference_spearman", "difference_mae", "mismatch_dice", "matched_dice"),
)
#: regions of the summary; the first comes first in the table, as the first reference does
REGIONS = (LUNGS, "core", "crop")
#: kinds of models that have learnt nothing; every network must beat the best of them
BASELINE_KINDS = ("mean_map", "hu_regression")
#: metrics of the short table of a run
SHORT = ("ssim", "spearman", *DICE_METRICS)


def summarise(table: pd.DataFrame, patients: Mapping[str, str], settings: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Mean with bootstrap interval, SD, median and quartiles over patients, of every model, region and reference.

    Args:
        table: rows of `results/evaluate/metrics.tsv`.
        patients: patient of each case.
        settings: config block `compare`.
        seed: seed of the bootstrap.
    """
    chosen = table[table["metric"].isin(METRICS) & table["region"].isin(REGIONS)]
    keys = list(Item._fields)
    means, reasons = mark_common(patient_means(chosen, patients, keys)), _reasons(chosen)
    cases = case_means(chosen, keys)
    missing = cases["value"].isna().groupby([cases[key] for key in keys], sort=False).sum()
    rows = []
    for key, of_item in means.groupby(keys, sort=False):
        values, common = of_item["value"].to_numpy(dtype=float), of_item["common"].to_numpy(dtype=bool)
        row = Item(*key)._asdict() | _spread(values, settings, seed)
        row |= {"n_common": int(common.sum()), "mean_common": values[common].mean() if common.any() else np.nan}
        rows.append(row | {"missing_cases": int(missing[key]), "reasons": reasons.get(Item(*key), "")})
    rows.sort(key=lambda row: (REGIONS.index(row["region"]), REFERENCES.index(row["reference"])))
    nothing = _spread(np.empty(0), settings, seed)
    more = ("n_common", "mean_common", "missing_cases", "reasons")
    return pd.DataFrame(rows, columns=[*Item._fields, *nothing, *more])


def mark_common(means: pd.DataFrame) -> pd.DataFrame:
    """Values of patients with a column `common`: whether every model has a value of this patient, and this row too.

    Whether a value is missing can depend on the model: where reference and image show no mismatch there is no overlap
    of mismatches, but a model that invents one has the overlap 0. Means over other patients cannot be compared. The
    ceilings are no models: they share the models' patients and exclude none.

    Args:
        means: columns `patient_id`, those of `Item`, `value`.
    """
    shared = [name for name in Item._fields if name != "model"]
    models = means[~means["model"].isin(list(CEILINGS))]
    asked = models.groupby(shared)["model"].nunique().rename("asked")
    known = models.dropna(subset="value").groupby([*shared, "patient_id"])["model"].nunique().rename("known")
    both = means.join(asked, on=shared).join(known, on=[*shared, "patient_id"])
    complete = both["asked"].isna() | (both["known"].fillna(0) == both["asked"])
    return means.assign(common=complete & means["value"].notna())


def _reasons(table: pd.DataFrame) -> dict[Item, str]:
    """Why values are missing, each reason with the number of rows, the most frequent first."""
    missing = table[table["value"].isna()].astype({"reason": object}).fillna({"reason": ""})
    missing = missing.assign(reason=missing["reason"].replace("", "no reason given"))
    return {
        Item(*key): "; ".join(f"{reason} ({count})" for reason, count in of_item.value_counts().items())
        for key, of_item in missing.groupby(list(Item._fields), observed=True, sort=False)["reason"]
    }


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


def against_baselines(
    scores: Scores, patients: Mapping[str, str], kinds: Mapping[str, str], settings: Mapping[str, Any], seed: int
) -> pd.DataFrame:
    """Spearman of every other model beside the best trivial baseline's, on the patients that all of these have.

    Args:
        scores: values of cases.
        patients: patient of each case.
        kinds: kind of each model.
        settings: config block `compare`.
        seed: seed of the bootstrap.
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
            rows.append({"network": model, "target": target} | _beside_the_best(common, model, settings, seed))
    columns = ["network", "target", "mean_spearman", "best_baseline", "baseline_mean_spearman", "difference"]
    return pd.DataFrame(rows, columns=[*columns, "ci_low", "ci_high", "p", "patients_better", "n", "beats"])


def _beside_the_best(common: pd.DataFrame, model: str, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A model (first column) beside the baseline with the highest mean, over patients that have all of them.

    `beats` is told by the interval of the mean difference alone: `yes` above 0, `no` below it, else `not shown`.
    """
    if common.empty:
        return {"best_baseline": "", "patients_better": 0, "n": 0, "beats": ""}
    means = common.mean()
    best = means.drop(model).idxmax()
    paired = common[[model, best]].set_axis(["first", "second"], axis=1)
    found = paired_statistics(paired, settings, seed)
    low, high = found["bootstrap_low"], found["bootstrap_high"]
    return {
        "mean_spearman": means[model],
        "best_baseline": best,
        "baseline_mean_spearman": means[best],
        "difference": found["mean_difference"],
        "ci_low": low,
        "ci_high": high,
        "p": found["p"],
        "patients_better": int((common[model] > common[best]).sum()),
        "n": len(common),
        "beats": "yes" if low > 0 else "no" if high < 0 else "not shown",
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

"""Stage `compare`: statistics over patients. They read tables, never images.

The unit is the patient: the cases of a patient are averaged before anything is tested.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import PermutationMethod, rankdata, wilcoxon
from statsmodels.stats.multitest import multipletests

from ct2vq.files import read_tsv, write_tsv

#: metrics of the summary
SUMMARY_METRICS = ("ssim", "spearman", "dice_low", "dice_high")
#: kinds of models that have learnt nothing; every network must beat the best of them
BASELINE_KINDS = ("mean_map", "hu_regression")
#: up to this many differences the null distribution is computed exactly (SciPy's own rule without ties or zeros)
EXACT_LIMIT = 50
#: up to this many differences with ties or zeros all 2^n signs are tried (SciPy's own rule), beyond it p is approximate
PERMUTATION_LIMIT = 13


def compare_models(
    metrics: Path,
    outputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    *,
    patients: Mapping[str, str],
    models: Mapping[str, str],
    definition: str,
    seed: int,
) -> None:
    """Write the summary of every model, the paired comparisons and the comparison with the trivial baselines.

    Args:
        metrics: the table of stage `evaluate`.
        outputs: files to write: `summary`, `pairs`, `baselines`.
        settings: config block `compare`.
        patients: patient of each case.
        models: kind of each model.
        definition: name of the function threshold in the summary.
        seed: seed of the bootstrap.
    """
    values = patient_values(read_tsv(metrics), patients, definition)
    summary = summarise(values, settings, seed)
    write_tsv(summary, outputs["summary"])
    write_tsv(compare_pairs(values, settings, seed), outputs["pairs"])
    write_tsv(against_baselines(values, models), outputs["baselines"])


def patient_values(metrics: pd.DataFrame, patients: Mapping[str, str], definition: str) -> pd.DataFrame:
    """One row for each patient, model, target and metric of the summary: the mean over the patient's cases."""
    chosen = metrics[metrics["metric"].isin(SUMMARY_METRICS)]
    chosen = chosen[~chosen["metric"].str.startswith("dice") | (chosen["definition"] == definition)]
    chosen = chosen.assign(
        patient=chosen["case_id"].map(patients),
        definition=chosen["definition"].where(chosen["metric"].str.startswith("dice"), ""),
    )
    keys = ["model", "target", "metric", "definition", "patient"]
    return chosen.groupby(keys, sort=False, dropna=False)["value"].mean().reset_index()


def summarise(values: pd.DataFrame, settings: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Mean with bootstrap interval, SD, median and quartiles over patients."""
    rows = []
    for (model, target, metric, definition), group in values.groupby(
        ["model", "target", "metric", "definition"], sort=False
    ):
        x = group["value"].dropna().to_numpy()
        low, high = bootstrap_mean(x, settings, _generator(seed, "summary", model, target, metric))
        q1, median, q3 = np.percentile(x, [25, 50, 75]) if x.size else [np.nan] * 3
        rows.append(
            {
                "model": model,
                "target": target,
                "metric": metric,
                "definition": definition,
                "n": x.size,
                "missing": int(group["value"].isna().sum()),
                "mean": x.mean() if x.size else np.nan,
                "sd": x.std(ddof=1) if x.size > 1 else np.nan,
                "median": median,
                "q1": q1,
                "q3": q3,
                "ci_low": low,
                "ci_high": high,
            }
        )
    return pd.DataFrame(rows)


def compare_pairs(values: pd.DataFrame, settings: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Every declared comparison, with Holm's correction over the family of all of them."""
    rows = []
    for first, second, target in settings["pairs"]:
        for metric in settings["metrics"]:
            of_metric = values[(values["target"] == target) & (values["metric"] == metric)]
            wide = of_metric.pivot(index="patient", columns="model", values="value")
            paired = wide.reindex(columns=[first, second]).set_axis(["first", "second"], axis=1)
            row = {"first": first, "second": second, "target": target, "metric": metric}
            row["definition"] = next(iter(of_metric["definition"]), "")
            generator = _generator(seed, "pairs", first, second, target, metric)
            rows.append(row | paired_statistics(paired, settings, generator))
    nothing = paired_statistics(pd.DataFrame(columns=["first", "second"], dtype=float), settings, _generator(seed))
    columns = ["first", "second", "target", "metric", "definition", *nothing]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(table.columns.get_loc("p") + 1, "p_holm", holm(table["p"].to_numpy(dtype=float)))
    return table


def paired_statistics(
    paired: pd.DataFrame, settings: Mapping[str, Any], generator: np.random.Generator
) -> dict[str, Any]:
    """Wilcoxon's signed-rank test with effect sizes, two-sided, of the columns `first` and `second`.

    Differences are rounded (round-off makes false non-ties); zeros are ranked and then dropped (Pratt 1959); p is
    exact where there are no zeros and no ties among at most `EXACT_LIMIT` differences, or where there are at most
    `PERMUTATION_LIMIT` differences (all signs are tried), else from the normal approximation.
    The Hodges-Lehmann difference is the median of the Walsh averages, its interval the distribution-free one of the
    signed-rank statistic (Hollander & Wolfe, Nonparametric Statistical Methods, 3.2-3.3); it is infinite where so few
    patients cannot reach the confidence asked for.
    """
    complete = paired.dropna()
    d = np.round((complete["first"] - complete["second"]).to_numpy(dtype=float), settings["decimals"])
    zeros = int((d == 0).sum())
    tied = np.unique(np.abs(d)).size < d.size
    method, name = _method(d.size, plain=not zeros and not tied)
    statistics: dict[str, Any] = {
        "n": d.size,
        "excluded": len(paired) - d.size,
        "median_first": complete["first"].median(),
        "median_second": complete["second"].median(),
        "hodges_lehmann": np.nan,
        "ci_low": np.nan,
        "ci_high": np.nan,
        "mean_difference": d.mean() if d.size else np.nan,
        "bootstrap_low": np.nan,
        "bootstrap_high": np.nan,
        "p": np.nan,
        "rank_biserial": np.nan,
        "zeros": zeros,
        "method": "",
        "note": "",
    }
    if d.size - zeros < 1:
        return statistics | {"note": "no differences to test" if d.size else "no patient has both"}
    statistics["p"] = float(wilcoxon(d, zero_method="pratt", alternative="two-sided", method=method).pvalue)
    statistics["method"] = f"{name} (zeros by Pratt)" if zeros else name
    statistics["rank_biserial"] = rank_biserial(d)
    estimate, low, high = hodges_lehmann(d, settings["confidence"])
    statistics |= {"hodges_lehmann": estimate, "ci_low": low, "ci_high": high}
    low, high = bootstrap_mean(d, settings, generator)
    statistics |= {"bootstrap_low": low, "bootstrap_high": high}
    smallest = 2.0 ** (1 - d.size)
    if smallest > 1 - settings["confidence"]:
        statistics["note"] = f"with {d.size} patients p cannot be below {smallest:.3g}"
    return statistics


def _method(n: int, *, plain: bool) -> tuple[Any, str]:
    """SciPy's method for the p value and its name in the table; `plain` means neither ties nor zeros."""
    if plain and n <= EXACT_LIMIT:
        return "exact", "exact"
    if n <= PERMUTATION_LIMIT:
        return PermutationMethod(n_resamples=2**PERMUTATION_LIMIT), "exact, all signs"
    return "asymptotic", "normal approximation"


def rank_biserial(d: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): favourable minus unfavourable share of the rank sum."""
    d = d[d != 0]
    ranks = rankdata(np.abs(d))
    return float((ranks[d > 0].sum() - ranks[d < 0].sum()) / ranks.sum())


def hodges_lehmann(d: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Hodges-Lehmann estimate of the median difference and its distribution-free interval."""
    i, j = np.triu_indices(d.size)
    walsh = np.sort((d[i] + d[j]) / 2)
    # the interval from the (k+1)-th to the (k+1)-th last Walsh average misses the median with probability 2 P(T <= k)
    tail = np.cumsum(signed_rank_distribution(d.size))
    cut = int(np.searchsorted(tail, (1 - confidence) / 2 * (1 + 1e-12), side="right")) - 1
    low, high = (walsh[cut], walsh[-cut - 1]) if cut >= 0 else (-np.inf, np.inf)
    return float(np.median(walsh)), float(low), float(high)


def signed_rank_distribution(n: int) -> np.ndarray:
    """Probability of each value 0..n(n+1)/2 of the signed-rank statistic of `n` differences, under no difference."""
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, n + 1):
        shifted = np.concatenate([np.zeros(rank), probability[:-rank]])
        probability = (probability + shifted) / 2
    return probability


def holm(p: np.ndarray) -> np.ndarray:
    """Holm-adjusted p values; missing ones stay missing and do not count in the family."""
    adjusted = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        adjusted[known] = multipletests(p[known], method="holm")[1]
    return adjusted


def against_baselines(values: pd.DataFrame, models: Mapping[str, str]) -> pd.DataFrame:
    """Mean Spearman of every other model beside the best trivial baseline's, for each target."""
    agreement = values[values["metric"] == "spearman"]
    rows = []
    for target in agreement["target"].unique():
        here = agreement[agreement["target"] == target].pivot(index="patient", columns="model", values="value")
        baselines = [model for model in here if models[model] in BASELINE_KINDS]
        if not baselines:
            continue
        best = here[baselines].mean().idxmax()
        for model in [model for model in models if model in here and model not in baselines]:
            rows.append(
                {
                    "network": model,
                    "target": target,
                    "mean_spearman": here[model].mean(),
                    "best_baseline": best,
                    "baseline_mean_spearman": here[best].mean(),
                    "difference": here[model].mean() - here[best].mean(),
                    "cases_better": int((here[model] > here[best]).sum()),
                    "n": int(here[[model, best]].dropna().shape[0]),
                    "beats": "yes" if here[model].mean() > here[best].mean() else "no",
                }
            )
    columns = ["network", "target", "mean_spearman", "best_baseline", "baseline_mean_spearman", "difference"]
    return pd.DataFrame(rows, columns=[*columns, "cases_better", "n", "beats"])


def bootstrap_mean(x: np.ndarray, settings: Mapping[str, Any], generator: np.random.Generator) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over patients; missing below two patients or without samples."""
    if x.size < 2 or not settings["bootstrap"]:
        return np.nan, np.nan
    means = generator.choice(x, size=(settings["bootstrap"], x.size)).mean(axis=1)
    tail = (1 - settings["confidence"]) / 2 * 100
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def summary_lines(summary: pd.DataFrame) -> Sequence[str]:
    """The short table of a run: model x target with the means of SSIM, Rs and Dice of low and high function."""
    wide = summary.set_index(["model", "target", "metric"])["mean"].unstack(sort=False).reindex(columns=SUMMARY_METRICS)
    header = f"{'model':<18}{'target':<13}{'SSIM':>7}{'Rs':>7}{'DSC low':>9}{'DSC high':>10}"
    rows = [
        f"{model:<18}{target:<13}{row['ssim']:>7.3f}{row['spearman']:>7.3f}"
        f"{row['dice_low']:>9.3f}{row['dice_high']:>10.3f}"
        for (model, target), row in wide.iterrows()
    ]
    return [header, *rows]


def _generator(seed: int, *purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(":".join([str(seed), *purpose]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))

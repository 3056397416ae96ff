"""Tables of the results: means, paired comparisons, baselines, and the summary in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ct2vq.config import is_network
from ct2vq.figures import METRIC_NAMES, TARGET_NAMES
from ct2vq.findings import (
    Finding,
    against_baselines,
    agreement,
    caveats,
    interval,
    main_pairs,
    mean_and_sd,
    number,
    p_value,
    pair_size,
    paired_differences,
    select_row,
)
from ct2vq.report.study import Study
from ct2vq.values import DICE_METRICS, patient_values

DEFINITIONS = {
    "percentile": "low at or below the {low:g}th, high above the {high:g}th percentile of an image's own values",
    "percent_of_maximum": "low below {low:g} %, high above {high:g} % of the robust maximum",
    "activity": "low outside the brightest voxels with {low:g} % of the activity, high the brightest with {high:g} %",
    "equal_volumes": "thirds of the lungs' volume, by function",
}


def findings(study: Study) -> list[Finding]:
    """The summary in plain words."""
    overview = Finding(
        f"{_join([study.labels[model] for model in study.networks])} synthesise SPECT images of "
        f"{' and '.join(study.targets)} from the CT alone. {study.flow['analysed']} cases of {study.flow['patients']} "
        f"patients took part in {len(study.flow['folds'])} folds; every image that is shown or scored comes from a "
        f"model that never saw the patient. Agreement is measured voxel by voxel in the lungs: Rs is Spearman's rank "
        f"correlation and SSIM the structural similarity, both 1 for perfect agreement."
    )
    return [
        overview,
        *(agreement(study.summary, target, study.networks, study.labels, study.confidence) for target in study.targets),
        *against_baselines(study.baselines, study.labels),
        *paired_differences(study.pairs, study.summary, study.labels, study.definition),
        *caveats(study.pairs, study.definition, study.flow["patients"], study.simulated),
    ]


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "No networks"


def describe_models(study: Study) -> list[dict[str, str]]:
    """Name, kind and targets of each model, in words."""
    kinds = {
        "mean_map": "trivial baseline: the training patients' mean image in lung coordinates, blind to the CT's values",
        "hu_regression": "trivial baseline: a ridge regression on the voxel's density (HU) and position",
    }
    models = []
    for name, label in study.labels.items():
        model = study.config["models"][name]
        decoders = len(model["targets"])
        network = f"residual attention network with {decoders} decoder{'s' if decoders > 1 else ''}"
        kind = network if is_network(model) else kinds[model["kind"]]
        models.append({"label": label, "kind": kind, "targets": ", ".join(model["targets"])})
    return models


def results_table(study: Study) -> list[dict[str, Any]]:
    """A row for each target and model: mean ± SD with confidence interval of every metric, and Dice by chance."""
    chance = patient_values(study.metrics, study.patients, study.definition)
    chance = chance.groupby(["model", "target", "metric"])["value"].mean()
    rows = []
    for target, model in _targets_and_models(study):
        found = select_row(study.summary, model, target, "spearman", study.definition)
        if found is None:
            continue
        cells = []
        for metric in METRIC_NAMES:
            row = select_row(study.summary, model, target, metric, study.definition)
            cells.append(_cell(row, chance.get((model, target, f"{metric}_chance"))))
        rows.append(_result(study, target, model, int(found["n"]), cells))
    return rows


def threshold_words(threshold: Mapping[str, Any]) -> str:
    """What a definition of low and high function says, in words."""
    numbers = {key: threshold[key] for key in ("low", "high") if threshold.get(key) is not None}
    cut = "; both images are cut at the value of SPECT" if threshold.get("cut") == "reference" else ""
    return DEFINITIONS[threshold.get("method", "percentile")].format(**numbers) + cut


def other_definition_table(study: Study, definition: str) -> list[dict[str, Any]]:
    """Dice by another threshold than the summary's, for each target and model: mean ± SD over patients."""
    values = patient_values(study.metrics, study.patients, definition)
    rows = []
    for target, model in _targets_and_models(study):
        chosen = values[(values["model"] == model) & (values["target"] == target)]
        statistics = chosen.groupby("metric")["value"].agg(["count", "mean", "std"]).rename(columns={"std": "sd"})
        if not set(DICE_METRICS) <= set(statistics.index):
            continue
        means = statistics["mean"]
        cells = [_cell(statistics.loc[metric], means.get(f"{metric}_chance")) for metric in DICE_METRICS]
        rows.append(_result(study, target, model, int(statistics["count"][DICE_METRICS[0]]), cells))
    return rows


def _targets_and_models(study: Study) -> list[tuple[str, str]]:
    """Every target with every model, networks first."""
    models = [*study.networks, *(name for name in study.labels if name not in study.networks)]
    return [(target, model) for target in study.targets for model in models]


def _result(study: Study, target: str, model: str, n: int, cells: list[dict[str, str]]) -> dict[str, Any]:
    network = model in study.networks
    return {"target": TARGET_NAMES[target], "model": study.labels[model], "network": network, "n": n, "cells": cells}


def _cell(row: pd.Series | None, chance: float | None) -> dict[str, str]:
    if row is None:
        return {"value": "n/a", "interval": "", "chance": ""}
    return {
        "value": mean_and_sd(row["mean"], row["sd"]),
        "interval": interval(row["ci_low"], row["ci_high"]) if "ci_low" in row else "",
        "chance": "" if chance is None else number(chance, 2),
    }


def pairs_table(study: Study) -> list[dict[str, Any]]:
    """The declared comparisons, with a word on the size of each difference."""
    rows = []
    for pair in main_pairs(study.pairs, study.definition).itertuples():
        rows.append(
            {
                "target": TARGET_NAMES[pair.target],
                "comparison": f"{study.labels[pair.first]} − {study.labels[pair.second]}",
                "metric": METRIC_NAMES[pair.metric],
                "n": pair.n,
                "medians": f"{number(pair.median_first)} / {number(pair.median_second)}",
                "difference": number(pair.hodges_lehmann, 4),
                "interval": interval(pair.ci_low, pair.ci_high),
                "p": p_value(pair.p),
                "p_holm": p_value(pair.p_holm),
                "rank_biserial": number(pair.rank_biserial, 2),
                "size": pair_size(pair, study.summary, study.definition),
                "method": pair.method if isinstance(pair.method, str) else "",
                "note": pair.note if isinstance(pair.note, str) else "",
            }
        )
    return rows


def baselines_table(study: Study) -> list[dict[str, Any]]:
    """Networks against the better trivial baseline."""
    return [
        {
            "target": TARGET_NAMES[row.target],
            "network": study.labels[row.network],
            "mean": number(row.mean_spearman),
            "baseline": study.labels.get(row.best_baseline, "n/a"),
            "baseline_mean": number(row.baseline_mean_spearman),
            "difference": number(row.difference),
            "better": f"{row.cases_better} of {row.n}",
        }
        for row in study.baselines.itertuples()
    ]

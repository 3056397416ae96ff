"""What all finished trials say: means with intervals, shares of the visible ceiling, pairs, costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.compare.paired import bootstrap_mean, holm, paired_statistics, resamples
from ct2vq.config import TARGETS
from ct2vq.files import read_json, read_tsv
from ct2vq.names import LUNGS, SPECT
from training.study import System

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
#: names of metrics in the table
NAMES = {"spearman": "rs", "ssim": "ssim", "dice_low": "dsc_low", "dice_high": "dsc_high"}
CEILING, FLOOR = "visible_ceiling", "mean_map"
#: seed of all bootstraps
SEED = 0


def read_scores(state: Path) -> pd.DataFrame:
    """The rows of all finished trials."""
    return pd.concat([read_tsv(path) for path in sorted((state / "scores").glob("*.tsv"))], ignore_index=True)


def rows_of(
    scores: pd.DataFrame, systems: Sequence[System], ours: str, settings: Mapping[str, Any], state: Path
) -> Iterator[list[Any]]:
    """All rows of the benchmark's table.

    Args:
        scores: rows of trials (`training.trial.COLUMNS`).
        systems: who competes.
        ours: the system that all others are paired with.
        settings: config block `compare`.
        state: folder of the trials.
    """
    of_model = {model: system.name for system in systems for model in system.models}
    scores = scores.assign(arm=scores["model"].map(lambda name: of_model.get(name, name)))
    scores = scores[scores["case"].isin(_scored_by_all(scores, set(of_model.values())))]
    yield from _means(scores, settings)
    yield from _shares(scores, settings)
    yield from _pairs(scores, [system.name for system in systems], ours, settings)
    yield from _costs(systems, state)


def _scored_by_all(scores: pd.DataFrame, names: set[str]) -> set[str]:
    """Cases of which every system that has any has all targets: means of some and of all patients do not compare."""
    own = scores[scores["arm"].isin(names)]
    wanted = own.groupby(["arm", "target"]).ngroups
    found = own.drop_duplicates(["arm", "target", "case"]).groupby("case").size()
    return set(found[found == wanted].index)


def per_patient(scores: pd.DataFrame, metric: str, target: str, reference: str, region: str = LUNGS) -> pd.DataFrame:
    """A metric by case and arm, seeds averaged; only cases that every arm has."""
    chosen = scores[
        (scores["metric"] == metric)
        & (scores["target"] == target)
        & (scores["reference"] == reference)
        & (scores["region"] == region)
    ]
    return chosen.pivot_table(index="case", columns="arm", values="value", sort=False).dropna()


def _means(scores: pd.DataFrame, settings: Mapping[str, Any]) -> Iterator[list[Any]]:
    keys = ["target", "reference", "region", "metric"]
    for (target, reference, region, metric), rows in scores[scores["metric"].isin(NAMES)].groupby(keys, sort=False):
        for arm, own in rows.groupby("arm", sort=False):
            values = own.groupby("case")["value"].mean().to_numpy()
            where = f"{reference}" if region == LUNGS else f"{reference}, {region}"
            name = NAMES[metric]
            low, high = bootstrap_mean(values, settings, SEED)
            yield [arm, "", target, where, name, float(values.mean()), ""]
            yield [arm, "", target, where, f"{name}_low", low, ""]
            yield [arm, "", target, where, f"{name}_high", high, ""]
            seeds = own.groupby("seed")["value"].mean()
            if len(seeds) > 1:
                yield [arm, "", target, where, f"{name}_seed_sd", float(seeds.std(ddof=1)), ""]


def _shares(scores: pd.DataFrame, settings: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Share of the visible ceiling's mean Rs, and of the way to it from the mean map."""
    for target in TARGETS:
        wide = per_patient(scores, "spearman", target, SPECT)
        if not {CEILING, FLOOR} <= set(wide.columns):
            continue
        chosen = resamples(len(wide), settings["bootstrap"], SEED)
        means = {arm: values[chosen].mean(axis=1) for arm, values in ((a, wide[a].to_numpy()) for a in wide.columns)}
        plain = wide.mean()
        for arm in wide.columns:
            for name, of in (("share_of_ceiling", 0.0), ("way_to_ceiling", FLOOR)):
                low = plain[of] if of else 0.0
                lows = means[of] if of else 0.0
                value = (plain[arm] - low) / (plain[CEILING] - low)
                drawn = (means[arm] - lows) / (means[CEILING] - lows)
                yield [arm, "", target, SPECT, name, float(value), ""]
                for end, percent in (("low", 2.5), ("high", 97.5)):
                    yield [arm, "", target, SPECT, f"{name}_{end}", float(np.percentile(drawn, percent)), ""]


def _pairs(scores: pd.DataFrame, names: Sequence[str], ours: str, settings: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Ours less each other system in Rs against SPECT, on the same patients; p after Holm over all of them."""
    found = []
    for target in TARGETS:
        wide = per_patient(scores, "spearman", target, SPECT)
        for other in names:
            if other != ours and {ours, other} <= set(wide.columns):
                paired = pd.DataFrame({"first": wide[ours], "second": wide[other]})
                found.append((target, other, paired_statistics(paired, settings, SEED)))
    for (target, other, facts), adjusted in zip(
        found, holm(np.array([facts["p"] for *_, facts in found])), strict=True
    ):
        yield [other, "", target, SPECT, "behind_ours", facts["mean_difference"], ""]
        yield [other, "", target, SPECT, "behind_ours_low", facts["bootstrap_low"], ""]
        yield [other, "", target, SPECT, "behind_ours_high", facts["bootstrap_high"], ""]
        yield [other, "", target, SPECT, "behind_ours_p_holm", float(adjusted), ""]
        yield [other, "", target, SPECT, "patients", facts["n"], ""]


def _costs(systems: Sequence[System], state: Path) -> Iterator[list[Any]]:
    plan = read_json(state / "plan.json")
    for system in systems:
        costs = {model: _of_trials(state, model) for model in system.models}
        if not all(costs.values()):
            continue
        seconds = sum(plan["seconds_a_case"][model] for model in system.models)
        yield [system.name, "", "", "", "seconds_a_case", seconds, "s"]
        yield [system.name, "", "", "", "epochs", plan["epochs"][system.models[0]], ""]
        whole = [cost for found in costs.values() for cost in found if not cost["interrupted"]]
        minutes = [
            np.mean([cost["processor_minutes"] for cost in found if not cost["interrupted"]] or [np.nan])
            for found in costs.values()
        ]
        yield [system.name, "", "", "", "processor_minutes", float(sum(minutes)), "min"]
        memory = max((cost["peak_memory_mib"] for cost in whole), default=np.nan)
        yield [system.name, "", "", "", "peak_memory", memory, "MiB"]
        count = sum(found[0]["parameters"] for found in costs.values())
        yield [system.name, "", "", "", "parameters", count / 1e6, "million"]


def _of_trials(state: Path, model: str) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted((state / "trainings").glob(f"{model}.seed*/cost.json"))]

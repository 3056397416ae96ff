"""Stage `report`: one page to open, made of the tables and figures of the other stages.

The page needs no network and no scripts; the same results give the same bytes (the only times on it are those that the
trainings wrote down).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ct2vq import __version__
from ct2vq.config import TARGETS, config_schema, is_network
from ct2vq.figures import METRIC_NAMES, TARGET_NAMES
from ct2vq.files import read_json, read_tsv, write_text
from ct2vq.findings import (
    PUBLISHED_PATIENTS,
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
from ct2vq.noticed import noticed_rows, read_records, summarise_noticed
from ct2vq.pages import RESOURCES, link, style, template
from ct2vq.plots import DICE_METRICS, patient_values
from ct2vq.registrations import anchor, registration_name, summarise, worst_first

PAPER = "Wang 2026"
#: up to this many cases all panels are unfolded
UNFOLDED_CASES = 16
ADDRESSES = {
    "doi": "https://doi.org/{}",
    "pmid": "https://pubmed.ncbi.nlm.nih.gov/{}/",
    "pmc": "https://pmc.ncbi.nlm.nih.gov/articles/{}/",
}


@dataclass(frozen=True)
class Study:
    """What the page is made from.

    Attributes:
        config: the complete configuration.
        labels: name of each model, in order.
        cases: facts of each case (`fold`, `targets`, `diagnosis`, ...).
        flow: numbers of the cohort flow (see `ct2vq.plots.draw_cohort`).
        simulated: whether the patients are simulated.
        summary: table of means.
        pairs: table of paired comparisons.
        baselines: table of networks against the trivial baselines.
        metrics: long table of metrics.
        patients: patient of each case.
        quality: `qc.json` of each registration, by `registration_name`.
        noticed: what `segment` and `crop` noticed of each case (`ct2vq.noticed.noticed_rows`).
        runs: records of the trainings, each with its `model`.
    """

    config: Mapping[str, Any]
    labels: Mapping[str, str]
    cases: Mapping[str, Mapping[str, Any]]
    flow: Mapping[str, Any]
    simulated: bool
    summary: pd.DataFrame
    pairs: pd.DataFrame
    baselines: pd.DataFrame
    metrics: pd.DataFrame
    patients: Mapping[str, str]
    quality: Mapping[str, Mapping[str, Any]]
    noticed: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]

    @property
    def networks(self) -> list[str]:
        """Models that are networks."""
        return [model for model in self.labels if is_network(self.config["models"][model])]

    @property
    def targets(self) -> list[str]:
        """Targets of the cohort."""
        return [target for target in TARGETS if target in self.flow["targets"]]

    @property
    def definition(self) -> str:
        """Name of the threshold that the page's Dice is of."""
        return self.config["evaluate"]["function_thresholds"][0]["name"]

    @property
    def confidence(self) -> float:
        """Level of the confidence intervals."""
        return float(self.config["compare"]["confidence"])


def write_report(
    tables: Mapping[str, str | Path],
    qc: Sequence[str | Path],
    noticed: Sequence[str | Path],
    runs: Sequence[str | Path],
    panels: Sequence[str | Path],
    registrations: str | Path,
    figures: Sequence[str | Path],
    page: str | Path,
    effective_config: str | Path,
    *,
    config: Mapping[str, Any],
    labels: Mapping[str, str],
    cases: Mapping[str, Mapping[str, Any]],
    flow: Mapping[str, Any],
    simulated: bool,
    normalised: Sequence[str | Path] = (),
) -> None:
    """Write the page and the configuration that the study ran with.

    Args:
        tables: paths of the tables `summary`, `pairs`, `baselines`, `metrics` and `folds`.
        qc: `results/register/<case>/qc.json`, or `<target>_qc.json` of a SPECT that is registered alone.
        noticed: records of the stages `segment` and `crop` (`ct2vq.noticed.read_records`).
        runs: `results/train/<model>/fold<k>/run.json`.
        panels: `<case>.png` with the case's images.
        registrations: the page of all registrations.
        figures: `metrics.png`, `training.png` and `cohort.png`.
        page: `*.html` to write; figures are linked relative to it.
        effective_config: `*.yaml` to write.
        config: the complete configuration.
        labels: name of each model, in order.
        cases: facts of each case.
        flow: numbers of the cohort flow.
        simulated: whether the patients are simulated.
        normalised: `<case>.png` with the case's normalised SPECT.
    """
    study = Study(
        config=plain(config),
        labels=labels,
        cases=cases,
        flow=flow,
        simulated=simulated,
        **{name: read_tsv(tables[name]) for name in ("summary", "pairs", "baselines")},
        metrics=read_tsv(tables["metrics"], dtype={"case_id": str}),
        patients=dict(read_tsv(tables["folds"], dtype=str)[["case_id", "patient_id"]].itertuples(index=False)),
        quality={registration_name(path): read_json(path) for path in qc},
        noticed=noticed_rows(read_records(noticed)),
        runs=[read_json(path) | {"model": Path(path).parts[-3]} for path in runs],
    )
    links = {
        "panels": linked(panels, page),
        "normalised": linked(normalised, page),
        "registrations": link(registrations, page),
        "figures": linked(figures, page),
        "config": link(effective_config, page),
    }
    write_text(config_text(study.config), effective_config)
    write_text(render(study, links), page)


def plain(value: Any) -> Any:
    """The same value of plain dicts and lists, which YAML can write safely."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def config_text(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, keys sorted."""
    import yaml

    return yaml.safe_dump(plain(config), sort_keys=True, allow_unicode=True)


def linked(paths: Sequence[str | Path], page: str | Path) -> dict[str, str]:
    """Links to files relative to the page, by the files' names without suffix."""
    return {Path(path).stem: link(path, page) for path in paths}


def render(study: Study, links: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        study: what the page is made from.
        links: `panels` and `normalised` by case, `figures` by name, `registrations` and `config`.
    """
    published = read_tsv(RESOURCES / "published.tsv", dtype={"note": str})
    return template("page.html.j2", number=number, p_value=p_value).render(
        title=study.config["report"]["title"],
        name=study.config["study"],
        style=style(),
        simulated=study.simulated,
        findings=findings(study),
        models=describe_models(study),
        metric_names=METRIC_NAMES,
        dice_metrics=DICE_METRICS,
        confidence=f"{study.confidence:.0%}",
        thresholds=study.config["evaluate"]["function_thresholds"],
        results=results_table(study),
        other_results={
            threshold["name"]: other_definition_table(study, threshold["name"])
            for threshold in study.config["evaluate"]["function_thresholds"][1:]
        },
        pairs=pairs_table(study),
        baselines=baselines_table(study),
        published=published_beside_ours(study, published),
        published_n=PUBLISHED_PATIENTS,
        neighbours=neighbours(published),
        flow=study.flow,
        cases=cases_table(study),
        columns=case_columns(study),
        registration=summarise(study.quality),
        flagged=flagged_registrations(study),
        noticed=study.noticed,
        noticed_summary=summarise_noticed(study.noticed),
        runs=runs_table(study),
        versions=versions(study),
        assumptions=list(assumptions(study.config)),
        unfolded=len(study.cases) <= UNFOLDED_CASES,
        links=links,
        seed=study.config["seed"],
    )


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


def role(model: Mapping[str, Any]) -> str | None:
    """The published model that a configured one corresponds to."""
    if not is_network(model):
        return None
    return "DDRAN" if len(model["targets"]) == 2 else "RAN"


def published_beside_ours(study: Study, published: pd.DataFrame) -> list[dict[str, Any]]:
    """The paper's values and those of the corresponding models of this study."""
    rows = []
    for value in published[published["paper"] == PAPER].itertuples():
        models = [name for name in study.networks if role(study.config["models"][name]) == value.model]
        ours = [
            (study.labels[name], select_row(study.summary, name, value.target, value.metric, study.definition))
            for name in models
        ]
        rows.append(
            {
                "target": TARGET_NAMES[value.target],
                "metric": METRIC_NAMES[value.metric],
                "model": value.model,
                "published": number(value.mean),
                "note": value.note if isinstance(value.note, str) else "",
                "ours": [f"{label} {mean_and_sd(row['mean'], row['sd'])}" for label, row in ours if row is not None],
            }
        )
    return rows


def neighbours(published: pd.DataFrame) -> list[dict[str, Any]]:
    """Values of other papers, with a link to each."""
    names = METRIC_NAMES | {"dice_mean": "DSC, mean of regions"}
    return [
        {
            "paper": row.paper,
            "link": address(row.identifier),
            "n": row.cohort_n,
            "model": row.model,
            "input": row.input,
            "target": TARGET_NAMES[row.target],
            "metric": names[row.metric],
            "value": mean_and_sd(row.mean, row.sd),
            "note": row.note if isinstance(row.note, str) else "",
        }
        for row in published[published["paper"] != PAPER].itertuples()
    ]


def address(identifier: str) -> str:
    """The address of an identifier such as `doi:10.1002/acm2.70498`."""
    kind, _, value = identifier.partition(":")
    return ADDRESSES[kind].format(value)


def case_columns(study: Study) -> list[tuple[str, str, str]]:
    """Columns of the table of cases: heading, model and target of each Rs."""
    return [
        (f"{study.labels[model]}, {target}", model, target)
        for target in study.targets
        for model in study.networks
        if target in study.config["models"][model]["targets"]
    ]


def cases_table(study: Study) -> list[dict[str, Any]]:
    """Facts of each case with the Rs of every network."""
    chosen = study.metrics[
        (study.metrics["metric"] == "spearman")
        & (study.metrics["region"] == "lungs")
        & (study.metrics["reference"] == "spect")
    ]
    values = chosen.set_index(["case_id", "model", "target"])["value"].to_dict()
    return [
        {
            "case": case,
            "diagnosis": facts.get("diagnosis", "unknown"),
            "site": facts.get("site", ""),
            "fold": facts["fold"],
            "targets": ", ".join(facts["targets"]),
            "flagged": [
                {"words": f"registration{name[len(case) :]}", "anchor": anchor(name)}
                for name, qc in study.quality.items()
                if name.split()[0] == case and qc["flags"]
            ],
            "spearman": [number(values.get((case, model, target)), 2) for _, model, target in case_columns(study)],
        }
        for case, facts in study.cases.items()
    ]


def flagged_registrations(study: Study) -> list[dict[str, Any]]:
    """Registrations with a flag, the worst first."""
    return [
        {"name": name, "anchor": anchor(name), "flags": study.quality[name]["flags"]}
        for name in worst_first(study.quality)
        if study.quality[name]["flags"]
    ]


def runs_table(study: Study) -> list[dict[str, Any]]:
    """A row for each model: size, settings and run time of its trainings."""
    rows = []
    for model, label in study.labels.items():
        runs = [run for run in study.runs if run["model"] == model]
        seconds = [run["seconds"] for run in runs if run.get("seconds") is not None]
        rows.append(
            {
                "model": label,
                "folds": len(runs),
                "parameters": _values(runs, "parameters"),
                "epochs": _values(runs, "epochs"),
                "device": _values(runs, "device"),
                "threads": _values(runs, "threads"),
                "seed": _values(runs, "seed"),
                "minutes": number(sum(seconds) / 60, 1) if seconds else "n/a",
            }
        )
    return rows


def _values(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    """The value that the runs share, or all their values."""
    found = sorted({str(run[key]) for run in runs if run.get(key) is not None})
    return ", ".join(found) if found else "n/a"


def versions(study: Study) -> list[tuple[str, str]]:
    """Versions that the trainings wrote down; several if the runs differ."""
    names = sorted({name for run in study.runs for name in run.get("versions", {})})
    found = [(name, _values([run.get("versions", {}) for run in study.runs], name)) for name in names]
    return [("ct2vq (this page)", __version__), *found]


def assumptions(config: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Keys that the schema marks as assumptions, with their values; baselines have no network."""
    models = {
        name: model if is_network(model) else {key: value for key, value in model.items() if key != "network"}
        for name, model in config["models"].items()
    }
    yield from _assumed({**config, "models": models}, config_schema(), ())


def _assumed(value: Any, schema: Mapping[str, Any], where: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if where and "assumption" in schema.get("description", "").lower():
        yield {"key": ".".join(where), "value": config_text({"v": value})[3:].strip(), "reason": schema["description"]}
    if not isinstance(value, Mapping):
        return
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    for key in [*(key for key in properties if key in value), *(key for key in value if key not in properties)]:
        subschema = properties.get(key, extra)
        if isinstance(subschema, Mapping):
            yield from _assumed(value[key], subschema, (*where, str(key)))

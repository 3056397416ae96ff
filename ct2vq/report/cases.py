"""The cases one by one: the browser's table, what the page's scripts need to know, and the failure analysis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.figures import METRIC_NAMES, TARGET_NAMES, colour_map
from ct2vq.findings import number
from ct2vq.names import DICE_METRICS
from ct2vq.registrations import anchor, worst_first
from ct2vq.report.study import Study

#: colours of a map that the viewer interpolates between
VIEWER_COLOURS = 33
VIEWER_MAPS = ("hot_iron", "cividis", "viridis", "inferno", "gray", "nuclear")
#: at least so many cases of each target are looked at one by one, as far as they lie below the median
LEAST_WORST = 3
WORST_SHARE = 0.1
#: reasons are told beyond these. All are choices of this page, none is a limit of quality.
FEW_COUNTS = 0.5
FEW_OF_DIAGNOSIS = 3
LEAST_VISIBLE = 0.25
NOISY_RS = 0.9


def case_columns(study: Study) -> list[tuple[str, str, str]]:
    """Columns of the table of cases: heading, model and target of each value."""
    return [
        (f"{study.labels[model]}, {target}", model, target)
        for target in study.targets
        for model in study.networks
        if target in study.config["models"][model]["targets"]
    ]


def case_values(study: Study, metric: str) -> dict[tuple[str, str, str], float]:
    """A metric of every case, model and target: in the lungs, against SPECT."""
    rows = study.metrics[
        (study.metrics["metric"] == metric)
        & (study.metrics["region"] == "lungs")
        & (study.metrics["reference"] == "spect")
    ]
    if metric in DICE_METRICS:
        rows = rows[rows["definition"] == study.definition]
    keys = zip(rows["case_id"], rows["model"], rows["target"], strict=True)
    return dict(zip(keys, rows["value"].astype(float), strict=True))


def cases_table(study: Study) -> list[dict[str, Any]]:
    """Facts of each case with the Rs of every network, and what was noticed of it."""
    values = case_values(study, "spearman")
    return [
        {
            "case": case,
            "diagnosis": facts.get("diagnosis", "unknown"),
            "site": facts.get("site", ""),
            "fold": facts["fold"],
            "targets": ", ".join(facts["targets"]),
            "flags": case_flags(study, case),
            "flagged": registrations_with_flags(study, case),
            "spearman": [number(values.get((case, model, target)), 2) for _, model, target in case_columns(study)],
        }
        for case, facts in study.cases.items()
    ]


def registrations_with_flags(study: Study, case: str) -> list[dict[str, str]]:
    """The flagged registrations of a case, in words and as places on the registrations' page."""
    return [
        {"words": f"registration{name[len(case) :]}", "anchor": anchor(name)}
        for name, qc in study.quality.items()
        if name.split()[0] == case and qc["flags"]
    ]


def flagged_registrations(study: Study) -> list[dict[str, Any]]:
    """Registrations with a flag, the worst first."""
    return [
        {"name": name, "anchor": anchor(name), "flags": study.quality[name]["flags"]}
        for name in worst_first(study.quality)
        if study.quality[name]["flags"]
    ]


def case_flags(study: Study, case: str) -> list[str]:
    """What was noticed of a case and its images, whatever the target."""
    targets = study.cases[case]["targets"]
    return list(dict.fromkeys(words for target in targets for words in _noticed(study, case, target)))


def reasons(study: Study, case: str, target: str) -> Iterator[str]:
    """What is known of a case that may explain a bad result for a target."""
    yield from _noticed(study, case, target)
    yield from _rare(study, case)


def _noticed(study: Study, case: str, target: str) -> Iterator[str]:
    yield from _registration_flags(study, case, target)
    yield from _warnings(study, case, target)
    yield from _few_counts(study, case, target)
    yield from _ceilings(study, case, target)


def _registration_flags(study: Study, case: str, target: str) -> Iterator[str]:
    for name in (case, f"{case} {target}"):
        for flag in study.quality.get(name, {}).get("flags", []):
            yield f"registration: {flag}"


def _warnings(study: Study, case: str, target: str) -> Iterator[str]:
    others = {name for name in TARGET_NAMES if name != target}
    for row in study.noticed:
        if row["case"] != case:
            continue
        for warning in row["warnings"]:
            if warning["image"] not in others:
                yield f"{warning['image']}: {warning['code']} {warning['words']}"
        spots = [spect for spect in row["spect"] if spect["letter"] == TARGET_NAMES[target][-2]]
        told = any(warning["code"] == "W903" and warning["image"] == target for warning in row["warnings"])
        for spect in spots:
            if spect["hot_spots"][0].isdigit() and not told:
                yield f"{target}: hot spots ({spect['hot_spots']})"


def _few_counts(study: Study, case: str, target: str) -> Iterator[str]:
    def counts(name: str) -> float:
        found = study.facts.get(name, {}).get(target, {}).get("acquisition", {}).get("counts_total")
        return math.nan if found is None else float(found)

    known = np.array([counts(name) for name in study.cases])
    known = known[~np.isnan(known)]
    if len(known) and counts(case) < FEW_COUNTS * np.median(known):
        middle = np.median(known) / 1e6
        yield f"{target}: few counts ({counts(case) / 1e6:.2f} million; the cohort's median is {middle:.2f})"


def _ceilings(study: Study, case: str, target: str) -> Iterator[str]:
    """What no model can reach in a simulated case, because the CT does not show it or the SPECT is noisy."""
    visible = _ceiling(study, "visible_ceiling", "truth", target)
    # even healthy lungs have function that no CT shows: only the cohort tells what is little
    if len(visible) and visible.get(case, math.nan) < visible.quantile(LEAST_VISIBLE):
        reached = number(visible[case], 2)
        yield f"{target}: much that the CT does not show (ceiling: the truth that CT shows reaches Rs {reached})"
    noise = _ceiling(study, "noise_ceiling", "spect", target).get(case, math.nan)
    if noise < NOISY_RS:
        yield f"{target}: noisy SPECT (ceiling: the truth reaches Rs {number(noise, 2)})"


def _ceiling(study: Study, ceiling: str, reference: str, target: str) -> pd.Series:
    """Rs of a ceiling in the lungs, by case."""
    return study.correlations.get((ceiling, reference, target), pd.Series(dtype=float))


def _rare(study: Study, case: str) -> Iterator[str]:
    facts = study.cases[case]
    diagnosis = facts.get("diagnosis")
    if not diagnosis:
        return
    known = sum(
        other.get("diagnosis") == diagnosis and other["fold"] != facts["fold"] for other in study.cases.values()
    )
    if known < FEW_OF_DIAGNOSIS:
        yield f"few training cases with this diagnosis ({diagnosis}: {known})"


def failures(study: Study) -> list[dict[str, Any]]:
    """The worst tenth of the cases of each target, at least `LEAST_WORST`, by the networks' mean Rs, worst first.

    Only cases below the median by what the page shows.
    """
    values = case_values(study, "spearman")
    rows = []
    for target in study.targets:
        models = [model for _, model, of in case_columns(study) if of == target]
        means = {case: _mean([values.get((case, model, target)) for model in models]) for case in study.cases}
        means = {case: mean for case, mean in means.items() if not math.isnan(mean)}
        if not means:
            continue
        wanted = max(LEAST_WORST, math.ceil(WORST_SHARE * len(means)))
        middle = float(np.median(list(means.values())))
        below = [case for case in means if round(means[case] - middle, 2) < 0]
        for case in sorted(below, key=lambda name: (means[name], name))[:wanted]:
            rows.append(
                {
                    "target": TARGET_NAMES[target],
                    "case": case,
                    "diagnosis": study.cases[case].get("diagnosis", "unknown"),
                    "values": "; ".join(
                        f"{study.labels[m]} {number(values.get((case, m, target)), 2)}" for m in models
                    ),
                    "below": number(means[case] - middle, 2),
                    "why": list(reasons(study, case, target)),
                }
            )
    return rows


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def failure_reasons(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """How often each kind of reason stands among the worst cases; a case with several targets counts once."""
    told = {(words.split(" (")[0], row["case"]) for row in rows for words in row["why"]}
    kinds = Counter(kind for kind, _ in told)
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))


def browser_data(study: Study, links: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's scripts know of the study.

    Args:
        study: what the page is made from.
        links: `panels` and `normalised` by case, `registrations`, `times`, `viewer` and `volumes`.
    """
    columns = case_columns(study)
    values = {metric: case_values(study, metric) for metric in METRIC_NAMES}
    return {
        "columns": [{"label": label, "model": model, "target": target} for label, model, target in columns],
        "metrics": METRIC_NAMES,
        "times": links["times"],
        "cases": [_browser_case(study, case, links, columns, values) for case in study.cases],
        "viewer": viewer_settings(study, links),
    }


def _browser_case(
    study: Study,
    case: str,
    links: Mapping[str, Any],
    columns: list[tuple[str, str, str]],
    values: Mapping[str, Mapping[tuple[str, str, str], float]],
) -> dict[str, Any]:
    pages = [(item["words"], f"{links['registrations']}#{item['anchor']}") for item in _registrations(study, case)]
    if case in links["normalised"]:
        pages.append(("SPECT before and after hot-spot handling", links["normalised"][case]))
    return {
        "id": case,
        "diagnosis": study.cases[case].get("diagnosis", "unknown"),
        "targets": [target for target in study.targets if target in study.cases[case]["targets"]],
        "panel": links["panels"][case],
        "folder": links["volumes"][case],
        "links": pages,
        "flags": case_flags(study, case),
        "values": {
            metric: [_plain(found.get((case, model, target))) for _, model, target in columns]
            for metric, found in values.items()
        },
    }


def _registrations(study: Study, case: str) -> list[dict[str, str]]:
    names = [name for name in study.quality if name.split()[0] == case]
    return [{"words": f"registration{name[len(case) :]}", "anchor": anchor(name)} for name in names]


def _plain(value: float | None) -> float | None:
    """A number of JSON, which has no NaN; four digits are more than the page shows."""
    return None if value is None or math.isnan(value) else round(float(value), 4)


def viewer_settings(study: Study, links: Mapping[str, Any]) -> dict[str, Any]:
    """What the viewer offers: models with their targets, colour maps, the CT's window."""
    figure = study.config["report"]["figure"]
    models = {
        name: {"label": label, "targets": [t for t in study.targets if t in study.config["models"][name]["targets"]]}
        for name, label in study.labels.items()
    }
    names = list(dict.fromkeys((figure["colour_map"], *VIEWER_MAPS)))
    return {
        "script": links["viewer"],
        "models": {name: models[name] for name in (*study.networks, *(n for n in models if n not in study.networks))},
        "targets": {target: TARGET_NAMES[target] for target in study.targets},
        "maps": {name: _colours(name) for name in names},
        "map": figure["colour_map"],
        "window": list(figure["lung_window"]),
    }


def _colours(name: str) -> list[list[int]]:
    colours = colour_map(name)(np.linspace(0, 1, VIEWER_COLOURS))[:, :3]
    return np.rint(colours * 255).astype(int).tolist()

"""The reader study on the page: who read what, how well, how alike, and whether they knew the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ct2vq.findings import Finding, number, p_value
from ct2vq.report.classification import text, with_interval
from ct2vq.report.study import Study

SIMULATED_READERS = "SIMULATED READERS"
SIMULATED = "simulated"
SOURCES = ("real", "synthesised")
#: what stands in the tables of the package `ct2vq.read`
METRICS = {"accuracy": "Accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity", "auc": "AUC"}
PARTS = {"diagnosis": "V and Q alone", "diagnosis_ct": "with CT", "acceptability": "acceptability"}
KINDS = {"non-inferior": "good", "inferior": "bad"}


def is_simulated(study: Study) -> bool:
    """Whether the answers are those of simulated readers."""
    return (study.reading["endpoint"]["readers"] == SIMULATED).any()


def reading_findings(study: Study) -> list[Finding]:
    """What the readers' answers say about the primary endpoint, and that simulated readers are no people."""
    if not study.reading:
        return []
    row = study.reading["endpoint"].iloc[0]
    whose = f"{SIMULATED_READERS}: " if is_simulated(study) else ""
    sentence = f"{whose}primary endpoint of the reader study, {_endpoint_words(row)}."
    simulated = is_simulated(study)
    findings = [Finding(sentence, "caution" if simulated else KINDS.get(row["conclusion"], "caution"))]
    if simulated:
        said = "The readers are a noise model on the known diagnoses: their answers say nothing about images or people."
        findings.append(Finding(said, "caution"))
    return findings


def _endpoint_words(row: Mapping[str, Any]) -> str:
    metric = METRICS[row["metric"]].lower() if row["metric"] != "auc" else "AUC"
    if pd.isna(row["difference"]):
        return f"{metric}: {row['conclusion']} ({text(row['reason'])})"
    told = f"{metric} {number(row['synthesised'], 2)} from synthesised and {number(row['real'], 2)} from real images"
    if pd.isna(row["low"]):
        return f"{told}: {row['conclusion']} ({text(row['reason'])})"
    bounds = f"{number(row['low'], 2)} to {number(row['high'], 2)}"
    return (
        f"{told}, difference {number(row['difference'], 2)} ({bounds}), margin {row['margin']:g}: {row['conclusion']}; "
        f"{row['n_readers']:.0f} readers, {row['patients']:.0f} patients{_fewer(row)}"
    ) + (f" ({text(row['reason'])})" if text(row["reason"]) else "")


def _fewer(row: Mapping[str, Any]) -> str:
    """Whether fewer patients count for the endpoint than its sample size had planned."""
    if pd.isna(row["patients_asked"]) or row["patients_counted"] >= row["patients_asked"]:
        return ""
    return f", fewer patients than planned ({row['patients_counted']:.0f} of {row['patients_asked']:.0f})"


def readers_section(study: Study) -> dict[str, Any] | None:
    """All tables of the section, by name; None for a study without readers."""
    if not study.reading:
        return None
    return {
        "simulated": is_simulated(study),
        "words": _endpoint_words(study.reading["endpoint"].iloc[0]),
        "endpoint": study.reading["endpoint"].iloc[0].to_dict(),
        "asked": _patients_asked(study.reading["endpoint"].iloc[0]),
        "completeness": list(_completeness(study)),
        "accuracy": list(_accuracy(study)),
        "mcnemar": list(_mcnemar(study)),
        "mrmc": list(_mrmc(study)),
        "acceptability": list(_acceptability(study)),
        "pairs": list(_pairs(study)),
        "agreement": list(_agreement(study)),
        "blinding": list(_blinding(study)),
        "times": list(_times(study)),
    }


def _patients_asked(row: Mapping[str, Any]) -> str:
    asked = "no number suffices" if pd.isna(row["patients_asked"]) else f"{row['patients_asked']:.0f} asked for"
    return f"{asked}, {row['patients_planned']:.0f} in the design"


def _who(row: Any) -> str:
    return {"all": "all readers", "level": f"level: {row.group}"}.get(row.kind, row.group)


def _shown(study: Study, name: str) -> pd.DataFrame:
    """A table without the levels that one reader has alone, whose row says the same."""
    table, readers = study.reading[name], study.reading["completeness"].groupby("level")["reader"].nunique()
    return table[~((table["kind"] == "level") & table["group"].isin(readers[readers < 2].index))]


def _n(value: Any) -> str:
    return "n/a" if pd.isna(value) else f"{value:.0f}"


def _completeness(study: Study) -> Iterator[dict[str, Any]]:
    for row in study.reading["completeness"].itertuples():
        waited = "" if pd.isna(row.days_since_last) else f"{number(row.days_since_last, 1)} days"
        yield {
            "reader": row.reader,
            "level": row.level,
            "session": row.session,
            "part": PARTS[row.part],
            "status": row.status,
            "answered": f"{row.answered} of {row.items}",
            "waited": {"value": waited, "small": "washout not kept" if row.washout_kept == "no" else ""},
            "minutes": number(row.minutes, 0),
            "note": text(row.note),
        }


def _accuracy(study: Study) -> Iterator[dict[str, Any]]:
    """A row for each part, metric and group, of the endpoint's positive choices, real beside synthesised."""
    table, endpoint = _shown(study, "diagnosis"), study.reading["endpoint"].iloc[0]
    positive = [name for name in table["positive"].dropna().unique() if name]
    first = positive[0] if positive else ""
    wanted = table[table["positive"].isna() | table["positive"].isin(["", first])]
    for (part, metric, kind, group), rows in wanted.groupby(["part", "metric", "kind", "group"], sort=False):
        by_source = {row.source: row for row in rows.itertuples()}
        yield {
            "part": PARTS[part],
            "who": _who(next(iter(by_source.values()))),
            "metric": METRICS[metric],
            "primary": metric == endpoint["metric"] and part == endpoint["part"] and kind == "all",
            "patients": _n(max(row.patients for row in by_source.values())),
            "cells": [with_interval(_renamed(by_source[source]), "value") for source in SOURCES if source in by_source],
            "reason": text(next(iter(by_source.values())).reason),
            "group": group,
        }


def _renamed(row: Any) -> Any:
    """A row whose interval stands in the columns that `with_interval` looks for."""
    return pd.Series({"value": row.value, "value_low": row.low, "value_high": row.high})


def _mcnemar(study: Study) -> Iterator[dict[str, Any]]:
    for row in study.reading["mcnemar"].itertuples():
        yield {
            "part": PARTS[row.part],
            "metric": METRICS[row.metric],
            "reader": row.reader,
            "counts": [_n(count) for count in (row.both, row.only_synthesised, row.only_real, row.neither)],
            "difference": with_interval(row, "difference"),
            "p": p_value(row.p),
            "p_holm": p_value(row.p_holm),
            "note": text(row.note),
        }


def _mrmc(study: Study) -> Iterator[dict[str, Any]]:
    """Rows of all readers and of levels of several."""
    table = _shown(study, "mrmc")
    for row in table[table["kind"] != "reader"].itertuples():
        yield {
            "part": PARTS[row.part],
            "metric": METRICS[row.metric],
            "who": _who(row),
            "readers": f"{_n(row.n_readers)} readers, {row.readers_are}",
            "cases": f"{_n(row.cases)} ({_n(row.positive)} positive)",
            "left_out": _n(row.left_out),
            "cells": [with_interval(row, source) for source in SOURCES],
            "difference": with_interval(pd.Series({"d": row.difference, "d_low": row.low, "d_high": row.high}), "d"),
            "df": "∞" if row.df == float("inf") else number(row.df, 1),
            "p": p_value(row.p),
            "reason": text(row.reason),
        }


def _acceptability(study: Study) -> Iterator[dict[str, Any]]:
    # readers do not stand in this table, so that levels are shown even if one reader has one alone
    table = study.reading["acceptability"]
    ratings = [name for name in table if name.startswith("n_")]
    for row in table[table["kind"] != "reader"].itertuples():
        yield {
            "question": row.question.replace("_", " "),
            "who": _who(row),
            "source": row.source,
            "n": _n(row.n),
            "counts": " / ".join(_n(getattr(row, name)) for name in ratings),
            "mean": {"value": number(row.mean, 2), "small": f"SD {number(row.sd, 2)}"},
            "cells": [with_interval(row, f"least_{least}") for least in (3, 4)],
            "reason": text(row.reason),
        }


def _pairs(study: Study) -> Iterator[dict[str, Any]]:
    table = study.reading["acceptability_pairs"]
    for row in table[table["kind"] == "all"].itertuples():
        yield {
            "question": row.question.replace("_", " "),
            "n": _n(row.n),
            "difference": with_interval(
                pd.Series({"d": row.mean_difference, "d_low": row.bootstrap_low, "d_high": row.bootstrap_high}), "d"
            ),
            "p": p_value(row.p),
            "p_holm": p_value(row.p_holm),
            "note": text(row.note),
        }


def _agreement(study: Study) -> Iterator[dict[str, Any]]:
    """All readers together; levels, pairs and single readers stand in the table."""
    table = study.reading["agreement"]
    for row in table[table["group"] == "all"].itertuples():
        yield {
            "kind": row.kind,
            "part": PARTS[row.part],
            "question": row.question.replace("_", " "),
            "source": row.source,
            "statistic": row.statistic + ("" if row.weights == "none" else f", {row.weights} weights"),
            "n": _n(row.n),
            "cell": with_interval(pd.Series({"v": row.value, "v_low": row.low, "v_high": row.high}), "v"),
            "reason": text(row.reason),
        }


def _blinding(study: Study) -> Iterator[dict[str, Any]]:
    for row in _shown(study, "blinding").itertuples():
        yield {
            "who": _who(row),
            "source": row.source,
            "counts": [_n(count) for count in (row.right, row.wrong, row.unsure)],
            "cell": with_interval(pd.Series({"i": row.index, "i_low": row.low, "i_high": row.high}), "i"),
            "reason": text(row.reason),
        }


def _times(study: Study) -> Iterator[dict[str, Any]]:
    for row in _shown(study, "times").itertuples():
        yield {
            "part": PARTS[row.part],
            "who": _who(row),
            "n": _n(row.n),
            "medians": [number(getattr(row, f"median_{source}"), 0) for source in SOURCES],
            "ratio": with_interval(row, "ratio"),
            "p": p_value(row.p),
            "reason": text(row.reason),
        }

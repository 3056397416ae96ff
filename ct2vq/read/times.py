"""Reading times, and how completely the sessions were read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ct2vq.compare.paired import paired_statistics
from ct2vq.read.answers import Group, Reading
from ct2vq.read.settings import SOURCES
from ct2vq.read.shares import NO_ANSWER

DECIMALS = 9
SECONDS_A_DAY = 86400.0
TIME_COLUMNS = (
    *(
        "part",
        "kind",
        "group",
        "n",
        "patients",
        *(f"{name}_{source}" for source in SOURCES for name in ("median", "q1", "q3")),
    ),
    *("ratio", "ratio_low", "ratio_high", "p", "reason"),
)
COMPLETENESS_COLUMNS = (
    *("reader", "level", "session", "part", "status", "items", "answered", "share", "repeats", "started", "finished"),
    *("days_since_last", "washout_days", "washout_kept", "minutes", "note"),
)


def times_table(reading: Reading) -> pd.DataFrame:
    """Seconds an item by part, group and source, and how much longer synthesised images take.

    `ratio` is the typical ratio of a patient's times, synthesised over real (Hodges-Lehmann estimate of the logarithms,
    geometric means over readers and cases), with its distribution-free interval and Wilcoxon's p.
    """
    rows = [_times(reading, part, group) for part in reading.parts for group in reading.groups]
    return reading.table(rows, TIME_COLUMNS)


def _times(reading: Reading, part: str, group: Group) -> dict[str, Any]:
    answers = reading.of(part, group)
    answers = answers[answers["seconds"] > 0]
    row: dict[str, Any] = {"part": part, "kind": group.kind, "group": group.name, "n": len(answers)}
    row |= {"patients": answers["patient_id"].nunique(), "reason": "" if len(answers) else NO_ANSWER}
    for source in SOURCES:
        seconds = answers.loc[answers["source"] == source, "seconds"]
        quartiles = seconds.quantile([0.5, 0.25, 0.75]) if len(seconds) else [np.nan] * 3
        row |= {f"{name}_{source}": float(v) for name, v in zip(("median", "q1", "q3"), quartiles, strict=True)}
    logs = answers.assign(log=np.log(answers["seconds"]))
    # what a reader read from one source only would turn readers' habits into a difference
    both = logs.groupby(["reader", "case_id"])["source"].transform("nunique") == len(SOURCES)
    means = logs[both].pivot_table(index="patient_id", columns="source", values="log").reindex(columns=list(SOURCES))
    pairs = means.set_axis(["second", "first"], axis=1)
    told = paired_statistics(pairs, dict(reading.settings) | {"decimals": DECIMALS}, reading.seed)
    ratios = {"ratio": "hodges_lehmann", "ratio_low": "ci_low", "ratio_high": "ci_high"}
    with np.errstate(over="ignore"):
        row |= {name: float(np.exp(told[of])) for name, of in ratios.items()}
    return row | {"p": told["p"], "reason": row["reason"] or told["note"]}


def completeness_table(reading: Reading) -> pd.DataFrame:
    """A row for each session of each reader: what was answered, when, and whether the washout was kept."""
    rows = [_session(reading, session) for session in reading.sessions.to_dict("records")]
    return reading.table(rows, COMPLETENESS_COLUMNS)


def _session(reading: Reading, session: dict[str, Any]) -> dict[str, Any]:
    answers = reading.answers
    shown = answers[(answers["reader"] == session["reader"]) & (answers["session"] == session["session"])]
    answered = int(shown["answered"].sum())
    days = _days_since(reading, session)
    kept = "" if np.isnan(days) else "yes" if days >= reading.washout_days else "no"
    status = "complete" if answered == len(shown) else "partial" if answered else "not read"
    return {
        "reader": session["reader"],
        "level": reading.levels[session["reader"]],
        "session": session["session"],
        "part": session["part"],
        "status": status if session["returned"] else "not returned",
        "items": len(shown),
        "answered": answered,
        "share": answered / len(shown) if len(shown) else np.nan,
        "repeats": int(shown["repeat_of"].notna().sum()),
        "started": _text(session["started"]),
        "finished": _text(session["finished"]),
        "days_since_last": days,
        "washout_days": reading.washout_days if pd.notna(session["after"]) else np.nan,
        "washout_kept": kept,
        "minutes": shown.loc[shown["answered"], "seconds"].sum() / 60 if answered else np.nan,
        "note": "the page warned of the washout and the reader went on" if session["overridden"] else "",
    }


def _days_since(reading: Reading, session: dict[str, Any]) -> float:
    """Days from the end of the session that this one had to wait for to its start.

    Where a clock was put back, the end may stand before the beginning: the later of both counts.
    """
    table = reading.sessions
    before = table[(table["reader"] == session["reader"]) & (table["session"] == session["after"])]
    if before.empty or pd.isna(before["finished"].iloc[0]) or pd.isna(session["started"]):
        return np.nan
    end = max(time for time in before[["started", "finished"]].iloc[0] if pd.notna(time))
    return (session["started"] - end).total_seconds() / SECONDS_A_DAY


def _text(time: Any) -> str | None:
    return None if pd.isna(time) else pd.Timestamp(time).isoformat(timespec="seconds")

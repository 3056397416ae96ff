"""What the tables of the reader study say in short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

#: columns of the endpoint's tables: who decides
ENDPOINT, RANDOM_ONLY = "endpoint", "random readers only"
ERRORS, POWERS = "error", "power"
PATIENTS, READERS = r"(\d+) patients", r"(\d+) readers"


def _cases(table: pd.DataFrame, arm: str) -> pd.DataFrame:
    """A row for each scenario: `patients`, `readers`, `last` (the scenario's last word) and who decides."""
    wide = table[table["arm"] == arm].pivot(index="case", columns="reference", values="value")
    wide = wide.loc[table.loc[table["arm"] == arm, "case"].drop_duplicates()].reset_index()
    facts = wide["case"].str.extract(rf"{PATIENTS}, {READERS}, (.*)")
    return wide.assign(patients=facts[0], readers=facts[1], last=facts[2])


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """Share of studies called non-inferior at the margin, a row for each number of patients and readers."""
    cases = _cases(table, ERRORS)
    columns = {
        "alike": "readers change alike between sources",
        "unlike": "they do not",
    }
    wide = cases.pivot(index=["patients", "readers"], columns="last", values=[ENDPOINT, RANDOM_ONLY])
    wide = wide.loc[list(dict.fromkeys(zip(cases["patients"], cases["readers"], strict=True)))]
    shown = {title: wide[ENDPOINT, kind] for kind, title in columns.items()}
    shown |= {f"{title}, {RANDOM_ONLY}": wide[RANDOM_ONLY, kind] for kind, title in columns.items()}
    made = pd.DataFrame(shown).map("{:.3f}".format)
    return made.reset_index()


def powers(table: pd.DataFrame) -> pd.DataFrame:
    """Share of studies called non-inferior where both sources are equally good."""
    cases = _cases(table, POWERS)
    return pd.DataFrame(
        {
            "readers": cases["readers"],
            "correlation": cases["last"].str.removeprefix("correlation "),
            "patients": cases["patients"],
            "power": cases[ENDPOINT].map("{:.2f}".format),
            f"with {RANDOM_ONLY}": cases[RANDOM_ONLY].map("{:.2f}".format),
        }
    )


def error_parts(table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[str | pd.DataFrame]:
    """The errors, and how well they are known."""
    yield errors(table)
    yield _known(0.025, header)


def power_parts(table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[str | pd.DataFrame]:
    """The powers, and how well they are known."""
    yield powers(table)
    yield _known(0.8, header)


def _known(share: float, header: Mapping[str, Any]) -> str:
    half = 1.96 * (share * (1 - share) / header["studies"]) ** 0.5
    return f"{header['studies']} studies a row, so that a share of {share:g} is known to {half:.3f} (95 %)."


def endpoint_parts(table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[str | pd.DataFrame]:
    """What the section of the endpoint shows."""
    yield "Studies called non-inferior where synthesised images are worse by the margin (nominal 0.025):"
    yield from error_parts(table, header)
    yield "Studies called non-inferior where both sources are equally good (0.80 asked for):"
    yield from power_parts(table, header)


def cost_parts(table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[str | pd.DataFrame]:
    """A row for each step, a column for each figure."""
    for title, metrics in (
        ("A reader's pack:", ["items", "sessions", "files", "size"]),
        ("Steps, each a process of its own, imports included:", ["processor_time", "wall_time", "peak_memory"]),
        ("The page in headless Chromium:", ["page", "item", "next_item"]),
    ):
        rows = table[table["metric"].isin(metrics)]
        if rows.empty:
            continue
        named = rows.assign(column=rows["metric"].str.replace("_", " ") + rows["unit"].map(_unit))
        wide = named.pivot(index="case", columns="column", values="value")
        wide = wide.loc[rows["case"].drop_duplicates(), named["column"].drop_duplicates()]
        yield title
        yield wide.map("{:.3g}".format).rename_axis(index="", columns=None).reset_index()


def _unit(unit: str) -> str:
    return "" if unit == "1" else f", {unit}"

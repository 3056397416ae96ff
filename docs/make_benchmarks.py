"""Make docs/benchmarks.md from the tables under docs/benchmarks/ (`make bench-docs`).

Each `<name>.tsv` is in long format (`arm case target reference metric value unit`); `<name>.json` beside it says on
which machine, with which versions and by which command it was made. Blocks of other pages are made of them as well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "benchmarks")]

from patients import summary as patients  # noqa: E402
from reading import summary as reading  # noqa: E402
from registration import summary  # noqa: E402
from training import page as training_page  # noqa: E402

from ct2vq.files import read_json, read_tsv, write_text  # noqa: E402
from ct2vq.simulate import ceilings  # noqa: E402
from ct2vq.simulate.realism import compare, published_lungs  # noqa: E402

TABLES = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
PUBLISHED_LUNGS = ROOT / "resources" / "published_lungs.tsv"
#: paragraphs and tables of a benchmark
Parts = Callable[[pd.DataFrame, dict[str, Any]], Iterable[str | pd.DataFrame]]
PARTS: dict[str, Parts] = {
    "wrong_patients": patients.parts,
    "reading": reading.cost_parts,
    "reading_endpoint": reading.endpoint_parts,
}
#: blocks of other pages that are made of the tables
BLOCKS: dict[str, Parts] = {
    "pairs of CTs": patients.parts_of_cts,
    "pairs with SPECT": patients.parts_of_spects,
    "error": reading.error_parts,
    "power": reading.power_parts,
}
BLOCK = re.compile(r"<!-- made of (?P<name>\w+): (?P<part>[\w ]+) -->.*?<!-- end -->", re.DOTALL)
FILLED_PAGES = ("registration.md", "reading.md", "reading_statistics.md")
INTRODUCTION = """\
# Benchmarks

<!-- Made by `make bench-docs` from docs/benchmarks/: do not edit. -->

Measured values, each table by one command on one machine. `make bench-<name>` measures a table again.
"""


def benchmarks_page(folder: Path) -> str:
    """The page (Markdown) of all tables of a folder."""
    sections = [
        _maker(table.stem)(read_tsv(table), read_json(table.with_suffix(".json")))
        for table in sorted(folder.glob("*.tsv"))
    ]
    return "\n".join([INTRODUCTION, *(sections or ["Nothing has been measured yet.\n"])])


def _maker(name: str) -> Callable[[pd.DataFrame, dict[str, Any]], str]:
    """What makes the section of a table."""
    if name == "realism":
        return _realism
    if name == "register":
        return _register
    if name in PARTS:
        return lambda table, header: _in_parts(table, header, PARTS[name])
    if name == "networks":
        return _networks
    if name.startswith("train"):
        return _train
    return _ceilings if name.startswith("ceilings") else _section


def _in_parts(table: pd.DataFrame, header: dict[str, Any], parts: Parts) -> str:
    """Paragraphs and tables; single rows stay in the table."""
    return "\n".join([*_heading(header), *_markdown(parts(table, header))])


def _markdown(parts: Iterable[str | pd.DataFrame]) -> list[str]:
    lines = []
    for part in parts:
        if isinstance(part, str):
            lines.append(f"{part}\n")
        elif not part.empty:
            lines += [*_lines(list(part.columns), (_words(row) for row in part.to_numpy().tolist())), ""]
    return lines


def filled(text: str, folder: Path) -> str:
    """A page of docs/ with its blocks (`<!-- made of <table>: <part> -->` to `<!-- end -->`) made of the tables.

    Args:
        text: the page.
        folder: of the tables; a block whose table is not there stays as it is.
    """

    def block(found: re.Match[str]) -> str:
        name, part = found["name"], found["part"]
        table = folder / f"{name}.tsv"
        if not table.is_file():
            return found[0]
        made = _markdown(BLOCKS[part](read_tsv(table), read_json(table.with_suffix(".json"))))
        return "\n".join([f"<!-- made of {name}: {part} -->", "", *made, "<!-- end -->"])

    return BLOCK.sub(block, text)


def _section(table: pd.DataFrame, header: dict[str, Any]) -> str:
    shown = table[[column for column in table.columns if not (table[column].isna() | (table[column] == "")).all()]]
    rows = ([_cell(value) for value in row] for row in shown.itertuples(index=False))
    return "\n".join([*_heading(header), *_lines(list(shown.columns), rows)]) + "\n"


def _heading(header: dict[str, Any]) -> list[str]:
    """Title, explanation, and command, machine and versions."""
    return [
        f"## {header['title']}\n",
        f"{header['explanation']}\n",
        f"`{header['command']}`, {header['date']}, {header['cpu']}, {header['cores']} cores, "
        f"{header['memory_gib']} GiB, Python {header['python']}, "
        + ", ".join(f"{name} {version}" for name, version in header["versions"].items())
        + "\n",
    ]


def _lines(columns: list[str], rows: Iterable[list[str]]) -> list[str]:
    """A Markdown table."""
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return head + [f"| {' | '.join(row)} |" for row in rows]


def _ceilings(table: pd.DataFrame, header: dict[str, Any]) -> str:
    """What a CT can tell: the margins, the means of all arms, and Rs by diagnosis; single cases stay in the table."""
    few, many = header["cases_of_a_fold"]
    lines = [
        *_heading(header),
        f"Cohort version {header['cohort_version']}, {table['case'].nunique()} cases; the inversion is fitted on {few} "
        f"to {many} test cases at a time (on fewer it follows each of them more closely).\n",
    ]
    columns = ["target", "visible ceiling minus", "mean difference in Rs ± standard error", "required", "reached"]
    rows = [
        [
            row.target,
            row.arm,
            f"{row.margin:.3f} ± {row.error:.3f}",
            f"{row.required:.2f}",
            "yes" if row.reached else "no",
        ]
        for row in ceilings.margins(table).itertuples()
    ]
    lines += _lines(columns, rows)
    for target in table["target"].unique():
        means = ceilings.mean_metrics(table, target)
        lines += [f"\n{target.capitalize()}, means over cases:\n", *_lines(["arm", *means.columns], _numbers(means))]
        groups = ceilings.mean_by_group(table, header["groups"], target)
        lines += [f"\n{target.capitalize()}, mean Rs by diagnosis:\n"]
        lines += _lines(["diagnosis", *groups.columns], _numbers(groups))
    return "\n".join(lines) + "\n"


def _train(table: pd.DataFrame, header: dict[str, Any]) -> str:
    """What systems reached in the same minutes, and what they cost."""
    seeds, minutes = header["seeds"], header["minutes"]
    lines = [
        *_heading(header),
        f"{header['cases']} patients, {seeds} seed(s), {minutes:g} processor minutes a system, fold and seed; done: "
        f"{header['done']}.\n",
    ]
    for title, columns, rows in training_page.tables(table, header):
        lines += [f"{title}:\n", *_lines(columns, rows), ""]
    return "\n".join(lines)


def _networks(table: pd.DataFrame, header: dict[str, Any]) -> str:
    """A row for each network, a column for each measure and size."""
    titles = {"parameters": "parameters, million", "multiply_adds": "multiply-adds, 10^9"}
    titles |= {f"step_time_of_{batch}": f"s a step of {batch}" for batch in (1, 2)}
    names = table["metric"].map(titles) + table["case"].fillna("").map(lambda case: f", {case}" if case else "")
    wide = table.assign(column=names).pivot(index="arm", columns="column", values="value")
    wide = wide.loc[list(dict.fromkeys(table["arm"])), sorted(wide.columns, key=list(dict.fromkeys(names)).index)]
    rows = ([arm, *(f"{value:.3g}" for value in row)] for arm, row in zip(wide.index, wide.to_numpy(), strict=True))
    return "\n".join([*_heading(header), *_lines(["network", *wide.columns], rows)]) + "\n"


def _numbers(table: pd.DataFrame) -> Iterable[list[str]]:
    """Rows of a table with their names, numbers with three decimals and counts as they are."""
    for name, row in zip(table.index, table.itertuples(index=False), strict=True):
        yield [str(name), *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row)]


def _register(table: pd.DataFrame, header: dict[str, Any]) -> str:
    """The registration: every arm beside the others by stratum, then this project against its aims, then defects."""
    lines = _heading(header)
    for stratum in dict.fromkeys(header["strata"].values()):
        cases = summary.compared_cases(table, header, stratum)
        for reference, name in summary.REFERENCES.items():
            means = summary.side_by_side(table, cases, reference)
            if not cases or means["TRE"].isna().all():
                continue
            title = f"{stratum[0].upper()}{stratum[1:]} ({', '.join(cases)})"
            what = f"{title}, error to the {name}'s state, mm, means over cases:"
            lines += [f"{what}\n", *_lines(["arm", *means.columns], _figures(means)), ""]
    seconds = table[table["metric"] == "segmentation_time"]["value"].astype(float)
    if not seconds.empty:
        lines.append(f"Finding the lungs of both CTs, which only `ct2vq` uses: {seconds.mean():.1f} s a case.\n")
    for title, part in (
        ("`ct2vq` against its aims (`reached`: by the mean over the cases):", summary.aims(table, header)),
        (
            "Volume of perfusion defects, `ct2vq` over truth (`p95`: 95 % lie so near to 1):",
            summary.defects(table, header),
        ),
    ):
        if not part.empty:
            lines += [f"{title}\n", *_lines(list(part.columns), (_words(row) for row in part.to_numpy().tolist())), ""]
    return "\n".join(lines)


def _figures(means: pd.DataFrame) -> Iterable[list[str]]:
    """Rows of arms: seconds and MiB as whole numbers, the rest with two or three decimals."""
    forms = {"seconds": "{:.0f}", "peak MiB": "{:.0f}", "lung Dice": "{:.3f}", "folding %": "{:.3f}"}
    for arm, row in means.iterrows():
        yield [str(arm), *(forms.get(name, "{:.2f}").format(value) for name, value in row.items())]


def _words(row: list[Any]) -> list[str]:
    """Cells of a row, numbers with three digits."""
    return [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row]


def _realism(table: pd.DataFrame, header: dict[str, Any]) -> str:
    """The simulated cohort beside published values: the tally, what is off, the figures and all rows."""
    compared = compare(table, published_lungs(PUBLISHED_LUNGS))
    kinds = compared["verdict"].str.split(":").str[0]
    off = compared[kinds == "off"]
    columns = ["quantity", "group", "seen", "simulated: mean ± SD (5-95 %), n", "published", "unit", "verdict"]
    shown = [[*_realism_cells(row), _source(row)] for _, row in compared.iterrows()]
    missed = [f"- {_missed(row)}" for _, row in off.iterrows()]
    tally = ", ".join(f"{(kinds == kind).sum()} {kind}" for kind in ("within", "off", "not judged"))
    return (
        "\n".join(
            [
                *_heading(header),
                f"Cohort version {header['cohort_version']}. Rows: {tally}.\n",
                "![Published ranges and the simulated cohort](images/realism.png)\n",
                "![One simulated case of each diagnosis](images/realism_cases.png)\n",
                "What is off:\n",
                *(missed or ["nothing"]),
                "",
                *_lines([*columns, "source [read]"], shown),
            ]
        )
        + "\n"
    )


def _missed(row: pd.Series) -> str:
    """What is off: the cohort's mean, the published range and its population."""
    name, group, seen, *_ = _realism_cells(row)
    known = f"{_number(row['low'])} to {_number(row['high'])} {row['unit']} is published ({row['population']})"
    where = row["verdict"].removeprefix("off: ").removesuffix(" (within another population's range)")
    elsewhere = "; within another population's range" if row["verdict"].endswith("range)") else ""
    return f"{name}, {group}, {seen}: {_number(row['mean'])} where {known}, {where}{elsewhere}"


def _realism_cells(row: pd.Series) -> list[str]:
    """A row of the comparison without its source."""
    name = row["quantity"] + (f" ({row['target']})" if isinstance(row["target"], str) and row["target"] else "")
    simulated = "not measured"
    if pd.notna(row["mean"]):
        low, high = _number(row["p05"]), _number(row["p95"])
        spread = f" ± {_number(row['sd'])} ({low} to {high})" if pd.notna(row["sd"]) else ""
        simulated = f"{_number(row['mean'])}{spread}, n = {row['n']:.0f}"
    low_high = f"{row['low']:g} to {row['high']:g}" if pd.notna(row["low"]) else ""
    value = f"{row['value']:g}" if pd.notna(row["value"]) else ""
    known = ", ".join(filter(None, (low_high, value)))
    population = f"; {row['population']}" if isinstance(row["population"], str) else ""
    where = row["seen"] if isinstance(row["seen"], str) else ""
    return [name, row["group"], where, simulated, known + population, row["unit"], row["verdict"]]


def _number(value: float) -> str:
    """Three significant digits, or all of a larger number."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _source(row: pd.Series) -> str:
    """Where a published value stands, and how far that was read."""
    return f"{row['source']} [{row['read']}]" if isinstance(row["source"], str) else ""


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "n/a" if pd.isna(value) else f"{value:g}" if abs(value) < 1e5 else f"{value:.0f}"
    return str(value)


if __name__ == "__main__":
    write_text(benchmarks_page(TABLES), PAGE)
    print(PAGE.relative_to(ROOT))
    for name in FILLED_PAGES:
        page = ROOT / "docs" / name
        before = page.read_text(encoding="utf-8")
        if (after := filled(before, TABLES)) != before:
            write_text(after, page)
            print(page.relative_to(ROOT))

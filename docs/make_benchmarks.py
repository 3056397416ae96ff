"""Make docs/benchmarks.md from the tables under docs/benchmarks/ (`make bench-docs`).

Each `<name>.tsv` is in long format (`arm case target reference metric value unit`); `<name>.json` beside it says on
which machine, with which versions and by which command it was made.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ct2vq.files import read_json, read_tsv, write_text  # noqa: E402

TABLES = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
INTRODUCTION = """\
# Benchmarks

<!-- Made by `make bench-docs` from docs/benchmarks/: do not edit. -->

Measured values, each table by one command on one machine. `make bench-<name>` measures a table again.
"""


def benchmarks_page(folder: Path) -> str:
    """The page (Markdown) of all tables of a folder."""
    sections = [
        _section(read_tsv(table), read_json(table.with_suffix(".json"))) for table in sorted(folder.glob("*.tsv"))
    ]
    return "\n".join([INTRODUCTION, *(sections or ["Nothing has been measured yet.\n"])])


def _section(table: pd.DataFrame, header: dict[str, Any]) -> str:
    shown = table[[column for column in table.columns if not (table[column].isna() | (table[column] == "")).all()]]
    lines = [
        f"## {header['title']}\n",
        f"{header['explanation']}\n",
        f"`{header['command']}`, {header['date']}, {header['cpu']}, {header['cores']} cores, "
        f"{header['memory_gib']} GiB, Python {header['python']}, "
        + ", ".join(f"{name} {version}" for name, version in header["versions"].items())
        + "\n",
        f"| {' | '.join(shown.columns)} |",
        f"|{'---|' * len(shown.columns)}",
    ]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in shown.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "n/a" if pd.isna(value) else f"{value:g}" if abs(value) < 1e5 else f"{value:.0f}"
    return str(value)


if __name__ == "__main__":
    write_text(benchmarks_page(TABLES), PAGE)
    print(PAGE.relative_to(ROOT))

"""The readers of a study.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.errors import ConfigError

COLUMNS = ("reader", "level")
#: a folder's and a file's name everywhere, also on systems that do not tell letter cases apart
PSEUDONYM = re.compile(r"[a-z0-9][a-z0-9_-]*")


def study_readers(settings: Mapping[str, Any]) -> dict[str, str]:
    """Experience level of each reader, by pseudonym, in the order of the table.

    Args:
        settings: config block `read`. With `simulated.readers` above 0 the table is not read; the levels of
            `simulated.skill` are taken in turn.

    Raises:
        ConfigError: the table is missing, empty or wrong; every wrong line is named.
    """
    simulated, levels = settings["simulated"]["readers"], list(settings["simulated"]["skill"])
    if simulated:
        return {f"simulated-{number + 1}": levels[number % len(levels)] for number in range(simulated)}
    return load_readers(settings["readers"])


def load_readers(table: str | Path) -> dict[str, str]:
    """Read the table of readers: TSV, columns `reader` and `level`; lines that begin with `#` are not read.

    Raises:
        ConfigError: as `study_readers`.
    """
    rows = _rows(Path(table))
    if not rows or [cell.strip() for cell in rows[0][1]] != list(COLUMNS):
        raise ConfigError(
            "the first line must name the columns `reader` and `level`, separated by a tab",
            path=table,
            key="read.readers",
        )
    readers: dict[str, str] = {}
    problems = []
    for line, cells in rows[1:]:
        reader, level = ([cell.strip() for cell in cells] + ["", ""])[:2]
        if not PSEUDONYM.fullmatch(reader):
            problems.append(f"line {line}: `{reader}` is no pseudonym of small letters, digits, `_` and `-`")
        elif reader in readers:
            problems.append(f"line {line}: reader `{reader}` stands there already")
        if not level or len(cells) > len(COLUMNS):
            problems.append(f"line {line}: it must have two cells, a pseudonym and a level of experience")
        readers[reader] = level
    if problems:
        raise ConfigError("the table of readers is wrong:\n" + "\n".join(f"  - {p}" for p in problems), path=table)
    if not readers:
        raise ConfigError("the table names no reader", path=table, hint="add one line for each reader")
    return readers


def _rows(table: Path) -> list[tuple[int, list[str]]]:
    try:
        with open(table, encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    except FileNotFoundError:
        raise ConfigError(
            "the table of readers does not exist",
            path=table,
            key="read.readers",
            hint="make it with the columns `reader` and `level`, or set `read.enabled: false`",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the table is not UTF-8 text: {error}", path=table) from error
    told = enumerate(lines, start=1)
    return [(n, cells) for n, cells in told if any(c.strip() for c in cells) and not cells[0].startswith("#")]

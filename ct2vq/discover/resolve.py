"""From a cell of the cohort table, `series:<id>` or `object:<id>`, to the files that `ct2vq discover` found.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ct2vq.discover.table import read_private, unescape
from ct2vq.errors import ConfigError

#: below the working directory: what names patients, only for its owner
PRIVATE = Path("private")
FILES_TABLE = "files.tsv"
#: the first columns of the table of files, in this order
LEADING_COLUMNS = ("series", "object", "copy", "path")
_PREFIXES = ("series:", "object:")
_AGAIN = "run `ct2vq discover` again on the raw folder"


def is_series_cell(cell: str) -> bool:
    """Whether a cell names a series or an object of the inventory, not a path."""
    return cell.startswith(_PREFIXES)


def resolve_source(cell: str, private: Path = PRIVATE) -> tuple[Path, tuple[Path, ...]] | Path:
    """What a cell of the cohort table stands for.

    Args:
        cell: a path, `series:<id>` or `object:<id>`.
        private: the folder of `ct2vq discover`'s private tables.

    Returns:
        a path as it is; else the raw folder and the series' files, each image once, in the order of their names.

    Raises:
        ConfigError: there is no inventory, or it does not know the id.
    """
    if not is_series_cell(cell):
        return Path(cell)
    root, found = _inventory(private)
    names = found.get(cell)
    if not names:
        raise ConfigError(f"`{cell}` is not in the inventory", path=private / FILES_TABLE, hint=_AGAIN)
    return root, tuple(root / name for name in sorted(names))


def _inventory(private: Path) -> tuple[Path, dict[str, list[str]]]:
    table = (private / FILES_TABLE).absolute()
    try:
        status = table.stat()
    except OSError as error:
        problem = "the inventory does not exist or cannot be read"
        raise ConfigError(problem, path=private / FILES_TABLE, hint=_AGAIN) from error
    return _read_inventory(table, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _read_inventory(table: Path, mtime_ns: int, size: int) -> tuple[Path, dict[str, list[str]]]:
    """The raw folder, and the files' relative paths by cell; time and size tell whether the table is still the same."""
    rows = read_private(table, maxsplit=len(LEADING_COLUMNS))
    root = Path(next(rows)[0])
    if tuple(next(rows, [])[: len(LEADING_COLUMNS)]) != LEADING_COLUMNS:
        raise ConfigError("the inventory is of another version", path=table, hint=_AGAIN)
    found: dict[str, list[str]] = {}
    for series, entity, copy, path, *_ in rows:
        if copy:
            continue
        name = unescape(path)
        if series:
            found.setdefault(f"series:{series}", []).append(name)
        if entity:
            found.setdefault(f"object:{entity}", []).append(name)
    return root, found

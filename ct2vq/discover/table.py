"""Private tables: tab-separated text that only its owner can read, whatever characters a path or header holds.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ct2vq.files import replacing

_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_PLAIN = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


def escape(text: str) -> str:
    """A text that fits into one cell; paths hold tabs, line breaks and bytes that are no UTF-8 as well."""
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        return "".join(_ESCAPES.get(character, character) for character in text)
    return text


def unescape(cell: str) -> str:
    """The text that `escape` made into a cell."""
    if "\\" not in cell:
        return cell
    characters = iter(cell)
    return "".join(_PLAIN[next(characters)] if character == "\\" else character for character in characters)


def private_folder(folder: Path) -> Path:
    """A folder that only its owner can enter; it is made if it is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def write_private(path: Path, comment: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table atomically, readable and writable by its owner only.

    Args:
        path: the table.
        comment: what stands in the first line after `#`.
        columns: names of the columns, the second line.
        rows: one cell for each column.
    """
    private_folder(path.parent)
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
            stream.write(f"#{escape(comment)}\n" + "\t".join(columns) + "\n")
            stream.writelines("\t".join(map(escape, row)) + "\n" for row in rows)


def read_private(path: Path, maxsplit: int = -1) -> Iterator[list[str]]:
    """Comment, columns, then the rows of a table of `write_private`; cells are still escaped but for the comment.

    Args:
        path: the table.
        maxsplit: only so many cells are split off, the rest of a line stays in one piece.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
        yield [unescape(stream.readline().rstrip("\n").removeprefix("#"))]
        for line in stream:
            yield line.rstrip("\n").split("\t", maxsplit)

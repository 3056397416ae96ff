"""The inventory of files: every file below a folder is read once, and again only if its size or time changed."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ct2vq.discover.header import Facts, read_many
from ct2vq.discover.resolve import FILES_TABLE, LEADING_COLUMNS
from ct2vq.discover.table import read_private, unescape, write_private
from ct2vq.errors import Ct2vqError

#: files that one process reads before it reports
_BATCH = 200
_COLUMNS = (*LEADING_COLUMNS, "size", "mtime_ns", *Facts._fields)


class Entry(NamedTuple):
    """One file of the inventory: its path relative to the raw folder, size in bytes, time in ns, and facts."""

    path: str
    size: int
    mtime_ns: int
    facts: Facts


class Ids(NamedTuple):
    """How the cohort table names a file: by its series, or as an object by itself; `copy` says that it is a copy."""

    series: str = ""
    entity: str = ""
    copy: str = ""


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        root: the raw folder.
        entries: all files, sorted by path.
        read: files that were read now.
        kept: files whose facts were still known.
        vanished: files of the last inventory that are gone.
        links: links to folders, which are not followed.
    """

    root: Path
    entries: list[Entry]
    read: int
    kept: int
    vanished: int
    links: int


def scan(root: Path, private: Path, jobs: int, progress: Callable[[int, int], None] | None = None) -> Scan:
    """Read the header of every file below a folder that is new or changed.

    Args:
        root: the raw folder.
        private: holds the inventory of the last time, if any.
        jobs: processes.
        progress: called with the number of files that are done and of all.

    Raises:
        Ct2vqError: the folder is missing.
    """
    if not root.is_dir():
        raise Ct2vqError("the raw folder does not exist", path=root)
    root = Path(os.path.abspath(root))
    known = {entry.path: entry for entry in load_inventory(private)}
    entries: list[Entry] = []
    changed: list[tuple[str, int, int]] = []
    folders: list[str] = []
    for path, size, mtime_ns in _files_below(root, folders, private.absolute()):
        entry = known.get(path)
        if entry and (entry.size, entry.mtime_ns) == (size, mtime_ns):
            entries.append(entry)
        else:
            changed.append((path, size, mtime_ns))
    kept = len(entries)
    for (path, size, mtime_ns), facts in zip(changed, _read_all(root, changed, jobs, progress), strict=True):
        entries.append(Entry(path, size, mtime_ns, facts))
    entries.sort(key=lambda entry: entry.path)
    present = {entry.path for entry in entries}
    vanished = sum(path not in present for path in known)
    return Scan(root, entries, len(changed), kept, vanished, len(folders))


def _files_below(root: Path, links: list[str], private: Path) -> Iterator[tuple[str, int, int]]:
    """Relative path, size and time of every file; links to folders are put on a list and not followed.

    A file that cannot be asked for its size counts as changed and empty: reading it says what is wrong. The inventory
    itself, if it lies below the raw folder, is no part of it.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            found = sorted(os.scandir(root / folder), key=lambda item: item.name)
        except OSError:
            yield folder, -1, -1
            continue
        for item in found:
            path = f"{folder}/{item.name}" if folder else item.name
            if item.is_dir(follow_symlinks=False):
                if Path(item.path) != private:
                    waiting.append(path)
            elif _leads_to_folder(item):
                links.append(path)
            else:
                yield path, *_size_and_time(item)


def _leads_to_folder(item: os.DirEntry[str]) -> bool:
    """Whether a link leads to a folder; one that leads in a circle leads nowhere."""
    try:
        return item.is_dir()
    except OSError:
        return False


def _size_and_time(item: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = item.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read_all(
    root: Path,
    files: Sequence[tuple[str, int, int]],
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Facts]:
    """Facts of files in their order."""
    paths = [root / path for path, _, _ in files]
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    done = 0
    for facts in _mapped(batches, min(jobs, len(batches))):
        done += len(facts)
        if progress:
            progress(done, len(files))
        yield from (_shared(each) for each in facts)


def _mapped(batches: list[list[Path]], jobs: int) -> Iterator[list[Facts]]:
    if jobs <= 1:
        yield from map(read_many, batches)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(read_many, batches)


def _shared(facts: Facts) -> Facts:
    """Facts whose texts share memory with those of other files: a million of files fit then."""
    return Facts(*map(sys.intern, facts))


def load_inventory(private: Path) -> Iterator[Entry]:
    """The files of the last inventory; none if there is no inventory, or one of another version."""
    table = private / FILES_TABLE
    if not table.is_file():
        return
    rows = read_private(table)
    next(rows)
    if tuple(next(rows, ())) != _COLUMNS:
        return
    for row in rows:
        if len(row) == len(_COLUMNS):
            path, size, mtime_ns, *facts = map(unescape, row[len(LEADING_COLUMNS) - 1 :])
            yield Entry(path, int(size), int(mtime_ns), Facts(*map(sys.intern, facts)))


def save_inventory(found: Scan, ids: Iterable[Ids], private: Path) -> None:
    """Write the inventory of files, for its owner only."""
    rows = (
        (*names, entry.path, str(entry.size), str(entry.mtime_ns), *entry.facts)
        for entry, names in zip(found.entries, ids, strict=True)
    )
    write_private(private / FILES_TABLE, str(found.root), _COLUMNS, rows)

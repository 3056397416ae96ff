"""Writing files so that a half-written one is never taken for done, and reading them back."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct2vq.errors import Ct2vqError

if TYPE_CHECKING:
    import pandas as pd

#: columns that hold names: a case called `001` must not come back as the number 1
IDENTIFIERS = ("case_id", "patient_id", "patient")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` and move it there with `os.replace` when the block succeeds.

    The temporary name carries the process id, so an orphan of a killed run and its successor never write to one
    file, and it keeps the suffix, so that libraries which look at the suffix write the right format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(value: Any, path: str | Path) -> None:
    """Write JSON atomically, keys sorted, NaN refused (JSON has none: say `None` and why)."""
    write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", path)


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        Ct2vqError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Ct2vqError("the file does not exist", path=path) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Ct2vqError(f"not a JSON file: {error}", path=path) from error


def write_tsv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as TSV atomically: no index, `n/a` for missing values, floats with all 17 digits they need."""
    with replacing(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def write_rows(rows: Iterable[Sequence[Any]], columns: Sequence[str], path: str | Path) -> None:
    """Write rows as `write_tsv` writes a table, byte for byte, without pandas, which takes long to import."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow("n/a" if value is None or value != value else value for value in row)


def read_tsv(path: str | Path, **kwargs: Any) -> pd.DataFrame:
    """Read a table written by `write_tsv`; `n/a` is missing, identifiers are text even if they look like numbers."""
    import pandas as pd

    dtype = kwargs.pop("dtype", {})
    if isinstance(dtype, dict):
        dtype = dict.fromkeys(IDENTIFIERS, str) | dtype
    return pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False, dtype=dtype, **kwargs)


def copy_file(source: str | Path, copy: str | Path) -> None:
    """Copy a file's content atomically."""
    with replacing(copy) as temporary:
        shutil.copyfile(source, temporary)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, hexadecimal; names of files may hold bytes that are no UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

"""Values of DICOM attributes: absent, damaged, text or numbers. What cannot be parsed is a `DicomError`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import PersonName

from ct2vq.errors import DicomError


def attribute(dataset: Dataset, keyword: str, path: Path) -> Any:
    """An attribute's value, None where it is absent or empty.

    Raises:
        DicomError: the value cannot be parsed (pydicom parses on access).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = dataset.get(keyword)
    except Exception as error:  # pydicom raises nearly anything on damaged input
        raise DicomError("D106", f"unreadable value: {first_line(error)}", path=path, key=keyword) from error
    return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def text(dataset: Dataset, keyword: str, path: Path) -> str | None:
    """An attribute as text, several values joined by a backslash."""
    value = attribute(dataset, keyword, path)
    if value is None:
        return None
    if isinstance(value, Sequence | bytes):
        raise DicomError("D106", "text expected, found a sequence or raw bytes", path=path, key=keyword)
    parts = [value] if isinstance(value, str | PersonName) or not hasattr(value, "__iter__") else value
    return "\\".join(str(part).strip() for part in parts)


def texts(dataset: Dataset, keyword: str, path: Path) -> list[str]:
    """A multi-valued attribute as a list of texts."""
    value = text(dataset, keyword, path)
    return [] if value is None else value.split("\\")


def numbers(dataset: Dataset, keyword: str, count: int, path: Path) -> np.ndarray | None:
    """An attribute's `count` finite numbers, None where it is absent.

    Raises:
        DicomError: another count, or not finite numbers.
    """
    value = attribute(dataset, keyword, path)
    if value is None:
        return None
    try:
        array = np.atleast_1d(np.asarray(value, dtype=float))
    except (TypeError, ValueError, OverflowError) as error:
        raise DicomError(
            "D106", f"{count} number(s) expected, found {_short(value)}", path=path, key=keyword
        ) from error
    if array.shape != (count,) or not np.isfinite(array).all():
        raise DicomError("D106", f"{count} finite number(s) expected, found {_short(value)}", path=path, key=keyword)
    return array


def _short(value: Any) -> str:
    """A value for a message, cut off where a wrong type makes it long."""
    shown = type(value).__name__ if isinstance(value, Sequence) else repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."


def number(dataset: Dataset, keyword: str, path: Path) -> float | None:
    """An attribute's single number, None where it is absent."""
    value = numbers(dataset, keyword, 1, path)
    return None if value is None else float(value[0])


def required_numbers(dataset: Dataset, keyword: str, count: int, path: Path) -> np.ndarray:
    """As `numbers`, but the attribute must be there.

    Raises:
        DicomError: the attribute is missing.
    """
    value = numbers(dataset, keyword, count, path)
    if value is None:
        raise DicomError("D107", "the attribute is missing", path=path, key=keyword, hint="is the file complete?")
    return value


def items(dataset: Dataset, keyword: str, path: Path) -> list[Dataset]:
    """The items of a sequence, none where it is absent.

    Raises:
        DicomError: the attribute is no sequence.
    """
    value = attribute(dataset, keyword, path)
    if value is None:
        return []
    if not isinstance(value, Sequence):
        raise DicomError("D106", f"a sequence expected, found {_short(value)}", path=path, key=keyword)
    return list(value)


def first_line(error: Exception) -> str:
    """The last line of a library's message that says something, else the error's kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

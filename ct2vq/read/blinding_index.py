"""Could readers tell real from synthesised? Bang's blinding index."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.detect.resampling import Support
from ct2vq.intervals import newcombe
from ct2vq.read.answers import Reading
from ct2vq.read.exports import ACCEPTABILITY
from ct2vq.read.settings import SOURCES
from ct2vq.read.shares import NO_ANSWER, ONE_PATIENT

COLUMNS = (
    *("kind", "group", "source", "n", "patients", "right", "wrong", "unsure", "index", "low", "high"),
    *("bang_low", "bang_high", "reason"),
)


def bang_index(right: int, wrong: int, unsure: int, confidence: float) -> tuple[float, float, float]:
    """Bang's index of one source and the normal interval of its paper (Control Clin Trials 2004;25:143, section 3).

    It is the share of right minus that of wrong guesses: 1 if all guess right, 0 if as many are right as wrong (blind,
    whether they guess or are unsure), -1 if all guess wrong.

    Args:
        right: right guesses.
        wrong: wrong guesses.
        unsure: answers that do not guess.
        confidence: level of the two-sided interval.

    Returns:
        The index and its interval; NaN without answers. Where all answers are alike the interval has no width.
    """
    n = right + wrong + unsure
    if not n:
        return np.nan, np.nan, np.nan
    index = (right - wrong) / n
    error = sqrt(max((right + wrong) / n - index**2, 0.0) / n)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return index, index - half, index + half


def blinding_table(reading: Reading) -> pd.DataFrame:
    """The index for each group and source, from the guesses of the acceptability sessions.

    `low` and `high` are Newcombe's interval of the difference of the two shares, of the number of answers that they are
    worth (several readers' guesses on one patient count as one): it has width where all guess alike. `bang_low` and
    `bang_high` take every answer for independent, as the paper does.
    """
    guesses = reading.first["guess"].notna().any()
    rows = [_row(reading, *where) for where in reading.each([ACCEPTABILITY] if guesses else [])]
    return reading.table(rows, COLUMNS)


def _row(reading: Reading, part: str, group: Any, source: str) -> dict[str, Any]:
    answers = reading.of(part, group, source).dropna(subset=["guess"])
    other = next(name for name in SOURCES if name != source)
    right, wrong = (answers["guess"] == source), (answers["guess"] == other)
    counts = int(right.sum()), int(wrong.sum()), int((~right & ~wrong).sum())
    row: dict[str, Any] = {"kind": group.kind, "group": group.name, "source": source, "n": len(answers)}
    row |= {"patients": answers["patient_id"].nunique(), "reason": "" if len(answers) else NO_ANSWER}
    row |= dict(zip(("right", "wrong", "unsure"), counts, strict=True))
    index, bang_low, bang_high = bang_index(*counts, reading.confidence)
    row |= {"index": index, "low": np.nan, "high": np.nan, "bang_low": bang_low, "bang_high": bang_high}
    if row["patients"] < 2:
        return row | {"reason": row["reason"] or ONE_PATIENT}
    sizes = answers.groupby("patient_id").size().to_numpy(dtype=float)
    worth = Support.of_share(sizes, sizes).effective / len(answers)
    low, high = newcombe([0, *(count * worth for count in counts)], reading.confidence)
    return row | {"low": low, "high": high}

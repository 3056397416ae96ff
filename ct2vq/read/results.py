"""What the rule `reader_report` writes: all tables of the reader study, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ct2vq.figures import Look
from ct2vq.files import write_tsv
from ct2vq.plots.reading import draw_reading
from ct2vq.read.acceptability import acceptability_pairs, acceptability_table
from ct2vq.read.accuracy import confusion_table, diagnosis_table, endpoint_table, mcnemar_table, mrmc_table
from ct2vq.read.agreement import agreement_table
from ct2vq.read.answers import Reading, load_reading
from ct2vq.read.blinding_index import blinding_table
from ct2vq.read.times import completeness_table, times_table

#: how each of `ct2vq.read.names.TABLES` is made
MAKERS: dict[str, Callable[[Reading], pd.DataFrame]] = {
    "answers": lambda reading: reading.answers,
    "completeness": completeness_table,
    "acceptability": acceptability_table,
    "acceptability_pairs": acceptability_pairs,
    "agreement": agreement_table,
    "diagnosis": diagnosis_table,
    "confusion": confusion_table,
    "mcnemar": mcnemar_table,
    "mrmc": mrmc_table,
    "blinding": blinding_table,
    "times": times_table,
    "endpoint": endpoint_table,
}


def report_reading(
    exports: Sequence[str | Path],
    packs: Sequence[str | Path],
    keys: Sequence[str | Path],
    design: str | Path,
    tables: Mapping[str, str | Path],
    figures: Mapping[str, str | Path],
    look: Look,
    *,
    settings: Mapping[str, Any],
    seed: int,
) -> None:
    """Check the exports, analyse them, and write every table and figure.

    Args:
        exports: accepted exports of the readers who have returned one.
        packs: folder of every reader's pack, or its `pack.js`.
        keys: `<reader>.tsv` of every reader.
        design: `design.json`.
        tables: files to write, by the names of `ct2vq.read.names.TABLES`.
        figures: `<name>.png` to draw, by the names of `ct2vq.read.names.FIGURES`.
        look: width and formats of the figures, whether the patients are simulated.
        settings: `confidence`, and `bootstrap`, the number of resamples.
        seed: the study's.
    """
    reading = load_reading(exports, packs, keys, design, settings=settings, seed=seed)
    made = {name: make(reading) for name, make in MAKERS.items()}
    for name, path in tables.items():
        write_tsv(made[name], path)
    draw_reading(made, reading, figures, look)

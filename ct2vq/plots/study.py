"""All figures of a study, drawn by one job: libraries are loaded once, and each figure is drawn in one process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ct2vq.figures import Look
from ct2vq.files import read_tsv
from ct2vq.plots.bland_altman import draw_bland_altman
from ct2vq.plots.calibration import draw_calibration
from ct2vq.plots.cases import draw_case_level
from ct2vq.plots.cohort import draw_cohort
from ct2vq.plots.curves import draw_curves
from ct2vq.plots.defects import draw_defects
from ct2vq.plots.density import draw_density, read_density
from ct2vq.plots.metrics import draw_metrics
from ct2vq.plots.passes import draw_passes
from ct2vq.plots.registration import draw_registration
from ct2vq.plots.sensitivity import draw_sensitivity
from ct2vq.plots.thresholds import draw_threshold_curves
from ct2vq.plots.training import draw_training, read_histories


def draw_study(
    tables: Mapping[str, str | Path],
    density: Sequence[str | Path],
    histories: Sequence[str | Path],
    figures: Mapping[str, str | Path],
    look: Look,
    *,
    definition: str,
    flow: Mapping[str, Any],
    diagnoses: Mapping[str, str],
    flags: Mapping[str, float | None],
    pairs: Sequence[Sequence[str]],
    confidence: float,
    threads: int = 1,
) -> None:
    """Draw every figure of the study; a table without rows gives a figure that says what is missing.

    Args:
        tables: `metrics`, `pairs`, `passes`, `sensitivity`, `roc`, `detection`, `calibration`, `defects`, `quality` and
            `folds`.
        density: joint histograms of every case.
        histories: `results/train/<model>/fold<k>/history.tsv`.
        figures: `<stem>.png` by stem; `<stem>.pdf`, `.svg` and `.tsv` lie beside it.
        look: names and colours of the models.
        definition: threshold whose Dice is drawn.
        flow: numbers of the cohort flow (`ct2vq.plots.cohort.draw_cohort`).
        diagnoses: diagnosis of each case, where known.
        flags: limits of the figures of registration quality (config `register.flags`).
        pairs: declared comparisons (first, second, target).
        confidence: level of the intervals.
        threads: how many figures are drawn at a time; the files do not depend on it.
    """
    read = {name: read_tsv(path) for name, path in tables.items()}
    patients = dict(read["folds"][["case_id", "patient_id"]].itertuples(index=False))
    metrics, first = read["metrics"], [model for pair in pairs for model in pair[:2]]
    drawings = [
        partial(draw_metrics, metrics, read["pairs"], patients, figures["metrics"], look, definition=definition),
        partial(
            draw_bland_altman,
            metrics,
            patients,
            figures["bland_altman"],
            look,
            first=first,
            confidence=confidence,
        ),
        partial(draw_threshold_curves, metrics, patients, figures["threshold_curves"], look),
        partial(draw_case_level, metrics, diagnoses, figures["case_level"], look),
        partial(draw_density, read_density(density), figures["density"], look),
        partial(draw_curves, read["roc"], read["detection"], figures["roc"], look, kind="roc"),
        partial(
            draw_curves, read["roc"], read["detection"], figures["precision_recall"], look, kind="precision_recall"
        ),
        partial(draw_calibration, read["calibration"], figures["calibration"], look),
        partial(draw_defects, read["defects"], figures["defects"], look),
        partial(draw_passes, read["passes"], figures["passes"], look),
        partial(draw_sensitivity, read["sensitivity"], figures["sensitivity"], look, confidence=confidence),
        partial(draw_registration, read["quality"], figures["registration"], look, limits=flags),
        partial(draw_training, read_histories(histories), figures["training"], look),
        partial(draw_cohort, flow, read["folds"]["fold"].value_counts().to_dict(), figures["cohort"], look),
    ]
    _draw_all(drawings, threads)


#: what forked processes draw: they inherit the tables instead of receiving copies
_drawings: list[Callable[[], None]] = []


def _draw_all(drawings: Sequence[Callable[[], None]], threads: int) -> None:
    """Draw all, `threads` at a time in processes of their own; the first error is raised again."""
    if threads < 2:
        for draw in drawings:
            draw()
        return
    _drawings[:] = drawings
    try:
        with ProcessPoolExecutor(threads, multiprocessing.get_context("fork")) as processes:
            list(processes.map(_draw_one, range(len(drawings))))
    finally:
        _drawings.clear()


def _draw_one(number: int) -> None:
    _drawings[number]()

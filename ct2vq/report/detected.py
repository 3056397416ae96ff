"""Detection in the summary's plain words: single defects, low function by voxels, diagnoses of cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from ct2vq.findings import Finding, number
from ct2vq.names import SPECT
from ct2vq.report.study import Study


def detection_findings(study: Study) -> list[Finding]:
    """One sentence for each target, and one for each diagnosis that is told from both images of a case."""
    found = [_target(study, target) for target in study.targets]
    return [finding for finding in [*found, *_diagnoses(study)] if finding is not None]


def _target(study: Study, target: str) -> Finding | None:
    parts = [part for part in (_defects(study, target), _voxels(study, target)) if part]
    return Finding(f"{target.capitalize()}, detection against SPECT: {'; '.join(parts)}.") if parts else None


def _defects(study: Study, target: str) -> str:
    """Single defects of SPECT that each network shows, and false ones."""
    table = study.extra.get("defects")
    if table is None:
        return ""
    table = table[(table["target"] == target) & (table["reference"] == SPECT)]
    said, number_of_defects = [], 0
    for model in study.networks:
        rows = {row.kind: row for row in table[table["model"] == model].itertuples()}
        whole, false = rows.get("all"), rows.get("false")
        if whole is None or pd.isna(whole.found):
            continue
        number_of_defects = int(whole.n_defects)
        words = f"{study.name(model)} shows {whole.found:.0f}"
        if false is not None and pd.notna(false.false_per_case):
            words += f" ({number(false.false_per_case, 1)} false ones a case)"
        said.append(words)
    return f"of the {number_of_defects} defects that SPECT shows, {', '.join(said)}" if said else ""


def _voxels(study: Study, target: str) -> str:
    """The AUROC of low function by voxels, by the study's own definition."""
    rows = _detection(study, level="voxel", target=target, definition=study.definition, reference=SPECT)
    said = [f"{study.name(model)} {_area(rows[model])}" for model in study.networks if model in rows]
    return f"AUROC of low function by voxels ({study.definition}): {', '.join(said)}" if said else ""


def _diagnoses(study: Study) -> Iterator[Finding]:
    """What each pair of images tells of a diagnosis, beside what the real SPECT pair tells."""
    table = study.extra.get("detection")
    for definition in [] if table is None else table.loc[table["level"] == "case", "definition"].dropna().unique():
        rows = _detection(study, level="case", definition=definition)
        models = [model for model in study.look.sorted(_known(study, rows)) if study.look.is_network(model)]
        if not models:
            continue
        said = [f"{study.name(model)} {_area(rows[model])}" for model in models]
        real = f"; the real SPECT pair itself {_area(rows[SPECT])}" if SPECT in rows else ""
        first = rows[models[0]]
        yield Finding(
            f"Diagnosis “{str(definition).replace('_', ' ')}” told from the volume of defects on V and Q "
            f"({_count(first)}), AUROC: {', '.join(said)}{real}. 0.5 is no better than chance."
        )


def _known(study: Study, models: Sequence[str]) -> list[str]:
    return [model for model in models if study.look.is_known(model)]


def _detection(study: Study, **wanted: str) -> dict[str, Any]:
    """Rows of the table of detection by model."""
    table = study.extra.get("detection")
    if table is None:
        return {}
    for column, value in wanted.items():
        table = table[table[column] == value]
    return {row.model: row for row in table.itertuples()}


def _area(row: Any) -> str:
    if pd.isna(row.auroc):
        return "not computed"
    known = pd.notna(row.auroc_low) and pd.notna(row.auroc_high)
    return number(row.auroc, 2) + (f" ({number(row.auroc_low, 2)} to {number(row.auroc_high, 2)})" if known else "")


def _count(row: Any) -> str:
    if pd.isna(row.n) or pd.isna(row.n_positive):
        return "number of cases not known"
    return f"{row.n_positive:.0f} of {row.n:.0f} cases have it"

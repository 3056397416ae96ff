"""Which defects of a reference an image shows, and which it shows that are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ct2vq.evaluate.images import CaseImages
from ct2vq.evaluate.truth import INVISIBLE_EMBOLUS, OTHER_DISEASE, VISIBLE_EMBOLUS
from ct2vq.metrics.defects import (
    DefectRule,
    connected_defects,
    false_defects,
    low_voxels,
    overlaps,
    read_rule,
    relative_to_normal,
)
from ct2vq.names import SPECT, TRUTH

COLUMNS = (
    "case_id",
    "model",
    "reference",
    "target",
    "defect",
    "kind",
    "visible",
    "volume_ml",
    "overlap",
    "found",
)
#: kind of a defect by the label of most of its voxels, and of an embolus whether a CT shows it
KINDS = {VISIBLE_EMBOLUS: ("embolus", "yes"), INVISIBLE_EMBOLUS: ("embolus", "no"), OTHER_DISEASE: ("disease", "")}
#: of all others, and of cases whose truth is not known
UNKNOWN = ("defect", "")
FALSE = ("false", "")
#: of a row that is no defect: the image or its reference could not be judged
UNJUDGED = ("unjudged", "")
_REFERENCES = (SPECT, TRUTH)


@dataclass(frozen=True)
class _Defects:
    """Low function of an image, and the pieces of it that are thick and large enough."""

    low: np.ndarray
    labels: np.ndarray


def lesion_rows(case: CaseImages, settings: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """A row for each defect of a reference and each false one of an image (`COLUMNS`).

    Each image is normalised on its own good lung, perfusion and ventilation by themselves, so that a model of one
    target is judged like one of both. Where an image cannot be judged (constant, values that are not finite), the
    reference's defects stand there with neither `overlap` nor `found`; before them, and where the reference cannot be
    judged, a row of kind `unjudged` says so, lest the case count as one without defects.

    Args:
        case: images on the evaluation grid.
        settings: config block `evaluate`.
    """
    rule, rows = read_rule(settings["defects"]), []
    models = case.models()
    found = {key: _defects(case, image, key[1], rule) for key, image in (models | dict(case.images)).items()}
    for model, target, reference in case.pairs():
        theirs = found[reference, target]
        if reference not in _REFERENCES:
            continue
        for row in _rows(case, found[model, target], theirs, rule):
            rows.append((case.case_id, model, reference, target, *row))
    return rows


def _defects(case: CaseImages, image: np.ndarray, target: str, rule: DefectRule) -> _Defects | None:
    relative = relative_to_normal({target: image}, case.regions.inside, rule)
    if relative.reason:
        return None
    low = low_voxels(relative.images[target], rule)
    return _Defects(low, connected_defects(low, rule, case.regions.spacing))


def _rows(case: CaseImages, image: _Defects | None, reference: _Defects | None, rule: DefectRule) -> Iterator[tuple]:
    """Number, kind, visible, volume, overlap and found of each defect."""
    spacing = case.regions.spacing
    if image is None or reference is None:
        yield (0, *UNJUDGED, np.nan, np.nan, "")
    if reference is None:
        return
    for defect in overlaps(reference.labels, reference.low if image is None else image.low, spacing):
        known = (defect.label, *kind_of(reference.labels == defect.label, case.findings), defect.volume_ml)
        if image is None:
            yield (*known, np.nan, "")
        else:
            yield (*known, defect.overlap, "yes" if defect.overlap >= rule.found_overlap else "no")
    if image is not None:
        for defect in false_defects(image.labels, reference.low, rule, spacing):
            yield (defect.label, *FALSE, defect.volume_ml, defect.overlap, "")


def kind_of(defect: np.ndarray, findings: np.ndarray | None) -> tuple[str, str]:
    """What made a defect, and whether a CT shows it.

    Args:
        defect: its voxels, booleans `(z, y, x)`.
        findings: labels of the truth, None where it is not known.

    Returns:
        The kind of the finding that most of its voxels with a finding belong to, if at least half of its voxels have
        one; else `UNKNOWN`.
    """
    if findings is None:
        return UNKNOWN
    counts = np.bincount(findings[defect], minlength=max(KINDS) + 1)
    if counts[1:].sum() * 2 < counts.sum():
        return UNKNOWN
    return KINDS[int(counts[1:].argmax()) + 1]

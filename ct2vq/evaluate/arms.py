"""Perfusion and ventilation together: their difference and their mismatched and matched defects, as rows of metrics.

An arm is whatever gives both images: one model, a pair of models, or the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ct2vq.config import TARGETS
from ct2vq.evaluate.images import CaseImages, references_of
from ct2vq.evaluate.scores import KNOWN_TRUTH, WIDE, Row, beside, fact
from ct2vq.metrics.agreement import mae, spearman
from ct2vq.metrics.defects import CLASSES, DefectRule, Relative, read_rule, relative_to_normal, vq_classes
from ct2vq.metrics.thresholds import overlap_of
from ct2vq.metrics.value import RegionValues, Value, missing
from ct2vq.names import CEILINGS, REFERENCES, SPECT

#: the target of rows that need both images
BOTH = "vq"


def score_arms(case: CaseImages, arms: Mapping[str, Mapping[str, str]], settings: Mapping[str, Any]) -> list[Row]:
    """V-Q metrics of every arm that has both images of the case, against every reference that has both.

    Args:
        case: images on the evaluation grid.
        arms: the model of each target, by arm (`ct2vq.config.vq_arms`).
        settings: config block `evaluate`.

    Returns:
        Rows with the columns of `results/evaluate/metrics.tsv`.
    """
    rule, rows = read_rule(settings["defects"]), []
    known = {name: prepared for name in REFERENCES if (prepared := _Both.of(case, dict.fromkeys(TARGETS, name), rule))}
    scored = {name: prepared for name, models in arms.items() if (prepared := _Both.of(case, models, rule))}
    scored |= {name: known[truth] for name, truth in CEILINGS.items() if truth in known}
    for arm, image in scored.items():
        for reference in [name for name in references_of(arm) if name in known]:
            told = {"case_id": case.case_id, "model": arm, "target": BOTH, "reference": reference}
            rows += [told | row for row in _compare(case, image, known[reference], reference, rule)]
    return rows


class _Both:
    """Perfusion and ventilation of one source: their difference and their classes of defects, in the lungs."""

    def __init__(self, case: CaseImages, relative: Relative, rule: DefectRule) -> None:
        self.inside, self.reason = case.regions.inside, relative.reason
        self.differences: dict[str, RegionValues] = {}
        if not self.reason:
            self.difference = RegionValues.of(relative.difference, self.inside)
            self.classes = vq_classes(relative, rule, case.regions.spacing)[self.inside]

    @classmethod
    def of(cls, case: CaseImages, sources: Mapping[str, str], rule: DefectRule) -> _Both | None:
        """The images of a source for each target; None if the case lacks one."""
        if not all((source, target) in case.images for target, source in sources.items()):
            return None
        images = {target: case.images[source, target] for target, source in sources.items()}
        return cls(case, relative_to_normal(images, case.regions.inside, rule), rule)

    def difference_in(self, region: str, part: np.ndarray) -> RegionValues:
        """V - Q in a region, given as booleans over the lungs' voxels; sorted once, whatever it is compared with."""
        if region not in self.differences:
            self.differences[region] = self.difference.within(part)
        return self.differences[region]


def _compare(case: CaseImages, image: _Both, reference: _Both, name: str, rule: DefectRule) -> Iterator[Row]:
    reason = image.reason or (f"reference: {reference.reason}" if reference.reason else "")
    for region, mask in case.regions.masks.items():
        if name != SPECT and region not in KNOWN_TRUTH:
            continue
        part, wide = mask[case.regions.inside], region in WIDE
        if reason or not part.any():
            yield from _nothing(region, str(rule), reason or "empty region", wide=wide)
            continue
        if wide:
            x, y = (one.difference_in(region, part) for one in (image, reference))
            yield fact("difference_spearman", region, "", spearman(x, y))
            yield fact("difference_mae", region, "", mae(x, y))
        classes = [one.classes[part] for one in (image, reference)]
        yield from _classes(region, str(rule), classes, case.regions.voxel_ml, wide=wide)


def _classes(region: str, definition: str, classes: list[np.ndarray], voxel_ml: float, *, wide: bool) -> Iterator[Row]:
    """Volumes of each class of defects in the image and its reference, and in wide regions their overlap."""
    for kind, label in CLASSES.items():
        ours, theirs = (one == label for one in classes)
        ml = [Value(float(np.count_nonzero(one)) * voxel_ml) for one in (ours, theirs)]
        yield from beside(f"{kind}_volume", region, definition, *ml, "mL")
        if wide:
            overlap = overlap_of(ours, theirs)
            yield fact(f"{kind}_dice", region, definition, overlap.dice)
            yield fact(f"{kind}_dice_chance", region, definition, overlap.chance)


def _nothing(region: str, definition: str, reason: str, *, wide: bool) -> Iterator[Row]:
    """The rows of a region whose metrics are all missing."""
    value = missing(reason)
    if wide:
        yield fact("difference_spearman", region, "", value)
        yield fact("difference_mae", region, "", value)
    for kind in CLASSES:
        yield from beside(f"{kind}_volume", region, definition, value, value, "mL")
        if wide:
            yield fact(f"{kind}_dice", region, definition, value)
            yield fact(f"{kind}_dice_chance", region, definition, value)

"""Every classification that is judged: low voxels, low regions, and diagnoses told from a volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ct2vq.detect.scored import (
    REGION_GROUPS,
    Members,
    Scored,
    VoxelCounts,
    case_units,
    read_values,
    region_units,
    scored_units,
    scored_voxels,
)

NAMES = ("level", "model", "target", "definition", "reference")
#: target and reference of a case's classification in the tables
BOTH_TARGETS, DIAGNOSIS = "vq", "diagnosis"
NO_VALUES = "no case has values of this model"


@dataclass(frozen=True)
class Question:
    """One classification: its names (`NAMES`) and the scores."""

    names: dict[str, str]
    scored: Scored


def all_questions(
    voxels: VoxelCounts,
    metrics: Path,
    members: Members,
    settings: Mapping[str, Any],
    *,
    diagnoses: Mapping[str, str],
    models: Mapping[str, Sequence[str]],
) -> Iterator[Question]:
    """Classifications of voxels, regions and cases, models in the order of the configuration.

    Args:
        voxels: the binned tables of all cases.
        metrics: the long table of stage `evaluate`.
        members: patients and folds.
        settings: config block `detect`.
        diagnoses: diagnosis of each case that has one.
        models: targets of each model of the configuration.
    """
    volumes = [f"{rule['score']}_{of}" for rule in settings["case_level"] for of in ("image", "reference")]
    table = read_values(metrics, ["relative_image", "relative_reference", *volumes])
    declared = [(model, target) for model, targets in models.items() for target in targets]
    yield from _voxel_questions(voxels, members, declared)
    for group in settings["regions"]:
        yield from _region_questions(table, group, settings["region_cut"], members, declared)
    for rule in settings["case_level"]:
        yield from _case_questions(table, rule, members, diagnoses)


def _voxel_questions(voxels: VoxelCounts, members: Members, declared: Sequence[tuple[str, str]]) -> Iterator[Question]:
    asked: dict[tuple[str, str, str], set[str]] = {}
    for (_, target, reference, definition), histograms in voxels.low.items():
        known = asked.setdefault((target, definition, reference), set())
        known.update(case for cases in histograms.cases.values() for case in cases)
    if not asked:
        yield _question("voxel", "", "", "", "", Scored.nothing("no case has values of any model"))
    for model, target in _ordered(declared, [key[:2] for key in voxels.low]):
        for (_, definition, reference), known in [one for one in asked.items() if one[0][0] == target]:
            histograms = voxels.low.get((model, target, reference, definition))
            if histograms is None and (model, target) not in declared:
                continue  # a ceiling is not scored against itself
            missing = len(known) - sum(len(cases) for cases in histograms.cases.values()) if histograms else len(known)
            scored = scored_voxels(histograms, members, missing) if histograms else Scored.nothing(NO_VALUES, missing)
            yield _question("voxel", model, target, definition, reference, scored)


def _region_questions(
    table: pd.DataFrame, group: str, cut: float, members: Members, declared: Sequence[tuple[str, str]]
) -> Iterator[Question]:
    units = region_units(table, REGION_GROUPS[group], cut)
    asked = {(target, reference): None for _, target, reference in units}
    definition = f"{group}_below_{cut:g}"
    if not units:
        yield _question("region", "", "", definition, "", Scored.nothing(f"no case has values of {group}"))
    for model, target in _ordered(declared, [key[:2] for key in units]):
        for reference in [reference for of_target, reference in asked if of_target == target]:
            rows = units.get((model, target, reference))
            if rows is None and (model, target) not in declared:
                continue
            scored = Scored.nothing(NO_VALUES) if rows is None else scored_units(rows, members)
            yield _question("region", model, target, definition, reference, scored)


def _case_questions(
    table: pd.DataFrame, rule: Mapping[str, Any], members: Members, diagnoses: Mapping[str, str]
) -> Iterator[Question]:
    units = case_units(table, rule["score"], diagnoses, rule["diagnoses"])
    if not units:
        nothing = Scored.nothing(f"no case has the {rule['score'].replace('_', ' ')}: it needs both targets")
        yield _question("case", "", BOTH_TARGETS, rule["name"], DIAGNOSIS, nothing)
    for scorer, rows in units.items():
        yield _question("case", scorer, BOTH_TARGETS, rule["name"], DIAGNOSIS, scored_units(rows, members, sign=-1))


def _question(level: str, model: str, target: str, definition: str, reference: str, scored: Scored) -> Question:
    return Question(dict(zip(NAMES, (level, model, target, definition, reference), strict=True)), scored)


def _ordered(declared: Sequence[tuple[str, str]], seen: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Declared models and targets first, then what else was seen (ceilings), each once."""
    return list(dict.fromkeys([*declared, *seen]))

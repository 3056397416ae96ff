"""Which cases models learn from: those of the first training, until the study says otherwise.

A case that comes later takes a fold too (`ct2vq.split`) and is predicted by the models of that fold, which never saw
its patient. If models learnt from it, they would all be trained again. The cases that models learn from are therefore
kept in a file, written when their check has passed and trainings begin; `split.new_cases: learn` opens it.

Imported while Snakemake builds the DAG, and by a rule that all trainings wait for: it uses no other module whose change
should not rerun them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct2vq.errors import ConfigError
from ct2vq.files import write_text

if TYPE_CHECKING:
    from ct2vq.cohort import Case

HEADER = "case_id\ttargets"


def learned_targets(
    cases: Sequence[Case], kept: Mapping[str, Sequence[str]] | None, new_cases: str
) -> dict[str, tuple[str, ...]]:
    """Targets of each case that models learn from; cases that they do not learn from are left out.

    Args:
        cases: the cohort.
        kept: what the trainings that have begun learn from, targets by case; None: none has begun.
        new_cases: `predict` (what is not kept is not learnt from) or `learn` (everything is).
    """
    learned = {case.case_id: case.targets for case in cases}
    if kept is not None and new_cases == "predict":
        learned = {
            case: tuple(target for target in targets if target in kept.get(case, ()))
            for case, targets in learned.items()
        }
    return {case: targets for case, targets in learned.items() if targets}


def read_learners(table: Path) -> dict[str, tuple[str, ...]]:
    """Targets by case from a table that `write_learners` wrote.

    Raises:
        ConfigError: the file is not such a table.
    """
    header, *lines = table.read_text(encoding="utf-8").splitlines() or [""]
    rows = [line.split("\t") for line in lines]
    if header != HEADER or any(len(row) != 2 or not all(row) for row in rows):
        raise ConfigError("no table of learners (columns `case_id` and `targets`, every cell filled)", path=table)
    return {case: tuple(targets.split(",")) for case, targets in rows}


def write_learners(learned: Mapping[str, Sequence[str]], kept: Path) -> None:
    """Merge what models learn from into the file that outlives a run (cases that left stay there)."""
    merged = dict(read_learners(kept)) if kept.is_file() else {}
    for case, targets in learned.items():
        merged[case] = tuple(dict.fromkeys([*merged.get(case, ()), *targets]))
    lines = [f"{case}\t{','.join(targets)}" for case, targets in merged.items()]
    write_text("\n".join([HEADER, *lines]) + "\n", kept)

"""Stage `split`: patient-grouped folds that a growing cohort does not change.

Patients are dealt to folds in an order set by a seeded hash, within strata, so that a first cohort is balanced. The
assignment is then kept in a file: a patient who has a fold keeps it whatever is added later, and a new patient goes
to the fold that holds fewest patients of the same stratum. A changed fold would cost a retraining.

Whether models learn from a case that comes after their training is decided in `ct2vq.learners`.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct2vq.cohort import Case
from ct2vq.errors import ConfigError
from ct2vq.files import write_text

COLUMNS = ("case_id", "patient_id", "stratum", "fold")


def assign_folds(
    cases: Sequence[Case],
    folds: int,
    seed: int,
    stratify_by: str,
    kept: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Fold (1..folds) of each case.

    Args:
        cases: the cohort.
        folds: number of folds.
        seed: seed of the hash that orders the patients.
        stratify_by: `diagnosis`, `site` or `none`.
        kept: folds that are fixed already, by case; cases no longer in the cohort are ignored.

    Raises:
        ConfigError: fewer patients than folds, or a kept assignment that splits a patient or names no such fold.
    """
    patients = {case.patient_id for case in cases}
    if len(patients) < folds:
        raise ConfigError(
            f"{len(patients)} patients cannot fill {folds} folds", key="split.folds", hint="lower it or add patients"
        )
    strata = _strata(cases, stratify_by)
    of_patient = _kept_patients(cases, kept or {}, folds)
    filled = Counter(of_patient.values())
    alike = Counter((strata[patient], fold) for patient, fold in of_patient.items())
    newcomers = sorted(patients - of_patient.keys(), key=lambda patient: (strata[patient], _hash(seed, patient)))
    for patient in newcomers:
        stratum = strata[patient]
        fold = min(
            range(1, folds + 1),
            key=lambda fold: (alike[stratum, fold], filled[fold], _hash(seed, f"{stratum}:{fold}")),
        )
        of_patient[patient] = fold
        filled[fold] += 1
        alike[stratum, fold] += 1
    return {case.case_id: of_patient[case.patient_id] for case in cases}


def read_folds(table: Path) -> dict[str, int]:
    """Folds by case from a table with the columns `case_id` and `fold`.

    Raises:
        ConfigError: the file is not such a table.
    """
    with open(table, encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t")
        if not {"case_id", "fold"} <= set(reader.fieldnames or ()):
            raise ConfigError("a folds table needs the columns `case_id` and `fold`", path=table)
        try:
            return {row["case_id"]: int(row["fold"] or "") for row in reader}
        except ValueError as error:
            raise ConfigError(f"a fold is not a whole number: {error}", path=table) from error


def folds_table(cases: Sequence[Case], assignment: Mapping[str, int], stratify_by: str) -> str:
    """The folds as TSV text with the columns `case_id`, `patient_id`, `stratum`, `fold`."""
    strata = _strata(cases, stratify_by)
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in cases:
        writer.writerow((case.case_id, case.patient_id, strata[case.patient_id], assignment[case.case_id]))
    return text.getvalue()


def write_folds(table: str, output: Path, kept: Path) -> None:
    """Write the folds of this run, and merge them into the file that outlives it (cases that left stay there)."""
    fresh = list(csv.DictReader(io.StringIO(table), delimiter="\t"))
    merged = {row["case_id"]: row for row in _rows(kept)} | {row["case_id"]: row for row in fresh}
    write_text(_as_tsv(list(merged.values())), kept)
    write_text(table, output)


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with open(table, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def _as_tsv(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _strata(cases: Sequence[Case], stratify_by: str) -> dict[str, str]:
    """Stratum of each patient: the value of the patient's first case in the table."""
    strata: dict[str, str] = {}
    for case in cases:
        value = "all" if stratify_by == "none" else case.attributes.get(stratify_by, "unknown")
        strata.setdefault(case.patient_id, value)
    return strata


def _kept_patients(cases: Sequence[Case], kept: Mapping[str, int], folds: int) -> dict[str, int]:
    of_patient: dict[str, int] = {}
    for case in cases:
        if case.case_id not in kept:
            continue
        fold = kept[case.case_id]
        if not 1 <= fold <= folds:
            raise ConfigError(f"case `{case.case_id}` is kept in fold {fold}, but there are {folds}", key="split.folds")
        if of_patient.setdefault(case.patient_id, fold) != fold:
            raise ConfigError(
                f"patient `{case.patient_id}` is split over folds {of_patient[case.patient_id]} and {fold}",
                key="split.folds_file",
                hint="all cases of a patient belong in one fold",
            )
    return of_patient


def _hash(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()

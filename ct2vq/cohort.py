"""The cohort: which cases there are, where their images lie, and who was left out and why.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ct2vq.config import TARGETS, cases_schema, schema_problems
from ct2vq.discover.resolve import is_series_cell, resolve_source
from ct2vq.errors import ConfigError
from ct2vq.identity.sources import mask_source

#: the CT of a camera that made only one of the SPECT images, by target
OWN_ATTENUATION_CT = {target: f"attenuation_ct_{target}" for target in TARGETS}
CT_VOLUMES = ("ct", "attenuation_ct", *OWN_ATTENUATION_CT.values())
VOLUMES = (*CT_VOLUMES, *TARGETS)
#: column of the user's own lung mask on a CT
MASK_COLUMNS = {volume: mask_source(volume) for volume in CT_VOLUMES}
SIMULATED_VOLUMES = ("ct", "attenuation_ct", *TARGETS)
EXCLUSION_COLUMNS = ("case_id", "stage", "reason")


@dataclass(frozen=True)
class Case:
    """One CT with the SPECT images that belong to it.

    Attributes:
        case_id: unique pseudonym.
        patient_id: grouping key for folds and statistics.
        sources: DICOM folder or file for each of `VOLUMES` that the case has, or `series:<id>`, `object:<id>` of the
            inventory (`ct2vq.discover.resolve`).
        lung_masks: the user's own mask by the CT on which it lies.
        lungs: which lungs the patient has (`both`, `right`, `left`), if told.
        landmarks: the user's own table of points that belong together, if any.
        attributes: the descriptive columns (`diagnosis`, `site`, `age`, `sex`), empty strings left out.
    """

    case_id: str
    patient_id: str
    sources: Mapping[str, str]
    lung_masks: Mapping[str, str] = field(default_factory=dict)
    lungs: str | None = None
    landmarks: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The SPECT images that the case has."""
        return tuple(target for target in TARGETS if target in self.sources)

    def attenuation_ct(self, target: str) -> str | None:
        """The volume that is the CT of the target's camera: its own before the one for both; None if there is none."""
        names = (OWN_ATTENUATION_CT[target], "attenuation_ct")
        return next((name for name in names if name in self.sources), None)

    def volumes_of(self, targets: Sequence[str]) -> list[str]:
        """What some of the case's targets need: the CT, the CTs of their cameras, the SPECT images, in that order."""
        own_cts = dict.fromkeys(filter(None, map(self.attenuation_ct, targets)))
        return ["ct", *own_cts, *targets]

    @property
    def registered_together(self) -> tuple[str, ...]:
        """Targets that one registration carries along: all that share `attenuation_ct`."""
        return tuple(target for target in self.targets if self.attenuation_ct(target) == "attenuation_ct")

    @property
    def registered_alone(self) -> tuple[str, ...]:
        """Targets with a registration of their own: with an attenuation CT of their own, or with none."""
        return tuple(target for target in self.targets if target not in self.registered_together)


@dataclass(frozen=True)
class Cohort:
    """The cases of a study in the order of their table, without the excluded ones.

    Attributes:
        cases: the cases that take part.
        exclusions: rows of the exclusion table (`case_id`, `stage`, `reason`).
        simulated: whether the patients are simulated.
    """

    cases: tuple[Case, ...]
    exclusions: tuple[Mapping[str, str], ...] = ()
    simulated: bool = False

    def __getitem__(self, case_id: str) -> Case:
        """The case of an identifier.

        Raises:
            ConfigError: the cohort has no such case.
        """
        case = self._by_id.get(case_id)
        if case is None:
            raise ConfigError(f"no such case: {case_id}", hint="config/cases.tsv without config/exclusions.tsv")
        return case

    @cached_property
    def _by_id(self) -> dict[str, Case]:
        """Asked for dozens of times a case while the DAG is built."""
        return {case.case_id: case for case in self.cases}

    @property
    def case_ids(self) -> list[str]:
        """Identifiers of the cases that take part."""
        return [case.case_id for case in self.cases]

    def with_target(self, target: str) -> list[str]:
        """Identifiers of the cases that have a target."""
        return [case.case_id for case in self.cases if target in case.sources]

    @property
    def targets(self) -> list[str]:
        """Targets that at least one case has."""
        return [target for target in TARGETS if self.with_target(target)]


def load_cohort(config: Mapping[str, Any]) -> Cohort:
    """The cohort that a configuration names.

    Raises:
        ConfigError: the table is missing, empty or wrong; every wrong row is named.
    """
    settings = config["cohort"]
    simulated = settings["source"] == "simulated"
    cases = _simulated_cases(config) if simulated else _read_cases(settings)
    exclusions = _read_exclusions(settings["exclusions"], {case.case_id for case in cases})
    _require_known(config, cases)
    excluded = {row["case_id"] for row in exclusions}
    remaining = tuple(case for case in cases if case.case_id not in excluded)
    if not remaining:
        raise ConfigError("every case is excluded", path=settings["exclusions"])
    return Cohort(remaining, tuple(exclusions), simulated)


def _require_known(config: Mapping[str, Any], cases: Sequence[Case]) -> None:
    """Stop if `register.accept` names a case that there is not: a misspelt name would accept nobody.

    Raises:
        ConfigError: with the names.
    """
    unknown = sorted(set(config.get("register", {}).get("accept", ())) - {case.case_id for case in cases})
    if unknown:
        raise ConfigError(f"no such case: {', '.join(unknown)}", key="register.accept")


def _simulated_cases(config: Mapping[str, Any]) -> tuple[Case, ...]:
    """Cases of the simulated cohort; their diagnoses are dealt in proportion, in an order set by the seed."""
    number = config["simulate"]["cases"]
    diagnoses = _dealt(config["simulate"]["diagnoses"], number)
    random.Random(f"{config['seed']}:diagnoses").shuffle(diagnoses)
    cases = []
    for index, diagnosis in enumerate(diagnoses, start=1):
        case_id = f"sim{index:03d}"
        folder = f"results/simulate/{case_id}/dicom"
        cases.append(
            Case(
                case_id,
                f"patient{index:03d}",
                {volume: f"{folder}/{volume}" for volume in SIMULATED_VOLUMES},
                attributes={"diagnosis": diagnosis, "site": "simulation"},
            )
        )
    return tuple(cases)


def _dealt(weights: Mapping[str, float], number: int) -> list[str]:
    """`number` labels in proportion to their weights (largest remainders)."""
    total = sum(weights.values())
    shares = {name: number * weight / total for name, weight in weights.items()}
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (counts[name] - shares[name], name))
    for name in by_remainder[: number - sum(counts.values())]:
        counts[name] += 1
    return [name for name, count in counts.items() for _ in range(count)]


def _read_cases(settings: Mapping[str, Any]) -> tuple[Case, ...]:
    table = settings["cases"]
    rows = _read_rows(table, list(cases_schema()["properties"]), cases_schema()["required"])
    if not rows:
        raise ConfigError("the cohort table has no rows", path=table, hint=_missing_rows(table))
    problems: list[str] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        problems += [f"line {line}: {problem}" for problem in schema_problems(row, cases_schema())]
        case_id = row.get("case_id", "")
        if case_id in seen:
            problems.append(f"line {line}: case_id `{case_id}` stands already in line {seen[case_id]}")
        seen.setdefault(case_id, line)
        if not any(row.get(target) for target in TARGETS):
            problems.append(f"line {line}: case `{case_id}` has neither `perfusion` nor `ventilation`")
        problems += [f"line {line}: {problem}" for problem in _idle_attenuation_cts(row)]
        problems += [f"line {line}: {problem}" for problem in _idle_masks(row)]
        problems += [f"line {line}: {problem}" for problem in _ambiguous_landmarks(row)]
        problems += [f"line {line}: {problem}" for problem in _unknown_series(row, Path(settings["private"]))]
    if problems:
        raise ConfigError("the cohort table is wrong:\n" + "\n".join(f"  - {p}" for p in problems), path=table)
    return tuple(_case(row, Path(settings["dicom_root"])) for _, row in rows)


def _missing_rows(table: str) -> str:
    """What to do about a table without rows."""
    hidden = [line for line in Path(table).read_text(encoding="utf-8-sig").splitlines() if re.match("#.*\t", line)]
    if not hidden:
        return "add one line for each case"
    return f"add one line for each case; the {len(hidden)} that begin with `#` are not read"


def _idle_attenuation_cts(row: Mapping[str, str]) -> list[str]:
    """Attenuation CTs that belong to no SPECT of the row: a slip, or a SPECT that was forgotten."""
    targets = [target for target in TARGETS if row.get(target)]
    problems = [
        f"`{column}` without `{target}`"
        for target, column in OWN_ATTENUATION_CT.items()
        if row.get(column) and target not in targets
    ]
    if row.get("attenuation_ct") and targets and all(row.get(OWN_ATTENUATION_CT[target]) for target in targets):
        problems.append(f"`attenuation_ct` serves no SPECT: the row gives a CT of its own for {' and '.join(targets)}")
    return problems


def _idle_masks(row: Mapping[str, str]) -> list[str]:
    """Lung masks of CTs that the row does not name."""
    return [
        f"`{column}` without `{volume}`"
        for volume, column in MASK_COLUMNS.items()
        if row.get(column) and not row.get(volume)
    ]


def _ambiguous_landmarks(row: Mapping[str, str]) -> list[str]:
    """Landmarks of a case whose SPECT images are registered apart: nobody says whose points they are."""
    case = Case("", "", {volume: row[volume] for volume in VOLUMES if row.get(volume)})
    registrations = bool(case.registered_together) + len(case.registered_alone)
    if not row.get("landmarks") or registrations <= 1:
        return []
    return [f"`landmarks` of a case with {registrations} registrations; give each SPECT a row of its own"]


def _unknown_series(row: Mapping[str, str], private: Path) -> list[str]:
    """Cells that name a series or object which the inventory does not know."""
    problems = []
    for volume in VOLUMES:
        try:
            resolve_source(row.get(volume, ""), private)
        except ConfigError as error:
            problems.append(f"`{volume}`: {error}")
    return problems


def _source(cell: str, root: Path) -> str:
    """A path starts from the DICOM root; a series stays as it is."""
    return cell if is_series_cell(cell) else str(root / cell)


def _case(row: Mapping[str, str], root: Path) -> Case:
    return Case(
        row["case_id"],
        row["patient_id"],
        {volume: _source(row[volume], root) for volume in VOLUMES if row.get(volume)},
        lung_masks={volume: str(root / row[column]) for volume, column in MASK_COLUMNS.items() if row.get(column)},
        lungs=row.get("lungs") or None,
        landmarks=str(root / row["landmarks"]) if row.get("landmarks") else None,
        attributes={key: row[key] for key in ("diagnosis", "site", "age", "sex") if row.get(key)},
    )


def _read_exclusions(table: str, known: set[str]) -> list[dict[str, str]]:
    if not Path(table).is_file():
        return []
    rows = _read_rows(table, list(EXCLUSION_COLUMNS), list(EXCLUSION_COLUMNS))
    problems = []
    for line, row in rows:
        problems += [f"line {line}: `{column}` is empty" for column in EXCLUSION_COLUMNS if not row[column]]
        if row["case_id"] and row["case_id"] not in known:
            problems.append(f"line {line}: no case `{row['case_id']}` in the cohort")
    if problems:
        raise ConfigError("the exclusion table is wrong:\n" + "\n".join(f"  - {p}" for p in problems), path=table)
    return [row for _, row in rows]


def _read_rows(table: str, columns: list[str], required: list[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a TSV with their line numbers; comment lines (`#`) and blank lines are skipped."""
    if not Path(table).is_file():
        raise ConfigError(
            "the table does not exist",
            path=table,
            key="cohort.cases",
            hint="make it (config/README.md lists the columns), or try `make demo` first",
        )
    try:
        with open(table, encoding="utf-8-sig") as stream:
            lines = [(n, _cells(line, n, table)) for n, line in enumerate(stream, start=1)]
    except UnicodeDecodeError as error:
        raise ConfigError(f"the table is not UTF-8 text: {error}", path=table) from error
    lines = [(n, row) for n, row in lines if row and not row[0].startswith("#") and any(cell.strip() for cell in row)]
    if not lines:
        raise ConfigError("the table is empty", path=table, hint=f"its first line names the columns: {columns}")
    header = [cell.strip() for cell in lines[0][1]]
    _check_header(header, columns, required, table)
    rows = []
    for line, cells in lines[1:]:
        if len(cells) > len(header):
            raise ConfigError(f"line {line} has {len(cells)} cells, the header has {len(header)}", path=table)
        cells = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
        rows.append((line, dict(zip(header, cells, strict=True))))
    return rows


def _cells(text: str, line: int, table: str) -> list[str]:
    """Cells of one line; each line is read by itself, so that a stray quotation mark cannot swallow the next cases."""
    try:
        return next(csv.reader([text.rstrip("\n")], delimiter="\t", strict=True), [])
    except csv.Error as error:
        raise ConfigError(f"line {line}: a quotation mark without its partner ({error})", path=table) from error


def _check_header(header: list[str], columns: list[str], required: list[str], table: str) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        hint = "the columns are separated by tabs" if len(header) == 1 else f"columns found: {', '.join(header)}"
        raise ConfigError(f"missing column {', '.join(f'`{c}`' for c in missing)}", path=table, hint=hint)
    unknown = [column for column in header if column not in columns]
    if unknown:
        raise ConfigError(
            f"unknown column {', '.join(f'`{c}`' for c in unknown)}",
            path=table,
            hint=f"known columns: {', '.join(columns)}",
        )
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise ConfigError(f"repeated column {', '.join(f'`{c}`' for c in repeated)}", path=table)

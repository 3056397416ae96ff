"""What `discover` writes: the public inventory, the proposal, and the private table that a human decides by."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ct2vq.discover.classify import STATES, Finding, descriptions
from ct2vq.discover.inventory import Scan
from ct2vq.discover.propose import ROLES, ProposedCase
from ct2vq.discover.series import numbers, whole
from ct2vq.discover.table import write_private
from ct2vq.files import write_text
from ct2vq.identity.vocabulary import is_known

INVENTORY_COLUMNS = (
    "cell",
    "patient",
    "study",
    "modality",
    "kind",
    "files",
    "copies",
    "matrix",
    "spacing_mm",
    "slices",
    "slice_mm",
    "z_extent_mm",
    "kernel",
    "role",
    "reasons",
)
_CASE_COLUMNS = ("case_id", "patient_id", *ROLES)
_CANDIDATE_COLUMNS = (
    "case_id",
    "role",
    "cell",
    "claim",
    "reasons",
    "patient_name",
    "patient_number",
    "birth_date",
    "taken",
    "study_description",
    "description",
    "radiopharmaceutical",
    "kernel",
    "contrast",
    "exposure_mas",
    "slices",
    "slice_mm",
    "z_extent_mm",
    "first_file",
)
#: modalities that the public inventory names (PS3.3 C.7.3.1.1.1); others could be anything
_MODALITIES = re.compile(
    "CR|CT|DX|DOC|ECG|ES|KO|MG|MR|NM|OT|PR|PT|PX|REG|RF|RG|RT(DOSE|IMAGE|PLAN|RECORD|STRUCT)|RWV|SC|SEG|SM|SR|US|XA|XC"
)
_INTRODUCTION = """\
# Proposed by `ct2vq discover`: look at it, then keep it. Where a line says `open`, put one of the candidates into
# the row's empty cell; candidates.tsv in the private folder holds their descriptions, dates and files.
"""


# --- the public inventory ------------------------------------------------------------------------------------------


def write_inventory(findings: Sequence[Finding], cases: Sequence[ProposedCase], found: Scan, path: Path) -> None:
    """One row for each series or object, and one for each kind of file that is no DICOM object; no identities."""
    roles = _roles(cases)
    rows = sorted(_inventory_row(finding, roles.get(finding.series.cell, "")) for finding in findings)
    states = Counter(entry.facts.state for entry in found.entries if entry.facts.state)
    rows += [_state_row(state, number) for state, number in sorted(states.items())]
    write_text(_tsv([INVENTORY_COLUMNS, *rows]), path)


def _roles(cases: Iterable[ProposedCase]) -> dict[str, str]:
    """By cell: the roles for which a series is proposed, or a candidate."""
    roles: dict[str, set[str]] = {}
    for case in cases:
        for role, claim in case.claims.items():
            for finding in claim.candidates:
                word = role if finding is claim.chosen and not case.obstacle else f"candidate {role}"
                roles.setdefault(finding.series.cell, set()).add(word)
    return {cell: ", ".join(sorted(words)) for cell, words in roles.items()}


def _inventory_row(finding: Finding, role: str) -> tuple[str, ...]:
    series, facts = finding.series, finding.series.facts
    rows, columns = whole(facts.rows), whole(facts.columns)
    down, across = numbers(facts.spacing, 2)
    return (
        series.cell,
        f"p{series.patient}",
        series.study,
        facts.modality if _MODALITIES.fullmatch(facts.modality) else "other",
        finding.kind,
        str(len(series.entries)),
        str(series.copies),
        f"{columns}x{rows}" if rows and columns else "",
        "" if across is None else f"{across:g}x{down:g}",
        str(series.slices or ""),
        _length(series.slice_mm),
        _length(series.extent_mm),
        _kernel(facts.kernel),
        role,
        "; ".join(finding.reasons),
    )


def _state_row(state: str, number: int) -> tuple[str, ...]:
    row = dict.fromkeys(INVENTORY_COLUMNS, "")
    row |= {"kind": state, "files": str(number), "reasons": STATES[state]}
    return tuple(row.values())


def _kernel(name: str) -> str:
    """A kernel's name where it is one that vendors use: this attribute is free text."""
    return name if not name or is_known("kernel", name) else "other"


def _length(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


# --- the proposal --------------------------------------------------------------------------------------------------


def write_proposal(cases: Sequence[ProposedCase], path: Path) -> Path:
    """The proposed cohort table. A table with rows is never touched: the proposal then lies beside it.

    Returns:
        where it was written.
    """
    if path.exists() and not _is_template(path):
        path = path.with_name(f"{path.stem}.proposed{path.suffix}")
    lines = [_tsv([_CASE_COLUMNS])]
    for case in cases:
        lines += [f"# {case.case_id} {remark}\n" for remark in remarks(case)]
        row = _tsv([(case.case_id, case.patient_id, *(case.claims[role].cell for role in ROLES))])
        lines.append(f"# {row}" if case.obstacle else row)
    write_text(_INTRODUCTION + "".join(lines), path)
    return path


def _is_template(path: Path) -> bool:
    """Whether a cohort table holds the names of its columns and comments only, as the one of the checkout does."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    told = [line for line in lines if line.strip() and not line.startswith("#")]
    return len(told) == 1 and told[0].split("\t")[0] == "case_id"


def remarks(case: ProposedCase) -> Iterator[str]:
    """What a human must decide on a case, candidates by their cells."""
    if case.obstacle:
        yield f"not proposed: {case.obstacle}"
    for role in ROLES:
        claim = case.claims[role]
        if claim.problem and claim.candidates:
            yield f"{role} is open, {claim.problem}:"
            for finding in claim.candidates:
                yield f"    {finding.series.cell} {summary(finding)}"


def summary(finding: Finding) -> str:
    """A candidate in a few words without identities."""
    series = finding.series
    words = [f"{series.slices} slices of {_length(series.slice_mm) or '?'} mm", _kernel(series.facts.kernel)]
    return ", ".join(filter(None, [*words, *finding.reasons]))


# --- the private table ---------------------------------------------------------------------------------------------


def write_candidates(cases: Sequence[ProposedCase], private: Path, root: Path) -> None:
    """Everything that a human needs to decide; for the owner of the folder only."""
    rows = [
        _candidate_row(case, role, finding, word)
        for case in cases
        for role in ROLES
        for finding, word in _claims(case, role)
    ]
    write_private(private / "candidates.tsv", str(root), _CANDIDATE_COLUMNS, rows)


def _claims(case: ProposedCase, role: str) -> Iterator[tuple[Finding, str]]:
    claim = case.claims[role]
    for finding in claim.candidates:
        yield finding, "proposed" if finding is claim.chosen and not case.obstacle else "candidate"
    for finding, reason in claim.others:
        yield finding, f"weaker: {reason}"


def _candidate_row(case: ProposedCase, role: str, finding: Finding, word: str) -> tuple[str, ...]:
    series, facts = finding.series, finding.series.facts
    return (
        case.case_id,
        role,
        series.cell,
        word,
        "; ".join(finding.reasons),
        facts.patient_name,
        facts.patient_id,
        facts.birth_date,
        facts.taken,
        facts.study_description,
        descriptions(series),
        facts.drug,
        facts.kernel,
        facts.contrast,
        facts.exposure,
        str(series.slices),
        _length(series.slice_mm),
        _length(series.extent_mm),
        series.entries[0].path,
    )


def _tsv(rows: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)
    return stream.getvalue()

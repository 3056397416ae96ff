"""The command `ct2vq discover`: scan, group, classify, propose, write, and say on the terminal what was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ct2vq.cohort import OWN_ATTENUATION_CT
from ct2vq.discover.classify import STATES, Finding, classify
from ct2vq.discover.inventory import Scan, save_inventory, scan
from ct2vq.discover.propose import ROLES, ProposedCase, propose
from ct2vq.discover.series import group
from ct2vq.discover.tables import remarks, write_candidates, write_inventory, write_proposal
from ct2vq.errors import ConfigError, Ct2vqError
from ct2vq.identity.store import Store

INVENTORY = Path("results/discover/inventory.tsv")


@dataclass(frozen=True)
class Discovery:
    """What `discover` found and where it wrote the proposal; None if there is no case to propose."""

    scan: Scan
    findings: list[Finding]
    cases: list[ProposedCase]
    proposal: Path | None


def discover(
    raw: Path,
    settings: Mapping[str, Any],
    store: Store,
    output: Path,
    jobs: int,
    inventory: Path = INVENTORY,
    progress: Callable[[int, int], None] | None = None,
) -> Discovery:
    """Take the inventory of a raw folder and propose the cohort table.

    Args:
        raw: the folder; every file below it is looked at.
        settings: the config block `discover`.
        store: the study's private folder.
        output: the cohort table to propose; one that has rows is not touched.
        jobs: processes that read.
        inventory: the public inventory.
        progress: called with the number of files that are read and of all.

    Raises:
        ConfigError: a pattern is no regular expression.
        Ct2vqError: the folder is missing, or the private folder cannot be used.
    """
    _require_patterns(settings["patterns"])
    private = store.make_folder()
    found = scan(raw, private, jobs, progress)
    series, ids = group(found.entries, store)
    save_inventory(found, ids, private)
    findings = [classify(each, settings) for each in series]
    cases = propose(findings, settings, store)
    write_inventory(findings, cases, found, inventory)
    write_candidates(cases, private, found.root)
    return Discovery(found, findings, cases, write_proposal(cases, output) if cases else None)


def _require_patterns(patterns: Mapping[str, str]) -> None:
    for name, pattern in patterns.items():
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"not a regular expression: {error}", key=f"discover.patterns.{name}") from error


def show(found: Discovery, private: Path, table: Path, console: Console) -> None:
    """Print the compact result, and how the proposal becomes the cohort table if it is not; pseudonyms only.

    Raises:
        Ct2vqError: there was no case to propose.
    """
    done = found.scan
    console.print(f"{len(done.entries)} files: {done.read} read, {done.kept} unchanged, {done.vanished} vanished")
    if done.links:
        console.print(f"{done.links} link(s) to folders are not followed")
    kinds = Counter(finding.kind for finding in found.findings)
    console.print("series and objects: " + (", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())) or "none"))
    states = Counter(entry.facts.state for entry in done.entries if entry.facts.state)
    for state, number in sorted(states.items()):
        console.print(f"{number} file(s) left out: {STATES[state]}")
    if found.proposal is None:
        problem = "no reconstructed SPECT of a patient is in it: no cohort table was written"
        raise Ct2vqError(problem, path=done.root, hint=f"is this the right folder? {INVENTORY} lists what was found")
    console.print(_case_table(found.cases))
    for case in found.cases:
        for remark in remarks(case):
            console.print(f"{case.case_id} {remark}", highlight=False, markup=False, soft_wrap=True)
    decided = sum(not case.is_ambiguous for case in found.cases)
    console.print(f"{decided} of {len(found.cases)} case(s) are complete as proposed: {found.proposal}")
    if found.proposal != table:
        console.print(f"{table} has rows and was not touched; to use the proposal: cp {found.proposal} {table}")
    console.print(f"all series: {INVENTORY}; what a human needs to decide: {private / 'candidates.tsv'}")


def _case_table(cases: Sequence[ProposedCase]) -> Table:
    # few cases have a camera's CT for each SPECT: the columns take the room of other ids
    rare = {role for role in OWN_ATTENUATION_CT.values() if not any(case.claims[role].candidates for case in cases)}
    roles = [role for role in ROLES if role not in rare]
    table = Table("case", "patient", *roles, box=None)
    for case in cases:
        table.add_row(case.case_id, case.patient_id, *(_cell(case, role) for role in roles))
    return table


def _cell(case: ProposedCase, role: str) -> str:
    claim = case.claims[role]
    if claim.chosen and not case.obstacle:
        return claim.cell.partition(":")[2]
    return f"{len(claim.candidates)} open" if claim.candidates else "-"


class FileProgress:
    """A progress bar over files, for a `with` block; called with the number done and of all."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("reading headers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> FileProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total)

"""What is shown to whom, in which session and order: balanced, random by a secret, fixed before packs are built.

A part of the study has two sessions. A patient whose images are real in the first is synthesised in the second, and the
other way round, so that both images of a patient never share a session.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2vq.files import sha256_text, write_json, write_text
from ct2vq.read.plan import plan_text
from ct2vq.read.sample_size import sample_size
from ct2vq.read.settings import PARTS, SOURCES

FORMAT = 1
#: what may not change once packs are handed out; readers may be added, and with them the sample size changes
FIXED = ("study", "parts", "models", "cases", "reference", "endpoint")
#: where they fit, so many other pairs lie between the two showings of a repeated one
REPEAT_GAP = 5
#: fewer cases leave no place for a repeat that is not next to its first showing
FEWEST_FOR_REPEATS = 3
TRIES = 200


def write_design(
    design: str | Path,
    plan: str | Path,
    *,
    study: str,
    secret: str,
    settings: Mapping[str, Any],
    cases: Mapping[str, Mapping[str, str | None]],
    readers: Mapping[str, str],
    simulated: bool,
    simulated_readers: bool,
    labels: Mapping[str, str],
) -> None:
    """Write the design as JSON and the plan as a page in words.

    Args:
        design: JSON to write.
        plan: Markdown to write.
        study: its name.
        secret: whoever knows it can tell order and sources (`ct2vq.identity.store`).
        settings: config block `read`.
        cases: `patient_id`, `diagnosis` and `reference` of each case (`ct2vq.read.settings.reading_cases`).
        readers: level of each reader.
        simulated: whether the patients are simulated.
        simulated_readers: whether the readers are.
        labels: how figures call the models.
    """
    people = {"simulated": simulated, "simulated_readers": simulated_readers}
    made = {"study": study, **people, **make_design(secret, settings, cases, readers, simulated)}
    write_json(made, design)
    write_text(plan_text(made, settings, labels), plan)


def make_design(
    secret: str,
    settings: Mapping[str, Any],
    cases: Mapping[str, Mapping[str, str | None]],
    readers: Mapping[str, str],
    simulated: bool,
) -> dict[str, Any]:
    """The whole design.

    Args:
        secret: whoever knows it can tell order and sources (`ct2vq.identity.store`).
        settings: config block `read`.
        cases: as for `write_design`.
        readers: level of each reader.
        simulated: whether the patients are simulated.

    Returns:
        `format`, `parts`, `cases`, `endpoint`, `reference`, `sample_size`,
        `models` and, by reader, `level` and `sessions` (number, part, ct, after, and items: case_id, source, and
        repeat_of, the place of the first showing in the session or None).
    """
    parts = [part for part in PARTS if part in settings["parts"]]
    first_real = {part: dealt_sources(cases_of(part, cases), readers, f"{secret}:read:{part}") for part in parts}
    patients = {case["patient_id"]: case["reference"] for case in cases.values() if case["reference"]}
    endpoint = dict(settings["endpoint"])
    return {
        "format": FORMAT,
        "parts": parts,
        "models": dict(settings["models"]),
        "cases": {name: dict(case) for name, case in cases.items()},
        "reference": _reference(settings["reference"], simulated),
        "endpoint": endpoint,
        "sample_size": sample_size(endpoint, patients, len(readers)),
        "readers": {
            reader: {
                "level": level,
                "sessions": list(_sessions(parts, cases, settings, reader, first_real, secret)),
            }
            for reader, level in readers.items()
        },
    }


def design_digest(design: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of what is fixed before anybody reads: a part of every pack, and so of its digest."""
    return sha256_text(json.dumps({key: design[key] for key in FIXED}, sort_keys=True))


def cases_of(part: str, cases: Mapping[str, Mapping[str, str | None]]) -> dict[str, Mapping[str, str | None]]:
    """The cases of a part: those with a reference for diagnoses, all for acceptability."""
    return {name: case for name, case in cases.items() if part == "acceptability" or case["reference"]}


def dealt_sources(
    cases: Mapping[str, Mapping[str, str | None]], readers: Sequence[str] | Mapping[str, str], seed: str
) -> dict[str, set[str]]:
    """The cases that a reader sees real in the first session: half of them, by reader.

    Readers come in pairs, in the order of their table: the second sees real what the first sees synthesised, so that
    each case is real first for half of the readers. Of each diagnosis half are real, too. A reader added at the end of
    the table leaves the others' halves as they are. A patient's cases stay together.
    """
    dealt, names = {}, list(readers)
    patients: dict[str, list[str]] = {}
    for case_id, case in cases.items():
        patients.setdefault(str(case["patient_id"]), []).append(case_id)
    for pair in range(0, len(names), 2):
        generator = random.Random(f"{seed}:{pair}")
        ordered = sorted(
            sorted(patients), key=lambda patient: (cases[patients[patient][0]]["reference"] or "", generator.random())
        )
        start = generator.randrange(2)
        real = {case for patient in ordered[start::2] for case in patients[patient]}
        for reader, half in zip(names[pair : pair + 2], (real, set(cases) - real), strict=False):
            dealt[reader] = half
    return dealt


def _sessions(
    parts: Sequence[str],
    cases: Mapping[str, Mapping[str, str | None]],
    settings: Mapping[str, Any],
    reader: str,
    first_real: Mapping[str, Mapping[str, set[str]]],
    secret: str,
) -> Iterator[dict[str, Any]]:
    """Two sessions of each part; each shows the cases of the one before, so each waits for it."""
    number = 0
    for part in parts:
        shown, real = cases_of(part, cases), first_real[part][reader]
        for half in range(2):
            number += 1
            sources = {case: SOURCES[(case in real) == bool(half)] for case in shown}
            generator = random.Random(f"{secret}:read:{reader}:{number}:{part}")
            yield {
                "number": number,
                "part": part,
                "ct": "shown" if shows_ct(part, settings) else "hidden",
                "after": number - 1 or None,
                "items": ordered_items(sources, settings["repeats"], generator),
            }


def shows_ct(part: str, settings: Mapping[str, Any]) -> bool:
    """Whether the CT is in the pack for the sessions of a part."""
    return part == "diagnosis_ct" or (part == "acceptability" and settings["acceptability"]["ct"])


def ordered_items(sources: Mapping[str, str], repeats: float, generator: random.Random) -> list[dict[str, Any]]:
    """The items of a session in a random order; a repeated one comes back later, never next to its first showing.

    Args:
        sources: source of each case.
        repeats: share of the cases that come twice, of real and synthesised ones alike.
        generator: draws all of it.

    Returns:
        `case_id`, `source`, and `repeat_of`: the place (from 0) of the first showing, or None.
    """
    cases = sorted(sources)
    again = _repeated(sources, repeats, generator)
    order = _spread([*cases, *again], generator)
    first: dict[str, int] = {}
    items = []
    for place, case in enumerate(order):
        items.append({"case_id": case, "source": sources[case], "repeat_of": first.get(case)})
        first.setdefault(case, place)
    return items


def _repeated(sources: Mapping[str, str], share: float, generator: random.Random) -> list[str]:
    """The cases that come twice: of one source and of the other in turn, as long as there are."""
    if not share or len(sources) < FEWEST_FOR_REPEATS:
        return []
    by_source = [[case for case in sorted(sources) if sources[case] == source] for source in SOURCES]
    for cases in by_source:
        generator.shuffle(cases)
    if generator.randrange(2):
        by_source.reverse()
    longest = max(map(len, by_source))
    alternating = [cases[index] for index in range(longest) for cases in by_source if index < len(cases)]
    return alternating[: max(1, round(share * len(sources)))]


def _spread(cases: list[str], generator: random.Random) -> list[str]:
    """A random order in which equal ones lie as far apart as `REPEAT_GAP`, or as can be found."""
    for gap in range(min(REPEAT_GAP, len(set(cases)) - 1), 0, -1):
        for _ in range(TRIES):
            generator.shuffle(cases)
            if _nearest(cases) > gap:
                return cases
    return _apart(cases, generator)


def _nearest(cases: Sequence[str]) -> float:
    """The smallest distance between two showings of one case."""
    last: dict[str, int] = {}
    nearest = float("inf")
    for place, case in enumerate(cases):
        if case in last:
            nearest = min(nearest, place - last[case])
        last[case] = place
    return nearest


def _apart(cases: Sequence[str], generator: random.Random) -> list[str]:
    """What chance did not find: all cases once, then the repeated ones in the order of their first showings."""
    once = sorted(set(cases))
    generator.shuffle(once)
    # those that come once stand last of the first showings, so that no repeat follows at once
    once.sort(key=lambda case: cases.count(case), reverse=True)
    return once + [case for case in once if cases.count(case) > 1]


def _reference(reference: Mapping[str, Any], simulated: bool) -> dict[str, str | None]:
    if simulated:
        return {
            "source": reference["source"] or "the simulation: the disease that it put into each patient",
            "adjudication": reference["adjudication"] or "none is needed",
        }
    return dict(reference)

"""The readers' answers as one table: a row for each item that was shown, with case, source and reference."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json
from ct2vq.read.exports import ACCEPTABILITY, asked, check_export, instant, read_export, read_pack
from ct2vq.read.settings import SOURCES

#: what the columns of ratings begin with
RATING = "rating_"
HUMAN, SIMULATED = "human", "simulated"
COLUMNS = (
    *("readers", "reader", "level", "session", "part", "order", "item", "case_id", "patient_id", "source"),
    *("repeat_of", "answered", "seconds", "visits", "changes", "reference", "diagnosis", "confidence", "correct"),
    *("positive", "called_positive", "suspicion", "pattern", "locations", "comment", "guess"),
)


@dataclass(frozen=True)
class Group:
    """Readers that a row of a table stands for.

    Attributes:
        kind: `all`, `level` or `reader`.
        name: `all`, the level or the reader.
        readers: who they are.
    """

    kind: str
    name: str
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """All that the analysis reads.

    Attributes:
        answers: a row for each item shown to each reader (`COLUMNS` and a column `rating_<question>` for each
            question), whether answered or not.
        sessions: a row for each session of each reader: `reader`, `session`, `part`, `started`, `finished`, `after`.
        levels: experience level of each reader that had a pack.
        questions: words of each question of acceptability, by name.
        scale: values of the answers to them.
        choices: words of each diagnosis to choose from, by name.
        patterns: names of the patterns to choose from.
        readers: `human` or `simulated`.
        endpoint: config block `read.endpoint`, as the design has it.
        sample_size: what the design says of the sample size.
        washout_days: asked for between sessions.
        settings: `confidence` and `bootstrap`.
        seed: of the bootstrap.
    """

    answers: pd.DataFrame
    sessions: pd.DataFrame
    levels: Mapping[str, str]
    questions: Mapping[str, str]
    scale: Sequence[int]
    choices: Mapping[str, str]
    patterns: Sequence[str]
    readers: str
    endpoint: Mapping[str, Any]
    sample_size: Mapping[str, Any]
    washout_days: float
    settings: Mapping[str, Any]
    seed: int

    @cached_property
    def first(self) -> pd.DataFrame:
        """Answered items without repeats: what everything but the agreement of a reader with himself is made from."""
        return self.answers[self.answers["answered"] & self.answers["repeat_of"].isna()]

    @property
    def parts(self) -> list[str]:
        """Parts that were shown, in the order of the study."""
        return list(dict.fromkeys(self.answers.sort_values("session")["part"]))

    @property
    def diagnosis_parts(self) -> list[str]:
        """Parts in which a diagnosis is made."""
        return [part for part in self.parts if part != ACCEPTABILITY]

    @property
    def confidence(self) -> float:
        """Level of the intervals."""
        return float(self.settings["confidence"])

    @cached_property
    def groups(self) -> list[Group]:
        """All readers, each level of more than one, and each reader."""
        levels = dict.fromkeys(self.levels.values())
        groups = [Group("all", "all", tuple(self.levels))]
        if len(levels) > 1:
            groups += [Group("level", name, tuple(r for r in self.levels if self.levels[r] == name)) for name in levels]
        return groups + [Group("reader", reader, (reader,)) for reader in self.levels]

    def of(self, part: str, group: Group, source: str | None = None) -> pd.DataFrame:
        """First answers of a part by the readers of a group, from one source or from both."""
        rows = self.first[(self.first["part"] == part) & self.first["reader"].isin(group.readers)]
        return rows if source is None else rows[rows["source"] == source]

    def each(self, parts: Sequence[str]) -> Iterator[tuple[str, Group, str]]:
        """Every part, group and source."""
        yield from ((part, group, source) for part in parts for group in self.groups for source in SOURCES)

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
        """A table that says in its first column whose answers it is made from."""
        table = pd.DataFrame(rows, columns=list(columns))
        table.insert(0, "readers", self.readers)
        return table


def load_reading(
    exports: Sequence[str | Path],
    packs: Sequence[str | Path],
    keys: Sequence[str | Path],
    design: str | Path,
    *,
    settings: Mapping[str, Any],
    seed: int,
) -> Reading:
    """Check the exports against their packs and bring them together with the keys.

    Args:
        exports: accepted exports; readers without one count as not yet returned.
        packs: `pack.js` of every reader.
        keys: `<reader>.tsv` of every reader.
        design: `design.json`.
        settings: `confidence`, `bootstrap`.
        seed: the study's.

    Raises:
        Ct2vqError: an export does not belong to its pack any more, two are of one reader, or simulated readers and
            people are mixed.
    """
    by_reader = {pack["reader"]: pack for pack in map(read_pack, packs)}
    documents = _documents(exports, by_reader)
    kinds = {document["simulated_readers"] for document in documents.values()}
    if len(kinds) > 1:
        raise Ct2vqError("answers of people and of simulated readers cannot be analysed together", key="read.simulated")
    study = read_json(design)
    simulated = kinds.pop() if kinds else any(pack.get("simulated_readers") for pack in by_reader.values())
    positive = set(study["endpoint"]["positive"])
    key_rows = {Path(path).stem: _key(path) for path in keys}
    rows = [
        row
        for reader, pack in by_reader.items()
        for row in _rows(pack, key_rows[reader], documents.get(reader), study["cases"], positive)
    ]
    first = next(iter(by_reader.values()))
    return Reading(
        answers=_table(rows, first, SIMULATED if simulated else HUMAN),
        sessions=pd.DataFrame(
            [row for reader, pack in by_reader.items() for row in _sessions(pack, documents.get(reader))]
        ),
        levels={reader: pack["level"] for reader, pack in by_reader.items()},
        questions={item["name"]: item["question"] for item in first["acceptability"]["items"]},
        scale=[level["value"] for level in first["acceptability"]["levels"]],
        choices={choice["name"]: choice["label"] for choice in first["diagnosis"]["choices"]},
        patterns=[pattern["name"] for pattern in first["diagnosis"].get("patterns") or []],
        readers=SIMULATED if simulated else HUMAN,
        endpoint=study["endpoint"],
        sample_size=study["sample_size"],
        washout_days=float(first["washout"]["days"]),
        settings=settings,
        seed=seed,
    )


def _documents(exports: Sequence[str | Path], packs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Checked exports by reader."""
    documents: dict[str, dict[str, Any]] = {}
    for path in exports:
        document = read_export(path)
        reader = document["reader"]
        if reader not in packs:
            raise Ct2vqError(f"no pack of reader `{reader}`", path=path, key="reader")
        if reader in documents:
            raise Ct2vqError(f"a second export of reader `{reader}`", path=path, key="reader")
        check_export(document, packs[reader], path)
        documents[reader] = document
    return documents


def _key(path: str | Path) -> dict[tuple[int, str], dict[str, str]]:
    """Rows of a reader's key by session and item."""
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return {(int(row["session"]), row["item"]): row for row in rows}


def _rows(
    pack: Mapping[str, Any],
    key: Mapping[tuple[int, str], Mapping[str, str]],
    document: Mapping[str, Any] | None,
    cases: Mapping[str, Mapping[str, Any]],
    positive: set[str],
) -> Iterator[dict[str, Any]]:
    """A row for each item of a reader's pack."""
    answers = {(answer["session"], answer["item"]): answer for answer in (document or {"answers": []})["answers"]}
    for session in pack["sessions"]:
        for order, item in enumerate(session["items"], start=1):
            shown = (session["number"], item["item"])
            told, answer = key[shown], answers.get(shown)
            row = {
                "reader": pack["reader"],
                "level": pack["level"],
                "session": session["number"],
                "part": session["part"],
                "order": order,
                "item": item["item"],
                "case_id": told["case_id"],
                "patient_id": told["patient_id"],
                "source": told["source"],
                "repeat_of": told["repeat_of"] if told["repeat_of"] not in ("", "n/a") else None,
                "answered": bool(answer and answer["complete"]),
            }
            reference = cases[told["case_id"]]["reference"]
            yield row | (_answer(answer, reference, positive) if row["answered"] else {"reference": reference})


def _answer(answer: Mapping[str, Any], reference: str | None, positive: set[str]) -> dict[str, Any]:
    """The columns of one complete answer."""
    values = dict(answer["values"])
    row = {name: answer.get(name) for name in ("seconds", "visits", "changes")} | {"reference": reference}
    if answer["part"] == ACCEPTABILITY:
        guess = values.pop("guess", None)
        return row | {"guess": guess} | {f"{RATING}{name}": value for name, value in values.items()}
    called = values["diagnosis"] in positive
    known = reference is not None
    return row | {
        "diagnosis": values["diagnosis"],
        "confidence": values["confidence"],
        "correct": float(values["diagnosis"] == reference) if known else np.nan,
        "positive": float(reference in positive) if known else np.nan,
        "called_positive": float(called),
        "suspicion": values["confidence"] if called else -values["confidence"],
        "pattern": values.get("pattern"),
        "locations": ",".join(sorted(values.get("locations") or [])) or None,
        "comment": " ".join(values.get("comment", "").split()) or None,
    }


def _table(rows: Sequence[Mapping[str, Any]], pack: Mapping[str, Any], readers: str) -> pd.DataFrame:
    ratings = [f"{RATING}{name}" for name in asked(pack, ACCEPTABILITY) if name != "guess"]
    table = pd.DataFrame([{"readers": readers, **row} for row in rows], columns=[*COLUMNS, *ratings])
    numbers = ["seconds", "confidence", "correct", "positive", "called_positive", "suspicion", *ratings]
    return table.astype(dict.fromkeys(numbers, float) | {"answered": bool})


def _sessions(pack: Mapping[str, Any], document: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """When each session of a reader was begun and finished."""
    told = {session["number"]: session for session in (document or {"sessions": []})["sessions"]}
    for session in pack["sessions"]:
        times = told.get(session["number"], {})
        yield {
            "reader": pack["reader"],
            "returned": document is not None,
            "session": session["number"],
            "part": session["part"],
            "after": session["after"],
            "started": instant(times.get("started")),
            "finished": instant(times.get("finished")),
            "overridden": bool(times.get("washout_overridden")),
        }

"""Simulated readers: exports in the format of the page, from a stated noise model on the known diagnosis.

They exist so that the whole reader study can be run and seen before people spend time on it. No image is looked at.

*Diagnosis.* For each choice a reader has an evidence with standard normal noise; that of the right choice is higher by
the skill of the reader's level (less `source_effect` for synthesised images). The noise is the sum of parts that the
same case, the same case and source, the same reader and case, and a single viewing have in common, with the variance
shares `noise`. The choice with the most evidence is named; the confidence grows with its lead over the next.

*Ratings.* A latent quality (`quality` of the source, plus noise of the same four parts) between `thresholds` gives 1
to 5.

*Guess.* A latent impression of being real, shifted by half of `guess_skill` to the right side; near 0 the reader is
unsure.

*Time.* Lognormal around `seconds` of the part. Sessions begin on an invented day and keep the washout.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ct2vq.files import read_json, write_json
from ct2vq.read.exports import ACCEPTABILITY, FORMAT, NOWHERE, asked, read_pack, signed

#: an invented day: nothing may depend on the clock
FIRST_DAY = datetime(2000, 1, 3, 8, tzinfo=UTC)
#: parts of the noise, in the order of the setting `noise`
NOISE = ("case", "source", "reader", "viewing")


def write_simulated_export(
    pack: str | Path, key: str | Path, design: str | Path, output: str | Path, *, settings: Mapping[str, Any], seed: int
) -> None:
    """Answer a pack as a simulated reader.

    Args:
        pack: the reader's `pack.js`.
        key: the reader's key.
        design: `design.json`, which tells the right choice of each case.
        output: export to write.
        settings: config block `read.simulated`.
        seed: the study's.
    """
    content = read_pack(pack)
    with open(key, encoding="utf-8", newline="") as stream:
        rows = {(int(row["session"]), row["item"]): row for row in csv.DictReader(stream, delimiter="\t")}
    references = {case: facts["reference"] for case, facts in read_json(design)["cases"].items()}
    reader = SimulatedReader(content, settings, seed)
    write_json(reader.export(rows, references), output)


class SimulatedReader:
    """One reader of the noise model; every answer follows from the seed and from names alone."""

    def __init__(self, pack: Mapping[str, Any], settings: Mapping[str, Any], seed: int) -> None:
        """A reader of a pack.

        Args:
            pack: its content.
            settings: config block `read.simulated`.
            seed: the study's.
        """
        self.pack, self.settings, self.seed = pack, settings, seed
        skills = settings["skill"]
        self.skill = skills.get(pack["level"], float(np.mean(list(skills.values()))))

    def export(
        self, key: Mapping[tuple[int, str], Mapping[str, str]], references: Mapping[str, str | None]
    ) -> dict[str, Any]:
        """The whole export.

        Args:
            key: row of the key by session and item.
            references: right choice of each case.
        """
        sessions, answers, time = [], [], FIRST_DAY
        for session in self.pack["sessions"]:
            if session["after"] is not None:
                time += timedelta(days=self.pack["washout"]["days"] + 1)
            started = time
            for item in session["items"]:
                row = key[session["number"], item["item"]]
                answer = self._answer(session, item["item"], row, references[row["case_id"]])
                answer["first_opened"] = _text(time)
                time += timedelta(seconds=answer["seconds"])
                answers.append(answer | {"last_changed": _text(time)})
            sessions.append({"number": session["number"], "started": _text(started), "finished": _text(time)})
        return signed(
            {
                "format": FORMAT,
                "study": self.pack["study"],
                "reader": self.pack["reader"],
                "pack": self.pack["pack"],
                "simulated_readers": True,
                "exported": _text(time),
                "browser": "none: a simulated reader",
                "sessions": sessions,
                "answers": answers,
            }
        )

    def _answer(
        self, session: Mapping[str, Any], item: str, row: Mapping[str, str], reference: str | None
    ) -> dict[str, Any]:
        part, viewing = session["part"], (row["case_id"], row["source"], item)
        values = self._rate(*viewing) if part == ACCEPTABILITY else self._diagnose(part, *viewing, reference)
        return {
            "session": session["number"],
            "item": item,
            "part": part,
            "values": values,
            "seconds": self._seconds(part, *viewing),
            "visits": 1,
            "changes": 0,
            "complete": True,
        }

    def _normal(self, *names: str) -> np.random.Generator:
        """A generator that depends on the seed and on names alone."""
        digest = hashlib.sha256("\0".join([f"{self.seed}:read:simulated", *names]).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))

    def _noise(self, size: int, what: str, case: str, source: str, item: str) -> np.ndarray:
        """Standard normal noise `(size,)` of one viewing, whose parts other viewings share."""
        reader = self.pack["reader"]
        shared = {"case": (case,), "source": (case, source), "reader": (reader, case), "viewing": (reader, item)}
        shares = np.array(self.settings["noise"], dtype=float)
        parts = [self._normal(what, name, *shared[name]).standard_normal(size) for name in NOISE]
        return np.sqrt(shares / shares.sum()) @ np.array(parts)

    def _diagnose(self, part: str, case: str, source: str, item: str, reference: str | None) -> dict[str, Any]:
        offered = asked(self.pack, part)
        choices, levels = offered["diagnosis"], offered["confidence"]
        evidence = self._noise(len(choices), "diagnosis", case, source, item)
        skill = self.skill - (self.settings["source_effect"] if source == "synthesised" else 0.0)
        evidence[[choice == reference for choice in choices]] += skill
        ranked = np.sort(evidence)
        step = min(int((ranked[-1] - ranked[-2]) / self.settings["confidence_step"]), len(levels) - 1)
        chosen = choices[int(evidence.argmax())]
        values = {"diagnosis": chosen, "confidence": levels[step], "comment": ""}
        return values | dict(self._details(offered, chosen, case, item))

    def _details(self, offered: Mapping[str, Any], chosen: str, case: str, item: str) -> Iterator[tuple[str, Any]]:
        """Pattern and locations that go with the chosen diagnosis, now and then another pattern."""
        random = self._normal("details", self.pack["reader"], item)
        usual, patterns = self.settings["patterns"].get(chosen), offered.get("pattern", [])
        keep = usual in patterns and random.random() < self.settings["pattern_kept"]
        pattern = usual if keep or not patterns else patterns[int(random.integers(len(patterns)))]
        if patterns:
            yield "pattern", pattern
        places = [place for place in offered.get("locations", []) if place != NOWHERE]
        if places:
            where = self._normal("locations", case).random(len(places)) < 1 / 3
            found = [place for place, ill in zip(places, where, strict=True) if ill] or [places[0]]
            yield "locations", [NOWHERE] if pattern == NOWHERE else found

    def _rate(self, case: str, source: str, item: str) -> dict[str, Any]:
        offered = asked(self.pack, ACCEPTABILITY)
        limits = self.settings["thresholds"]
        values = {}
        for question, levels in offered.items():
            noise = float(self._noise(1, question, case, source, item)[0])
            if question == "guess":
                values[question] = self._guess(levels, source, noise)
            else:
                quality = self.settings["quality"][source] + noise
                values[question] = levels[int(np.searchsorted(limits, quality))]
        return values

    def _guess(self, names: list[str], source: str, noise: float) -> str:
        real = noise + self.settings["guess_skill"] / 2 * (1 if source == "real" else -1)
        if abs(real) < self.settings["unsure"] and "unsure" in names:
            return "unsure"
        return "real" if real > 0 else "synthesised"

    def _seconds(self, part: str, case: str, source: str, item: str) -> float:
        noise = float(self._noise(1, f"seconds:{part}", case, source, item)[0])
        return round(float(self.settings["seconds"][part] * np.exp(self.settings["seconds_spread"] * noise)), 1)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

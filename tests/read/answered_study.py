"""A reader study without images: packs, keys, design and the answers of simulated readers or of given people."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct2vq.config import complete_config
from ct2vq.files import read_json, sha256_text, write_json, write_rows
from ct2vq.read.answers import Reading, load_reading
from ct2vq.read.design import make_design
from ct2vq.read.exports import canonical_json, read_pack, signed
from ct2vq.read.simulated import write_simulated_export
from ct2vq.read.wording import pack_wording

CONFIG = complete_config({"study": "small"})
SETTINGS = CONFIG["read"]
REFERENCES = ("normal", "embolism", "obstructive", "other")
READERS = {"ann": "resident", "bo": "senior", "cy": "senior"}
SEED = 7
QUESTIONS = ("noise", "overall")


@dataclass(frozen=True)
class AnsweredStudy:
    """Where the files of a reader study lie."""

    folder: Path
    readers: Mapping[str, str]

    @property
    def design(self) -> Path:
        return self.folder / "design.json"

    @property
    def packs(self) -> list[Path]:
        return [self.folder / "packs" / reader for reader in self.readers]

    @property
    def keys(self) -> list[Path]:
        return [self.folder / "keys" / f"{reader}.tsv" for reader in self.readers]

    def answer(self, reader: str, **settings: Any) -> Path:
        """A simulated reader's export."""
        path = self.folder / "simulated" / f"{reader}.json"
        pack, key = self.folder / "packs" / reader, self.folder / "keys" / f"{reader}.tsv"
        given = copy.deepcopy(SETTINGS["simulated"]) | settings
        write_simulated_export(pack, key, self.design, path, settings=given, seed=SEED)
        return path

    def people(self, reader: str, change: Callable[[dict[str, Any]], None] | None = None, **settings: Any) -> Path:
        """The same answers as if a person had given them, after a change that is signed again."""
        document = read_json(self.answer(reader, **settings)) | {"simulated_readers": False}
        if change:
            change(document)
        path = self.folder / "returned" / f"{reader}.json"
        write_json(signed(document), path)
        return path

    def load(self, exports: list[Path], bootstrap: int = 100) -> Reading:
        settings = {"confidence": 0.95, "bootstrap": bootstrap}
        return load_reading(exports, self.packs, self.keys, self.design, settings=settings, seed=SEED)


def make_study(
    folder: Path, cases: int = 12, readers: Mapping[str, str] = READERS, per_patient: int = 1, **settings: Any
) -> AnsweredStudy:
    """Write design, packs (without volumes) and keys.

    Args:
        folder: to write to.
        cases: number of cases, the four references in turn.
        readers: level by pseudonym.
        per_patient: cases of each patient.
        settings: keys of `read` that differ from the defaults.
    """
    chosen = copy.deepcopy(SETTINGS) | settings
    # two questions are enough, and quicker
    chosen["acceptability"]["items"] = [item for item in chosen["acceptability"]["items"] if item["name"] in QUESTIONS]
    told = {
        f"case{index:02d}": {
            "patient_id": f"patient{index // per_patient:02d}",
            "diagnosis": REFERENCES[index % 4],
            "reference": REFERENCES[index % 4],
        }
        for index in range(cases)
    }
    design = make_design(SEED, chosen, told, readers, True)
    write_json(design, folder / "design.json")
    words = pack_wording(chosen, design["parts"], True)
    for reader, facts in design["readers"].items():
        _write_pack(folder, reader, facts, told, words)
    return AnsweredStudy(folder, readers)


def _write_pack(
    folder: Path, reader: str, facts: Mapping[str, Any], cases: Mapping[str, Any], words: Mapping[str, Any]
) -> None:
    sessions, key = [], []
    for session in facts["sessions"]:
        names = [sha256_text(f"{reader}:{session['number']}:{place}")[:12] for place in range(len(session["items"]))]
        sessions.append({**session, "items": [{"item": name} for name in names]})
        for place, (name, item) in enumerate(zip(names, session["items"], strict=True)):
            first = None if item["repeat_of"] is None else names[item["repeat_of"]]
            patient = cases[item["case_id"]]["patient_id"]
            row = (session["number"], session["part"], name, item["case_id"], patient, item["source"], first, place + 1)
            key.append(row)
    pack = {"format": 1, "study": "small", "reader": reader, "level": facts["level"], "simulated_readers": False}
    pack |= {**words, "sessions": sessions}
    pack["pack"] = sha256_text(canonical_json(pack))
    path = folder / "packs" / reader / "pack.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"ct2vqPack({canonical_json(pack)});\n", encoding="utf-8")
    assert read_pack(path.parent) == pack
    columns = ("session", "part", "item", "case_id", "patient_id", "source", "repeat_of", "order")
    write_rows(key, columns, folder / "keys" / f"{reader}.tsv")

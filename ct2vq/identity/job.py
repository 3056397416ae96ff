"""A job that reads raw data, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ct2vq.errors import Ct2vqError
from ct2vq.identity.headers import readable_texts
from ct2vq.identity.redact import Redactor
from ct2vq.identity.sources import Raw, open_store, raw_data
from ct2vq.identity.store import write_private

NAMES = "names"


@dataclass(frozen=True)
class Job:
    """One volume of one case, its raw data, and the redactor of everything that is said meanwhile."""

    case_id: str
    volume: str
    raw: Raw
    redactor: Redactor

    def clean(self, said: str, failed: bool) -> str:
        """What was said, without identities; which files the ids in it stand for goes into the private folder.

        Args:
            said: log and error message.
            failed: the job may have stopped before it had read what it must not say: every file is read for that.
        """
        if failed:
            for path in self.raw.all_files():
                self.redactor.learn_texts(readable_texts(path))
        cleaned = self.redactor.clean(said)
        if self.redactor.mentioned:
            lines = [f"{name}\t{path}\n" for name, path in sorted(self.redactor.mentioned.items())]
            folder = self.redactor.store.make_folder() / NAMES
            write_private(folder / f"{self.case_id}_{self.volume}.tsv", "".join(lines))
        return cleaned


def open_job(private: Path, case_id: str, volume: str) -> Job:
    """Find a volume's raw data, and know the names that must not be said.

    Raises:
        Ct2vqError: as `raw_data`.
    """
    raw = raw_data(private, case_id, volume)
    redactor = Redactor(open_store(private))
    redactor.learn_paths(raw.root, raw.all_files(), raw.base)
    return Job(case_id, volume, raw, redactor)


def where(private: Path, name: str) -> list[str]:
    """The paths that an id in a log stands for.

    Raises:
        Ct2vqError: no log mentioned it.
    """
    found = set()
    for table in sorted((private / NAMES).glob("*.tsv")):
        for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            known, _, path = line.partition("\t")
            if known == name:
                found.add(path)
    if not found:
        raise Ct2vqError(f"no log of this study mentioned `{name}`", path=private / NAMES)
    return sorted(found)

"""The private folder of a study: its secret, and everything that leads from a pseudonym back to the patient.

Pseudonyms, remapped UIDs and shifted dates all follow from one secret, so that they agree over files, runs and
machines without a table of patients, and cannot be tried out by whoever lacks the secret: an unsalted hash of a
patient number of eight digits is undone in seconds.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ct2vq.errors import ConfigError, Ct2vqError

#: folders that people hand on, or that a run publishes: nothing private may lie in them
PUBLIC = ("results", "logs", "benchmarks", "work", "config", ".snakemake")
SECRET_BYTES = 32
IGNORE_ALL = "*\n"
#: dates are moved into the past by 1 to this many days: the same for all dates of a patient, so intervals stay exact
LARGEST_SHIFT_DAYS = 3650
#: how long another process may take between creating the secret's file and writing it, seconds
_PATIENCE_S = 5.0
#: names of files that are being written, see `write_private`
_TEMPORARY = re.compile(r"\.\d+-[0-9a-f]{8}\.")


class Store:
    """The private folder of a study.

    Args:
        folder: where the secret and the ways back lie (mode 0700). It is made when something is first put into it.
        secret: 32 bytes instead of the folder's own secret: of a simulated cohort, or for a single use.
    """

    def __init__(self, folder: Path, secret: bytes | None = None) -> None:
        self.folder = folder
        self._secret = secret

    def key(self) -> bytes:
        """The study's secret, 32 bytes; made at the first call, the same for all processes that ask.

        Raises:
            Ct2vqError: the folder cannot be written, or the secret's file is damaged.
        """
        if self._secret is None:
            path = self.folder / "secret"
            if not path.exists():
                self.make_folder()
                _create_secret(path)
            self._secret = _read_secret(path)
        return self._secret

    def make_folder(self) -> Path:
        """The folder, made if it is missing: closed to other users, and invisible to git wherever it lies.

        Raises:
            ConfigError: it holds files of others, whom it would be closed to.
            Ct2vqError: it cannot be made.
        """
        try:
            _require_own(self.folder)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.folder.stat().st_mode & 0o077:
                self.folder.chmod(0o700)
            if not (self.folder / ".gitignore").exists():
                write_private(self.folder / ".gitignore", IGNORE_ALL)
        except OSError as error:
            raise Ct2vqError(f"cannot be made: {error.strerror}", path=self.folder, key="cohort.private") from error
        return self.folder

    def pseudonym(self, kind: str, value: str, length: int = 10) -> str:
        """A name for `value`: `length` hexadecimal digits of a keyed hash (HMAC-SHA256).

        Args:
            kind: what is named (`file`, `uid`, `patient`, ...): the same value has another name in another kind.
            value: what must not be told.
            length: at most 64; 10 digits keep 100,000 names apart with a chance of 99.5%.
        """
        return self._digest(kind, value).hex()[:length]

    def uid(self, original: str) -> str:
        """The UID that replaces `original`, the same wherever it is referred to: `2.25.` and a UUID (PS3.5 B.2)."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', original)[:16], version=4).int}"

    def date_shift_days(self, patient_id: str) -> int:
        """By how many days a patient's dates are moved, -3650 to -1: constant, so that intervals stay exact."""
        drawn = int.from_bytes(self._digest("date shift", patient_id)[:8], "big")
        return -1 - drawn % LARGEST_SHIFT_DAYS

    def fingerprint(self) -> str:
        """Tells whether the secret changed without telling the secret."""
        return self.pseudonym("fingerprint", "", 16)

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.new(self.key(), f"{kind}:{value}".encode("utf-8", "surrogateescape"), hashlib.sha256).digest()


def study_store(config: Mapping[str, Any]) -> Store:
    """The private folder that a configuration names.

    The identities of a simulated cohort are invented: its secret follows from the seed, so that two runs give the same
    bytes.

    Raises:
        ConfigError: the folder lies where a run publishes, or holds the working directory.
    """
    folder = Path(config["cohort"]["private"])
    _require_private(folder)
    if config["cohort"]["source"] == "simulated":
        return Store(folder, hashlib.sha256(f"ct2vq simulated cohort {config['seed']}".encode()).digest())
    return Store(folder)


def single_use_store(folder: Path) -> Store:
    """A store whose secret nobody keeps: pseudonyms agree within one process and lead nowhere afterwards."""
    return Store(folder, secrets.token_bytes(SECRET_BYTES))


def write_private(path: Path, text: str) -> None:
    """Write a text that only its owner can read, atomically; parallel writers of one file do no harm."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = _write_new(path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.{path.name}"), text)
    os.replace(temporary, path)


def _write_new(path: Path, text: str) -> Path:
    with open(
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8", errors="surrogateescape"
    ) as stream:
        stream.write(text)
    return path


def _create_secret(path: Path) -> None:
    """Put a new secret at `path` unless another process was first: whoever loses reads the winner's."""
    text = secrets.token_hex(SECRET_BYTES) + "\n"
    temporary = _write_new(path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.secret"), text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # network drives without hard links
        with suppress(FileExistsError):
            _write_new(path, text)
    finally:
        temporary.unlink()


def _read_secret(path: Path) -> bytes:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            text = path.read_text(encoding="ascii").strip()
            if len(text) == 2 * SECRET_BYTES:
                return bytes.fromhex(text)
        except (OSError, ValueError) as error:
            raise Ct2vqError("the study's secret cannot be read", path=path) from error
        if time.monotonic() > end:
            raise Ct2vqError(
                f"the study's secret is damaged: {2 * SECRET_BYTES} hexadecimal digits expected",
                path=path,
                hint="restore it from a copy; without it pseudonyms change and `convert` runs again",
            )
        time.sleep(0.05)


def _require_own(folder: Path) -> None:
    """Refuse a folder that holds something, but not what this program puts into its own."""
    if not folder.is_dir():
        return
    names = {path.name for path in folder.iterdir() if not _TEMPORARY.match(path.name)}
    if not names or "secret" in names:
        return
    ignore = folder / ".gitignore"
    if not (ignore.is_file() and ignore.read_text(encoding="utf-8", errors="replace") == IGNORE_ALL):
        raise ConfigError(
            "the private folder holds other files, and it would be closed to other users",
            path=folder,
            key="cohort.private",
            hint="name a folder of its own, such as `private`: it is made",
        )


def _require_private(folder: Path) -> None:
    """Refuse a folder that people hand on, or that would close the working directory to others."""
    here, place = Path.cwd(), Path(os.path.abspath(folder))
    if here.is_relative_to(place):
        problem = "the private folder must be a folder of its own, not one that holds the study"
    elif any(place.is_relative_to(here / name) for name in PUBLIC):
        problem = f"the private folder must not lie in {', '.join(PUBLIC)}: people hand these on"
    else:
        return
    raise ConfigError(problem, path=folder, key="cohort.private", hint="for example `private`")

"""One way of logging for every stage, uncaught exceptions included."""

from __future__ import annotations

import gc
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ct2vq.errors import Ct2vqError

WITHHELD = "what was said is withheld: it could not be cleaned of identities"
UNEXPECTED = "unexpected error: please report it with this log"
#: objects between two searches for unreachable cycles: Python's 700 cost a fifth of the time of a large import, which
#: makes a million objects and no garbage
GARBAGE = 50_000
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(log_file: str | Path | None = None, level: int = logging.INFO) -> None:
    """Send log records to `log_file` (a rule's log) or to stderr; replaces earlier settings."""
    if log_file is None:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
    else:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log_file, mode="w", encoding="utf-8")
    _use(handler, level)


class _Once(logging.Filter):
    """Lets a library's warning pass once: pydicom warns of the same value in every slice."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is said."""
        if record.name.split(".")[0] not in ("py", "pydicom"):
            return True
        said = record.getMessage()
        is_new = said not in self._said
        self._said.add(said)
        return is_new


def _use(handler: logging.Handler, level: int = logging.INFO) -> None:
    handler.addFilter(_Once())
    handler.setFormatter(logging.Formatter(FORMAT, datefmt="%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


@contextmanager
def stage(log_file: str | Path | None = None) -> Iterator[None]:
    """Run the body of a rule: everything it says goes to the rule's log, and a known problem ends it in one line.

    A `Ct2vqError` is logged as one `ERROR` line and ends the process with status 1; any other exception is logged
    with its traceback and raised.
    """
    gc.set_threshold(GARBAGE)
    configure_logging(log_file)
    logger = logging.getLogger("ct2vq")
    try:
        yield
    except Ct2vqError as error:
        logger.error("%s", error)
        if log_file is not None:
            print(f"ct2vq: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        logger.exception(UNEXPECTED)
        raise


class Cleaner(Protocol):
    """Takes identities out of what was said."""

    def clean(self, said: str, failed: bool) -> str:
        """The text without identities; `failed` tells whether the job came to an end."""


class Curtain:
    """What a job says is held back behind it until somebody who knows the identities has cleaned it."""

    def __init__(self) -> None:
        self.cleaner: Cleaner | None = None

    def clean(self, said: str, failed: bool) -> str:
        """The text without identities; as it is before anybody opened raw data.

        Cleaning never fails with words of its own: Python's report of the error would tell paths.
        """
        try:
            return said if self.cleaner is None else self.cleaner.clean(said, failed)
        except Exception as error:
            return f"{WITHHELD} ({type(error).__name__})\n"


@contextmanager
def private_stage(log_file: str | Path) -> Iterator[Curtain]:
    """As `stage`, for a rule that reads raw data: nothing is said before it is cleaned.

    Log records, and whatever libraries write to the process's own stdout and stderr, are kept in memory or in a
    nameless file to the end. Then they are cleaned and written to the rule's log. An error, even an unexpected one, is
    one line on stderr: Python's own report would tell what must not be told.
    """
    gc.set_threshold(GARBAGE)
    curtain, failure, records = Curtain(), "", io.StringIO()
    _use(logging.StreamHandler(records))
    logger = logging.getLogger("ct2vq")
    with _captured() as captured:
        try:
            yield curtain
        except Ct2vqError as error:
            failure = str(error)
            logger.error("%s", error)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            logger.exception(UNEXPECTED)
    said = records.getvalue() + "".join(captured)
    Path(log_file).parent.mkdir(parents=True, exist_ok=True)
    Path(log_file).write_text(curtain.clean(said, bool(failure)), encoding="utf-8", errors="backslashreplace")
    if failure:
        print(f"ct2vq: {curtain.clean(failure, False).rstrip()}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def _captured() -> Iterator[list[str]]:
    """Catch stdout and stderr of the process, those of C and C++ libraries too; what was said is told at the end."""
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        for descriptor in kept:
            os.dup2(file.fileno(), descriptor)
        try:
            yield said
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, copy in kept.items():
                os.dup2(copy, descriptor)
                os.close(copy)
            file.seek(0)
            said.append(file.read().decode("utf-8", "replace"))

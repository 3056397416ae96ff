"""One way of logging for every stage, uncaught exceptions included."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct2vq.errors import Ct2vqError

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(log_file: str | Path | None = None, level: int = logging.INFO) -> None:
    """Send log records to `log_file` (a rule's log) or to stderr; replaces earlier settings."""
    if log_file is None:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
    else:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log_file, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT, datefmt="%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


@contextmanager
def stage(log_file: str | Path | None = None) -> Iterator[None]:
    """Run the body of a rule: everything it says goes to the rule's log, and a known problem ends it in one line.

    A `Ct2vqError` is logged as one `ERROR` line and ends the process with status 1; any other exception is logged
    with its traceback and raised.
    """
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
        logger.exception("unexpected error: please report it with this log")
        raise

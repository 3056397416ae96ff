"""What happens when a file is read as CT or as SPECT: a volume or a coded error, within limits of time and memory."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ct2vq.config import complete_config
from ct2vq.convert import read_ct, read_spect
from ct2vq.errors import DicomError

READERS = {"CT": read_ct, "SPECT": read_spect}
SETTINGS = complete_config({"study": "hostile"})["convert"]
#: no file may take longer
SECONDS = 10
#: memory that reading may take for itself (codecs, buffers, modules loaded late), in bytes
SPARE = 64 << 20


class Outcome(NamedTuple):
    """How reading ended.

    Attributes:
        text: `x x y x z voxels` of a volume, a code (`D403`), or what must never be: `!` and the exception.
        seconds: time taken.
        honest: bytes of the files and of the volume, if there is one.
    """

    text: str
    seconds: float
    honest: int


class TooSlowError(BaseException):
    """Not an `Exception`: nothing on the way may swallow it."""


def read(source: Path, kind: str) -> Outcome:
    """Read a file or folder in this process."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    honest = sum(path.stat().st_size for path in files)
    start = time.monotonic()
    signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        converted, _ = READERS[kind](source, SETTINGS)
        text = " x ".join(map(str, converted.image.GetSize())) + " voxels"
        honest += 4 * converted.image.GetNumberOfPixels()
    except DicomError as error:
        text = error.code
    except BaseException as error:
        text = f"! {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return Outcome(text, time.monotonic() - start, honest)


def _too_slow(*_: object) -> None:
    raise TooSlowError(f"more than {SECONDS} s")


def guarded(work: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """Run in a process of its own: the result, or `!` and how the process died, and the memory that it took (bytes)."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(sender, work, arguments))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        child.join()
        return f"! process died with {child.exitcode}", 0
    finally:
        child.join()


def _report(sender: Any, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    before = _resident()
    result = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    sender.send((result, max(0, peak - before)))


def _resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def files_below(root: Path) -> Iterator[Path]:
    """All files of a folder in order."""
    yield from sorted(path for path in root.rglob("*") if path.is_file())

"""Several processes that train one network together: the calling process is rank 0, the others are its children.

They meet through a file in a private folder and the operating system gives them free connections, so that no port is
chosen and trainings side by side cannot collide. A rank that dies ends the whole, and no rank outlives the first.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from ct2vq.errors import Ct2vqError, TrainingError

logger = logging.getLogger(__name__)

#: seconds in which the first rank notices by itself that another has died (gloo does at once, NCCL may hang)
GRACE = 20.0
FAILED = 1
#: how long ranks wait for one that validates or reads alone (NCCL's own limit is ten minutes); that one of them has
#: died is seen otherwise
PATIENCE = timedelta(hours=12)


@contextmanager
def together(target: Callable[[Any], None], argument: Any, device: str, ranks: int) -> Iterator[None]:
    """Run the body as rank 0 while `target(argument)` runs in a process for each other rank.

    Args:
        target: a function of a module, called in the other processes within their process group.
        argument: what it is given; it must be picklable.
        device: `cuda` or `cpu`.
        ranks: number of processes; with 1 there is no group and no other process.

    Raises:
        TrainingError: another process ended before its time.
    """
    if ranks == 1:
        yield
        return
    folder = Path(tempfile.mkdtemp(prefix="ct2vq_ranks_"))
    others = _start(target, argument, device, ranks, folder)
    over = threading.Event()
    threading.Thread(target=_end_if_one_dies, args=(others, folder, over), daemon=True).start()
    try:
        with _member(0, ranks, device, folder):
            yield
    except Ct2vqError:
        raise
    except Exception as error:
        if what := _what_ended(others, folder):
            raise TrainingError(what) from error
        raise
    finally:
        over.set()
        _stop(others)
        shutil.rmtree(folder, ignore_errors=True)


def _start(target: Callable[[Any], None], argument: Any, device: str, ranks: int, folder: Path) -> list[SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_follow, args=(target, argument, device, rank, ranks, folder), name=f"rank {rank}")
        for rank in range(1, ranks)
    ]
    for process in others:
        process.start()
    return others


def _follow(target: Callable[[Any], None], argument: Any, device: str, rank: int, ranks: int, folder: Path) -> None:
    """The life of another rank; why it failed is left in a file for the first."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with _member(rank, ranks, device, folder):
            target(argument)
    except Exception as error:
        said = str(error) if isinstance(error, Ct2vqError) else f"{type(error).__name__}: {error}"
        (folder / f"rank {rank}").write_text(said, encoding="utf-8")
        sys.exit(FAILED)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(FAILED)


@contextmanager
def _member(rank: int, ranks: int, device: str, folder: Path) -> Iterator[None]:
    """Join the process group; Fabric finds it, and the variable by which it knows the rank."""
    import torch
    from torch import distributed

    before = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = str(rank)
    if device == "cuda":
        torch.cuda.set_device(rank)
    store = distributed.FileStore(str(folder / "store"), ranks)
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()
        os.environ.pop("LOCAL_RANK")
        if before is not None:
            os.environ["LOCAL_RANK"] = before


def _end_if_one_dies(others: Sequence[SpawnProcess], folder: Path, over: threading.Event) -> None:
    """End this process if another has died and the training does not notice it: nothing would ever come from it."""
    waiting = {process.sentinel: process for process in others}
    while waiting and not over.is_set():
        for sentinel in wait(list(waiting), timeout=1.0):
            process = waiting.pop(sentinel)
            process.join()
            if process.exitcode != 0 and not over.wait(GRACE):
                logger.error("%s", _how(process, folder))
                _stop(others)
                os._exit(FAILED)


def _what_ended(others: Sequence[SpawnProcess], folder: Path) -> str | None:
    """Which process ended by itself, and how; None if all are alive or well. One that was killed is the cause."""
    for process in others:
        process.join(timeout=2.0)
    dead = [process for process in others if process.exitcode]
    killed = [process for process in dead if process.exitcode < 0]
    return "; ".join(_how(process, folder) for process in killed or dead) or None


def _how(process: SpawnProcess, folder: Path) -> str:
    code, left = process.exitcode, folder / process.name
    if left.is_file():
        return f"{process.name}: {left.read_text(encoding='utf-8')}"
    if code is not None and code < 0:
        return f"the process of {process.name} was ended by {signal.Signals(-code).name}"
    return f"the process of {process.name} ended with status {code}"


def _stop(others: Sequence[SpawnProcess]) -> None:
    """See that no other process is left: those that are done end by themselves."""
    for process in others:
        process.join(timeout=1.0)
        if process.is_alive():
            process.kill()
            process.join()

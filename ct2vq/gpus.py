"""GPUs of this machine, and which job has which: a job takes its own before torch is imported.

A GPU is taken by an exclusive lock (`flock`) on a file named after it. The operating system gives it back when the
process that holds it ends, however it ends, so no card stays taken by a job that is dead. The files lie in the
machine's memory: the locks of one host concern no other, and no network file system is asked.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ct2vq.errors import Ct2vqError

logger = logging.getLogger(__name__)

#: seconds between two looks at cards that others have
PATIENCE = 1.0
#: who looks for cards takes them in turn, so that one that needs several is not overtaken for ever
QUEUE = "queue"
_LISTED = re.compile(r"^\s*(?P<what>GPU|MIG)\b.*\(UUID: (?P<uuid>[^)]+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a part of one (MIG); `uuid` names it in `CUDA_VISIBLE_DEVICES`."""

    uuid: str


def visible_gpus(environment: Mapping[str, str] | None = None, listed: str | None = None) -> list[Gpu]:
    """GPUs that this process may use.

    Those that `CUDA_VISIBLE_DEVICES` names, where somebody set it (a cluster's scheduler, or the user): by UUID, or by
    their number in `nvidia-smi -L`. Otherwise all; of one that is divided (MIG) its parts. As in CUDA, what follows a
    name that does not exist does not count.

    Args:
        environment: else that of the process.
        listed: what `nvidia-smi -L` prints, else it is asked; empty where there is none.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None and not named.strip():
        return []
    found = _listed(_nvidia_smi() if listed is None else listed)
    cards = [card for card, _ in found]
    if named is None:
        return [Gpu(uuid) for card, parts in found for uuid in parts or [card]]
    chosen: list[Gpu] = []
    for name in (one.strip() for one in named.split(",")):
        uuid = _uuid_of(name, cards)
        if uuid is None or Gpu(uuid) in chosen:
            break
        chosen.append(Gpu(uuid))
    return chosen


@contextmanager
def own_gpus(device: str, number: int = 1, patience: float = PATIENCE) -> Iterator[list[Gpu]]:
    """Take GPUs that no other job of this machine has, and make them the only ones that CUDA sees in here.

    To be entered before torch asks CUDA for anything; processes that are started within see the same GPUs. Waits for
    GPUs that other jobs have. Where `device` is not `cuda`, or nothing lists GPUs, nothing is taken.

    Args:
        device: `cpu`, `cuda` or `mps`.
        number: how many.
        patience: seconds between two looks at GPUs that are taken.

    Raises:
        Ct2vqError: there are fewer, or no locks can be kept.
    """
    if device != "cuda":
        yield []
        return
    listed = _nvidia_smi()
    gpus = visible_gpus(listed=listed)
    if not listed and "SLURM_JOB_ID" in os.environ:
        # Slurm may count from 0 in each job: without the cards' names two jobs would take each other's for their own
        logger.info("nvidia-smi lists no GPU: those that Slurm gave are used")
        yield []
        return
    if not gpus and "CUDA_VISIBLE_DEVICES" not in os.environ:
        logger.warning("nvidia-smi lists no GPU: none is taken, and torch looks for itself")
        yield []
        return
    if len(gpus) < number:
        raise _too_few(len(gpus), number)
    with ExitStack() as held:
        mine = _take(gpus, number, _lock_folder(), held, patience)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in mine)
        logger.info("GPU: %s", os.environ["CUDA_VISIBLE_DEVICES"])
        try:
            yield mine
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _take(gpus: list[Gpu], number: int, folder: Path, held: ExitStack, patience: float) -> list[Gpu]:
    """Lock so many of the GPUs, one job after another; who waits for several keeps those that it has."""
    mine: list[Gpu] = []
    with ExitStack() as turn:
        if not _lock(folder / QUEUE, turn):
            logger.info("waiting for jobs that are to have a GPU first")
            _lock(folder / QUEUE, turn, wait=True)
        told = False
        while True:
            for gpu in gpus:
                if len(mine) < number and gpu not in mine and _lock(folder / _file_name(gpu), held):
                    mine.append(gpu)
            if len(mine) == number:
                return mine
            if not told:
                logger.info("waiting for %d GPU(s): other jobs have them", number - len(mine))
                told = True
            time.sleep(patience)


def _lock(path: Path, held: ExitStack, wait: bool = False) -> bool:
    """Lock a file until `held` is closed or the process is gone; whether that was possible (always, if it waits).

    Processes that this one starts do not keep the lock: Python closes the file in them.
    """
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    return True


def _open(path: Path) -> int:
    """A lock's file; one that another user made is opened for reading, which is enough to lock it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def _lock_folder() -> Path:
    """The folder of the locks, for all users of this machine.

    Raises:
        Ct2vqError: it cannot be made or used.
    """
    folder = Path(os.environ.get("CT2VQ_GPU_LOCKS", "/dev/shm/ct2vq_gpus"))
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)
        os.close(_open(folder / QUEUE))
    except OSError as error:
        hint = "name a folder on this machine's own disk in the variable CT2VQ_GPU_LOCKS, the same for all jobs"
        raise Ct2vqError(f"no locks of GPUs can be kept here: {error.strerror}", path=folder, hint=hint) from error
    return folder


def _file_name(gpu: Gpu) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", gpu.uuid)


def _too_few(found: int, number: int) -> Ct2vqError:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not found:
        problem = f"CUDA_VISIBLE_DEVICES is `{named}`, which names no GPU of this machine"
        hint = "correct the variable or leave it out; without a GPU set train.device to cpu"
        return Ct2vqError(problem, key="train.device", hint=hint)
    where = "on this machine" if named is None else f"among CUDA_VISIBLE_DEVICES `{named}`"
    return Ct2vqError(
        f"{number} GPUs are wanted, and {found} found {where}", key="train.devices", hint=f"set it to {found} or fewer"
    )


def _nvidia_smi() -> str:
    """What the driver lists; empty without a driver."""
    try:
        asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout if asked.returncode == 0 else ""


def _listed(text: str) -> list[tuple[str, list[str]]]:
    """UUIDs of the cards in the driver's order, each with those of its parts."""
    cards: list[tuple[str, list[str]]] = []
    for match in _LISTED.finditer(text):
        if match["what"] == "GPU":
            cards.append((match["uuid"], []))
        elif cards:
            cards[-1][1].append(match["uuid"])
    return cards


def _uuid_of(name: str, cards: list[str]) -> str | None:
    """The UUID of a card that `CUDA_VISIBLE_DEVICES` names; None if there is none.

    A UUID may be cut short as long as it is unambiguous; a MIG part stands for itself. Where the driver's list is
    missing, a number stands for itself.
    """
    if name.isdecimal():
        if not cards:
            return name
        return cards[int(name)] if int(name) < len(cards) else None
    if name.startswith("MIG-"):
        return name
    if not name.startswith("GPU-"):
        return None
    matches = [card for card in cards if card.startswith(name)]
    return (matches[0] if len(matches) == 1 else None) if cards else name

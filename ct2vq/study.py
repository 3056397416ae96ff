"""One working directory holds one study, and one run at a time.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from ct2vq import __version__
from ct2vq.errors import ConfigError, Ct2vqError
from ct2vq.files import read_json, write_json
from ct2vq.learners import read_learners
from ct2vq.split import read_folds

STUDY_FILE = Path("results/study.json")
OWNER_FILE = Path(".snakemake/ct2vq_owner.json")
LOCKS = Path(".snakemake/locks")


def require_same_study(config: Mapping[str, Any]) -> None:
    """Stop if this directory holds the results of another study.

    Raises:
        ConfigError: with the way out.
    """
    if not STUDY_FILE.is_file():
        return
    found = read_json(STUDY_FILE).get("study")
    if found != config["study"]:
        raise ConfigError(
            f"this directory holds the results of the study `{found}`, the configuration is of `{config['study']}`",
            path=STUDY_FILE,
            key="study",
            hint="give each study its own directory: `snakemake --directory FOLDER`, with its config/ inside",
        )


def kept_folds_file(config: Mapping[str, Any]) -> Path:
    """Where the folds of a study are kept; another number of folds or another seed is another assignment."""
    split = config["split"]
    name = f"{config['study']}_{split['folds']}folds_{split['stratify_by']}_seed{config['seed']}.tsv"
    return Path("work/split") / name


def learners_file(config: Mapping[str, Any]) -> Path:
    """Where the cases that the models of these folds learn from are kept."""
    folds = kept_folds_file(config)
    return folds.with_name(f"{folds.stem}_learners.tsv")


def kept_learners(config: Mapping[str, Any]) -> dict[str, tuple[str, ...]] | None:
    """What the trainings that have begun learn from, targets by case; None: none has begun.

    Raises:
        ConfigError: the file is not such a table.
    """
    kept = learners_file(config)
    return read_learners(kept) if kept.is_file() else None


def kept_folds(config: Mapping[str, Any]) -> dict[str, int]:
    """Folds that are fixed already: those of earlier runs, and over them those of `split.folds_file`.

    Raises:
        ConfigError: `split.folds_file` is named but missing, or a file is not a folds table.
    """
    kept = kept_folds_file(config)
    folds = read_folds(kept) if kept.is_file() else {}
    named = config["split"]["folds_file"]
    if named is not None:
        if not Path(named).is_file():
            raise ConfigError("the folds table does not exist", path=named, key="split.folds_file")
        folds |= read_folds(Path(named))
    return folds


def claim_run(config: Mapping[str, Any]) -> None:
    """Write down whose results these are and which process works on them; called when a run starts."""
    write_json({"study": config["study"], "ct2vq": __version__}, STUDY_FILE)
    write_json(_owner(psutil.Process()), OWNER_FILE)


def working_directory(arguments: Sequence[str]) -> Path:
    """The folder that Snakemake's option `--directory` (`-d`) names among its arguments, else the current one."""
    named = [
        argument.partition("=")[2] if argument.startswith("--directory=") else following
        for argument, following in zip(arguments, [*arguments, ""][1:], strict=True)
        if argument in ("-d", "--directory") or argument.startswith("--directory=")
    ]
    return Path(named[-1]) if named else Path()


def release_dead_lock(folder: Path = Path()) -> str | None:
    """Remove Snakemake's lock of a working directory if the run that took it is dead.

    Returns:
        A line saying what was removed, or None if there was no lock.

    Raises:
        Ct2vqError: the run is alive, or runs on another host, or nobody knows whose lock it is.
    """
    locks = folder / LOCKS
    if not (locks.is_dir() and any(locks.iterdir())):
        return None
    owner = read_json(folder / OWNER_FILE) if (folder / OWNER_FILE).is_file() else None
    if owner is None:
        raise Ct2vqError(
            "the directory is locked, and no record says by whom",
            path=locks,
            hint="if no Snakemake runs here, `snakemake --unlock`",
        )
    if owner["host"] != socket.gethostname():
        raise Ct2vqError(
            f"the directory is locked by process {owner['pid']} on host `{owner['host']}`",
            path=locks,
            hint="if that run is gone, `snakemake --unlock`",
        )
    if _is_alive(owner) or _snakemake_runs_in(folder):
        raise Ct2vqError("another run works in this directory", path=locks, hint="wait for it, or end it")
    shutil.rmtree(locks)
    return f"removed the lock of a run that is dead (process {owner['pid']})"


def record_owner(folder: Path = Path()) -> None:
    """Write down that this process is about to run Snakemake here (it keeps its process id through `exec`)."""
    write_json(_owner(psutil.Process(os.getpid())), folder / OWNER_FILE)


def _owner(process: psutil.Process) -> dict[str, Any]:
    return {"pid": process.pid, "started": process.create_time(), "host": socket.gethostname()}


def _snakemake_runs_in(folder: Path) -> bool:
    """Whether Snakemake or one of its scripts works in the folder.

    A run that has just started has left no record yet, and scripts outlive a Snakemake that was killed alone.
    """
    here = str(folder.resolve())
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _is_snakemake(process.cmdline()) and process.cwd() == here:
                return True
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return False


def _is_snakemake(command: list[str]) -> bool:
    """Whether a command line runs Snakemake or a script of it (a folder of that name above Python does not count)."""
    return any(Path(part).name == "snakemake" or "/.snakemake/scripts/" in part for part in command[:4])


def _is_alive(owner: Mapping[str, Any]) -> bool:
    """Whether the very process still runs (a process id alone may have been given to another)."""
    try:
        process = psutil.Process(owner["pid"])
        return abs(process.create_time() - owner["started"]) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

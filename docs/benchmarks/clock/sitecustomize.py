"""Python reads this file at its start if the folder is in PYTHONPATH: `run_overhead.py` times a study's jobs by it.

The process of a Snakemake script forks at once: the copy runs the script, and the first process waits for it and writes
what the system accounts to it and to all processes below it, the ending of the interpreter included. Imports are timed
where the import system looks for a module that is not loaded yet, on the outermost level only.
"""

import atexit
import importlib._bootstrap
import json
import os
import resource
import sys
import time

FOLDER = "CT2VQ_CLOCK"
#: a script's first import of the project: what runs before it has run is the process's start
FIRST = "ct2vq.logs"


class Imports:
    """Processor seconds of imports: those until the script begins, and those within it."""

    def __init__(self) -> None:
        self.depth = 0
        self.begun: float | None = None
        self.seconds = 0.0
        self.find_and_load = importlib._bootstrap._find_and_load

    def __call__(self, name: str, import_: object) -> object:
        """Find and load a module as the import system does."""
        start = time.process_time()
        self.depth += 1
        try:
            return self.find_and_load(name, import_)
        finally:
            self.depth -= 1
            now = time.process_time()
            if name == FIRST and self.begun is None:
                self.begun = now
                self.seconds = 0.0
            elif self.depth == 0:
                self.seconds += now - start


def _write(facts: dict[str, object]) -> None:
    path = os.path.join(os.environ[FOLDER], f"{os.getpid()}_{time.monotonic_ns()}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(facts, file)


def _time_job(before: float) -> None:
    """Fork: the copy goes on with its script, this process accounts for it and ends as it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        imports = Imports()
        importlib._bootstrap._find_and_load = imports
        atexit.register(_tell, imports, writer, os.getpid())
        return
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        told = json.loads(stream.read() or "{}")
    _, status, used = os.wait4(child, 0)
    if told:
        _write(told | {"start": before, "total": before + used.ru_utime + used.ru_stime})
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _tell(imports: Imports, writer: int, pid: int) -> None:
    """What the script's process knows at its end: its own time, and that of the processes it forked and waited for."""
    if os.getpid() != pid:
        return
    snakemake = getattr(sys.modules["__main__"], "snakemake", None)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts = {
        "rule": getattr(snakemake, "rule", ""),
        "begun": imports.begun or 0.0,
        "imports": imports.seconds,
        "ended": time.process_time() + below.ru_utime + below.ru_stime,
    }
    os.write(writer, json.dumps(facts).encode())
    os.close(writer)


def _time_main() -> None:
    """Snakemake's own process, without those that it waited for."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _write({"rule": "snakemake", "total": used.ru_utime + used.ru_stime})


if FOLDER in os.environ:
    if any(".snakemake/scripts/" in argument for argument in sys.orig_argv[1:2]):
        _time_job(time.process_time())
    elif sys.orig_argv[1:3] == ["-m", "snakemake"]:
        atexit.register(_time_main)

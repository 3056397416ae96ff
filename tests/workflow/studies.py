"""A study as its user sees it: a checkout of its own, Snakemake run in it, and what Snakemake said."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from ct2vq.cohort import VOLUMES

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
#: what a run needs of a checkout (a developer's own config and results stay behind)
PARTS = ("Snakefile", "ct2vq", "envs", "profiles", "requirements.lock", "resources", "scripts", "workflow")
CONFIGS = ("tiny.yaml", "demo.yaml")
TINY = "config/tiny.yaml"
CASES = ("sim001", "sim002", "sim003", "sim004")
NOTHING = "Nothing to be done"
LIMIT_S = 900


@dataclass(frozen=True)
class Result:
    """Exit status and output (stdout and stderr together) of a command."""

    returncode: int
    output: str

    def require_success(self) -> Result:
        assert self.returncode == 0, self.output
        return self


@dataclass(frozen=True)
class Plan:
    """The jobs that Snakemake lists.

    Attributes:
        rules: number of jobs of each rule, without `all`.
        wildcards: the wildcards of each rule's jobs.
        output: everything that was said.
    """

    rules: Counter[str]
    wildcards: dict[str, list[dict[str, str]]]
    output: str

    def values(self, rule: str, wildcard: str) -> set[str]:
        return {job[wildcard] for job in self.wildcards.get(rule, [])}

    def cases(self) -> set[str]:
        return {job["case"] for jobs in self.wildcards.values() for job in jobs if "case" in job}


def jobs(output: str) -> Plan:
    """The jobs listed in the output of a dry run or of a run."""
    wildcards: dict[str, list[dict[str, str]]] = {}
    current: list[dict[str, str]] = []
    for line in output.splitlines():
        if match := re.match(r"(?:local)?rule (\w+):$", line):
            current = wildcards.setdefault(match[1], [])
            current.append({})
        elif line.startswith("    wildcards: "):
            current[-1] |= dict(pair.split("=", 1) for pair in line.removeprefix("    wildcards: ").split(", "))
    wildcards.pop("all", None)
    return Plan(Counter({rule: len(listed) for rule, listed in wildcards.items()}), wildcards, output)


@dataclass(frozen=True)
class Study:
    """A checkout with a study in it.

    Attributes:
        folder: the checkout, and Snakemake's working directory.
        configfile: passed as `--configfile`; None: `config/config.yaml` is read.
        environment: added to the environment of every command.
    """

    folder: Path
    configfile: str | None = TINY
    environment: dict[str, str] = field(default_factory=dict)

    def snakemake(self, *arguments: str, cores: int = 1) -> Result:
        """Run `snakemake` to its end."""
        return self.finish(self.start(BIN / "snakemake", *self._common(cores), *arguments))

    def ct2vq_run(self, *arguments: str, cores: int = 1) -> Result:
        """Run `python -m ct2vq run` to its end."""
        return self.finish(self.start_ct2vq_run(*arguments, cores=cores))

    def start_ct2vq_run(self, *arguments: str, cores: int = 1) -> subprocess.Popen[str]:
        """Start `python -m ct2vq run` in a process group of its own."""
        return self.start(sys.executable, "-m", "ct2vq", "run", *self._common(cores), *arguments)

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.folder,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def plan(self, *arguments: str) -> Plan:
        """The jobs that a run would have."""
        result = self.snakemake("--dry-run", *arguments).require_success()
        plan = jobs(result.output)
        table = dict(re.findall(r"^(\w+) +(\d+)$", result.output.partition("Job stats:")[2], flags=re.MULTILINE))
        table.pop("all", None)
        total = table.pop("total", None)
        assert {rule: int(count) for rule, count in table.items()} == plan.rules, result.output
        assert (total is None) == (NOTHING in result.output), result.output
        return plan

    def copy(self, folder: Path) -> Study:
        """A copy of everything, modification times included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Study(folder, self.configfile, self.environment)

    def path(self, relative: str) -> Path:
        return self.folder / relative

    def replace(self, file: str, old: str, new: str) -> None:
        """Replace a text that must occur in a file."""
        text = self.path(file).read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {file}"
        self.path(file).write_text(text.replace(old, new, 1), encoding="utf-8")

    def append(self, file: str, text: str) -> None:
        with open(self.path(file), "a", encoding="utf-8") as stream:
            stream.write(text)

    def _common(self, cores: int) -> list[str]:
        """Options of every command; `--configfile` takes all words up to the next option, so it does not stand last."""
        return [*(["--configfile", self.configfile] if self.configfile else []), "--cores", str(cores)]

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> Result:
        """Wait for a run's end; one that hangs is ended."""
        try:
            output, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            kill_group(process)
            raise
        return Result(process.returncode, output)


def new_checkout(folder: Path) -> Study:
    """A checkout of the working tree without results."""
    for part in PARTS:
        source, copy = ROOT / part, folder / part
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy)
    (folder / "config").mkdir()
    for name in CONFIGS:
        shutil.copy2(ROOT / "config" / name, folder / "config" / name)
    return Study(folder)


def table_study(study: Study, rows: Mapping[str, Mapping[str, str]]) -> Study:
    """Turn a checkout into a hospital's study of its own cases, with the tiny study's settings but without readers.

    Args:
        study: a new checkout.
        rows: what the cohort table says of each case, by case and column; every case is a patient of its own.
    """
    settings = yaml.safe_load(study.path(TINY).read_text(encoding="utf-8"))
    settings |= {"study": "own-cases", "cohort": {"source": "table"}, "read": {"enabled": False}}
    study.path("config/config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    write_cases(study, rows)
    return Study(study.folder, None, study.environment)


def write_cases(study: Study, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Write `config/cases.tsv`."""
    columns = ("case_id", "patient_id", *VOLUMES, "diagnosis")
    lines = ["\t".join(columns)]
    for case, row in rows.items():
        filled = {"case_id": case, "patient_id": f"patient-{case}"} | row
        lines.append("\t".join(filled.get(column, "") for column in columns))
    study.path("config/cases.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def require_plain_failure(result: Result, *expected: str) -> None:
    """The command failed and said why, in words and without a traceback."""
    assert result.returncode != 0, result.output
    assert "Traceback" not in result.output, result.output
    for text in expected:
        assert text in result.output, f"{text!r} was not said:\n{result.output}"


def files_under(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """Bytes of the files under a folder, by relative path, that match a pattern."""
    found = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], what: str, limit_s: float = 180) -> None:
    """Wait until something has happened in a run, and fail if the run ends before."""
    end = time.monotonic() + limit_s
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"the run ended before {what}:\n{process.communicate()[0]}")
        assert time.monotonic() < end, f"{what} did not happen in {limit_s} s"
        time.sleep(0.005)


def script_processes(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The running scripts of a Snakemake process."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(".snakemake/scripts/" in part for part in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return [child for child in found if "python" in child.name()]


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL a run with all its jobs, as a reboot or the out-of-memory killer does, and wait for its end."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive, f"still alive: {alive}"

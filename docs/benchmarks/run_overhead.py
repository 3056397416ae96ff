"""Measure a study's time outside the work itself: `make bench-overhead` writes overhead.tsv and overhead.json.

Processor seconds of all jobs of a rule in a run from nothing, as the system accounts them (`processor_time`), and the
part of them that is no work of the rule (`outside`): Python's start, Snakemake's preamble and its data, every import
wherever it stands, and the end of the interpreter. Imports in processes that a job starts itself count as its work.
`snakemake` is Snakemake's own process, which reads the study and starts the jobs; all of it counts as outside. `study`
is the whole run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from ct2vq.files import write_json, write_tsv  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
#: what a run needs of a checkout
PARTS = ("Snakefile", "config", "ct2vq", "envs", "profiles", "requirements.lock", "resources", "scripts", "workflow")
CLOCK = Path(__file__).resolve().parent / "clock"
TITLE = "Time outside the work, rule by rule"


def main() -> None:
    """Run a study with timed processes and write the two files."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="ct2vq_bench_") as folder:
        run_timed(options.checkout, options.config, options.cores, Path(folder))
        jobs = timed_jobs(Path(folder) / "clock")
    rules = by_rule(jobs)
    options.output.mkdir(parents=True, exist_ok=True)
    write_tsv(long_table(rules), options.output / "overhead.tsv")
    command = f"python docs/benchmarks/run_overhead.py --config {options.config} --cores {options.cores}"
    write_json(describe_machine(TITLE, __doc__ or "", command, options.cores), options.output / "overhead.json")
    print(rules.to_string(float_format="{:.2f}".format))
    print(options.output / "overhead.tsv")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=("demo", "tiny"), default="demo", help="the study that is timed")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, help="another checkout to time, to compare with this one"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the two files")
    return parser.parse_args()


def run_timed(checkout: Path, config: str, cores: int, folder: Path) -> None:
    """Run a study from nothing in `folder`/study; every job leaves what it took in `folder`/clock.

    Raises:
        SystemExit: the run failed; its output is told.
    """
    clock, study = folder / "clock", folder / "study"
    clock.mkdir()
    study.mkdir()
    checkout = snapshot(checkout, folder / "checkout")
    paths = [str(CLOCK), str(checkout)]
    command = [
        *(sys.executable, "-m", "snakemake", "--cores", str(cores), "--directory", str(study)),
        *("--snakefile", str(checkout / "Snakefile"), "--configfile", str(checkout / "config" / f"{config}.yaml")),
    ]
    environment = {**os.environ, "CT2VQ_CLOCK": str(clock), "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as a user has it: modules are compiled once
    with (folder / "log").open("w", encoding="utf-8") as stream:
        done = subprocess.run(command, cwd=study, env=environment, stdout=stream, stderr=stream, check=False)
    if done.returncode:
        sys.exit((folder / "log").read_text(encoding="utf-8")[-4000:])


def snapshot(checkout: Path, copy: Path) -> Path:
    """A copy of what a run reads of a checkout: an edit during the measurement must not reach a later job."""
    copy.mkdir()
    for name in PARTS:
        part = checkout / name
        if part.is_dir():
            shutil.copytree(part, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, copy / name)
    for pins in checkout.glob("requirements-*.txt"):
        shutil.copy(pins, copy / pins.name)
    return copy


def timed_jobs(clock: Path) -> pd.DataFrame:
    """A row for each process: `rule`, processor seconds `total`, and of them `outside` and `imports`.

    `outside` is all that was used until the script's first import of the project was done, what imports used after
    it, and what was used after the script's end.
    """
    told = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(clock.glob("*.json"))]
    jobs = pd.DataFrame(told)
    # the script's process counts from its fork on, its waiting parent before it
    outside = jobs["start"] + jobs["begun"] + jobs["imports"] + (jobs["total"] - jobs["start"] - jobs["ended"])
    jobs["outside"] = outside.where(jobs["rule"] != "snakemake", jobs["total"])
    return jobs[["rule", "total", "outside", "imports"]]


def by_rule(jobs: pd.DataFrame) -> pd.DataFrame:
    """Number of jobs, processor seconds, those outside the work and their share in %; the largest first, the sum last.

    Args:
        jobs: as `timed_jobs` returns.
    """
    rules = jobs.groupby("rule").agg(
        jobs=("total", "size"), processor_time=("total", "sum"), outside=("outside", "sum")
    )
    rules = rules.sort_values("outside", ascending=False)
    rules.loc["study"] = rules.sum()
    rules.loc["study", "jobs"] -= 1  # Snakemake's own process is no job
    rules["share"] = 100 * rules["outside"] / rules["processor_time"]
    return rules.astype({"jobs": int})


def long_table(rules: pd.DataFrame) -> pd.DataFrame:
    """The table in long format; `arm` is the rule."""
    units = {"jobs": "", "processor_time": "s", "outside": "s", "share": "%"}
    rows = [
        [rule, "", "", "", metric, round(float(row[metric]), 2), unit]
        for rule, row in rules.iterrows()
        for metric, unit in units.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


if __name__ == "__main__":
    main()

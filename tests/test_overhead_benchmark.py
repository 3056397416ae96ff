"""The clock of `make bench-overhead`: what it counts as work, and how a table is made of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "docs" / "benchmarks"))

import run_overhead  # noqa: E402

#: a job as Snakemake writes it: the work keeps the processor busy for 0.4 s, a module's import for 0.3 s
JOB = """
class snakemake: rule = "example"
from ct2vq.logs import stage
import time
def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
busy(0.4)
import slow
{more}
raise SystemExit({status})
"""
SLOW = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def run_job(folder: Path, status: int = 0, more: str = "") -> tuple[int, Path]:
    """Run the job with the clock; returns its status and the folder of what was measured."""
    script = folder / ".snakemake" / "scripts" / "job.py"
    script.parent.mkdir(parents=True)
    script.write_text(JOB.format(status=status, more=more), encoding="utf-8")
    (script.parent / "slow.py").write_text(SLOW, encoding="utf-8")
    clock = folder / "clock"
    clock.mkdir()
    paths = os.pathsep.join([str(run_overhead.CLOCK), str(ROOT)])
    environment = {**os.environ, "CT2VQ_CLOCK": str(clock), "PYTHONPATH": paths}
    return subprocess.run([sys.executable, str(script)], env=environment, check=False).returncode, clock


def test_start_and_imports_are_outside_the_work(tmp_path):
    status, clock = run_job(tmp_path)
    (job,) = run_overhead.timed_jobs(clock).itertuples()
    assert status == 0
    assert job.rule == "example"
    assert job.total - job.outside == pytest.approx(0.4, abs=0.1)
    assert job.imports == pytest.approx(0.3, abs=0.1)
    assert job.outside > 0.3


def test_the_work_of_forked_processes_is_work(tmp_path):
    """As in `report_figures`, whose pages are drawn by processes that the job forks."""
    forked = "import multiprocessing\nworker = multiprocessing.get_context('fork').Process(target=busy, args=(0.5,))\n"
    status, clock = run_job(tmp_path, more=forked + "worker.start()\nworker.join()\n")
    (job,) = run_overhead.timed_jobs(clock).itertuples()
    assert status == 0
    assert job.total - job.outside == pytest.approx(0.9, abs=0.2)


def test_a_job_that_fails_fails_under_the_clock_too(tmp_path):
    assert run_job(tmp_path, status=3)[0] == 3


def test_rules_are_summed_and_snakemake_is_no_job():
    jobs = pd.DataFrame(
        [["crop", 2.0, 1.0, 0.5], ["crop", 4.0, 1.0, 0.5], ["train", 10.0, 4.0, 3.0], ["snakemake", 4.0, 4.0, None]],
        columns=["rule", "total", "outside", "imports"],
    )
    rules = run_overhead.by_rule(jobs)
    assert rules.loc["crop"].tolist() == [2, 6.0, 2.0, pytest.approx(100 / 3)]
    assert rules.loc["study"].tolist() == [3, 20.0, 10.0, 50.0]
    table = run_overhead.long_table(rules)
    assert list(table.columns) == run_overhead.COLUMNS
    share = table[(table["arm"] == "study") & (table["metric"] == "share")]
    assert share["value"].tolist() == [50.0]

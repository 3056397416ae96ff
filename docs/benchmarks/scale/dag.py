"""Run Snakemake in this process and look at its DAG: `python -m scale.dag {shape FILE|finish} SNAKEMAKE'S ARGUMENTS`.

`shape` writes rules, wildcards and files of all jobs as JSON. `finish` makes every file up, empty, and has Snakemake
record its job as done, so that the next dry run finds everything there.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from snakemake.cli import main as snakemake
from snakemake.workflow import Workflow

from ct2vq.learners import write_learners
from ct2vq.split import write_folds


def watch(look: Callable[[Workflow], None], arguments: list[str]) -> None:
    """Run Snakemake and call `look` once its DAG is there."""
    build = Workflow._build_dag

    def build_and_look(workflow: Workflow) -> None:
        build(workflow)
        look(workflow)

    Workflow._build_dag = build_and_look
    snakemake(arguments)


def shape(workflow: Workflow) -> dict[str, dict]:
    """Output, log and benchmark patterns of each rule, and the wildcards and input files of its jobs."""
    rules: dict[str, dict] = {}
    for job in workflow.dag.jobs:
        rule = rules.setdefault(
            job.rule.name,
            {
                "output": [_pattern(file) for file in job.rule.output],
                "directories": [bool(file.is_directory) for file in job.rule.output],
                "log": [_pattern(file) for file in job.rule.log],
                "benchmark": _pattern(job.rule.benchmark) if job.rule.benchmark else None,
                "jobs": [],
            },
        )
        rule["jobs"].append({"wildcards": dict(job.wildcards_dict), "input": [str(file) for file in job.input]})
    return rules


def _pattern(file: object) -> str:
    """A file's pattern without the constraints of its wildcards."""
    return re.sub(r"\{(\w+),[^}]*\}", r"{\1}", str(file))


async def finish(workflow: Workflow) -> None:
    """Make every output, with the times of jobs that followed one another, and record its job."""
    start = time.time() - 1e6
    for level, jobs in enumerate(workflow.dag.toposorted()):
        for job in jobs:
            for file in job.output:
                _make(Path(file), file.is_directory, start + level)
            _keep(job)
            await workflow.persistence.finished(job)


def _make(path: Path, is_directory: bool, when: float) -> None:
    folder = path if is_directory else path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not is_directory:
        path.touch()
    os.utime(path, (when, when))


def _keep(job: object) -> None:
    """What two jobs leave beside their outputs: the folds, and the cases that models learn from."""
    params = job.params
    if job.rule.name == "split" and params.get("kept"):
        when = Path(job.output.folds).stat().st_mtime
        write_folds(params.table, Path(job.output.folds), Path(params.kept))
        os.utime(job.output.folds, (when, when))
    if job.rule.name == "train_cohort" and params.get("kept"):
        write_learners(params.learned, Path(params.kept))


if __name__ == "__main__":
    if sys.argv[1] == "shape":
        target = Path(sys.argv[2])
        watch(lambda workflow: target.write_text(json.dumps(shape(workflow)), encoding="utf-8"), sys.argv[3:])
    else:
        watch(lambda workflow: asyncio.run(finish(workflow)), sys.argv[2:])

"""Runs of a study on the cluster, and what Slurm's accounting says of them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from slurm import command
from studies import Result, Study, kill_group, wait_for

QUICK = Path(__file__).with_name("quick_snakemake.py")
PROFILE = "workflow/profiles/slurm"
#: the training that is disturbed
WEIGHTS = "results/train/ran_perfusion/fold1/weights.safetensors"
EPOCHS = 60
STARTED: list[subprocess.Popen[str]] = []


@dataclass(frozen=True)
class Job:
    """A line of the accounting: one life of a job, which has several if it was requeued."""

    number: str
    comment: str
    state: str
    node: str
    memory: str
    asked: str
    account: str
    start: str
    end: str


def start(study: Study, *arguments: str) -> subprocess.Popen[str]:
    """Start Snakemake on the cluster, two jobs at a time."""
    os.environ |= {"OMP_NUM_THREADS": "1", "USER": os.environ.get("USER", "root")}
    settings = ["--configfile", study.configfile] if study.configfile else []
    words = [*settings, "--workflow-profile", PROFILE, "--jobs", "2", *arguments]
    STARTED.append(study.start(sys.executable, QUICK, *words))
    return STARTED[-1]


def end_all() -> None:
    """Kill the runs that a test that failed left behind; their jobs end with the cluster."""
    for process in STARTED:
        if process.poll() is None:
            kill_group(process)
    STARTED.clear()


def run(study: Study, *arguments: str) -> Result:
    return Study.finish(start(study, *arguments))


def jobs_of(study: Study) -> list[Job]:
    """All lives of a study's jobs, in the order of their numbers and of their start."""
    fields = "JobIDRaw,Comment,State,NodeList,ReqMem,ReqTRES,Account,Start,End,WorkDir"
    said = command("sacct", "-X", "-D", "-n", "-P", "-a", "-S", "now-1days", f"--format={fields}")
    lines = [line.rsplit("|", 1) for line in said.splitlines()]
    jobs = [Job(*line.split("|")) for line, folder in lines if folder == str(study.folder)]
    return sorted(jobs, key=lambda job: (int(job.number), job.start))


def wait_for_checkpoint(study: Study, process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait until a training has a checkpoint to go on from.

    Returns:
        The number and the node of its job.
    """
    wait_for(lambda: list(study.path("work/train").glob("*/latest.pt")), process, "a checkpoint was written")
    running = (line.split() for line in command("squeue", "-h", "-t", "running", "-o", "%A %N %Z").splitlines())
    ((number, node),) = ((number, node) for number, node, folder in running if folder == str(study.folder))
    return number, node

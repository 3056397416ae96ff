"""The whole study through Slurm, as the profile in the checkout runs it."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from on_slurm import jobs_of, start
from slurm import SAVED_S
from studies import NOTHING, Study, contents, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PATTERNS = ("*.nii.gz", "*.safetensors", "*.tsv", "*.dcm", "*.json", "*.png", "*.yaml")
#: what two runs of the same study may differ in: wall clock and memory
MACHINE_KEYS = {"seconds", "peak_memory_mb", "machine"}


def test_the_study_through_slurm_is_the_study_of_a_local_run(cluster, checkout, finished, tmp_path):
    study = checkout.copy(tmp_path / "study")
    process = start(study)
    wait_for(lambda: study.path("results/simulate").exists(), process, "the first case began")
    time.sleep(SAVED_S)
    cluster.kill_controller()
    cluster.start_controller()
    Study.finish(process).require_success()
    ours, theirs = (contents(run.path("results"), *PATTERNS) for run in (study, finished))
    assert ours.keys() == theirs.keys()
    for name in [name for name in ours if name.endswith("run.json")]:
        first, second = (json.loads(files.pop(name)) for files in (ours, theirs))
        assert {key: first[key] for key in first.keys() - MACHINE_KEYS} == {
            key: second[key] for key in second.keys() - MACHINE_KEYS
        }
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert NOTHING in study.snakemake().output, "a local run takes over what Slurm made"

    jobs = jobs_of(study)
    assert {job.state for job in jobs} == {"COMPLETED"}
    kinds = [job.comment.split("_")[1] for job in jobs]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "prepare": 4,
        "cohort": 1,
        "baselines": 1,
        "train": 6,
        "synthesize": 1,
        "evaluate": 1,
        "tables": 1,
        "report": 3,  # figures of the cases: one portion
    }
    trainings = sorted((job.start, job.end) for job in jobs if job.comment.startswith("rule_train"))
    assert any(second[0] < first[1] for first, second in itertools.pairwise(trainings)), (
        "folds are trained side by side"
    )

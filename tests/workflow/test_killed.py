"""A run that was killed goes on by itself to the same bytes; a run that is alive is left alone."""

import json
import shutil
import socket
import subprocess
import sys

import psutil
import pytest
from studies import contents, files_under, jobs, kill_group, require_plain_failure, script_processes, wait_for

pytestmark = pytest.mark.workflow

TRAINING = "results/train/ran_perfusion/fold1"


def _is_locked(study) -> bool:
    locks = study.path(".snakemake/locks")
    return locks.is_dir() and any(locks.iterdir())


def _forget_training_and_what_follows(study) -> None:
    """Remove one training and, as far as a final result, what one of its cases needs it for."""
    rows = [line.split("\t") for line in study.path("results/split/folds.tsv").read_text().splitlines()]
    case = next(row[0] for row in rows if row[-1] == "1")
    for folder in (TRAINING, f"results/synthesize/{case}", "results/compare"):
        shutil.rmtree(study.path(folder))
    for file in (f"evaluate/cases/{case}.tsv", "evaluate/metrics.tsv", "report/index.html"):
        study.path(f"results/{file}").unlink()


def test_a_training_killed_with_its_run_goes_on_from_its_checkpoint_to_the_same_bytes(study, finished):
    _forget_training_and_what_follows(study)
    process = study.start_ct2vq_run()
    wait_for(lambda: script_processes(process), process, "the training started")
    require_plain_failure(study.ct2vq_run(), "another run works in this directory", ".snakemake/locks")
    assert process.poll() is None, "the refused run disturbed the living one"
    wait_for(lambda: list(study.path("work/train").glob("*/latest.pt")), process, "a checkpoint was written")
    kill_group(process)
    assert _is_locked(study)
    assert not study.path(f"{TRAINING}/weights.safetensors").exists()

    result = study.ct2vq_run().require_success()
    assert "removed the lock of a run that is dead" in result.output
    done = jobs(result.output)
    assert done.wildcards["train"] == [{"model": "ran_perfusion", "fold": "1"}]
    assert {"train", "synthesize", "evaluate_case", "report"} < set(done.rules)
    record = json.loads(study.path(f"{TRAINING}/run.json").read_text())
    assert record["resumed_at_epoch"] == 2
    assert not _is_locked(study)
    for pattern in ("*.safetensors", "*.tsv", "*.nii.gz", "*.png"):
        assert contents(study.path("results"), pattern) == contents(finished.path("results"), pattern)
    assert [path for path in files_under(study.path("results")) if ".part." in path.name] == []


def test_a_killed_script_fails_its_case_alone_and_the_next_run_makes_it(fresh, finished):
    targets = [f"results/simulate/{case}/manifest.json" for case in ("sim001", "sim002")]
    process = fresh.start_ct2vq_run("--keep-going", *targets)
    wait_for(lambda: list(fresh.path("results").glob("simulate/*/.*.part.*")), process, "a simulation wrote")
    first = next(fresh.path("results").glob("simulate/*/.*.part.*"))
    victim, other = (first.parent.name, "sim002" if first.parent.name == "sim001" else "sim001")
    psutil.Process(int(first.name.split(".")[1])).kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert f"results/simulate/{victim}/manifest.json" in output
    assert not fresh.path(f"results/simulate/{victim}/manifest.json").exists()
    assert not fresh.path(f"results/simulate/{victim}/dicom").exists()
    assert fresh.path(f"results/simulate/{other}/manifest.json").exists()

    process = fresh.start_ct2vq_run(*targets)
    wait_for(lambda: list(fresh.path("results").glob(f"simulate/{victim}/.*.part.*/*")), process, "it simulates again")
    kill_group(process)
    result = fresh.ct2vq_run(*targets).require_success()
    assert jobs(result.output).values("simulate", "case") == {victim}
    for case in ("sim001", "sim002"):
        folder = f"results/simulate/{case}"
        assert contents(fresh.path(folder), "*") == contents(finished.path(folder), "*")


def test_a_lock_that_nobody_is_known_to_hold_stays(fresh):
    locks = fresh.path(".snakemake/locks")
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    require_plain_failure(fresh.ct2vq_run(), "no record says by whom", "snakemake --unlock")
    owner = {"host": "another-host", "pid": 1, "started": 0.0}
    fresh.path(".snakemake/ct2vq_owner.json").write_text(json.dumps(owner), encoding="utf-8")
    require_plain_failure(fresh.ct2vq_run(), "another-host", "snakemake --unlock")
    assert _is_locked(fresh)


def test_the_lock_of_another_working_directory_is_removed_there(fresh, tmp_path):
    """`--directory` is Snakemake's own option; the lock lies in the folder that it names."""
    elsewhere = tmp_path / "elsewhere"
    locks = elsewhere / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    owner = {"host": socket.gethostname(), "pid": ended.pid, "started": 0.0}
    (elsewhere / ".snakemake" / "ct2vq_owner.json").write_text(json.dumps(owner), encoding="utf-8")
    result = fresh.ct2vq_run("--directory", str(elsewhere), "--dry-run").require_success()
    assert "removed the lock of a run that is dead" in result.output
    assert list(locks.glob("*")) == []

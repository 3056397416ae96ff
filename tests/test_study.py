"""One directory, one study, one run: only a lock whose owner is dead for sure is removed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ct2vq.config import complete_config
from ct2vq.errors import ConfigError, Ct2vqError
from ct2vq.files import read_json, write_json
from ct2vq.study import (
    LOCKS,
    OWNER_FILE,
    STUDY_FILE,
    claim_run,
    kept_folds,
    kept_folds_file,
    record_owner,
    release_dead_lock,
    require_same_study,
)


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    (tmp_path / LOCKS).mkdir(parents=True)
    (tmp_path / LOCKS / "0.input.lock").write_text("results/x")
    return tmp_path


def dead_process() -> dict:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return {"pid": process.pid, "started": time.time(), "host": socket.gethostname()}


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while psutil.Process(process.pid).cmdline()[-1:] != command[-1:] and time.monotonic() < deadline:
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def test_no_lock_is_no_matter(tmp_path: Path) -> None:
    assert release_dead_lock(tmp_path) is None
    (tmp_path / LOCKS).mkdir(parents=True)
    assert release_dead_lock(tmp_path) is None


def test_the_lock_of_a_dead_run_is_removed(locked: Path) -> None:
    owner = dead_process()
    write_json(owner, locked / OWNER_FILE)
    assert str(owner["pid"]) in release_dead_lock(locked)
    assert not (locked / LOCKS).exists()
    assert release_dead_lock(locked) is None


def test_the_lock_of_a_living_run_stays(locked: Path) -> None:
    record_owner(locked)
    assert read_json(locked / OWNER_FILE)["pid"] == os.getpid()
    with pytest.raises(Ct2vqError, match="another run works"):
        release_dead_lock(locked)
    assert any((locked / LOCKS).iterdir())


def test_a_process_number_that_went_to_another_process_is_dead(locked: Path) -> None:
    record_owner(locked)
    owner = read_json(locked / OWNER_FILE)
    write_json(owner | {"started": owner["started"] - 60}, locked / OWNER_FILE)
    assert release_dead_lock(locked)


def test_a_zombie_is_dead(locked: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    try:
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        started = psutil.Process(process.pid).create_time()
        write_json({"pid": process.pid, "started": started, "host": socket.gethostname()}, locked / OWNER_FILE)
        assert release_dead_lock(locked)
    finally:
        process.wait()


def test_the_lock_of_another_host_stays(locked: Path) -> None:
    write_json(dead_process() | {"host": "elsewhere"}, locked / OWNER_FILE)
    with pytest.raises(Ct2vqError, match=r"host `elsewhere`.*--unlock"):
        release_dead_lock(locked)
    assert (locked / LOCKS).is_dir()


def test_the_lock_of_nobody_knows_whom_stays(locked: Path) -> None:
    with pytest.raises(Ct2vqError, match=r"no record.*--unlock"):
        release_dead_lock(locked)
    assert (locked / LOCKS).is_dir()


SLEEP = "import time; time.sleep(60)\n"


@pytest.mark.parametrize("script", ["bin/snakemake", ".snakemake/scripts/tmpx1.train.py"])
def test_a_snakemake_or_its_orphaned_job_in_the_folder_counts(locked: Path, script: str) -> None:
    write_json(dead_process(), locked / OWNER_FILE)
    (locked / script).parent.mkdir(parents=True, exist_ok=True)
    (locked / script).write_text(SLEEP)
    with running([sys.executable, str(locked / script)], locked), pytest.raises(Ct2vqError, match="another run"):
        release_dead_lock(locked)
    assert release_dead_lock(locked)


def test_a_snakemake_in_another_folder_does_not_count(locked: Path, tmp_path_factory) -> None:
    write_json(dead_process(), locked / OWNER_FILE)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "snakemake").write_text(SLEEP)
    with running([sys.executable, str(elsewhere / "snakemake")], elsewhere):
        assert release_dead_lock(locked)


def test_reading_a_log_of_snakemake_is_not_running_it(locked: Path) -> None:
    write_json(dead_process(), locked / OWNER_FILE)
    log = Path(".snakemake/log/2026-01-01.snakemake.log")
    (locked / log).parent.mkdir()
    (locked / log).write_text("done\n")
    with running(["tail", "-f", str(log)], locked):
        assert release_dead_lock(locked)


def test_a_folder_called_snakemake_is_not_a_run(locked: Path) -> None:
    write_json(dead_process(), locked / OWNER_FILE)
    script = locked / "my-snakemake-env" / "tool.py"
    script.parent.mkdir()
    script.write_text(SLEEP)
    with running([sys.executable, str(script)], locked):
        assert release_dead_lock(locked)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_another_study_is_refused(here: Path) -> None:
    mine = complete_config({"study": "mine"})
    require_same_study(mine)
    claim_run(mine)
    assert read_json(STUDY_FILE)["study"] == "mine"
    assert read_json(OWNER_FILE)["pid"] == os.getpid()
    require_same_study(mine)
    with pytest.raises(ConfigError, match=r"`mine`.*`yours`.*--directory"):
        require_same_study(complete_config({"study": "yours"}))


def test_folds_are_kept_for_each_way_of_splitting(here: Path) -> None:
    config = complete_config({"study": "mine"})
    assert kept_folds(config) == {}
    file = kept_folds_file(config)
    for change in ({"seed": 5}, {"split": {"folds": 3}}, {"split": {"stratify_by": "none"}}, {"study": "other"}):
        assert kept_folds_file(complete_config({"study": "mine"} | change)) != file
    assert kept_folds_file(complete_config({"study": "mine", "train": {"epochs": 1}})) == file
    file.parent.mkdir(parents=True)
    file.write_text("case_id\tfold\nc1\t1\nc2\t2\n")
    assert kept_folds(config) == {"c1": 1, "c2": 2}
    (here / "mine.tsv").write_text("case_id\tfold\nc2\t3\nc4\t1\n")
    named = complete_config({"study": "mine", "split": {"folds_file": "mine.tsv"}})
    assert kept_folds(named) == {"c1": 1, "c2": 3, "c4": 1}, "the file that the user names counts more"
    with pytest.raises(ConfigError, match=r"none\.tsv.*split\.folds_file"):
        kept_folds(complete_config({"study": "mine", "split": {"folds_file": "none.tsv"}}))

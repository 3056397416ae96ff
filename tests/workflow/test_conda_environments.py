"""`--sdm conda`: every rule's environment is found and would be made. A stand-in answers for conda."""

import json
import os

import pytest
from studies import ROOT, TINY, Study

pytestmark = pytest.mark.workflow

#: what Snakemake asks conda before a dry run
CONDA = """#!/bin/sh
case "$*" in
  "info --json") echo '{info}' ;;
  "--version") echo "conda 24.11.0" ;;
  "config --get channel_priority --json") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  *) echo "conda is not expected to be asked: $*" >&2; exit 1 ;;
esac
"""


def test_a_dry_run_finds_the_environments(fresh: Study, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    info = {"conda_prefix": str(tmp_path), "root_prefix": str(tmp_path), "platform": "linux-64", "channels": []}
    (folder / "conda").write_text(CONDA.format(info=json.dumps(info | {"conda_version": "24.11.0"})))
    (folder / "conda").chmod(0o755)
    study = Study(fresh.folder, TINY, {"PATH": f"{folder}:{os.environ['PATH']}"})
    output = study.snakemake("--dry-run", "--sdm", "conda").require_success().output
    made = {line.split()[2] for line in output.splitlines() if line.startswith("Conda environment ")}
    wanted = {f"envs/{name}.yaml" for name in ("imaging", "stats", "torch")}
    assert {name for name in wanted if any(path.endswith(name) for path in made)} == wanted, output
    assert all((ROOT / name).is_file() for name in wanted)

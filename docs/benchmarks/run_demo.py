"""Measure the embedded study on this machine: `make bench-demo` writes demo.tsv and demo.json beside this file.

Each run works in a fresh copy of the checkout with the existing environment: `make demo` from nothing, `make demo`
again with nothing to do, the tiny configuration of the tests, and `make demo` from nothing on one core, whose tables
and images must equal the first run's byte for byte.
Memory is the largest sum of resident sizes over the process tree, sampled twice a second: pages that processes share
count once for each process, so it is an upper bound.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from ct2vq.files import read_tsv, sha256_file, write_json, write_tsv  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
#: what must not depend on the number of cores (records of trainings hold their run times)
COMPARED = {
    "metrics": "results/evaluate/metrics.tsv",
    "tables": "results/compare/*.tsv",
    "weights": "results/train/*/*/weights.safetensors",
    "images": "results/**/*.nii.gz",
}
SAMPLING_S = 0.5


@dataclass(frozen=True)
class Measured:
    """Wall time in seconds and peak memory in MiB of a finished command."""

    seconds: float
    peak_mib: float


def main() -> None:
    """Run, measure and write the two files."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="ct2vq_bench_") as folder:
        checkout = _snapshot(Path(folder) / "checkout")
        rows = _measure_study(checkout, options.config, options.cores)
        rows += _measure_tiny(checkout, options.cores)
        if not options.without_equality:
            rows += _measure_equality(checkout, options.config)
    options.output.mkdir(parents=True, exist_ok=True)
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), options.output / "demo.tsv")
    command = f"python docs/benchmarks/run_demo.py --config {options.config} --cores {options.cores}"
    command += " --without-equality" if options.without_equality else ""
    header = describe_machine("The embedded study on one machine", __doc__ or "", command, options.cores)
    write_json(header, options.output / "demo.json")
    print(options.output / "demo.tsv")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=("demo", "tiny"), default="demo", help="the study that is timed")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--without-equality", action="store_true", help="leave out the run on one core (20 minutes)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder for demo.tsv and demo.json")
    return parser.parse_args()


def _measure_study(checkout: Path, config: str, cores: int) -> list[list[object]]:
    copy = Path(shutil.copytree(checkout, checkout.with_name("study")))
    rows = []
    for name in ("first", "second"):
        measured = _run(copy, config, cores)
        rows += [
            _row(f"{config}_{name}_run_time", round(measured.seconds, 1), "s"),
            _row(f"{config}_{name}_run_peak_memory", round(measured.peak_mib), "MiB"),
        ]
    stages = _stage_seconds(copy / "benchmarks")
    return rows + [_row(f"{config}_jobs_of_{stage}", round(stages[stage], 1), "s") for stage in stages]


def _measure_tiny(checkout: Path, cores: int) -> list[list[object]]:
    measured = _run(Path(shutil.copytree(checkout, checkout.with_name("tiny"))), "tiny", cores)
    return [_row("tiny_run_time", round(measured.seconds, 1), "s")]


def _measure_equality(checkout: Path, config: str) -> list[list[object]]:
    """The same study on one core, and whether it made the same bytes as the first run."""
    first, other = checkout.with_name("study"), Path(shutil.copytree(checkout, checkout.with_name("one_core")))
    measured = _run(other, config, 1)
    rows = [_row(f"{config}_run_time_on_1_core", round(measured.seconds, 1), "s")]
    for what, pattern in COMPARED.items():
        files = sorted(path.relative_to(first) for path in first.glob(pattern))
        equal = sum(sha256_file(first / path) == sha256_file(other / path) for path in files)
        rows.append(_row(f"{what}_equal_on_1_and_{os.cpu_count()}_cores", equal, f"of {len(files)} files"))
    return rows


def _row(metric: str, value: float, unit: str) -> list[object]:
    return ["ct2vq", "", "", "", metric, value, unit]


def _snapshot(target: Path) -> Path:
    """What git tracks or would track, copied once: an edit during the measurement must not reach a later run."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def _run(folder: Path, config: str, cores: int) -> Measured:
    """`make demo` in a folder, its output in `<folder>.log`."""
    # READY= takes the target `setup` out: the copy must not install itself into the checkout's environment.
    arguments = [f"CONFIG=config/{config}.yaml", f"CORES={cores}", f"VENV={sys.prefix}", "READY="]
    log = folder.with_suffix(".log")
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(["make", "demo", *arguments], cwd=folder, stdout=stream, stderr=stream)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _tree_mib(process.pid))
            time.sleep(SAMPLING_S)
    if process.returncode:
        sys.exit(f"make demo {' '.join(arguments)} failed:\n{log.read_text(encoding='utf-8')[-4000:]}")
    return Measured(time.perf_counter() - started, peak)


def _tree_mib(pid: int) -> float:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return 0.0
    return total / 2**20


def _stage_seconds(benchmarks: Path) -> dict[str, float]:
    """Seconds of all jobs of each stage, from Snakemake's benchmark files, the longest first."""
    seconds: dict[str, float] = {}
    for file in sorted(benchmarks.rglob("*.tsv")):
        stage = file.relative_to(benchmarks).parts[0]
        seconds[stage] = seconds.get(stage, 0.0) + float(read_tsv(file)["s"].sum())
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()

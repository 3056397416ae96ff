"""Cost of planning a study of many cases, beside a plain Snakemake chain of the same shape.

The study is the real Snakefile with config/config.yaml as it is, and a table of cases with a CT, an attenuation CT,
perfusion and ventilation each, whose DICOM folders are empty: nothing could run, but the DAG is the real one.

The chain has the same rules, wildcards, logs, benchmarks, files and numbers of jobs, and none of our functions: it is
generated from the DAG of a study of ten cases, and the numbers of jobs of both are compared.

`rules_read_first_time`: `snakemake --list-rules` in a new directory; what is found in the code stays for later starts.
`nothing_there`: a dry run before the first run. `everything_there`: a dry run that finds nothing to do; the files are
made up and empty. `one_case_added`: the same with one more row in the table; `jobs` are those that a run would have.
`one_of_20_batches` (no chain): `--batch register_cohort=1/20 -- results/register/quality.tsv` in a new directory.

Time is processor time (user and system) of `snakemake --dry-run`, memory the largest resident set. The arms of a pair
run one after the other; sizes may be measured in several calls. Other programs ran on the machine, so that seconds are
longer than on an idle one and ratios of pairs are what counts.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from machine import describe_machine  # noqa: E402
from scale.chain import folds_of, write_chain, write_chain_cases  # noqa: E402
from scale.study import case_name, write_cases, write_study  # noqa: E402

from ct2vq.files import read_json, write_json, write_tsv  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
TRIGGERS = ("--rerun-triggers", "mtime", "params", "input", "software-env")
DRY_RUN = ("--cores", "1", "--dry-run", "--quiet", "rules", "--workflow-profile", "none", *TRIGGERS)
LIST_RULES = ("--list-rules", "--workflow-profile", "none")
BATCH = ("--batch", "register_cohort=1/20", "--", "results/register/quality.tsv")
READ = "rules_read_first_time"
SMALL = 10
TOTAL = "total"


@dataclass(frozen=True)
class Measured:
    """A dry run: processor seconds, largest resident set in MB, jobs by rule."""

    seconds: float
    memory_mb: float
    jobs: dict[str, int]


def main() -> None:
    """Measure, and write the table after every size; what it holds of other sizes is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[98, 1000], help="numbers of cases")
    parser.add_argument("--finished", type=int, default=1000, help="largest study whose files are made up, too")
    parser.add_argument("--batch", type=int, help="only plan one of 20 batches of a study of so many cases")
    parser.add_argument("--folder", type=Path, help="where the studies are written (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.batch:
            return _write(_measure_batch(folder / f"study{options.batch}", options.batch))
        shape = _small_shape(folder / "small")
        for cases in options.sizes:
            _write(_measure_size(folder, cases, shape, finish=cases <= options.finished))


def _measure_batch(study: Path, cases: int) -> list[list[object]]:
    write_study(study, cases)
    one = _snakemake(study, [*DRY_RUN, *_snakefile(study), *BATCH])
    return _rows("ct2vq", cases, "one_of_20_batches", one)


def _rows(arm: str, cases: int, when: str, one: Measured) -> list[list[object]]:
    start = [arm, f"{cases} cases", "", when]
    return [
        [*start, "processor_time", round(one.seconds, 1), "s"],
        [*start, "peak_memory", round(one.memory_mb), "MB"],
        *([[*start, "jobs", one.jobs.get(TOTAL, 0), ""]] if when != READ else []),
    ]


def _write(rows: list[list[object]]) -> None:
    """Put the rows of one size into the table, in the order of sizes."""
    path = HERE / "scale.tsv"
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    if path.is_file():
        before = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        table = pd.concat([before[~before["case"].isin(table["case"])], table], ignore_index=True)
    sizes = table["case"].str.split().str[0].astype(int)
    table = table.iloc[sizes.argsort(kind="stable")]
    write_tsv(table, path)
    whole = sorted(sizes[table["arm"] != "ct2vq"].unique())
    command = f"make bench-scale SIZES='{' '.join(map(str, whole))}'"
    for cases in sorted(sizes[table["reference"] == "one_of_20_batches"].unique()):
        command += f"; python docs/benchmarks/run_scale.py --batch {cases}"
    write_json(describe_machine("Scale", __doc__ or "", command, 1), HERE / "scale.json")


def _small_shape(folder: Path) -> dict[str, dict]:
    """Rules, wildcards and files of the DAG of a small study."""
    write_study(folder, SMALL)
    _python("-m", "scale.dag", "shape", str(folder / "shape.json"), *DRY_RUN, *_snakefile(folder), folder=folder)
    return read_json(folder / "shape.json")


def _measure_size(folder: Path, cases: int, shape: dict[str, dict], *, finish: bool) -> list[list[object]]:
    study, chain = folder / f"study{cases}", folder / f"chain{cases}"
    write_study(study, cases)
    write_chain(shape, folds_of(shape), chain)
    write_chain_cases(chain, list(map(case_name, range(1, cases + 1))))
    rows = _pair(study, chain, cases, READ, LIST_RULES)
    rows += _pair(study, chain, cases, "nothing_there")
    if finish:
        for arm in (study, chain):
            _python("-m", "scale.dag", "finish", *DRY_RUN, *_snakefile(arm), folder=arm)
        rows += _pair(study, chain, cases, "everything_there")
        write_cases(study, cases + 1)
        write_chain_cases(chain, list(map(case_name, range(1, cases + 2))))
        rows += _pair(study, chain, cases, "one_case_added")
    return rows


def _snakefile(folder: Path) -> list[str]:
    """The chain has a Snakefile of its own."""
    own = folder / "Snakefile"
    return ["--snakefile", str(own if own.is_file() else ROOT / "Snakefile"), "--directory", str(folder)]


def _pair(study: Path, chain: Path, cases: int, when: str, options: Sequence[str] = DRY_RUN) -> list[list[object]]:
    """Rows of both arms.

    Raises:
        ValueError: they do not have the same jobs (only where training follows from a new case may they differ).
    """
    measured = {
        arm: _snakemake(folder, [*options, *_snakefile(folder)])
        for arm, folder in (("ct2vq", study), ("plain chain", chain))
    }
    if when != "one_case_added" and measured["ct2vq"].jobs != measured["plain chain"].jobs:
        raise ValueError(f"{cases} cases, {when}: not the same jobs: {measured}")
    rows: list[list[object]] = []
    for arm, one in measured.items():
        rows += _rows(arm, cases, when, one)
        if when == "one_case_added":
            rows += [
                [arm, f"{cases} cases", rule, when, "jobs_of_rule", number, ""]
                for rule, number in one.jobs.items()
                if rule not in (TOTAL, "all")
            ]
    ours, plain = measured["ct2vq"], measured["plain chain"]
    both = ["ct2vq / plain chain", f"{cases} cases", "", when]
    rows.append([*both, "processor_time", round(ours.seconds / plain.seconds, 2), ""])
    rows.append([*both, "peak_memory", round(ours.memory_mb / plain.memory_mb, 2), ""])
    for row in rows:
        print(*row, file=sys.stderr)
    return rows


def _snakemake(folder: Path, options: Sequence[str]) -> Measured:
    """Run `snakemake` in a process of its own."""
    command = [sys.executable, "-m", "snakemake", *options]
    with open(folder / "dry_run.txt", "w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(text)
    stats = text.partition("Job stats:")[2]
    jobs = {rule: int(number) for rule, number in re.findall(r"^(\w+) +(\d+)$", stats, flags=re.MULTILINE)}
    return Measured(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, jobs)


def _python(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}", "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()

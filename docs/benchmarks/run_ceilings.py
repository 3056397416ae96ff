"""Measure whether the simulated cohort is trivial: `make bench-ceilings` writes ceilings.tsv and ceilings.json.

Reads finished simulated cases and compares images with the simulated SPECT, in the true lungs, on the grid of
evaluation, the SPECT carried to the CT by the true displacement (no registration error). *Noise ceiling*: the
noise-free truth at the SPECT's resolution. *Visible ceiling*: its mean over what no CT shows, the best that a CT could
tell. *Inversion*: the best smooth function of HU averaged at 10 mm and position, fitted on each fold's test cases
themselves; *position* is the same without HU. *HU regression* and *mean map* are fitted on the training cases. The arms
named `_case` are cubic functions fitted on each case by itself; they also follow what no CT shows and can pass the
visible ceiling, so no margin is asked of them: only the difference between the two comes from the CT. The visible
ceiling must pass the inversion by 0.10 and the mean map by 0.25 in mean Rs. Another world's table is called
`ceilings_<world>`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# one thread a process: sums do not depend on the number of cores
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ[_name] = "1"

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402
import yaml  # noqa: E402
from machine import describe_machine  # noqa: E402

from ct2vq.config import TARGETS, complete_config  # noqa: E402
from ct2vq.errors import Ct2vqError  # noqa: E402
from ct2vq.files import read_json, write_json, write_tsv  # noqa: E402
from ct2vq.simulate import ceilings  # noqa: E402


def main() -> None:
    """Measure, write the two files and print the means."""
    options = _options()
    config = complete_config(yaml.safe_load(options.config.read_text(encoding="utf-8")), str(options.config))
    try:
        folders, facts = _finished_cases(options.study, options.cases)
        folds = ceilings.folds_of(facts, config)
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ct2vq_ceilings_") as folder:
            table = _measure(folders, folds, Path(folder), config, options.jobs)
    except Ct2vqError as error:
        sys.exit(f"ct2vq: {error}")
    first = facts[folders[0].name]
    name = "ceilings" if first["world"] == "first" else f"ceilings_{first['world']}"
    write_tsv(table, options.output / f"{name}.tsv")
    title = f"What a CT can tell of the simulated function ({first['world']} world)"
    command = f"python docs/benchmarks/run_ceilings.py --config {options.config.name} --jobs {options.jobs}"
    command += f" --cases {options.cases}" if options.cases else ""
    header = describe_machine(title, __doc__ or "", command, options.jobs)
    groups = {case_id: ceilings.group_of(known) for case_id, known in facts.items()}
    sizes = [list(folds.values()).count(number) for number in set(folds.values())]
    known = {
        "cases_of_a_fold": [min(sizes), max(sizes)],
        "world": first["world"],
        "cohort_version": first["cohort_version"],
        "groups": groups,
    }
    write_json(header | known, options.output / f"{name}.json")
    print(_report(table), f"\n{len(folders)} cases, {time.monotonic() - start:.0f} s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT, help="directory where the study's cases were simulated")
    parser.add_argument(
        "--config", type=Path, default=ROOT / "config" / "simulated-study.yaml", help="its configuration"
    )
    parser.add_argument("--cases", type=int, help="only the first so many cases")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the table")
    return parser.parse_args()


def _finished_cases(study: Path, number: int | None) -> tuple[list[Path], dict[str, dict[str, Any]]]:
    """Folders and `truth.json` (by case) of the finished cases of a study, all of one world and version.

    Raises:
        Ct2vqError: there are none, or they do not belong together.
    """
    root = study / "results" / "simulate"
    folders = sorted(path.parent for path in root.glob("*/manifest.json"))[:number]
    if not folders:
        raise Ct2vqError(
            "no finished simulated case",
            path=root,
            hint="`snakemake --cores all --configfile config/simulated-study.yaml --until simulate` makes them",
        )
    facts = {folder.name: read_json(folder / "truth" / "truth.json") for folder in folders}
    kinds = sorted({(known["world"], known["cohort_version"]) for known in facts.values()})
    if len(kinds) > 1:
        raise Ct2vqError(f"cases of different worlds or versions: {kinds}", path=root, hint="simulate all of them anew")
    return folders, facts


def _measure(
    folders: Sequence[Path], folds: Mapping[str, int], kept: Path, config: Mapping[str, Any], jobs: int
) -> pd.DataFrame:
    """The table of all cases."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        files = list(pool.map(_store, folders, repeat(kept), repeat(config)))
        of_fold = {number: [file for file in files if folds[file.stem] == number] for number in set(folds.values())}
        training = [[file for file in files if file not in test] for test in of_fold.values()]
        parts = pool.map(ceilings.measure_fold, training, of_fold.values(), repeat(config))
        rows = [row for part in parts for row in part]
    table = pd.DataFrame(rows, columns=list(ceilings.COLUMNS))
    return table.sort_values(["case", "target"], kind="stable", ignore_index=True)


def _store(folder: Path, kept: Path, config: Mapping[str, Any]) -> Path:
    return ceilings.store(ceilings.read_known_case(folder, config), kept)


def _report(table: pd.DataFrame) -> str:
    """The means and the margins as text."""
    lines = []
    for target in TARGETS:
        lines += [target, ceilings.mean_metrics(table, target).round(3).to_string(), ""]
    for row in ceilings.margins(table).itertuples():
        verdict = "reached" if row.reached else "NOT reached"
        lines.append(
            f"{row.target}: visible ceiling - {row.arm} = {row.margin:.3f} ± {row.error:.3f} (SE) in Rs, "
            f"at least {row.required:.2f}: {verdict}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

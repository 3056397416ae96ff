"""Measure the report of a study of many cases: `make bench-report` writes report.tsv and report.json.

A finished demo is made a study of 98 cases: its cases' files are there several times under other names, with the new
name in tables and records, and the rows of the whole study's tables are repeated in the same way. So images, tables
and pages have the size of such a study, and nothing but the report is missing. Then Snakemake makes the report on the
given number of cores: `wall_time` from its start to its end, planning included, `processor_time` of it and all its
jobs. Rules are the sums of their jobs' processor time as Snakemake's benchmark files have it. `page_loaded` is the
time from opening the page from disk in headless Chromium in a window of 1280 x 800 until its `load` event, `page_size`
its own size, `report_size` that of the folder. Other work on the machine raises seconds on the wall and hardly the
processor's.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[2]
# the browser's driver is that of the tests
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import BROWSER, browser  # noqa: E402
from machine import describe_machine  # noqa: E402

from ct2vq.files import read_tsv, write_json, write_text, write_tsv  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
PAGE = Path("results/report/index.html")
CASE = re.compile(r"sim\d{3}")
TEXT = {".tsv", ".json", ".txt"}
#: columns that hold a case's name
NAMES = ("case_id", "case")
#: what only the simulation of a case needs; a link is enough
UNREAD = "dicom"


def main() -> None:
    """Make up the study, have its report made, look at the page, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="directory of a finished demo (make demo)")
    parser.add_argument("--cases", type=int, default=98, help="how many cases the study has")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where the study is made up (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ct2vq_bench_") as temporary:
        study = options.folder or Path(temporary) / "study"
        if study.exists():
            sys.exit(f"{study} is there already; name another --folder")
        _make_up(options.study, study, options.cases)
        rows = list(_report_rows(study, options.cores))
        rows += _page_rows(study, Path(temporary) / "browser")
    here, size = Path(__file__).parent, f"{options.cases} cases"
    table = pd.DataFrame([["ct2vq", size, "", "", *row] for row in rows], columns=COLUMNS)
    write_tsv(table, here / "report.tsv")
    command = f"python docs/benchmarks/run_report.py --study DIR --cases {options.cases} --cores {options.cores}"
    write_json(describe_machine("The report of a study", __doc__ or "", command, options.cores), here / "report.json")
    print(table[["metric", "value", "unit"]].to_string(index=False))


# --- a study of many cases made of the demo's ------------------------------------------------------------------------


def _make_up(demo: Path, study: Path, number: int) -> None:
    """All results but the report, for so many cases, none newer than another."""
    sources = sorted(path.name for path in (demo / "results" / "simulate").iterdir() if CASE.fullmatch(path.name))
    cases = {f"sim{n:03d}": sources[(n - 1) % len(sources)] for n in range(1, number + 1)}
    made: dict[str, list[str]] = {source: [] for source in sources}
    for case, source in cases.items():
        made[source].append(case)
    for folder in ("results", "work", "private"):
        for path in _files(demo / folder) if (demo / folder).is_dir() else ():
            _multiply(path, demo, study, made)
    config = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8"))
    config["simulate"]["cases"] = number
    config["read"]["enabled"] = False
    write_text(yaml.safe_dump(config), study / "study.yaml")
    now = time.time()
    for path in study.rglob("*"):
        os.utime(path, (now, now), follow_symlinks=False)


def _files(folder: Path) -> Iterator[Path]:
    """Files, and folders that nobody reads, of what is no report and no reader study."""
    for path in sorted(folder.iterdir()):
        if path.name in ("report", "read") and path.parent.name == "results":
            continue
        if path.is_dir() and path.name != UNREAD:
            yield from _files(path)
        else:
            yield path


def _multiply(path: Path, demo: Path, study: Path, made: dict[str, list[str]]) -> None:
    place = str(path.relative_to(demo))
    found = CASE.search(place)
    if not found:
        _put(path, study / place)
        if path.suffix == ".tsv":
            _repeat_rows(study / place, made)
        return
    for case in made[found.group()]:
        copy = study / place.replace(found.group(), case)
        _put(path, copy)
        if path.suffix in TEXT:
            write_text(copy.read_text(encoding="utf-8").replace(found.group(), case), copy)


def _put(path: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        copy.symlink_to(path.resolve())
    else:
        shutil.copyfile(path, copy)


def _repeat_rows(path: Path, made: dict[str, list[str]]) -> None:
    """The rows of each case once for each of its new names."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    name = next((column for column in NAMES if column in table), None)
    if name is None or not set(table[name]) & set(made):
        return
    renamed = [table[table[name] == source].assign(**{name: case}) for source in made for case in made[source]]
    others = table[~table[name].isin(list(made))]
    pd.concat([*renamed, others]).to_csv(path, sep="\t", index=False, lineterminator="\n")


# --- what is measured ------------------------------------------------------------------------------------------------


def _report_rows(study: Path, cores: int) -> Iterator[list[Any]]:
    command = [sys.executable, "-m", "ct2vq", "run", "--cores", str(cores), "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", str(study / "study.yaml"), "--directory", str(study)]
    command += [str(PAGE), "--rerun-triggers", "mtime"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    write_text(done.stdout + done.stderr, study / "run.log")
    if done.returncode:
        sys.exit(f"the report was not made:\n{(done.stdout + done.stderr)[-2000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    yield ["wall_time", round(wall, 1), "s"]
    yield ["processor_time", round(used, 1), "s"]
    folder = study / "benchmarks"
    others = {path.parts[len(folder.parts)] for path in folder.rglob("*.tsv")} - {"report"}
    if others:
        sys.exit(f"more than the report was made: {', '.join(sorted(others))}; see {study / 'run.log'}")
    sums: dict[str, list[float]] = {}
    for path in folder.rglob("*.tsv"):
        rule = path.relative_to(folder / "report").parts[0].removesuffix(".tsv")
        sums.setdefault(rule, []).append(float(read_tsv(path)["cpu_time"].iloc[0]))
    for rule, seconds in sorted(sums.items()):
        yield [f"{rule}_jobs", len(seconds), "1"]
        yield [f"{rule}_processor_time", round(sum(seconds), 1), "s"]


def _page_rows(study: Path, profile: Path) -> Iterator[list[Any]]:
    page = study / PAGE
    yield ["page_size", round(page.stat().st_size / 2**20, 2), "MiB"]
    whole = sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file())
    yield ["report_size", round(whole / 2**20), "MiB"]
    if BROWSER is None:
        return
    with browser(profile) as tab:
        yield ["page_loaded", round(tab.open(page, height=800), 2), "s"]


if __name__ == "__main__":
    main()

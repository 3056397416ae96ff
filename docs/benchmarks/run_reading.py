"""Measure what a reader study costs: `make bench-reading` writes reading.tsv and reading.json.

The cases of a finished demo, read by three people: their answers are those of the noise model, marked as a person's.
`design`, `pack` (of one reader) and `report` call what the rules `read_design`, `read_pack` and `read_report` call;
`import` is `python -m ct2vq import-reader` of one reader's file. Each is a process of its own, start and imports
included: processor seconds of all threads, seconds on the wall, largest resident memory. `8 mm` are the demo's voxels,
`4 mm` the same images interpolated to the default grid. The page is opened from disk in headless Chromium in a window
of 1280 x 800: `page` until it shows the sessions, `item` from *Begin* until the first item's images are drawn,
`next_item` from Enter until the next item's are (the middle of five). Other work on the machine raises seconds on the
wall and hardly the processor's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# the browser's driver is that of the tests
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "read")]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from browser import BROWSER, browser  # noqa: E402
from machine import describe_machine  # noqa: E402
from reader import DIAGNOSIS, Reader  # noqa: E402

from ct2vq.config import TARGETS, complete_config  # noqa: E402
from ct2vq.errors import Ct2vqError  # noqa: E402
from ct2vq.files import read_json, write_json, write_tsv  # noqa: E402
from ct2vq.read.exports import read_pack, signed  # noqa: E402
from ct2vq.read.names import FIGURES, TABLES  # noqa: E402
from ct2vq.read.simulated import write_simulated_export  # noqa: E402
from ct2vq.volume import make_grid, read_volume, resample, write_volume  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
READERS = {"ann": "resident", "bo": "senior", "cy": "senior"}
CONFIG = complete_config({"study": "benchmark"})
FINER_MM = 4.0
ITEMS = 5
SECRET = "known to nobody"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
#: what a process does: a function of a module with arguments from JSON; it prints its peak memory in MiB
STEP = """
import importlib, json, sys
job = json.loads(sys.argv[1])
sys.path.insert(0, job["root"])
given = job["arguments"]
if "look" in given:
    from ct2vq.figures import Look
    given["look"] = Look(**given["look"])
getattr(importlib.import_module(job["module"]), job["function"])(**given)
status = open("/proc/self/status").read()
print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024)
"""


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="directory of a finished demo")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the table")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows = list(measured(options.demo, Path(folder)))
    except Ct2vqError as error:
        sys.exit(f"ct2vq: {error}")
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), options.output / "reading.tsv")
    header = describe_machine(
        "The reader study", __doc__ or "", "python docs/benchmarks/run_reading.py --demo DIR", os.cpu_count() or 1
    )
    write_json(header, options.output / "reading.json")
    print(pd.DataFrame(rows, columns=COLUMNS).drop(columns=["target", "reference"]).to_string(index=False))


def measured(demo: Path, work: Path) -> Iterator[list[Any]]:
    """Rows of the table: design, packs of both voxels, import and report, and the page.

    Raises:
        Ct2vqError: the demo is not finished.
    """
    design = demo / "results" / "read" / "design.json"
    if not design.is_file():
        raise Ct2vqError("no reader study", path=design, hint="give the directory of a finished demo (make demo)")
    known = read_json(design)
    study = Study(work, known["study"], known["cases"], known["models"])
    yield from _step("design", "", study.design_job())
    own = study.images(demo)
    for voxel, images in {"8 mm": own, f"{FINER_MM:g} mm": finer(own, work / "finer")}.items():
        folder = work / f"packs {voxel}"
        first, *others = READERS
        yield from _step(f"pack, {voxel}", voxel, study.pack_job(first, folder, images))
        if images is own:
            for reader in others:
                _run(study.pack_job(reader, folder, images))
        yield from _pack_rows(folder / first, voxel)
        if BROWSER:
            yield from page_rows(folder / first, voxel, work / f"browser {voxel}")
    exports = {reader: study.answered(reader, work / "packs 8 mm") for reader in READERS}
    yield from _imported(exports["ann"], work)
    yield from _step("report", "", study.report_job(work / "packs 8 mm", list(exports.values())))


class Study:
    """The arguments of every step of a reader study in a folder of its own."""

    def __init__(self, work: Path, name: str, cases: Mapping[str, Any], models: Mapping[str, str]) -> None:
        """A study.

        Args:
            work: its folder.
            name: of the study.
            cases: as the demo's design has them.
            models: the model of each target.
        """
        self.work, self.name, self.cases, self.models = work, name, cases, models
        self.settings = {**CONFIG["read"], "models": dict(models)}

    @property
    def design(self) -> Path:
        """The design's file."""
        return self.work / "design.json"

    def images(self, demo: Path) -> dict[str, dict[str, Path]]:
        """The demo's images of each case, as `write_pack` takes them."""
        found: dict[str, dict[str, Path]] = {}
        for case in self.cases:
            crop, made = demo / "results" / "crop" / case, demo / "results" / "synthesize" / case
            found[case] = {name: crop / f"{name}.nii.gz" for name in ("ct", "lungs")}
            found[case] |= {f"real_{target}": crop / f"{target}.nii.gz" for target in TARGETS}
            for target in TARGETS:
                found[case][f"synthesised_{target}"] = made / self.models[target] / f"{target}_network.nii.gz"
        return found

    def design_job(self) -> dict[str, Any]:
        """What `read_design` calls."""
        given = {"study": self.name, "secret": SECRET, "settings": self.settings, "cases": self.cases}
        given |= {"readers": READERS, "simulated": True, "simulated_readers": False}
        given |= {"labels": {model: model for model in self.models.values()}}
        files = {"design": self.design, "plan": self.work / "plan.md"}
        return _job("ct2vq.read.design", "write_design", files | given)

    def pack_job(self, reader: str, folder: Path, images: Mapping[str, Mapping[str, Path]]) -> dict[str, Any]:
        """What `read_pack` calls."""
        files = {"folder": folder / reader, "key": folder / f"{reader}.tsv", "record": folder / f"{reader}.json"}
        given = {"reader": reader, "design": self.design, "images": images, "settings": self.settings}
        given |= {"secret": SECRET, "archive": folder / "archive", "exports": self.work / "nothing"}
        return _job("ct2vq.read.pack", "write_pack", files | given)

    def answered(self, reader: str, folder: Path) -> Path:
        """A file of answers by the noise model, marked as a person's."""
        path = self.work / "returned" / f"{reader}.json"
        key, settings = folder / f"{reader}.tsv", CONFIG["read"]["simulated"]
        write_simulated_export(folder / reader, key, self.design, path, settings=settings, seed=CONFIG["seed"])
        write_json(signed(read_json(path) | {"simulated_readers": False}), path)
        return path

    def report_job(self, packs: Path, exports: list[Path]) -> dict[str, Any]:
        """What `read_report` calls."""
        folder = self.work / "tables"
        look = {"labels": {"ddran": "DDRAN"}, "networks": ["ddran"], "simulated": True}
        given = {
            "exports": exports,
            "packs": [packs / reader for reader in READERS],
            "keys": [packs / f"{reader}.tsv" for reader in READERS],
            "design": self.design,
            "tables": {name: folder / f"{name}.tsv" for name in TABLES},
            "figures": {name: folder / f"{name}.png" for name in FIGURES},
            "look": look | {"settings": CONFIG["report"]["figure"]},
            "settings": {name: CONFIG["compare"][name] for name in ("confidence", "bootstrap")},
            "seed": CONFIG["seed"],
        }
        return _job("ct2vq.read.results", "report_reading", given)


def _job(module: str, function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"root": str(ROOT), "module": module, "function": function, "arguments": arguments}


def _step(case: str, reference: str, job: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Rows of a step: seconds and memory."""
    seconds, wall, output = _run(job)
    yield ["ct2vq", case, "", reference, "processor_time", round(seconds, 2), "s"]
    yield ["ct2vq", case, "", reference, "wall_time", round(wall, 2), "s"]
    yield ["ct2vq", case, "", reference, "peak_memory", round(float(output.splitlines()[-1])), "MiB"]


def _run(job: Mapping[str, Any]) -> tuple[float, float, str]:
    """Processor seconds and seconds on the wall of a step, and what it printed."""
    command = [sys.executable, "-c", STEP, json.dumps(job, default=str)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise Ct2vqError(f"a step failed: {' '.join(done.stderr.split())[-1500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, done.stdout


def _imported(export: Path, work: Path) -> Iterator[list[Any]]:
    """Rows of `python -m ct2vq import-reader` of one file."""
    configuration = work / "config.yaml"  # JSON is YAML
    write_json({"study": read_json(export)["study"], "read": {"exports": str(work / "answers")}}, configuration)
    command = ["import-reader", export, "--packs", work / "packs 8 mm", "--configfile", configuration]
    given = {"args": list(map(str, command)), "standalone_mode": False}
    yield from _step("import of one reader", "", _job("ct2vq.cli", "app", given))
    if not list((work / "answers").glob("*.json")):
        raise Ct2vqError("the answers were not imported", path=export)


def finer(images: Mapping[str, Mapping[str, Path]], folder: Path) -> dict[str, dict[str, Path]]:
    """The images interpolated to voxels of `FINER_MM`, labels by the nearest voxel."""
    found: dict[str, dict[str, Path]] = {}
    for case, files in images.items():
        found[case] = {}
        for name, path in files.items():
            image = read_volume(path)
            found[case][name] = folder / case / f"{name}.nii.gz"
            made = resample(image, _finer_grid(image), linear=name != "lungs")
            write_volume(made, found[case][name])
    return found


def _finer_grid(image: sitk.Image) -> sitk.Image:
    size = np.floor(np.asarray(image.GetSize()) * np.asarray(image.GetSpacing()) / FINER_MM)
    return make_grid(size.tolist(), [FINER_MM] * 3, image.GetOrigin(), image.GetDirection())


def _pack_rows(folder: Path, voxel: str) -> Iterator[list[Any]]:
    """Size and content of a pack."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    sessions = read_pack(folder)["sessions"]
    figures = {
        "items": (sum(len(session["items"]) for session in sessions), "1"),
        "sessions": (len(sessions), "1"),
        "files": (len(files), "1"),
        "size": (round(sum(path.stat().st_size for path in files) / 2**20, 2), "MiB"),
    }
    for metric, (value, unit) in figures.items():
        yield ["ct2vq", f"pack, {voxel}", "", voxel, metric, value, unit]


def page_rows(folder: Path, voxel: str, profile: Path) -> Iterator[list[Any]]:
    """Seconds until the page, its first item, and the next ones are there."""
    with browser(profile) as page:
        reader, start = Reader(page), time.monotonic()
        reader.open(folder)
        opened = time.monotonic()
        reader.begin()
        begun, following = time.monotonic(), []
        for _ in range(ITEMS):
            reader.answer(DIAGNOSIS)
            left = time.monotonic()
            reader.next()
            following.append(time.monotonic() - left)
    figures = {"page": opened - start, "item": begun - opened, "next_item": statistics.median(following)}
    for metric, seconds in figures.items():
        yield ["ct2vq", f"page, {voxel}", "", voxel, metric, round(seconds, 2), "s"]


if __name__ == "__main__":
    main()

"""Measure what the evaluation of a case costs: `make bench-evaluate` writes evaluate.tsv and evaluate.json.

Processor time and largest resident memory of a process that evaluates one case of a finished study, start and imports
included: all models (the default ones and the trivial baselines), all regions and definitions, all tables. `simulated`
also carries the truth and scores everything against it; `measured` is the same case as a hospital has it, without a
truth. On the study's own grid, and on one of 4 mm, the default for real images, onto which the images are resampled
first. `rows` are those of the table of metrics. `mean` and `worst` are over the cases.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from machine import describe_machine  # noqa: E402

from ct2vq.config import TARGETS, complete_config, vq_arms  # noqa: E402
from ct2vq.evaluate.truth import TRUTHS  # noqa: E402
from ct2vq.files import write_json, write_tsv  # noqa: E402
from ct2vq.volume import read_volume  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
DEFAULT_SPACING_MM = 4.0
ONE_THREAD = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
EVALUATE = """
import json, sys
from pathlib import Path
job = json.loads(sys.argv[1])
sys.path.insert(0, job["root"])
from ct2vq.evaluate.case import evaluate_case
from ct2vq.evaluate.truth import KnownTruth
paths = {key: {name: Path(path) for name, path in job[key].items()} for key in ("files", "outputs", "known")}
truth = KnownTruth(Path(job["truth"]), job["spect"]) if job["known"] else None
evaluate_case(
    "case", paths["files"], paths["outputs"], job["settings"], job["arms"], truth=truth, truth_outputs=paths["known"]
)
status = Path("/proc/self/status").read_text()
print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024)
"""


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="directory of a finished simulated study (make demo)")
    parser.add_argument("--cases", type=int, default=6, help="how many cases are measured")
    options = parser.parse_args()
    results = options.study / "results"
    cases = sorted(path.name for path in (results / "synthesize").iterdir())[: options.cases]
    measured = [row for case in cases for row in _measure(results, case)]
    table = pd.DataFrame(measured, columns=COLUMNS)
    table = pd.concat([table, pd.DataFrame(_summary(table), columns=COLUMNS)], ignore_index=True)
    table["value"] = table["value"].map(lambda value: float(f"{value:.4g}"))
    folder = Path(__file__).parent
    write_tsv(table, folder / "evaluate.tsv")
    command = "python docs/benchmarks/run_evaluate.py --study DIRECTORY"
    write_json(describe_machine("Evaluation of a case", __doc__ or "", command, 1), folder / "evaluate.json")
    print(table.tail(12).to_string())


def _measure(results: Path, case: str) -> Iterator[list[Any]]:
    """Rows of a case: with and without its truth, on its own grid and on that of the default."""
    own_mm = read_volume(results / "crop" / case / "lungs.nii.gz").GetSpacing()[0]
    for spacing in dict.fromkeys([None if own_mm == DEFAULT_SPACING_MM else DEFAULT_SPACING_MM, None]):
        for kind in ("simulated", "measured"):
            arm = f"{kind}, {spacing or own_mm:g} mm"
            for metric, value, unit in _run(_job(results, case, spacing, simulated=kind == "simulated")):
                yield [arm, case, "", "", metric, value, unit]


def _job(results: Path, case: str, spacing_mm: float | None, *, simulated: bool) -> dict[str, Any]:
    config = complete_config({"study": "benchmark"})
    crop, segment = results / "crop" / case, results / "segment" / case
    files = {"lungs": crop / "lungs.nii.gz", "regions": segment / "ct_regions.nii.gz"}
    files |= {"lobes": segment / "ct_lobes.nii.gz"} | {f"spect_{t}": crop / f"{t}.nii.gz" for t in TARGETS}
    models: dict[str, dict[str, list[str]]] = {}
    for image in sorted((results / "synthesize" / case).glob("*/*_network.nii.gz")):
        model, target = image.parent.name, image.name.removesuffix("_network.nii.gz")
        files[f"{model}_{target}"] = image
        models.setdefault(model, {"targets": []})["targets"].append(target)
    known = [f"{reference}_{target}" for reference in TRUTHS for target in TARGETS] if simulated else []
    return {
        "root": str(ROOT),
        "files": {name: str(path) for name, path in files.items()},
        "known": [*known, "findings"] if simulated else [],
        "truth": str(results / "simulate" / case / "truth"),
        "spect": config["crop"]["spect"],
        "settings": config["evaluate"] | {"spacing_mm": spacing_mm},
        "arms": vq_arms(models),
    }


def _run(job: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
    """Metric, value and unit of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: f"{folder}/{name}.tsv" for name in ("metrics", "density", "detection", "defects")}
        job = job | {"outputs": outputs, "known": {name: f"{folder}/{name}.nii.gz" for name in job["known"]}}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", EVALUATE, json.dumps(job)]
        memory = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | ONE_THREAD).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = len(Path(outputs["metrics"]).read_text(encoding="utf-8").splitlines()) - 1
    yield "processor_time", after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, "s"
    yield "peak_memory", float(memory), "MiB"
    yield "rows", float(rows), ""


def _summary(table: pd.DataFrame) -> Iterator[list[Any]]:
    for (arm, metric, unit), group in table.groupby(["arm", "metric", "unit"], sort=False):
        for case, value in (("mean", np.mean(group["value"])), ("worst", np.max(group["value"]))):
            yield [arm, case, "", "", metric, float(value), unit]


if __name__ == "__main__":
    main()

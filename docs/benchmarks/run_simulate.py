"""Cost of a simulated case, one after the other, each in a process of its own on one thread.

`demo`: the demo's image sizes, one case of each diagnosis. `full`: a CT of 512x512 voxels of 0.8 x 0.8 x 1 mm.
Seconds are processor time; memory is the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from ct2vq.config import complete_config  # noqa: E402
from ct2vq.files import write_json, write_tsv  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
SEED = 12
FULL = {"matrix": 512, "pixel_mm": 0.8, "slice_mm": 1.0}


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-full", action="store_true", help="leave out the full-size case (six minutes)")
    options = parser.parse_args()
    from ct2vq.simulate.disease import DISEASES

    jobs = [("demo", diagnosis) for diagnosis in DISEASES] + ([] if options.without_full else [("full", "embolism")])
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for (size, diagnosis), (seconds, mib) in zip(jobs, pool.imap(_measure, jobs), strict=True):
            rows.append([f"ct2vq ({size})", diagnosis, "", "", "processor_time", round(seconds, 1), "s"])
            rows.append([f"ct2vq ({size})", diagnosis, "", "", "peak_memory", round(mib), "MiB"])
            print(size, diagnosis, round(seconds, 1), "s", round(mib), "MiB", file=sys.stderr)
    folder = Path(__file__).parent
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), folder / "simulate.tsv")
    command = "python docs/benchmarks/run_simulate.py" + (" --without-full" if options.without_full else "")
    write_json(describe_machine("Cost of a simulated case", __doc__ or "", command, 1), folder / "simulate.json")


def _measure(job: tuple[str, str]) -> tuple[float, float]:
    """Processor seconds and peak MiB of one case."""
    from ct2vq.simulate import simulate_case

    size, diagnosis = job
    settings = complete_config({"study": "benchmark"})["simulate"]
    settings["habits"] = {"camera_a": 1}
    if size == "full":
        settings["ct"] |= FULL
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        simulate_case(f"case-{diagnosis}", f"P-{diagnosis}", diagnosis, SEED, settings, Path(folder) / "case")
        seconds = time.process_time() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

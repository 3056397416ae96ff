"""Speed of `ct2vq discover` on a simulated export, one process, headers only.

CT slices of 512x512 with the long header of the simulation (private attributes and sequences included). `first`: all
files are new. `again`: nothing changed. The files lie in the system's cache: a network drive adds its own time. Time is
processor time, grouping and writing included. `pydicom`: the same files, `dcmread` without pixels, no value looked at.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import pydicom  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from machine import describe_machine  # noqa: E402

from ct2vq.config import complete_config  # noqa: E402
from ct2vq.discover.run import discover  # noqa: E402
from ct2vq.files import write_json, write_tsv  # noqa: E402
from ct2vq.identity.store import Store  # noqa: E402
from ct2vq.simulate.dicom import draw_identity, write_ct_series  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
SLICES = 200


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10, help="CT series of 200 slices (0.1 GB each)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw = _write_export(Path(folder) / "raw", options.series)
        count = options.series * SLICES
        seconds = {("ct2vq", "first"): _discover(Path(folder)), ("ct2vq", "again"): _discover(Path(folder))}
        seconds[("pydicom", "first")] = _read_headers(raw)
    rows = []
    for (arm, case), taken in seconds.items():
        rows.append([arm, case, "", "", "time_per_file", round(1000 * taken / count, 3), "ms"])
        rows.append([arm, case, "", "", "files_per_hour", round(3600 * count / taken), ""])
        print(arm, case, round(1000 * taken / count, 3), "ms a file", file=sys.stderr)
    here = Path(__file__).parent
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), here / "discover.tsv")
    header = describe_machine("Speed of discover", __doc__ or "", "python docs/benchmarks/run_discover.py", 1)
    write_json(header, here / "discover.json")


def _write_export(raw: Path, number: int) -> Path:
    image = sitk.Image((512, 512, SLICES), sitk.sitkInt16)
    image.SetSpacing((0.8, 0.8, 1.5))
    for k in range(number):
        draws = [np.random.default_rng(k) for _ in range(3)]
        who = draw_identity(k, f"case{k}", f"P{k}", ("F", 60, 1.7, 70.0), draws[0], draws[1])
        write_ct_series(image, raw / f"patient{k}" / "export", who, "ct", draws[2])
    return raw


def _discover(folder: Path) -> float:
    settings = complete_config({"study": "benchmark"})["discover"]
    store = Store(folder / "private")
    start = time.process_time()
    discover(folder / "raw", settings, store, folder / "cases.tsv", 1, folder / "inventory.tsv")
    return time.process_time() - start


def _read_headers(raw: Path) -> float:
    files = [path for path in raw.rglob("*") if path.is_file()]
    start = time.process_time()
    for path in files:
        pydicom.dcmread(path, stop_before_pixels=True)
    return time.process_time() - start


if __name__ == "__main__":
    main()

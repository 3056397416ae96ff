"""Measure what the registration's settings cost and gain: `make bench-register` writes register.tsv and register.json.

Registers simulated cases of a finished demo through their attenuation CT with several settings, one after the other in
one process on one thread, and compares the displacement in the true lungs with the simulation's: `tre_mean` and
`tre_p95` in mm. Seconds are processor time. These cases are for choosing defaults; the benchmark against other
programs, on other cases, belongs to a later version.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from machine import describe_machine  # noqa: E402

from ct2vq.config import TARGETS, complete_config  # noqa: E402
from ct2vq.fields import read_transform  # noqa: E402
from ct2vq.files import read_json, write_json, write_tsv  # noqa: E402
from ct2vq.register import register_case  # noqa: E402
from ct2vq.volume import read_volume, to_array  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
ARMS: dict[str, dict[str, Any]] = {
    "rigid": {"transform": "rigid"},
    "affine": {"transform": "affine"},
    "default (4 mm, SyN 60x40x0)": {},
    "4 mm, SyN 60x40x15": {"deformable_iterations": [60, 40, 15]},
    "demo (6 mm, SyN 60x40x0)": {"spacing_mm": 6.0},
}


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results of a finished demo")
    parser.add_argument("--cases", nargs="+", default=["sim001", "sim003"])
    options = parser.parse_args()
    rows = [row for case in options.cases for row in _measure(options.results, case)]
    folder = Path(__file__).parent
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), folder / "register.tsv")
    command = f"python docs/benchmarks/run_register.py --cases {' '.join(options.cases)}"
    write_json(describe_machine("Settings of the registration", __doc__ or "", command, 1), folder / "register.json")


def _measure(results: Path, case: str) -> Iterator[list[Any]]:
    truth = results / "simulate" / case / "truth"
    true_field = to_array(read_volume(truth / "ct_to_spect_displacement.nii.gz"))
    lungs = read_volume(truth / "lungs.nii.gz")
    inside = to_array(lungs) > 0
    yield ["none", case, "", "truth", "tre_mean", float(np.linalg.norm(true_field[inside], axis=-1).mean()), "mm"]
    for arm, changes in ARMS.items():
        seconds, field, qc = _register(results, case, changes, lungs)
        error = np.linalg.norm(field - true_field, axis=-1)[inside]
        for metric, value, unit in (
            ("tre_mean", error.mean(), "mm"),
            ("tre_p95", np.percentile(error, 95), "mm"),
            ("lung_dice", qc["dice_after"], "1"),
            ("folding", qc["folding_percent"], "%"),
            ("processor_time", seconds, "s"),
        ):
            yield [arm, case, "", "truth", metric, float(f"{value:.4g}"), unit]


def _register(
    results: Path, case: str, changes: Mapping[str, Any], grid: sitk.Image
) -> tuple[float, np.ndarray, dict[str, Any]]:
    """Processor seconds, the displacement on a grid in mm, and the quality record."""
    volumes = {
        "ct": results / "convert" / case / "ct.nii.gz",
        "ct_lungs": results / "segment" / case / "ct_lungs.nii.gz",
        "attenuation_ct": results / "convert" / case / "attenuation_ct.nii.gz",
        "attenuation_ct_lungs": results / "segment" / case / "attenuation_ct_lungs.nii.gz",
    }
    sidecars = {name: results / "convert" / case / f"{name}.json" for name in ("attenuation_ct", *TARGETS)}
    config = complete_config({"study": "benchmark"})
    with tempfile.TemporaryDirectory() as folder:
        forward, inverse, qc = (Path(folder) / name for name in ("forward.nii.gz", "inverse.nii.gz", "qc.json"))
        start = time.process_time()
        register_case(volumes, sidecars, forward, inverse, qc, config["register"] | dict(changes), config["seed"])
        seconds = time.process_time() - start
        field = sitk.TransformToDisplacementField(
            read_transform(forward),
            sitk.sitkVectorFloat64,
            grid.GetSize(),
            grid.GetOrigin(),
            grid.GetSpacing(),
            grid.GetDirection(),
        )
        return seconds, to_array(field), read_json(qc)


if __name__ == "__main__":
    main()

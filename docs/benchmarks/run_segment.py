"""Lungs found on real and simulated CTs beside contours by hand, a published mask and the simulated truth.

`dice` is that of the right, the left and both lungs; on LUNG1-001 (512 x 512 x 134, a tumour at the wall) the human
contours' tumour is left out of the count, and `dense_inside` is the share of it that the mask covers; on simulated
cases it is that of what disease shows on the CT. `cip` is a CT of 64 x 64 x 79 voxels, upright and with an oblique
direction, whose mask does not tell the sides. Each case is a process of its own on one core: seconds are processor
time of the segmentation with reading and writing, imports left out; memory is the process's largest resident size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from ct2vq.config import complete_config  # noqa: E402
from ct2vq.convert import convert_ct  # noqa: E402
from ct2vq.files import read_json, write_json, write_tsv  # noqa: E402
from ct2vq.lungs import dice  # noqa: E402
from ct2vq.segment.own import read_own_mask  # noqa: E402
from ct2vq.volume import read_volume, to_array, voxel_volume_ml, write_volume  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
SIDES = {"right": (1,), "left": (2,), "both": (1, 2)}
CONFIG = complete_config({"study": "benchmark"})
SEGMENT = """
import json, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from ct2vq.config import complete_config
from ct2vq.segment import segment_case
settings = complete_config({{"study": "benchmark"}})["segment"]
start = time.process_time()
segment_case(Path({ct!r}), Path({out!r}), Path({out!r} + ".json"), settings, None)
status = Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
print(json.dumps([time.process_time() - start, peak / 1024]))
"""


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, help="folder of real images (mirp_LUNG1-001_ct, cip_chest_ct64)")
    parser.add_argument("--study", type=Path, help="directory of a simulated study (results/simulate below it)")
    parser.add_argument("--each", type=int, default=3, help="simulated cases of each diagnosis")
    options = parser.parse_args()
    rows: list[list] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _human(options.real / "mirp_LUNG1-001_ct", work, rows)
        _published(options.real / "cip_chest_ct64", work, rows)
        for case, diagnosis in _simulated(options.study, options.each):
            _against_truth(case, diagnosis, work, rows)
    table = pd.DataFrame(rows, columns=COLUMNS)
    target = Path(__file__).parent
    write_tsv(table, target / "segment.tsv")
    command = "python docs/benchmarks/run_segment.py REAL --study STUDY"
    write_json(describe_machine("Segmentation", __doc__ or "", command, 1), target / "segment.json")
    print(table[table["metric"] == "dice"].to_string())


def _human(source: Path, work: Path, rows: list[list]) -> None:
    with tarfile.open(source / "LUNG1-001_image.tar.xz") as archive:
        archive.extractall(work, filter="data")
    ct = work / "ct.nii.gz"
    convert_ct(work / "image", ct, work / "ct.json", CONFIG["convert"], "case-1")
    image, contours = read_volume(ct), source / "LUNG1-001_rtstruct.dcm"
    human = to_array(read_own_mask(image, contours, CONFIG["segment"], None)[0])
    only = CONFIG["segment"] | {"allow_one_lung": True, "own_mask": {"right": "^GTV-1$", "left": "^$", "both": "^$"}}
    tumour = to_array(read_own_mask(image, contours, only, None)[0]) > 0
    _measure("LUNG1-001", "human contours", ct, human, work, rows, tumour, left_out=tumour)


def _published(source: Path, work: Path, rows: list[list]) -> None:
    mask = to_array(sitk.ReadImage(str(source / "wholeLung-64.nrrd"))) > 0
    for name, file in (("cip", "ct-64.nrrd"), ("cip, oblique", "ct-64-transformed.nrrd")):
        write_volume(sitk.ReadImage(str(source / file), sitk.sitkFloat32), work / "ct.nii.gz")
        _measure(name, "published mask", work / "ct.nii.gz", mask.astype(np.uint8), work, rows, sides=("both",))


def _simulated(study: Path | None, each: int) -> list[tuple[Path, str]]:
    """The first cases of each diagnosis."""
    chosen: dict[str, list[Path]] = {}
    for case in sorted((study / "results" / "simulate").iterdir()) if study else []:
        chosen.setdefault(read_json(case / "truth" / "truth.json")["diagnosis"], []).append(case)
    return [(case, diagnosis) for diagnosis in sorted(chosen) for case in chosen[diagnosis][:each]]


def _against_truth(case: Path, diagnosis: str, work: Path, rows: list[list]) -> None:
    ct = work / "ct.nii.gz"
    convert_ct(case / "dicom" / "ct", ct, work / "ct.json", CONFIG["convert"], case.name)
    truth, disease = (to_array(read_volume(case / "truth" / f"{name}.nii.gz")) for name in ("lungs", "disease"))
    _measure(f"{case.name}, {diagnosis}", "truth", ct, truth, work, rows, disease == 1)


def _measure(
    case: str,
    reference: str,
    ct: Path,
    truth: np.ndarray,
    work: Path,
    rows: list[list],
    dense: np.ndarray | None = None,
    left_out: np.ndarray | None = None,
    sides: tuple[str, ...] = tuple(SIDES),
) -> None:
    """Segment one CT in a process of its own and add its rows."""
    seconds, mib = _segment(ct, work / "lungs.nii.gz")
    image = read_volume(work / "lungs.nii.gz")
    found = to_array(image)
    counted = np.ones(found.shape, dtype=bool) if left_out is None else ~left_out
    for side in sides:
        masks = [np.isin(labels, SIDES[side]) & counted for labels in (found, truth)]
        rows.append(["ct2vq", case, side, reference, "dice", round(dice(*masks), 4), ""])
    missed, added = ((a > 0) & (b == 0) & counted for a, b in ((truth, found), (found, truth)))
    for metric, mask in (("missed", missed), ("added", added)):
        rows.append(["ct2vq", case, "both", reference, metric, round(float(mask.sum()) * voxel_volume_ml(image)), "mL"])
    if dense is not None and dense.any():
        rows.append(["ct2vq", case, "both", reference, "dense_inside", round(float((found[dense] > 0).mean()), 3), ""])
    rows.append(["ct2vq", case, "", "", "processor_time", round(seconds, 2), "s"])
    rows.append(["ct2vq", case, "", "", "peak_memory", round(mib), "MiB"])


def _segment(ct: Path, out: Path) -> tuple[float, float]:
    """Processor seconds and peak MiB."""
    threads = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    code = SEGMENT.format(root=str(ROOT), ct=str(ct), out=str(out))
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | threads, check=True, capture_output=True, text=True
    )
    seconds, mib = json.loads(done.stdout.splitlines()[-1])
    return seconds, mib


if __name__ == "__main__":
    main()

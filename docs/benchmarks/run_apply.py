"""Measure what a new CT costs from DICOM to both images: `make bench-apply` writes apply.tsv and apply.json.

The CT is a real one (LUNG1-001, 512 x 512 x 134), whose slices are interpolated linearly to 300 over the same length
and written as DICOM again. Arms: the demo's finished DDRAN (8 mm voxels, three folds, mirrored average) and the default
configuration's (4 mm, five folds) with weights that have learnt nothing, which take as long; both with one thread and
with two. Each is a process of its own, `ct2vq apply` with its start, its imports and its figure: seconds on the wall,
processor seconds of all threads, and the largest resident size. `before` is the code of the release before, with one
thread. The parts are those of the default configuration's run with one thread. Other work on the machine raises seconds
on the wall and hardly the processor's: `load` is the average number of other processes that wanted a processor.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pydicom
from pydicom.uid import generate_uid

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from ct2vq.config import complete_config  # noqa: E402
from ct2vq.files import write_json, write_tsv  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
SLICES = 300
FOLDS = 5
#: functions of `ct2vq.apply` whose time is told apart
PARTS = {
    "convert_ct": "read",
    "segment_case": "segment",
    "crop_case": "crop",
    "_predicted": "predict",
    "_write_image": "write",
    "_draw": "draw",
}


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, help="folder of real images (mirp_LUNG1-001_ct)")
    parser.add_argument("--study", type=Path, required=True, help="directory of a finished demo (results/train below)")
    parser.add_argument("--before", type=Path, help="a checkout of the release before")
    options = parser.parse_args()
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        series = _series(options.real / "mirp_LUNG1-001_ct" / "LUNG1-001_image.tar.xz", work)
        models = {"demo": options.study / "results" / "train" / "ddran", "default": _untrained(work / "ddran")}
        for name, model in models.items():
            if options.before and name == "demo":
                rows += _measured(f"{name}, before", options.before, series, model, work, None)
            for threads in (1, 2):
                rows += _measured(f"{name}, {threads} thread(s)", ROOT, series, model, work, threads)
        rows += _parts(series, models["default"], work / "parts")
    target = Path(__file__).parent
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), target / "apply.tsv")
    command = "python docs/benchmarks/run_apply.py REAL --study DEMO [--before CHECKOUT]"
    write_json(describe_machine("A new CT", __doc__ or "", command, os.cpu_count() or 1), target / "apply.json")


def _series(archive: Path, work: Path) -> Path:
    """The real CT with `SLICES` slices, as DICOM."""
    with tarfile.open(archive) as opened:
        opened.extractall(work / "raw", filter="data")
    slices = [pydicom.dcmread(path) for path in (work / "raw").rglob("*") if path.is_file()]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    volume = np.stack([one.pixel_array for one in slices]).astype(np.float32)
    known = np.array([float(one.ImagePositionPatient[2]) for one in slices])
    wanted, series = np.linspace(known[0], known[-1], SLICES), generate_uid(entropy_srcs=["apply"])
    folder = work / "dicom"
    folder.mkdir()
    for number, height in enumerate(wanted):
        below = min(int(np.searchsorted(known, height, side="right")) - 1, len(known) - 2)
        share = (height - known[below]) / (known[below + 1] - known[below])
        image = copy.deepcopy(slices[0])
        values = (1 - share) * volume[below] + share * volume[below + 1]
        image.PixelData = np.rint(values).astype(slices[0].pixel_array.dtype).tobytes()
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        image.SeriesInstanceUID, image.InstanceNumber = series, number + 1
        image.ImagePositionPatient = [*slices[0].ImagePositionPatient[:2], f"{height:.6f}"]
        image.SliceThickness = f"{wanted[1] - wanted[0]:.5f}"
        if "SliceLocation" in image:
            image.SliceLocation = f"{height:.6f}"
        image.save_as(folder / f"{number:03d}.dcm")
    return folder


def _untrained(folder: Path) -> Path:
    """A model of the default configuration with freshly drawn weights."""
    import torch
    from safetensors.torch import save_file

    from ct2vq.inputs import channels
    from ct2vq.networks.build import build_network

    config = complete_config({"study": "benchmark"})
    model = config["models"]["ddran"]
    header = {
        "kind": model["kind"],
        "targets": model["targets"],
        "network": model["network"],
        "in_channels": channels(model["network"]),
        **{block: config[block] for block in ("convert", "segment", "crop")},
        "simulated": True,
    }
    for fold in range(1, FOLDS + 1):
        torch.manual_seed(fold)
        network = build_network(model["kind"], model["targets"], model["network"], header["in_channels"])
        path = folder / f"fold{fold}" / "weights.safetensors"
        path.parent.mkdir(parents=True)
        save_file(network.state_dict(), path, metadata={"ct2vq": json.dumps(header, sort_keys=True)})
    return folder


def _measured(arm: str, root: Path, series: Path, model: Path, work: Path, threads: int | None) -> Iterator[list[Any]]:
    """One run of `ct2vq apply` in a process of its own."""
    output = work / arm.replace(" ", "_")
    command = [sys.executable, "-m", "ct2vq", "apply", str(series), str(output), "--model", str(model)]
    command += [] if threads is None else ["--threads", str(threads)]
    single = "1" if threads is None else str(threads)
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": single,
    }
    loads, start = [], time.monotonic()
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        loads.append(_running())
        time.sleep(0.5)
    wall = time.monotonic() - start
    if status:
        raise RuntimeError(f"{arm}: status {status}")
    processor = usage.ru_utime + usage.ru_stime
    for metric, value, unit in (
        ("wall_time", wall, "s"),
        ("processor_time", processor, "s"),
        ("peak_memory", usage.ru_maxrss / 1024, "MiB"),
        ("load", max(0.0, float(np.mean(loads)) - processor / wall), ""),
    ):
        yield [arm, f"LUNG1-001, {SLICES} slices", "", "", metric, round(value, 2), unit]


def _running() -> int:
    """Processes and threads of the machine that run or wait for a processor now, this one left out."""
    return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]) - 1


def _parts(series: Path, model: Path, output: Path) -> Iterator[list[Any]]:
    """Processor seconds of the parts of one run in this process."""
    import ct2vq.apply as stage

    seconds = dict.fromkeys(PARTS.values(), 0.0)

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += time.thread_time() - start

        return run

    with ExitStack() as stack:
        for name, part in PARTS.items():
            stack.enter_context(mock.patch.object(stage, name, timed(getattr(stage, name), part)))
        stage.apply_model(series, output, [model])
    for part, value in seconds.items():
        yield ["default, parts", f"LUNG1-001, {SLICES} slices", "", "", f"{part}_time", round(value, 2), "s"]


if __name__ == "__main__":
    main()

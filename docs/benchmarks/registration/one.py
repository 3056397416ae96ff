"""Register one case with one arm in a process of its own, so that its peak memory is its own; write its figures.

`python one.py ARM CASE_FOLDER RESULT.json`
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

for _name in ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[3])]

import SimpleITK as sitk  # noqa: E402

from ct2vq.config import complete_config  # noqa: E402
from ct2vq.files import write_json  # noqa: E402
from ct2vq.segment import segment_lungs  # noqa: E402
from ct2vq.volume import read_volume  # noqa: E402
from registration.arms import ARMS  # noqa: E402
from registration.cases import IMAGES, load_case  # noqa: E402
from registration.measures import evaluate  # noqa: E402


def main(arm: str, folder: Path, result: Path) -> None:
    """Measure and write."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    images = {name: read_volume(folder / f"{name}.nii.gz") for image in IMAGES for name in (image, f"{image}_lungs")}
    with tempfile.TemporaryDirectory(prefix="ct2vq_register_") as scratch:
        start, wall = time.process_time(), time.monotonic()
        forward, inverse = ARMS[arm](images, Path(scratch))
        figures = {"processor_time": time.process_time() - start, "wall_time": time.monotonic() - wall}
        figures["peak_memory_mib"] = _peak_mib()
        figures |= evaluate(forward, inverse, load_case(folder))
    if arm == "ct2vq":
        figures["segmentation_time"] = _segmentation_time(images)
    write_json(figures, result)


def _peak_mib() -> float:
    """Largest resident memory of this program in MiB.

    From /proc where there is one: on Linux `ru_maxrss` counts what the process was before it became this program, so
    that it starts at the memory of whoever started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _segmentation_time(images: dict[str, sitk.Image]) -> float:
    """Processor seconds of finding the lungs of both CTs, which a study needs anyway."""
    settings = complete_config({"study": "benchmark"})["segment"]
    start = time.process_time()
    for name in IMAGES:
        segment_lungs(images[name], settings)
    return time.process_time() - start


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))

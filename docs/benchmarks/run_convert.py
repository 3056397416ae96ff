"""DICOM to NIfTI beside dcm2niix and plain SimpleITK, each in a process of its own on one core, in turns.

`ct2vq` is the stage `convert`: reading, all checks, de-identification, compression and sidecar. `dcm2niix` compresses
with its own gzip (`-z y`); `simpleitk` is ImageSeriesReader or ReadImage and WriteImage to .nii.gz, without a check.
Seconds are processor time of the whole process, its start and imports included (the median of the rounds); `import`
is a ct2vq process that only imports what it needs. Memory is the largest resident size. `ct` is a given folder of one
CT series, `nm` a simulated 128 x 128 x 128 SPECT in one NM object.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from ct2vq.files import write_json, write_tsv  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
IMPORT = (
    "import sys; sys.path.insert(0, {root!r}); from pathlib import Path; from ct2vq.config import complete_config; "
)
CONVERT = IMPORT + (
    "from ct2vq.convert import convert_ct, convert_spect; s = complete_config({{'study': 'benchmark'}})['convert']; "
)
CODE = {
    "import": CONVERT,
    "ct2vq_ct": CONVERT + "convert_ct(Path({source!r}), Path({out!r}), Path({out!r} + '.json'), s, 'case')",
    "ct2vq_nm": CONVERT
    + "convert_spect(Path({source!r}), Path({out!r}), Path({out!r} + '.json'), s, 'case', 'perfusion')",
    "simpleitk_ct": "import SimpleITK as s; r = s.ImageSeriesReader(); "
    "r.SetFileNames(r.GetGDCMSeriesFileNames({source!r})); s.WriteImage(s.Cast(r.Execute(), s.sitkFloat32), {out!r})",
    "simpleitk_nm": "import SimpleITK as s, glob; "
    "s.WriteImage(s.ReadImage(glob.glob({source!r} + '/*')[0], s.sitkFloat32), {out!r})",
}


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, help="DICOM folder of one CT series")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sources = {"ct": options.ct, "nm": _write_nm(Path(folder) / "nm")}
        arms = [(arm, case) for case in sources for arm in ("ct2vq", "import", "dcm2niix", "simpleitk")]
        measured: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for _ in range(options.rounds):
            for arm, case in arms:
                measured.setdefault((arm, case), []).append(_measure(arm, case, sources[case], Path(folder)))
    for (arm, case), rounds in measured.items():
        seconds, mib, size = (statistics.median(values) for values in zip(*rounds, strict=True))
        rows.append([arm, case, "", "", "processor_time", round(seconds, 2), "s"])
        rows.append([arm, case, "", "", "peak_memory", round(mib), "MiB"])
        if size:
            rows.append([arm, case, "", "", "file_size", round(size, 1), "MB"])
    target = Path(__file__).parent
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), target / "convert.tsv")
    header = describe_machine("Conversion", __doc__ or "", "python docs/benchmarks/run_convert.py CT_FOLDER", 1)
    write_json(header | {"dcm2niix": _dcm2niix_version()}, target / "convert.json")


def _write_nm(folder: Path) -> Path:
    """A 128 x 128 x 128 SPECT of whole counts."""
    from ct2vq.simulate.dicom import HABITS, Acquisition, draw_identity, write_spect
    from ct2vq.volume import from_array, make_grid

    rng = np.random.default_rng(0)
    counts = rng.poisson(40, (128, 128, 128)).astype(np.uint16)
    grid = make_grid((128, 128, 128), (3.9, 3.9, 3.9), (-250.0, -250.0, -250.0))
    who = draw_identity(1, "case", "patient", ("F", 61, 165.0, 70.0), rng, rng)
    write_spect(from_array(counts, grid), folder, who, "perfusion", HABITS["camera_a"], Acquisition(100, 0, 20))
    return folder


def _measure(arm: str, case: str, source: Path, folder: Path) -> tuple[float, float, float]:
    """Processor seconds, peak MiB and MB written of one process."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if arm == "dcm2niix":
        command = ["dcm2niix", "-z", "y", "-b", "n", "-f", "v", "-o", str(out), str(source)]
    else:
        code = CODE[arm if arm == "import" else f"{arm}_{case}"]
        filled = code.format(root=str(ROOT), source=str(source), out=str(out / "v.nii.gz"))
        command = [sys.executable, "-c", filled]
    threads = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=os.environ | threads, preexec_fn=lambda: os.sched_setaffinity(0, {0})
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arm} {case} failed")
    size = sum(path.stat().st_size for path in out.glob("*.nii*"))
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, size / 1e6


def _dcm2niix_version() -> str:
    said = subprocess.run(["dcm2niix", "--version"], capture_output=True, text=True).stdout
    return said.strip().splitlines()[-1]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()

"""Measure how believable the simulated cohort is: `make realism` writes realism.tsv, realism.json and two figures.

Draws normals, emphysema, embolism and obstruction with the default settings but without contrast agent and with all
breath-holds in full inspiration, as the published CTs were, under a seed of its own; simulates some of them to the
end and reads the DICOM back; images a point and uniform lungs with the fast fidelity. Each figure is measured as the
publication measured it, as far as it says (ct2vq/simulate/realism.py). Published values, how their ranges were made and
how far each source was read: resources/published_lungs.md. `within` and `off` compare the cohort's mean with the
published range.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(_name, "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from machine import describe_machine  # noqa: E402

from ct2vq.config import complete_config  # noqa: E402
from ct2vq.files import replacing, write_json, write_tsv  # noqa: E402
from ct2vq.simulate import realism  # noqa: E402
from ct2vq.simulate.case import draw_case, simulate_case  # noqa: E402
from ct2vq.simulate.disease import DISEASES  # noqa: E402
from ct2vq.simulate.randomness import generator  # noqa: E402
from ct2vq.simulate.world import COHORT_VERSION  # noqa: E402

FOLDER = Path(__file__).resolve().parent
IMAGES = ROOT / "docs" / "images"
PUBLISHED = ROOT / "resources" / "published_lungs.tsv"
#: cases that are only drawn, cases that are simulated to the end, and how many of the drawn normals the camera images
DRAWN = {"normal": 60, "emphysema": 20, "embolism": 30, "obstruction": 30}
WRITTEN = {name: 10 if name in ("normal", "emphysema") else 1 for name in DISEASES}
CAMERA = 4
#: the comparison's figure is cut this many half ranges beyond the published range's middle
_LIMIT = 6.0
_COLOURS = {"within": "#2a7f3f", "off": "#c0392b", "not judged": "#777777"}


@dataclass(frozen=True)
class Job:
    """One case to measure: `kind` is `drawn`, `camera` or `written`."""

    kind: str
    case_id: str
    diagnosis: str
    seed: int
    config: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What a job gave: figures, and for one written case of each diagnosis its pictures by panel."""

    job: Job
    values: dict[realism.Key, float]
    drawn: realism.DrawnCase | None = None
    panels: dict[str, np.ndarray] | None = None


def main() -> None:
    """Measure and write table, header and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seed", type=int, default=7031, help="seed of the cohort; not that of any other")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        jobs = _jobs(options.seed)
        done = list(_told(pool.map(_measure, jobs), len(jobs)))
    published = realism.published_lungs(PUBLISHED)
    summary = realism.summarise([(one.job.diagnosis, one.values) for one in done] + _over_patients(done), published)
    write_tsv(summary, FOLDER / "realism.tsv")
    command = f"python docs/benchmarks/run_realism.py --jobs {options.jobs} --seed {options.seed}"
    header = describe_machine("The simulated cohort beside published lungs", __doc__ or "", command, options.jobs)
    write_json(header | {"cohort_version": COHORT_VERSION}, FOLDER / "realism.json")
    draw_comparison(realism.compare(summary, published), IMAGES / "realism.png")
    draw_sheet({one.job.diagnosis: one.panels for one in done if one.panels}, IMAGES / "realism_cases.png")


def _told(results: Iterable[Done], total: int) -> Iterator[Done]:
    """The results as they come, each told on stderr."""
    for number, one in enumerate(results, start=1):
        print(f"{number}/{total} {one.job.kind} {one.job.case_id}", file=sys.stderr)
        yield one


def _jobs(seed: int) -> list[Job]:
    """All jobs, the long ones first."""
    config = complete_config({"study": "realism"})
    config["simulate"]["ct"]["contrast"] = 0.0
    config["simulate"]["motion"]["full_inspiration"] = 1.0
    counts = [("written", WRITTEN), ("camera", {"normal": CAMERA}), ("drawn", DRAWN)]
    return [
        Job(kind, f"{diagnosis}-{k + 1}", diagnosis, seed, config)
        for kind, table in counts
        for diagnosis, number in table.items()
        for k in range(number)
    ]


def _measure(job: Job) -> Done:
    """Do one job."""
    if job.kind == "written":
        return _measure_written(job)
    case = draw_case(job.case_id, job.case_id, job.diagnosis, job.seed, job.config["simulate"])
    if job.kind == "camera":
        return Done(job, realism.measure_camera(case, generator(job.seed, job.case_id, "camera")))
    drawn = realism.measure_drawn(case)
    return Done(job, drawn.values, drawn=drawn)


def _measure_written(job: Job) -> Done:
    """Simulate a case to the end, read it back and measure it."""
    with tempfile.TemporaryDirectory() as name:
        case, scratch = Path(name) / "case", Path(name) / "converted"
        scratch.mkdir()
        simulate_case(job.case_id, job.case_id, job.diagnosis, job.seed, job.config["simulate"], case)
        written = realism.read_written(case, job.config["convert"], scratch)
    panels = _panels(written) if job.case_id.endswith("-1") else None
    return Done(job, realism.measure_written(written), panels=panels)


def _over_patients(done: list[Done]) -> list[tuple[str, dict[realism.Key, float]]]:
    """Figures of all patients with emphysema together."""
    cases = [one.drawn for one in done if one.drawn and one.job.diagnosis == "emphysema"]
    return [("emphysema", realism.lobar_density_figures(cases))]


# --- figures -------------------------------------------------------------------------------------------------------


def draw_comparison(table: pd.DataFrame, path: Path) -> None:
    """Published ranges (grey, all drawn equally wide) and the simulated cohort: mean, and 5th to 95th percentile."""
    rows = table[table["low"].notna() & table["high"].notna() & table["mean"].notna() & (table["low"] < table["high"])]
    half = (len(rows) + 1) // 2
    figure, axes = plt.subplots(1, 2, figsize=(19, 0.27 * half + 1.6), sharex=True)
    for axis, part in zip(axes, (rows.iloc[:half], rows.iloc[half:]), strict=True):
        _draw_rows(axis, part)
        axis.set_ylim(half - 0.4, -0.6)
    figure.suptitle(
        "Simulated cohort beside published lungs. Grey: published range, each scaled to the same width. Dot: cohort's "
        "mean; line: 5th to 95th percentile of cases.\nGreen: mean within the range; red: off; grey: not judged. "
        "Right of each line: mean [published range]. Triangles: beyond the figure.",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80)
    plt.close(figure)


def _draw_rows(axis: plt.Axes, rows: pd.DataFrame) -> None:
    """One line for each row of the comparison, scaled so that the published range runs from -1 to 1."""
    axis.axvspan(-1, 1, color="#d9d9d9", zorder=0)
    for y, (_, row) in enumerate(rows.iterrows()):
        middle, half = (row["low"] + row["high"]) / 2, (row["high"] - row["low"]) / 2
        low, mean, high = (np.clip((row[name] - middle) / half, -_LIMIT, _LIMIT) for name in ("p05", "mean", "p95"))
        colour = _COLOURS[row["verdict"].split(":")[0]]
        axis.plot([low, high], [y, y], color=colour, lw=1.6)
        marker = "o" if abs(mean) < _LIMIT else (">" if mean > 0 else "<")
        axis.plot(mean, y, marker, color=colour, ms=6)
        mean, low, high = (f"{row[name]:.4g}" for name in ("mean", "low", "high"))
        numbers = f"{mean}  [{low}, {high}] {row['unit']}"
        axis.text(_LIMIT + 0.3, y, numbers, va="center", fontsize=7.5)
    names = [
        " · ".join(filter(None, (q, t, g, s))) for q, t, g, s in rows[["quantity", "target", "group", "seen"]].values
    ]
    axis.set_yticks(range(len(rows)), names, fontsize=7.5)
    axis.set_xlim(-_LIMIT - 0.2, _LIMIT + 0.2)
    axis.set_xticks([-1, 1], ["low", "high"], fontsize=8)
    axis.set_xlabel("published range", fontsize=8)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _panels(written: realism.Written) -> dict[str, np.ndarray]:
    """Coronal and axial slices through the middle of the lungs: CT in HU, SPECT in units of the lungs' mean."""
    z, y, _x = (np.flatnonzero((written.lungs > 0).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    level, plane = z[int(0.45 * len(z))], y[int(0.55 * len(y))]
    volumes = {"CT": written.hu, "Q": written.images["perfusion"], "V": written.images["ventilation"]}
    panels = {f"{name}, coronal": volume[::-1, plane] for name, volume in volumes.items()}
    return panels | {f"{name}, axial": volume[level] for name, volume in volumes.items()}


def draw_sheet(cases: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """One case of each diagnosis in a row: CT (-1000 to 200 HU), Q and V SPECT (0 to 2.5 times the lungs' mean)."""
    config = complete_config({"study": "realism"})["simulate"]["ct"]
    tall = config["slice_mm"] / config["pixel_mm"]
    names = list(next(iter(cases.values())))
    figure, axes = plt.subplots(len(cases), len(names), figsize=(2.5 * len(names), 2.3 * len(cases)))
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=11)
    for line, (diagnosis, panels) in zip(axes, cases.items(), strict=True):
        for axis, name in zip(line, names, strict=True):
            look = {"cmap": "gray", "vmin": -1000, "vmax": 200} if name.startswith("CT") else {"cmap": "hot", "vmin": 0}
            look |= {} if name.startswith("CT") else {"vmax": 2.5}
            axis.imshow(panels[name], aspect=tall if "coronal" in name else 1, **look)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(diagnosis, fontsize=11)
    figure.suptitle(
        "One simulated case of each diagnosis. CT -1000 to 200 HU; perfusion (Q) and ventilation (V) SPECT 0 to 2.5 "
        "times the lungs' mean, black to white.\nSPECT is shown on the CT's grid through the true displacement.",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=60)
    plt.close(figure)


if __name__ == "__main__":
    main()

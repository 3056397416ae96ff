"""Right and wrong patients registered: `make bench-wrong-patients` writes wrong_patients.tsv and wrong_patients.json.

Does a registration show that CT and attenuation CT (or SPECT) are not of one patient? A *pair* is the CT of one patient
(`case`) and the camera's images of the same or of another one (`reference`). Worlds: `demo` and `study`, simulated
patients of config/demo.yaml and config/simulated-study.yaml (every CT in full inspiration and some in shallow breath);
`tiny`, those of config/tiny.yaml, whose attenuation CTs have voxels of 6 x 6 x 8 mm; `real`, three real CTs, each with
attenuation CTs made of it: carried through a known deformation of up to 18 mm, in voxels of 4 to 5 mm with slices of 5
to 10 mm, with 30 or 60 HU of noise. Wrong pairs: a CT with the attenuation CT of the next patient (in the study shallow
and full inspiration take turns), or, in the demo, with the SPECT images of the next and of the third next; a real CT
with the other patients' attenuation CTs of 30 HU and the thinner slices. Arms: `attenuation CT` and the registration's
voxel (6 mm as in config/demo.yaml, 4 mm the defaults, 8 mm config/tiny.yaml); `SPECT, rigid`, without an attenuation
CT; `SPECT, as scanned`, a SPECT against the lungs of an attenuation CT as the headers place both. `lung_detail_after`
and the other figures are those of qc.json; `refused` and `flagged` are 1 beyond any limit of `register.refuse` and
`register.flags`. Each pair is a process of its own on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# before any library is imported: sums must not depend on the number of cores
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ[_name] = "1"

ROOT, HERE = Path(__file__).resolve().parents[2], Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(HERE)]
# for the process that others are made from
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE)])

import pandas as pd  # noqa: E402
import yaml  # noqa: E402
from machine import describe_machine  # noqa: E402
from patients import summary  # noqa: E402
from patients.measure import AS_SCANNED, CTS, SPECT, Meeting, figures_of  # noqa: E402
from patients.scans import (  # noqa: E402
    CAMERA_MM,
    DEMO,
    REAL,
    STUDY,
    TINY,
    Scan,
    finished_cases,
    full_inspiration,
    make_real_patient,
    make_study_case,
    real_scans,
    study_scan,
)

from ct2vq.config import complete_config  # noqa: E402
from ct2vq.digests import code_digest  # noqa: E402
from ct2vq.errors import Ct2vqError  # noqa: E402
from ct2vq.files import read_json, sha256_file, sha256_text, write_json, write_tsv  # noqa: E402

NAME = "wrong_patients"
COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
UNITS = {"mutual_information_after": "nat"}
FINE, DEFAULT, COARSE = (f"{CTS}, {mm} mm" for mm in (6, 4, 8))
CONFIGS = {FINE: "demo", DEFAULT: None, COARSE: "tiny", SPECT: "demo", AS_SCANNED: "demo"}
#: whose SPECT each CT of the demo meets, by the distance in the list
STEPS = (1, 3)
SHALLOW = 10


def main() -> None:
    """Measure what is not yet measured, write both files and print what they say."""
    options = _options()
    try:
        planned = _plan(options)
        results = _measured(planned, options)
    except Ct2vqError as error:
        sys.exit(f"ct2vq: {error}")
    if not results:
        sys.exit("ct2vq: no pair is measured yet")
    rows = [row for place, figures in results.items() for row in _rows(planned[place], figures)]
    done = {"done": len(results), "planned": len(planned)}
    table, header = pd.DataFrame(rows, columns=COLUMNS), _header(planned, options) | done
    write_tsv(table, options.output / f"{NAME}.tsv")
    write_json(header, options.output / f"{NAME}.json")
    print(summary.of_cts(table, header).to_string(index=False))
    print(summary.sentence(summary.separation(table, header), header["limits"]["refused"]))
    print(summary.of_spects(table).to_string(index=False))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="directory of a finished demo")
    parser.add_argument("--study", type=Path, help="directory where config/simulated-study.yaml was simulated")
    parser.add_argument("--tiny", type=Path, help="directory of a run of config/tiny.yaml, segmented")
    parser.add_argument("--real", type=Path, help="folder of real images (mirp_LUNG1-001_ct, cip_chest_ct64)")
    parser.add_argument("--shallow", type=int, default=SHALLOW, help="patients of the study in shallow breath")
    parser.add_argument("--full", type=int, help="patients of the study in full inspiration (default: all)")
    parser.add_argument("--wrong", type=int, help="CTs of the study that meet the next patient's camera (default: all)")
    parser.add_argument("--arms", nargs="+", choices=list(CONFIGS), default=list(CONFIGS), help="only these arms")
    parser.add_argument("--jobs", type=int, default=1, help="pairs side by side")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="begin no pair after so many minutes")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "bench-wrong-patients", help="images and finished figures"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the table")
    return parser.parse_args()


# --- who meets whom -------------------------------------------------------------------------------------------------


def _plan(options: argparse.Namespace) -> list[Meeting]:
    """All pairs, the most telling ones first; images that they need and that are not there are made.

    Raises:
        Ct2vqError: there is nothing to measure.
    """
    demo = finished_cases(DEMO, options.demo, spect=True) if options.demo else []
    tiny = finished_cases(TINY, options.tiny, spect=False) if options.tiny else []
    study = _study_scans(options) if options.study else []
    parts = [
        _meet(FINE, demo, (1,)),
        _meet(FINE, study),
        _meet_real(_real_scans(options) if options.real else {}),
        _meet(FINE, study[: options.wrong], (1,), right=False),
        _meet(SPECT, demo, STEPS),
        _meet(AS_SCANNED, demo, range(1, len(demo))),
        _meet(COARSE, tiny, (1,)),
        _meet(DEFAULT, demo, (1,)),
    ]
    meetings = [meeting for meeting in chain.from_iterable(parts) if meeting.arm in options.arms]
    if not meetings:
        raise Ct2vqError("nothing to measure", hint="give --demo, --study, --tiny or --real")
    return meetings


def _meet(arm: str, scans: Sequence[Scan], steps: Sequence[int] = (), *, right: bool = True) -> Iterator[Meeting]:
    """Each CT with its own camera (unless `right` is false), then with those of the patients so many steps after it."""
    settings, seed = _settings(arm)
    for step in (*([0] if right else []), *steps):
        for place, scan in enumerate(scans):
            camera = scans[(place + step) % len(scans)]
            if step == 0 or camera is not scan:
                yield Meeting(arm, scan, camera, settings, seed)


def _meet_real(patients: Mapping[str, Sequence[Scan]]) -> Iterator[Meeting]:
    """Each real CT with its own cameras, then with the first camera of every other patient."""
    settings, seed = _settings(FINE)
    for scans in patients.values():
        yield from (Meeting(FINE, _alone(scan), scan, settings, seed) for scan in scans)
    for patient, scans in patients.items():
        others = (found[0] for other, found in patients.items() if other != patient)
        yield from (Meeting(FINE, _alone(scans[0]), camera, settings, seed) for camera in others)


def _alone(scan: Scan) -> Scan:
    """The CT without a word of its camera."""
    return Scan(scan.patient, scan.files)


def _settings(arm: str) -> tuple[dict[str, Any], int]:
    """The configuration's block `register` and seed."""
    name = CONFIGS[arm]
    path = ROOT / "config" / f"{name}.yaml"
    given = {"study": "benchmark"} if name is None else yaml.safe_load(path.read_text(encoding="utf-8"))
    config = complete_config(given)
    return config["register"], config["seed"]


def _study_scans(options: argparse.Namespace) -> list[Scan]:
    """Patients in full inspiration and in shallow breath by turns, their images made."""
    full = full_inspiration(options.study)
    deep, shallow = ([case for case, found in full.items() if found is kind] for kind in (True, False))
    turns = chain.from_iterable(zip_longest(deep[: options.full], shallow[: options.shallow]))
    cases = [case for case in turns if case is not None]
    config = complete_config(yaml.safe_load((ROOT / "config" / "simulated-study.yaml").read_text(encoding="utf-8")))
    folder = _images(options) / STUDY
    _in_processes(make_study_case, [(options.study, case, config, folder / case) for case in cases], options.jobs)
    return [study_scan(case, folder / case) for case in cases]


def _real_scans(options: argparse.Namespace) -> dict[str, list[Scan]]:
    """The real patients' scans, their images made."""
    settings = complete_config({"study": "benchmark"})["segment"]
    folder = _images(options) / REAL
    tasks = [(options.real, patient, settings, folder / patient) for patient in CAMERA_MM]
    _in_processes(make_real_patient, tasks, options.jobs)
    return {patient: real_scans(patient, folder / patient) for patient in CAMERA_MM}


def _images(options: argparse.Namespace) -> Path:
    """The folder of made images; its name changes with the code that makes them."""
    code = [code_digest(f"docs/benchmarks/{name}.py") for name in ("registration/cases", "patients/scans")]
    return options.work / "images" / sha256_text(" ".join(code))[:16]


# --- measuring ------------------------------------------------------------------------------------------------------


def _measured(meetings: Sequence[Meeting], options: argparse.Namespace) -> dict[int, dict[str, Any]]:
    """The figures of the pairs by their place in the plan; those that lie there are not measured again."""
    digests = {path: sha256_file(path) for path in {file for meeting in meetings for file in meeting.inputs.values()}}
    paths = [options.work / "figures" / f"{_key(meeting, digests)}.json" for meeting in meetings]
    end = time.time() + 60 * options.stop_after
    missing = [(meeting, path, end) for meeting, path in zip(meetings, paths, strict=True) if not path.is_file()]
    print(f"{len(missing)} of {len(meetings)} pairs are to be measured", flush=True)
    _in_processes(_measure, missing, options.jobs)
    return {place: read_json(path) for place, path in enumerate(paths) if path.is_file()}


def _key(meeting: Meeting, digests: Mapping[Path, str]) -> str:
    """What the figures of a pair depend on: images, settings, code."""
    code = code_digest("docs/benchmarks/patients/measure.py")
    images = {name: digests[path] for name, path in meeting.inputs.items()}
    case = [meeting.arm, meeting.ct.patient, meeting.settings, meeting.seed]
    return sha256_text(json.dumps([code, images, case], sort_keys=True))[:24]


def _measure(meeting: Meeting, path: Path, end: float) -> None:
    """Measure a pair and keep its figures, unless the time is over."""
    if time.time() > end:
        return
    figures = figures_of(meeting)
    write_json(figures, path)
    values = "  ".join(f"{name} {value:.3f}" for part in figures.values() for name, value in part.items())
    print(f"{meeting.arm}: {meeting.ct.name} and {meeting.camera.name}: {values}", flush=True)


def _in_processes(what: Callable[..., None], tasks: Sequence[tuple[Any, ...]], jobs: int) -> None:
    """Call a function for each tuple of arguments, each in a process of its own: ANTs takes its seed only once."""
    if tasks:
        context = get_context("forkserver")
        context.set_forkserver_preload(["run_wrong_patients", "ants"])
        with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
            list(pool.map(what, *zip(*tasks, strict=True)))


# --- the table ------------------------------------------------------------------------------------------------------


def _rows(meeting: Meeting, figures: Mapping[str, Mapping[str, float]]) -> Iterator[list[Any]]:
    """Rows of the table from the figures of a pair."""
    for target, values in figures.items():
        for metric, value in values.items():
            unit = UNITS.get(metric, "1")
            where = [meeting.arm, meeting.ct.name if meeting.arm == AS_SCANNED else meeting.ct.patient]
            yield [*where, target, meeting.camera.name, metric, float(f"{value:.4g}"), unit]


def _header(meetings: Sequence[Meeting], options: argparse.Namespace) -> dict[str, Any]:
    """Machine and versions, who has a CT in full inspiration, and the limits of lung detail."""
    given = [name for name in (DEMO, STUDY, TINY, REAL) if getattr(options, name)]
    command = "python docs/benchmarks/run_wrong_patients.py" + "".join(f" --{name} DIR" for name in given)
    for name, default in (("shallow", SHALLOW), ("full", None), ("wrong", None)):
        value = getattr(options, name)
        command += f" --{name} {value}" if options.study and value != default else ""
    command += "" if options.arms == list(CONFIGS) else " --arms " + " ".join(map(json.dumps, options.arms))
    header = describe_machine("Right and wrong patients", __doc__ or "", command, options.jobs)
    deep = {name for world in (DEMO, STUDY) if getattr(options, world) for name in _deep(world, options)}
    limits = _settings(FINE)[0]
    return header | {
        "full_inspiration": sorted(deep & {meeting.ct.patient for meeting in meetings}),
        "fine": FINE,
        "limits": {
            "refused": limits["refuse"]["lung_detail_after_below"],
            "flagged": limits["flags"]["lung_detail_after_below"],
        },
    }


def _deep(world: str, options: argparse.Namespace) -> Iterator[str]:
    """The patients of a world whose CT was taken in full inspiration."""
    found = full_inspiration(getattr(options, world))
    return (f"{world}/{case}" for case, full in found.items() if full)


if __name__ == "__main__":
    main()

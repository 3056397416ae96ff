"""Measure the registration beside other programs: `make bench-register` writes register.tsv and register.json.

How far does a registration carry points of the CT's lungs from where they truly lie? The *target registration error*
(TRE) is that distance in mm: its mean over all lung, its 95th percentile, and the same within 20 mm above the
diaphragm. It needs a known truth. *Real CT*: LUNG1-001 at 3 mm (166 x 166 x 134) and the same CT under a drawn smooth
deformation of up to 18 mm, with 35 HU of noise. *Simulated patients*: CT in breath-hold and the camera's attenuation
CT, in two strata: `shallow`, and `full inspiration` (diaphragm 20 to 60 mm lower). Two truths are told apart: the
attenuation CT's own moment of breathing is what a registration of two CTs can find; the SPECT's mean state, up to 5 mm
elsewhere at the diaphragm, is what counts in the end, and no CT shows it. Every arm registers one case in a process of
its own on one thread. The other programs get both whole CTs at 3 mm without masks and do what their documentation does
by default: ANTs `Affine`, `SyN` and `antsRegistrationSyNQuick[s]`; elastix's default maps `affine` and `bspline`;
greedy's quick start (affine, then deformable), with its metrics NCC and WNCC. `ct2vq` gets the CTs with the lungs that
its stage `segment` finds, because a study has them anyway; those seconds are given below the tables. `none` is the
images as scanned: its memory is that of reading them. Seconds are processor time. Lung Dice compares the true lungs of
both sides. Folding is the share of lung with a Jacobian of 0 or less. A defect is a connected piece of lung of at least
20 mL with less than 0.35 of the mean perfusion; `defect_label` is the volume of its true label carried to the CT by the
registration over that by the truth, `defect_image` the same of what lies below a threshold round the defect in the
noise-free image at the SPECT's resolution. The simulated cases are the last of each stratum in the order of the study;
settings were chosen on the first.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import yaml  # noqa: E402
from machine import describe_machine  # noqa: E402
from registration.arms import ARMS  # noqa: E402
from registration.cases import load_case, real_case, simulated_case  # noqa: E402
from registration.summary import OURS, aims, compared_cases, defects, side_by_side  # noqa: E402

from ct2vq.config import complete_config  # noqa: E402
from ct2vq.digests import code_digest  # noqa: E402
from ct2vq.errors import Ct2vqError  # noqa: E402
from ct2vq.files import read_json, sha256_file, sha256_text, write_json, write_tsv  # noqa: E402

HERE = Path(__file__).parent
COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
REAL = "LUNG1-001"
#: simulated cases of each stratum that all arms register, and that `ct2vq` registers
COMPARED, MEASURED = 2, 10
#: what each program needs; an arm without it is left out, with a word
PACKAGES = {"elastix": "itk-elastix", "greedy": "picsl-greedy", "ANTs": "antspyx"}
UNITS = {"processor_time": "s", "wall_time": "s", "segmentation_time": "s", "peak_memory": "MiB", "folding": "%"}
#: names of figures in the table, where they differ
NAMES = {"peak_memory_mib": "peak_memory", "folding_percent": "folding"}
SLOWEST_S = 1800


def main() -> None:
    """Measure what is not yet measured, write both files and print what they say."""
    options = _options()
    config = complete_config(yaml.safe_load(options.config.read_text(encoding="utf-8")), str(options.config))
    try:
        plan = _plan(options)
        for case_id in plan:
            _make_case(case_id, options, config)
        results = {(arm, case): _measured(arm, case, options.work) for case, names in plan.items() for arm in names}
    except Ct2vqError as error:
        sys.exit(f"ct2vq: {error}")
    table = pd.DataFrame([row for key, figures in results.items() for row in _rows(*key, figures)], columns=COLUMNS)
    header = _header(plan, options)
    write_tsv(table, options.output / "register.tsv")
    write_json(header, options.output / "register.json")
    print(_report(table, header))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "bench-register", help="cases and finished figures"
    )
    parser.add_argument("--study", type=Path, help="directory where config/simulated-study.yaml was simulated")
    parser.add_argument("--shared", type=Path, help="folder of real images, with mirp_LUNG1-001_ct")
    parser.add_argument(
        "--config", type=Path, default=ROOT / "config" / "simulated-study.yaml", help="the study's configuration"
    )
    parser.add_argument("--cases", nargs="+", help="only these cases, all by all arms")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), help="only these arms")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the table")
    return parser.parse_args()


def _plan(options: argparse.Namespace) -> dict[str, list[str]]:
    """The arms of each case.

    Raises:
        Ct2vqError: there is nothing to measure.
    """
    names = _installed(options.arms)
    if options.cases:
        return {case: names for case in options.cases}
    ours = [name for name in names if name in ("none", OURS)]
    plan = {REAL: names} if options.shared else {}
    for cases in _by_stratum(options.study).values() if options.study else ():
        chosen = cases[-MEASURED:]
        plan |= {case: names if case in chosen[-COMPARED:] else ours for case in chosen}
    if not plan:
        raise Ct2vqError("nothing to measure", hint="give --shared for the real CT, --study for simulated patients")
    return plan


def _installed(names: Sequence[str]) -> list[str]:
    """The arms whose program is here."""
    here = {found.name.lower().replace("_", "-") for found in importlib.metadata.distributions()}
    for name in names:
        if _package(name) not in (None, *here):
            print(f"left out: {name}, {_package(name)} is not installed (requirements-bench.txt)")
    return [name for name in names if _package(name) in (None, *here)]


def _package(arm: str) -> str | None:
    """The distribution that an arm is a program of; None for this project."""
    return PACKAGES.get(arm.split()[0])


def _by_stratum(study: Path) -> dict[str, list[str]]:
    """The study's finished cases in their order, by stratum of motion.

    Raises:
        Ct2vqError: there are none.
    """
    root = study / "results" / "simulate"
    strata: dict[str, list[str]] = {"shallow": [], "full inspiration": []}
    for manifest in sorted(root.glob("*/manifest.json")):
        moved = read_json(manifest.parent / "truth" / "truth.json")["motion"]
        strata["full inspiration" if moved["full_inspiration"] else "shallow"].append(manifest.parent.name)
    if not any(strata.values()):
        raise Ct2vqError(
            "no finished simulated case",
            path=root,
            hint="`snakemake --cores all --configfile config/simulated-study.yaml --until simulate` makes them",
        )
    return strata


def _case_folder(case_id: str, work: Path) -> Path:
    """A case's folder; its name changes with the code that makes cases."""
    return work / "cases" / code_digest("docs/benchmarks/registration/cases.py") / case_id


def _make_case(case_id: str, options: argparse.Namespace, config: Mapping[str, Any]) -> None:
    """Make a case unless it lies there."""
    folder = _case_folder(case_id, options.work)
    if (folder / "case.json").is_file():
        return
    needed = options.shared if case_id == REAL else options.study
    if needed is None:
        option = "--shared" if case_id == REAL else "--study"
        raise Ct2vqError(f"case {case_id} has to be made", hint=f"say with {option} what it is made from")
    print(f"making {case_id}", flush=True)
    made = real_case(needed, config["segment"]) if case_id == REAL else simulated_case(needed, case_id, config)
    made.save(folder)


def _measured(arm: str, case_id: str, work: Path) -> dict[str, Any]:
    """The figures of an arm on a case, measured in a process of its own unless they lie there.

    Raises:
        Ct2vqError: the arm fails.
    """
    folder = _case_folder(case_id, work)
    result = work / "figures" / f"{_arm_digest(arm, folder)}.json"
    if result.is_file():
        return read_json(result)
    print(f"{case_id}: {arm}", flush=True)
    result.parent.mkdir(parents=True, exist_ok=True)
    return _in_a_process(arm, folder, result)


def _in_a_process(arm: str, folder: Path, result: Path) -> dict[str, Any]:
    """Run `registration/one.py`; the figures that it wrote.

    Raises:
        Ct2vqError: it fails, with the end of what it said.
    """
    command = [sys.executable, str(HERE / "registration" / "one.py"), arm, str(folder), str(result)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SLOWEST_S, check=False)
    if done.returncode:
        raise Ct2vqError(f"{arm} failed on {folder.name}: {' '.join(done.stderr.split())[-1500:]}")
    return read_json(result)


def _arm_digest(arm: str, case: Path) -> str:
    """What the figures of an arm on a case depend on: the case, the arm's program and settings, the measuring code."""
    code = {path.name: sha256_file(path) for path in sorted((HERE / "registration").glob("*.py"))}
    code.pop("summary.py")
    package = _package(arm)
    program: Any = importlib.metadata.version(package) if package else arm
    if arm == OURS:
        program = [code_digest("ct2vq/register/through_ct.py"), complete_config({"study": "benchmark"})["register"]]
    content = {path.name: sha256_file(path) for path in sorted(case.iterdir())}
    return sha256_text(json.dumps([arm, program, code, content], sort_keys=True))[:24]


def _rows(arm: str, case: str, figures: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Rows of the table from one case's figures."""
    for name, value in figures.items():
        if not name.startswith("truth_"):
            metric = NAMES.get(name, name)
            unit = UNITS.get(metric, "mm" if metric.startswith("inverse") else "1")
            yield [arm, case, "", "", metric, _rounded(value), unit]
            continue
        reference = name.removeprefix("truth_")
        for metric, number in value.items():
            if metric != "defects":
                yield [arm, case, "", reference, metric, _rounded(number), "mm"]
        for index, defect in enumerate(value["defects"], start=1):
            yield [arm, case, f"defect {index}", reference, "defect_volume", _rounded(defect["true_ml"]), "mL"]
            for kind in ("label", "image"):
                if f"{kind}_ratio" in defect:
                    ratio = _rounded(defect[f"{kind}_ratio"])
                    yield [arm, case, f"defect {index}", reference, f"defect_{kind}", ratio, "1"]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _header(plan: Mapping[str, Sequence[str]], options: argparse.Namespace) -> dict[str, Any]:
    """Machine and versions, and what is known of the cases."""
    command = "python docs/benchmarks/run_register.py"
    command += " --shared DIR" if REAL in plan else ""
    command += " --study DIR" if any(case != REAL for case in plan) else ""
    header = describe_machine("Registration beside other programs", __doc__ or "", command, 1)
    packages = {_package(arm) for names in plan.values() for arm in names} - {None}
    header["versions"] |= {name: importlib.metadata.version(name) for name in sorted(packages)}
    cases = {case: load_case(_case_folder(case, options.work)) for case in plan}
    diagonals = {case: _diagonal(known.images["attenuation_ct"]) for case, known in cases.items()}
    return header | {
        "strata": {case: known.stratum for case, known in cases.items()},
        "voxel_diagonal_mm": diagonals,
    }


def _diagonal(image: sitk.Image) -> float:
    return _rounded(float(np.linalg.norm(image.GetSpacing())))


def _report(table: pd.DataFrame, header: Mapping[str, Any]) -> str:
    """What the table says, as text."""
    lines = []
    for stratum in dict.fromkeys(header["strata"].values()):
        compared = compared_cases(table, header, stratum)
        lines += [f"\n{stratum}: {', '.join(compared)}"]
        lines += [side_by_side(table, compared, "attenuation_ct").round(3).to_string()]
    for part in (aims(table, header), defects(table, header)):
        lines += ["", part.round(3).to_string(index=False)] if not part.empty else []
    return "\n".join(lines)


if __name__ == "__main__":
    main()

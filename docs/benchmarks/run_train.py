"""Train DDRAN, two RANs and peers for the same minutes: `make bench-train` writes train.tsv and train.json.

Every *system* makes both images: one network with two targets, or two networks with one each, which share the system's
minutes. Each system, fold and seed gets the same processor minutes: the seconds that a case costs are measured for all
in turn in one process, and the epochs follow from them, so that a training does not depend on what else the machine
does and can be interrupted. The SPECT is carried to the CT by the true displacement, and the lungs are the true ones:
what is compared is networks, without errors of registration and segmentation. Scores are those of the network's grid,
in the lungs, of each fold's test patients, with the seeds of a patient averaged. `spect` is the simulated SPECT,
`truth` the noise-free function at its resolution. *Visible ceiling*: the truth's mean over what no CT shows, scored
against the same SPECT. *Way to the ceiling*: share of the distance from the mean map to it. Means are over the patients
that every system has scored. The settings of train.tsv were chosen on other patients, with four tries for each system
(train_tuning.tsv); other forms of DDRAN were tried before (train_forms.tsv).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# one thread a process: sums do not depend on the number of cores
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ[_name] = "1"

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402
import yaml  # noqa: E402
from machine import describe_machine  # noqa: E402
from training import kept  # noqa: E402
from training.study import Study, System, prepare, systems  # noqa: E402
from training.summary import COLUMNS, read_scores, rows_of  # noqa: E402
from training.trial import COLUMNS as SCORES  # noqa: E402
from training.trial import Trial, ceiling_rows, run_trial  # noqa: E402

from ct2vq.config import complete_config, is_network  # noqa: E402
from ct2vq.digests import code_digest  # noqa: E402
from ct2vq.errors import Ct2vqError  # noqa: E402
from ct2vq.files import read_json, sha256_text, write_json, write_tsv  # noqa: E402
from ct2vq.simulate.world import COHORT_VERSION  # noqa: E402

OURS = "ddran"


def main() -> None:
    """Do the trials that are not done, write both files and print what they say so far."""
    options = _options()
    config = complete_config(yaml.safe_load(options.config.read_text(encoding="utf-8")), str(options.config))
    try:
        state = options.state or options.study / options.config.stem
        study = Study.read(options.study, state, config)
        if options.trial:
            model, seed, fold = options.trial
            trial = Trial(model, int(seed), int(fold))
            run_trial(trial, study, read_json(state / "plan.json")["epochs"].get(model))
            return
        competing = list(systems(config))
        prepare(study, options.jobs)
        _take_over(study, options)
        _plan(competing, study, options.minutes)
        _ceilings(study)
        trials = list(_trials(competing, study, options.seeds, options.folds))
        done = _run(trials, state, options)
        _write(competing, study, state, f"{done} of {len(trials)} trainings", options)
    except Ct2vqError as error:
        sys.exit(f"ct2vq: {error}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--study", type=Path, required=True, help="directory where the configuration's cases were simulated"
    )
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "bench-train.yaml", help="its configuration")
    parser.add_argument("--state", type=Path, help="folder of the trials (default: in the study's directory)")
    parser.add_argument("--minutes", type=float, default=3.0, help="processor minutes of a system, fold and seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of trainings")
    parser.add_argument("--folds", type=int, nargs="+", help="only these folds")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument(
        "--stop-after", type=float, default=float("inf"), help="begin no training after so many minutes"
    )
    parser.add_argument("--name", default="train", help="name of the table")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the table")
    parser.add_argument("--trial", nargs=3, metavar=("MODEL", "SEED", "FOLD"), help="only this one, then stop")
    return parser.parse_args()


def _take_over(study: Study, options: argparse.Namespace) -> None:
    """Go on from the trials that lie beside the table, made on another machine, if they are of the same plan."""
    header = options.output / f"{options.name}.json"
    if header.is_file():
        key = _key(study, options.minutes)
        found = kept.restore(study.state, _trials_file(options), read_json(header), key)
        print(f"{found} trials taken over from {options.output}", flush=True)


def _trials_file(options: argparse.Namespace) -> Path:
    return options.output / f"{options.name}_trials.tsv.xz"


def _key(study: Study, minutes: float) -> str:
    """Of all that decides a trial: settings, cases, minutes and code."""
    names = ("models", "train", "synthesize", "crop", "split", "seed", "simulate")
    settings = {name: study.config[name] for name in names}
    text = json.dumps([settings, COHORT_VERSION, minutes, code_digest("scripts/train.py")], sort_keys=True)
    return sha256_text(text)[:16]


def _plan(competing: Sequence[System], study: Study, minutes: float) -> None:
    """Measure what a case costs each model, once for this code and configuration; later runs keep the epochs."""
    path, key = study.state / "plan.json", _key(study, minutes)
    if path.is_file():
        if read_json(path)["key"] == key:
            return
        raise Ct2vqError(
            "other settings, minutes or code than these trials began with",
            path=path,
            hint="go on with those, or name another --state",
        )
    from training import plan

    names = [model for system in competing for model in system.models]
    seconds = plan.seconds_a_case(study, names, study.state / "work" / "plan")
    epochs = plan.epochs(competing, seconds, minutes, study)
    write_json({"key": key, "minutes": minutes, "seconds_a_case": seconds, "epochs": epochs}, path)


def _ceilings(study: Study) -> None:
    path = study.state / "scores" / kept.CEILINGS_FILE
    if not path.is_file():
        write_tsv(pd.DataFrame(ceiling_rows(study), columns=SCORES), path)


def _trials(
    competing: Sequence[System], study: Study, seeds: Sequence[int], folds: Sequence[int] | None
) -> Iterator[Trial]:
    """Baselines first, then seed by seed, so that an unfinished table compares what is comparable."""
    numbers = folds or sorted(set(study.folds.values()))
    baselines = [name for name, model in study.config["models"].items() if not is_network(model)]
    yield from (Trial(name, 0, fold) for name in baselines for fold in numbers)
    for seed in seeds:
        for fold in numbers:
            yield from (Trial(model, seed, fold) for system in competing for model in system.models)


def _run(trials: Sequence[Trial], state: Path, options: argparse.Namespace) -> int:
    """Run the trials that are not done, each in a process of its own; returns how many are done in all."""
    started = time.monotonic()
    missing = [trial for trial in trials if not _is_done(trial, state)]

    def run(trial: Trial) -> None:
        if time.monotonic() - started > options.stop_after * 60:
            return
        log = state / "logs" / f"{trial.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--study", options.study, "--config", options.config, "--state", state]
        command += ["--trial", trial.model, str(trial.seed), str(trial.fold)]
        with log.open("w", encoding="utf-8") as stream:
            code = subprocess.run(list(map(str, command)), stdout=stream, stderr=stream, check=False).returncode
        print(f"{trial.name}: {'done' if code == 0 else f'FAILED, see {log}'}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, missing))
    return sum(_is_done(trial, state) for trial in trials)


def _is_done(trial: Trial, state: Path) -> bool:
    return (state / "scores" / f"{trial.name}.tsv").is_file()


def _write(competing: Sequence[System], study: Study, state: Path, done: str, options: argparse.Namespace) -> None:
    settings: Mapping[str, Any] = study.config["compare"]
    table = pd.DataFrame(rows_of(read_scores(state), competing, OURS, settings, state), columns=COLUMNS)
    table["value"] = table["value"].map(lambda value: float(f"{value:.4g}"))
    write_tsv(table, options.output / f"{options.name}.tsv")
    command = (
        f"python docs/benchmarks/run_train.py --study DIR --config {options.config.name} --minutes {options.minutes}"
    )
    header = describe_machine("Trained for the same minutes", __doc__ or "", command, options.jobs)
    labels = {system.name: study.config["models"][system.models[0]].get("label", system.name) for system in competing}
    known = {"done": done, "minutes": options.minutes, "seeds": len(options.seeds), "cases": len(study.folds)}
    known |= {"ours": OURS, "labels": labels} | kept.keep(state, _trials_file(options))
    write_json(header | known, options.output / f"{options.name}.json")
    chosen = table[table["metric"].isin(["rs", "behind_ours", "share_of_ceiling", "way_to_ceiling"])]
    chosen = chosen[chosen["reference"] == "spect"]
    print(chosen.pivot_table(index="arm", columns=["target", "metric"], values="value").round(3).to_string())
    print(done)


if __name__ == "__main__":
    main()

"""Where the numbers come from: trainings, versions, digests of the inputs, and how long every stage took."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ct2vq import __version__
from ct2vq.files import sha256_text, write_text
from ct2vq.findings import number
from ct2vq.report.settings import config_text
from ct2vq.report.study import Study

#: the stages in the order of the study
STAGES = (
    "simulate",
    "convert",
    "segment",
    "register",
    "crop",
    "split",
    "train",
    "synthesize",
    "evaluate",
    "compare",
    "sensitivity",
    "detect",
    "report",
)


def runs_table(study: Study) -> list[dict[str, Any]]:
    """A row for each model: size, settings and run time of its trainings."""
    rows = []
    for model, label in study.labels.items():
        runs = [run for run in study.runs if run["model"] == model]
        seconds = [run["seconds"] for run in runs if run.get("seconds") is not None]
        rows.append(
            {
                "model": label,
                "folds": len(runs),
                "parameters": values_of(runs, "parameters"),
                "epochs": values_of(runs, "epochs"),
                "device": values_of(runs, "device"),
                "precision": values_of(runs, "precision"),
                "threads": values_of(runs, "threads"),
                "minutes": number(sum(seconds) / 60, 1) if seconds else "n/a",
            }
        )
    return rows


def trainings(study: Study) -> list[dict[str, str]]:
    """A row for each training: its seed, and the digests of its code and of all that determines its result."""
    return [
        {
            "model": study.labels[run["model"]],
            **{key: values_of([run], key) for key in ("fold", "seed", "code", "digest", "final_loss")},
            "cases": str(len(run.get("cases", []))),
        }
        for run in study.runs
    ]


def values_of(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    """The value that the runs share, or all their values."""
    found = sorted({str(run[key]) for run in runs if run.get(key) is not None})
    return ", ".join(found) if found else "n/a"


def versions(study: Study) -> list[tuple[str, str]]:
    """Versions that the trainings wrote down; several if the runs differ."""
    names = sorted({name for run in study.runs for name in run.get("versions", {})})
    found = [(name, values_of([run.get("versions", {}) for run in study.runs], name)) for name in names]
    return [("ct2vq (this page)", __version__), *found]


def config_digest(study: Study) -> str:
    """SHA-256 of the effective configuration as the file beside the page holds it."""
    return sha256_text(config_text(study.config))


def inputs_table(study: Study) -> pd.DataFrame:
    """SHA-256 of what every converted image was made from: columns `case_id volume files input_sha256 converter`."""
    keys = ("files", "input_sha256", "converter")
    rows = [
        {"case_id": case, "volume": volume, **{key: facts.get(key) for key in keys}}
        for case, volumes in study.facts.items()
        for volume, facts in sorted(volumes.items())
    ]
    return pd.DataFrame(rows, columns=["case_id", "volume", *keys])


def write_times(benchmarks: str | Path, script: str | Path) -> None:
    """Write how long every stage took, for the page to show.

    The times lie apart from the page, because they change with every run and the page does not.

    Args:
        benchmarks: folder of Snakemake's benchmark files, `<stage>/**/*.tsv` with columns `s` and `max_rss` (MB).
        script: `*.js` to write.
    """
    entries = [_stage_times(stage, Path(benchmarks, stage)) for stage in STAGES]
    text = f"ct2vqTimes({json.dumps([entry for entry in entries if entry])});\n"
    write_text(text, script)


def _stage_times(stage: str, folder: Path) -> list[str] | None:
    """Name, jobs, total and longest time, and largest memory of a stage; None if it left no benchmark."""
    files = sorted(folder.rglob("*.tsv"))
    if not files:
        return None
    # a study has thousands of these files of one line: pandas takes milliseconds for each
    lines = (csv.DictReader(file.read_text(encoding="utf-8").splitlines(), delimiter="\t") for file in files)
    table = pd.DataFrame([row for rows in lines for row in rows], columns=["s", "max_rss"])
    seconds = pd.to_numeric(table["s"], errors="coerce")
    memory = pd.to_numeric(table["max_rss"], errors="coerce").max()
    shown = "n/a" if pd.isna(memory) else f"{memory:.0f}"
    return [stage, str(len(files)), f"{seconds.sum() / 60:.1f}", f"{seconds.max():.1f}", shown]

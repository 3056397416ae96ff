"""A study of many cases whose DICOM folders are empty: its DAG is the real one, its jobs could not run."""

from __future__ import annotations

import shutil
from pathlib import Path

from ct2vq.files import write_text

ROOT = Path(__file__).resolve().parents[3]
VOLUMES = ("ct", "attenuation_ct", "perfusion", "ventilation")
DIAGNOSES = ("COPD", "normal", "embolism")
COLUMNS = ("case_id", "patient_id", *VOLUMES, "diagnosis", "site")


def case_name(number: int) -> str:
    """Identifier of the `number`-th case."""
    return f"case{number:05d}"


def write_study(folder: Path, cases: int) -> Path:
    """Write a study with the configuration that a user begins with, and a table of `cases` cases.

    Returns:
        The study's directory.
    """
    (folder / "config").mkdir(parents=True, exist_ok=True)
    shutil.copy2(ROOT / "config" / "config.yaml", folder / "config" / "config.yaml")
    for number in range(1, cases + 1):
        for volume in VOLUMES:
            (folder / "data" / "dicom" / case_name(number) / volume).mkdir(parents=True, exist_ok=True)
    write_cases(folder, cases)
    return folder


def write_cases(folder: Path, cases: int) -> None:
    """Write the cohort table; three diagnoses and seven sites take turns."""
    rows = ["\t".join(COLUMNS)]
    for number in range(1, cases + 1):
        name = case_name(number)
        images = [f"{name}/{volume}" for volume in VOLUMES]
        row = [name, f"patient{number:05d}", *images, DIAGNOSES[number % 3], f"site{number % 7}"]
        rows.append("\t".join(row))
    write_text("\n".join(rows) + "\n", folder / "config" / "cases.tsv")

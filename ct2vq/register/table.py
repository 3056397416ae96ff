"""The cohort's table of registration quality, in the project's long format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2vq.files import read_json, write_text
from ct2vq.register.figures import FIGURES, SPECT_FIGURES

COLUMNS = ("case_id", "model", "target", "metric", "region", "definition", "reference", "value", "unit")
MISSING = "n/a"
QC = "qc.json"


def registration_of(qc: str | Path) -> tuple[str, str | None]:
    """Case and target of `results/register/<case>/qc.json`; target None unless it is `<target>_qc.json`."""
    path = Path(qc)
    return path.parent.name, path.name.removesuffix(QC).removesuffix("_") or None


def write_quality(records: Sequence[Path], output: Path) -> None:
    """Write one row for each figure of each registration.

    `target` is the SPECT that a figure is of, or that is registered alone, else `n/a`; `reference` is what the CT was
    compared with; a figure that does not apply is `n/a`.

    Args:
        records: `qc.json` of each registration.
        output: `*.tsv`.
    """
    lines = ["\t".join(COLUMNS)]
    for path in records:
        record = read_json(path)
        lines += ["\t".join(row) for row in _rows(*registration_of(path), record)]
    write_text("\n".join(lines) + "\n", output)


def _rows(case: str, target: str | None, record: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    reference = "attenuation_ct" if record["dice_after"] is not None else "spect"
    for name, figure in FIGURES.items():
        who = "landmarks" if name.startswith("tre_") else reference
        yield case, MISSING, target or MISSING, name, "lungs", MISSING, who, _text(record[name]), figure.unit
    yield case, MISSING, target or MISSING, "flags", "lungs", MISSING, MISSING, str(len(record["flags"])), "1"
    for spect, figures in record["spect"].items():
        for name, figure in SPECT_FIGURES.items():
            yield case, MISSING, spect, name, "lungs", MISSING, "spect", _text(figures[name]), figure.unit


def _text(value: float | None) -> str:
    return MISSING if value is None else repr(float(value))

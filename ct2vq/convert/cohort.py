"""The converted cases side by side: what differs between their scans, and what no single case can show."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ct2vq.convert.limits import VolumeFacts, cohort_problems, interval_days
from ct2vq.errors import DicomError
from ct2vq.files import read_json, write_tsv

logger = logging.getLogger(__name__)

#: columns of the table that come from the sidecar's first level, and from its block `acquisition`
SIDECAR = ("manufacturer", "model", "kernel", "frame_of_reference")
ACQUISITION = (
    "slice_thickness_mm", "slice_increment_mm", "tube_voltage_kv", "exposure_mas", "contrast", "breath_hold",
    "patient_position", "attenuation_corrected", "scatter_corrected", "decay_corrected", "agent", "nuclide",
    "injected_activity_mbq", "collimator", "acquisition_duration_s", "counts_total", "iterations", "subsets",
)  # fmt: skip


def convert_cohort(
    sidecars: Sequence[Path], patients: Mapping[str, str], limits: Mapping[str, Any], table: Path
) -> None:
    """Write what differs between scans, one row for each case and volume, and check the cohort as a whole.

    Args:
        sidecars: `<case>/<volume>.json` of every volume of the cohort.
        patients: `patient_id` by case.
        limits: config block `convert.limits`.
        table: `*.tsv` to write.

    Raises:
        DicomError: the cohort is inconsistent; every problem and the cases concerned are named.
    """
    contents = {(path.parent.name, path.stem): read_json(path) for path in sidecars}
    volumes = [volume_facts(facts, case, patients[case], volume) for (case, volume), facts in contents.items()]
    write_tsv(_table(volumes, list(contents.values())), table)
    errors = []
    for case, volume, problem in cohort_problems(volumes, limits):
        line = " ".join(word for word in (problem.code, case, volume) if word) + f": {problem.message}"
        logger.log(logging.ERROR if problem.code.startswith("D") else logging.WARNING, "%s", line)
        errors += [(problem, line)] if problem.code.startswith("D") else []
    if errors:
        text = "the cohort is inconsistent:\n" + "\n".join(f"  - {line}" for _, line in errors)
        raise DicomError(errors[0][0].code, text, hint="see `convert.limits` and docs/errors.md")


def volume_facts(sidecar: Mapping[str, Any], case_id: str, patient_id: str, volume: str) -> VolumeFacts:
    """What a sidecar tells of a volume."""
    moment = sidecar["acquired_shifted"]
    return VolumeFacts(
        case_id,
        patient_id,
        volume,
        sidecar["acquisition"],
        datetime.fromisoformat(moment) if moment else None,
        sidecar["input_sha256"],
        sidecar["header_patient"],
    )


def _table(volumes: Sequence[VolumeFacts], sidecars: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    cts = {volume.case_id: volume for volume in volumes if volume.volume == "ct"}
    rows = []
    for volume, facts in zip(volumes, sidecars, strict=True):
        row: dict[str, Any] = {"case_id": volume.case_id, "volume": volume.volume}
        row |= {name: facts[name] for name in SIDECAR}
        row |= {name: volume.acquisition.get(name) for name in ACQUISITION}
        ct = cts.get(volume.case_id)
        days = None if ct is None else interval_days(ct, volume)
        row["days_from_ct"] = None if days is None else round(days, 4)
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["case_id", "volume"], kind="stable")

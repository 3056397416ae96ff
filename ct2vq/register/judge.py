"""How good a registration is: its figures, flags and refusal, from the fields that it wrote.

A job of its own: another limit or table of landmarks measures again, and registers nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.config import TARGETS
from ct2vq.files import read_json, write_json, write_text
from ct2vq.register.figures import accepted_flags, breaches, require_plausible
from ct2vq.register.frames import Frames, frame_flags
from ct2vq.register.landmarks import read_landmarks
from ct2vq.register.quality import measure_quality
from ct2vq.volume import read_volume

logger = logging.getLogger(__name__)

#: always the same, so that what waits for it does not run again when a registration is merely judged again
ACCEPTED = "not refused\n"


def judge_registration(
    volumes: Mapping[str, Path],
    fields: tuple[Path, Path],
    record: Path,
    qc: Path,
    accepted: Path,
    limits: Mapping[str, Mapping[str, float | None]],
    landmarks: Path | None = None,
    *,
    accept: bool = False,
) -> None:
    """Measure a registration, flag what is doubtful, and stop where it cannot be right.

    Args:
        volumes: NIfTI files as `ct2vq.register.case.register_case` takes them; of SPECT images without an attenuation
            CT only the registered one is measured.
        fields: displacement fields from CT to SPECT and back.
        record: what was done, as `register_case` wrote it.
        qc: JSON to write: the record, figures and `flags`.
        accepted: text file of constant content, written if nothing is refused.
        limits: `flags` and `refuse` of the config block `register`.
        landmarks: table of points that belong together (`ct2vq.register.landmarks`).
        accept: whether somebody looked at the case and accepts it: what is beyond a limit of `refuse` is flagged.

    Raises:
        RegistrationError: D803, D804, D805, D808, D809 (beyond a limit of `refuse`); D810 (landmarks).
    """
    points = None if landmarks is None else read_landmarks(landmarks)
    done = read_json(record)
    images = {name: read_volume(path) for name, path in volumes.items() if _is_measured(name, done)}
    forward, inverse = map(read_volume, fields)
    result = measure_quality(images, forward, inverse, points) | done
    if not accept:
        require_plausible(result, limits["refuse"])
    result["flags"] = accepted_flags(result, limits["refuse"]) + _flags(result, limits["flags"])
    for flag in result["flags"]:
        logger.warning("%s", flag)
    write_json(result, qc)
    write_text(ACCEPTED, accepted)


def _is_measured(name: str, done: Mapping[str, Any]) -> bool:
    return name not in TARGETS or done["registered_to"] in ("attenuation_ct", name)


def _flags(result: Mapping[str, Any], limits: Mapping[str, float | None]) -> list[str]:
    """Everything a user should look at; a case is flagged, never dropped."""
    flags = [] if result["risk"] is None else [f"W801 no attenuation CT: {result['risk']}"]
    flags += Frames(result["registered_to"], result["frame_of_reference"]).flags()
    flags += frame_flags(result["ct_frame_of_reference"])
    for breach in breaches(result, limits):
        content = breach.name.startswith("content_")
        flags.append(f"W803 {breach.text}: movement, or a large defect" if content else f"W804 {breach.text}")
    return flags

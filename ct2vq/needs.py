"""What a job asks a cluster for: memory and minutes that grow with the size of a CT, with the cohort and with attempts.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: a stored voxel of a CT: 16 bits. A compressed CT looks half to a third of its size; the next attempt asks for more.
BYTES_PER_VOXEL = 2
#: a cluster counts the two Snakemake processes around a job's script as the job's (170 MB each)
SNAKEMAKE_MB = 500
#: what a simulated CT covers along the patient, mm
SIMULATED_MM = 400


def asked(base: float, attempt: int, per_megavoxel: float = 0.0, megavoxels: float = 0.0) -> int:
    """What an attempt of a job asks for, in the unit of `base`: half as much again with every attempt.

    Args:
        base: for an image of no size.
        attempt: 1 for the first.
        per_megavoxel: for every million voxels.
        megavoxels: size of the image in millions of voxels.
    """
    return int((attempt + 1) / 2 * (base + per_megavoxel * megavoxels))


def simulated_megavoxels(scanner: Mapping[str, Any]) -> float:
    """Millions of voxels of a CT that is simulated with the settings of a scanner (`simulate.ct`)."""
    return scanner["matrix"] ** 2 * SIMULATED_MM / scanner["slice_mm"] / 1e6


def raw_megavoxels(source: Path | tuple[Path, tuple[Path, ...]]) -> float:
    """Millions of voxels of a CT as far as its raw files tell; 0 if there are none.

    Slices have one size, so one of them is looked at: a file system that many nodes share is slow to tell of thousands.

    Args:
        source: a folder, a file, or a series as `ct2vq.discover.resolve.resolve_source` gives it.
    """
    files = _files(source)
    try:
        return len(files) * files[len(files) // 2].stat().st_size / BYTES_PER_VOXEL / 1e6
    except (OSError, IndexError):
        return 0.0


def _files(source: Path | tuple[Path, tuple[Path, ...]]) -> Sequence[Path]:
    if isinstance(source, tuple):
        return source[1]
    if not source.is_dir():
        return [source]
    return sorted(Path(folder, name) for folder, _, names in os.walk(source) for name in names)

"""What stands beside every benchmark's table: the machine, the versions and the command that made it."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from pathlib import Path

import psutil

LIBRARIES = ("snakemake", "torch", "monai", "antspyx", "simpleitk", "pydicom", "numpy", "scipy")


def describe_machine(title: str, docstring: str, command: str, cores: int) -> dict[str, object]:
    """The header of a benchmark's table; the explanation is the script's docstring after its first paragraph."""
    return {
        "title": title,
        "explanation": " ".join(docstring.split("\n\n", 1)[1].split()),
        "command": command,
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_model(),
        "cores": cores,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()

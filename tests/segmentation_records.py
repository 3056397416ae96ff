"""Records as `segment` and `crop` write them, for the tests of what shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ct2vq.config import complete_config
from ct2vq.crop.spect import normalise_spect
from ct2vq.files import write_json
from ct2vq.lungs import LOBES, THIRDS

SETTINGS = complete_config({"study": "x"})["crop"]["spect"]


def lungs_facts(*warnings: str, source: str = "left out: the method tells no lobes") -> dict[str, Any]:
    """A `ct_lungs.json`; with another source it has lobes."""
    lobes = {} if source.startswith("left out") else {"lobes_ml": dict.fromkeys(LOBES.values(), 800.0)}
    return {
        "method": "classic",
        "volume_ml": {"right": 2400.4, "left": 1600.0},
        "thirds_ml": dict(zip(THIRDS.values(), (800, 810, 790, 530, 540, 530), strict=True)),
        "lobes_source": source,
        "warnings": list(warnings),
    } | lobes


def spect_facts(*warnings: str, clump: bool = False, method: str = "inpaint") -> dict[str, Any]:
    """A `<target>.json`, measured on 12 mm voxels with or without a clump."""
    values = 10 + np.arange(1000, dtype=np.float32).reshape(10, 10, 10) / 1000
    values[5, 5, 5] += 100 * clump
    settings = SETTINGS | {"hot_spots": SETTINGS["hot_spots"] | {"method": method}}
    _, facts = normalise_spect(values, np.ones(values.shape, bool), 12.0, settings)
    return facts | {"warnings": list(warnings)}


def write_case(folder: Path, case: str, **records: dict[str, Any]) -> list[Path]:
    """Write records by name (`ct_lungs`, `crop`, `perfusion`, ...) where the stages write them; their paths."""
    paths = []
    for name, record in records.items():
        stage = "segment" if name.endswith(("_lungs", "_lobes")) else "crop"
        paths.append(folder / stage / case / f"{name}.json")
        write_json(record, paths[-1])
    return paths


def usual_case(folder: Path, case: str) -> list[Path]:
    """A case of which nothing was noticed."""
    both = {"perfusion": spect_facts(), "ventilation": spect_facts(clump=True)}
    return write_case(folder, case, ct_lungs=lungs_facts(), crop={"warnings": []}, **both)

"""A reader's pack of phantom lungs: formulas of position, a wedge without perfusion, four sessions of few items."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from ct2vq.files import sha256_text, write_text
from ct2vq.read.page import write_page
from ct2vq.report.volumes import nifti_bytes
from ct2vq.volume import from_array, make_grid

#: z, y, x: none of them equal, so that a mixed-up axis is seen
SHAPE = (26, 22, 30)
VOXEL_MM = 8.0
CASES = 3
LEVELS = ["Unacceptable", "Poor", "Acceptable", "Good", "Excellent"]
CONFIDENCE = ["Guess", "Low", "Moderate", "High", "Certain"]
LOBES = ["right upper", "right middle", "right lower", "left upper", "left lower"]


def options(*labels: str) -> list[dict[str, str]]:
    return [{"name": label.lower().replace(" ", "_"), "label": label[0].upper() + label[1:]} for label in labels]


def scale(labels: list[str]) -> list[dict[str, Any]]:
    return [{"value": value, "label": label} for value, label in enumerate(labels, start=1)]


def sessions(cases: int = CASES) -> list[dict[str, Any]]:
    """Two sessions with the CT hidden and two with it; items of case 1 come first in each."""
    made = []
    for number, (part, ct, after) in enumerate(
        [
            ("diagnosis", "hidden", None),
            ("diagnosis", "hidden", 1),
            ("acceptability", "shown", 1),
            ("acceptability", "shown", 3),
        ],
        start=1,
    ):
        items = []
        for case in range(1, cases + 1):
            name = sha256_text(f"{number} {case}")[:12]
            volume = {
                kind: f"volumes/{sha256_text(name + kind)[:12]}.js" for kind in ("perfusion", "ventilation", "ct")
            }
            items.append({"item": name} | volume | ({} if ct == "shown" else {"ct": None}))
        letter = "ab"[(number - 1) % 2]
        made.append(
            {
                "number": number,
                "part": part,
                "ct": ct,
                "title": f"{part.capitalize()}, session {letter}",
                "after": after,
                "items": items,
            }
        )
    return made


def pack(**changes: Any) -> dict[str, Any]:
    """The content of `pack.js`; `changes` replace keys."""
    made: dict[str, Any] = {
        "format": 1,
        "study": "phantoms",
        "reader": "reader_a",
        "level": "senior",
        "simulated": True,
        "simulated_readers": False,
        "title": "Reading of lung perfusion and ventilation",
        "intro": ["You will see pairs of ventilation and perfusion images.", "Judge each pair by itself."],
        "washout": {"days": 28, "mode": "lock"},
        "go_back": True,
        "voxel_mm": [VOXEL_MM] * 3,
        "colour_maps": {
            "hot_iron": [[0, 0, 0], [128, 0, 0], [255, 60, 0], [255, 180, 40], [255, 255, 255]],
            "grey": [[0, 0, 0], [255, 255, 255]],
            "nuclear": [
                [0, 0, 0],
                [0, 0, 160],
                [0, 160, 160],
                [0, 200, 0],
                [250, 250, 0],
                [250, 0, 0],
                [255, 255, 255],
            ],
        },
        "colour_map": "hot_iron",
        "acceptability": {
            "levels": scale(LEVELS),
            "items": [
                {"name": "plausibility", "question": "Anatomical plausibility"},
                {"name": "noise", "question": "Noise"},
                {"name": "sharpness", "question": "Sharpness"},
                {"name": "artefacts", "question": "Freedom from artefacts"},
                {"name": "overall", "question": "Overall acceptability for clinical review"},
            ],
        },
        "guess": options("real", "synthesised", "unsure"),
        "diagnosis": {
            "choices": options("normal", "pulmonary embolism", "COPD", "lung cancer", "other"),
            "confidence": scale(CONFIDENCE),
            "locations": options(*LOBES),
            "patterns": options("mismatched", "matched", "reverse", "none"),
        },
        "sessions": sessions(),
    } | changes
    return made | {"pack": sha256_text(json.dumps(made, sort_keys=True))}


def lungs(shift: float = 0.0) -> dict[str, np.ndarray]:
    """Steps 0..255 of `perfusion` and `ventilation` and HU of `ct`, axes (z, y, x).

    The perfusion has a wedge-shaped defect low in the patient's left lung. The grid goes towards left, back and head.
    """
    z, y, x = (np.indices(SHAPE) - (np.array(SHAPE).reshape(3, 1, 1, 1) - 1) / 2) * VOXEL_MM
    # the right lung is the larger one
    right = ((x + 55) / 44) ** 2 + (y / 72) ** 2 + (z / 92) ** 2 < 1
    left = ((x - 55) / 36) ** 2 + (y / 66) ** 2 + (z / 86) ** 2 < 1
    inside = right | left
    level = 150 + 40 * y / 80 - 30 * z / 90 + 12 * np.sin((x + shift) / 13) * np.cos(z / 17)
    wedge = left & (z < -20) & (y > 0)
    ventilation = np.where(inside, np.clip(level, 1, 255), 0)
    perfusion = np.where(wedge, ventilation * 0.15, ventilation)
    body = (x / 118) ** 2 + (y / 86) ** 2 < 1
    hu = np.where(inside, -820 + 40 * np.sin(x / 9) * np.sin(z / 11), np.where(body, 40, -1000))
    return {
        "perfusion": perfusion.astype(np.uint8),
        "ventilation": ventilation.astype(np.uint8),
        "ct": np.rint(hu).astype(np.int16),
    }


def write_volume(array: np.ndarray, slope: float, path: Path) -> None:
    """A volume's script, as `docs/reading.md` describes it."""
    grid = make_grid(SHAPE[::-1], [VOXEL_MM] * 3, [-117.0, -85.0, -100.0])
    packed = gzip.compress(nifti_bytes(from_array(array, grid), slope), mtime=0)
    write_text(f'ct2vqVolume("{path.stem}","{base64.b64encode(packed).decode()}");\n// padding\n', path)


def build_pack(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write a whole pack into a folder and return the content of its `pack.js`."""
    made = pack(**changes)
    for session in made["sessions"]:
        for number, item in enumerate(session["items"]):
            arrays = lungs(shift=20.0 * number + session["number"])
            for kind, array in arrays.items():
                if item[kind]:
                    write_volume(array, 1.0 if kind == "ct" else 1 / 255, folder / item[kind])
    write_text(f"ct2vqPack({json.dumps(made)});\n", folder / "pack.js")
    write_page(made, folder)
    return made

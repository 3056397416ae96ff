"""Small trainings on the cohort of tests/conftest.py; run as a script, one training that a test can kill."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factories import NETWORK, PREPARATION, TARGETS, TRAINING

from ct2vq.train.run import train_network

MODEL = {"kind": "ran", "targets": list(TARGETS), "network": NETWORK, "label": "DDRAN"}
OUTPUTS = ("weights", "history", "record", "card")
#: outputs that hold nothing but the result
RESULT = ("weights", "history", "card")


def run(folder: Path, cohort: tuple[list[str], dict[str, str]], **changes: Any) -> dict[str, Path]:
    """A training of a few seconds, with changed settings or arguments."""
    outputs = {name: folder / f"{name}.out" for name in OUTPUTS}
    model = MODEL | changes.pop("model", {})
    arguments = {"name": "ddran", "fold": 1, "seed": 3, "code": "abc", "simulated": True, "work": folder / "work"}
    arguments |= {key: changes.pop(key) for key in list(changes) if key in arguments}
    train_network(*cohort, model, merged(TRAINING, changes), PREPARATION, outputs, **arguments)
    return outputs


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes, block by block."""
    blocks = {key: settings[key] | value for key, value in changes.items() if isinstance(value, dict)}
    return dict(settings) | dict(changes) | blocks


if __name__ == "__main__":
    folder, cohort, changes = (json.loads(text) for text in sys.argv[1:])
    run(Path(folder), cohort, **changes)

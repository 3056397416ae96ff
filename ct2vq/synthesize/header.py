"""What a weights file says of itself, and what an image made with it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ct2vq.baselines import PREDICTIONS
from ct2vq.errors import Ct2vqError
from ct2vq.networks.settings import NETWORK_KINDS, complete_network

LABEL = "SYNTHETIC, RESEARCH ONLY"
SIMULATED_LABEL = "trained on simulated patients"


def label_of(simulated: bool) -> str:
    """What every synthesised image says of itself."""
    return f"{LABEL}; {SIMULATED_LABEL}" if simulated else LABEL


def spread_label(what: str, simulated: bool) -> str:
    """What a map of uncertainty says of itself, at most 79 characters as NIfTI's header holds.

    Args:
        what: whose standard deviation it is, such as `5 folds' models`.
        simulated: whether the model learnt from simulated patients.
    """
    return f"{LABEL}; SD of {what}, not error" + ("; simulated patients" if simulated else "")


def read_header(weights: Path) -> dict[str, Any]:
    """The header of a weights file: kind, targets, network, preparation, whether the patients were simulated.

    Raises:
        Ct2vqError: the file is missing or not written by this project.
    """
    from safetensors import SafetensorError, safe_open

    if not weights.is_file():
        raise Ct2vqError("the weights do not exist", path=weights, hint="train the model first")
    try:
        with safe_open(weights, framework="np") as stream:
            header = json.loads((stream.metadata() or {})["ct2vq"])
            missing = [key for key in ("kind", "targets", "simulated") if key not in header]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Ct2vqError(f"not a model of ct2vq: {error}", path=weights) from error
    if missing or header["kind"] not in (*NETWORK_KINDS, *PREDICTIONS):
        raise Ct2vqError(f"not a model of ct2vq: its header is {header}", path=weights)
    return header | ({"network": complete_network(header["network"])} if "network" in header else {})

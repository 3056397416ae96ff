"""How far models, or a network with its dropout on, disagree about a case. It is no error: docs/synthesis.md.

Folds: the spread of an ensemble (Lakshminarayanan et al. 2017, arXiv:1612.01474; here members differ in a part of their
patients). Dropout: Monte Carlo dropout (Gal and Ghahramani 2016, arXiv:1506.02142).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ct2vq.errors import Ct2vqError
from ct2vq.inputs import CroppedCase
from ct2vq.synthesize.header import read_header
from ct2vq.synthesize.predict import LoadedNetwork


def spread(images: Sequence[np.ndarray]) -> np.ndarray:
    """Standard deviation over images, voxel by voxel, with `n - 1`; float32 `(z, y, x)`."""
    return np.std(np.stack(images), axis=0, ddof=1, dtype=np.float64).astype(np.float32)


def fold_spread(members: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Spread of the members' images, by target.

    Raises:
        Ct2vqError: a target with one member.
    """
    targets = list(dict.fromkeys(target for member in members for target in member))
    of = {target: [member[target] for member in members if target in member] for target in targets}
    alone = [target for target, images in of.items() if len(images) < 2]
    if alone:
        raise Ct2vqError(
            f"one model only predicts {alone[0]}: nothing spreads",
            key="synthesize.uncertainty",
            hint="it needs two folds or more",
        )
    return {target: spread(images) for target, images in of.items()}


def dropout_spread(
    weights: Path, case: CroppedCase, device: str, settings: Mapping[str, Any], *, seed: int, name: str
) -> dict[str, np.ndarray]:
    """Spread of a network's answers with its dropout on, by target.

    Args:
        weights: of a network with dropout.
        case: on the network's grid.
        device: `cpu`, `cuda` or `mps`.
        settings: config block `synthesize`; test-time augmentation is left out, it would average the dropout away.
        seed: the study's seed.
        name: the case and the model: with the seed it decides what is dropped.

    Raises:
        Ct2vqError: the network has no dropout.
    """
    import torch

    header = read_header(weights)
    if not header.get("network", {}).get("dropout"):
        raise Ct2vqError(
            "this model was trained without dropout",
            path=weights,
            key="synthesize.uncertainty",
            hint="set network.dropout of the model, or use folds on new cases",
        )
    loaded = LoadedNetwork(weights, header, case, device, settings)
    for layer in loaded.network.modules():
        if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
            layer.train()
    with torch.random.fork_rng(devices=[torch.device("cuda")] if device == "cuda" else []):
        torch.manual_seed(_seed(seed, name))
        samples = [loaded.plain() for _ in range(settings["dropout_samples"])]
    return {target: spread([one[target] for one in samples]) for target in header["targets"]}


def joined_spread(spreads: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Root of the mean variance over networks, by target: what dropout gives the network that one meets by chance."""
    targets = list(dict.fromkeys(target for one in spreads for target in one))
    squares = {target: [one[target].astype(np.float64) ** 2 for one in spreads if target in one] for target in targets}
    return {target: np.sqrt(np.mean(values, axis=0)).astype(np.float32) for target, values in squares.items()}


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}/dropout".encode()).digest()[:8], "big") >> 1

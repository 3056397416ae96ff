"""Stage `synthesize`: images of a case by every model, on the network's grid and back on the CT's.

A model is a safetensors file (no code runs when it is read) with a header that says what it is and how its input was
prepared. Images have values 0..1 in the lungs (relative to the SPECT's robust maximum) and 0 outside, and say
SYNTHETIC, RESEARCH ONLY in their NIfTI header and record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ct2vq.baselines import PREDICTIONS, predict_baseline
from ct2vq.crop.restore import WayBack
from ct2vq.errors import Ct2vqError
from ct2vq.files import sha256_file, write_json
from ct2vq.inputs import CroppedCase, network_channels, read_cropped_case
from ct2vq.volume import from_array, read_volume, write_volume

logger = logging.getLogger(__name__)

LABEL = "SYNTHETIC, RESEARCH ONLY"
SIMULATED_LABEL = "trained on simulated patients"


def label_of(simulated: bool) -> str:
    """What every synthesised image says of itself."""
    return f"{LABEL}; {SIMULATED_LABEL}" if simulated else LABEL


def synthesize_case(
    folder: Path,
    ct_lungs: Path,
    weights: Mapping[str, Path],
    output: Path,
    record: Path,
    *,
    device: str,
) -> None:
    """Write every model's images of a case.

    Args:
        folder: the cropped case (`results/crop/<case>`).
        ct_lungs: lung labels on the CT's grid.
        weights: weights of each model, by name.
        output: folder to write `<model>/<target>.nii.gz` (CT grid) and `<model>/<target>_network.nii.gz` to.
        record: JSON record to write.
        device: `cpu`, `cuda` or `mps`.

    Raises:
        Ct2vqError: a file is not a model's weights.
    """
    case = read_cropped_case(folder, ())
    grid = read_volume(folder / "lungs.nii.gz")
    way_back = WayBack(grid, read_volume(ct_lungs))
    facts = {}
    for name, path in weights.items():
        header = read_header(path)
        description = label_of(header["simulated"])
        for target, image in predict(path, case, device).items():
            write_volume(from_array(image, grid), output / name / f"{target}_network.nii.gz", description)
            write_volume(way_back(image), output / name / f"{target}.nii.gz", description)
        facts[name] = {"label": description, "weights_sha256": sha256_file(path), "targets": header["targets"]}
    write_json(facts, record)


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
    if missing or header["kind"] not in ("ran", *PREDICTIONS):
        raise Ct2vqError(f"not a model of ct2vq: its header is {header}", path=weights)
    return header


def predict(weights: Path, case: CroppedCase, device: str) -> dict[str, np.ndarray]:
    """Images of a case by one model, float32 `(z, y, x)` on the network's grid, by target."""
    header = read_header(weights)
    if header["kind"] != "ran":
        from safetensors.numpy import load_file

        tensors = load_file(weights)
        return {target: predict_baseline(header["kind"], tensors, case, target) for target in header["targets"]}
    return _predict_network(weights, header, case, device)


def _predict_network(weights: Path, header: Mapping[str, Any], case: CroppedCase, device: str) -> dict[str, np.ndarray]:
    import torch
    from safetensors.torch import load_file

    from ct2vq.networks import build_network

    if device == "cuda" and not torch.cuda.is_available():
        raise Ct2vqError("no CUDA device is available", key="train.device", hint="set it to cpu")
    torch.set_num_threads(1)
    try:
        network = build_network(header["targets"], header["network"], header["in_channels"])
        network.load_state_dict(load_file(weights))
    except (KeyError, RuntimeError) as error:
        raise Ct2vqError(
            f"the weights do not fit this version's networks: {error}", path=weights, hint="train the model again"
        ) from error
    network.to(device).eval()
    channels = network_channels(case, header["network"], header["crop"]["window_hu"])
    with torch.no_grad():
        image = torch.from_numpy(channels)[None].to(device)
        lungs = torch.from_numpy(case.inside[None, None].astype(np.float32)).to(device)
        predicted = network(image, lungs)
        if header["network"]["mirror_average"]:
            predicted = (predicted + network(image.flip(4), lungs.flip(4)).flip(4)) / 2
        predicted = predicted[0].float().cpu().numpy()
    return dict(zip(header["targets"], predicted, strict=True))


def ensemble(weights: Sequence[Path], case: CroppedCase, device: str) -> dict[str, np.ndarray]:
    """Mean of the images of several folds' models, for a case that none of them saw."""
    members = [predict(path, case, device) for path in weights]
    return {target: np.mean([member[target] for member in members], axis=0) for target in members[0]}

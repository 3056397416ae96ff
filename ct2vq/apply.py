"""Stage `apply`: a trained model on a new CT without SPECT gives the two images on that CT's grid."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.config import complete_config, completed_block
from ct2vq.convert import convert_ct
from ct2vq.crop.ct import crop_case
from ct2vq.crop.restore import WayBack
from ct2vq.digests import folder_digest
from ct2vq.errors import Ct2vqError, SegmentationError
from ct2vq.files import sha256_file, write_json
from ct2vq.inputs import read_cropped_case
from ct2vq.segment import Backend, segment_case
from ct2vq.segment.own import frame_of_folder
from ct2vq.synthesize import ensemble, label_of, read_header
from ct2vq.volume import read_volume, write_volume

logger = logging.getLogger(__name__)

#: as `folder_digest` gives it
_DIGEST = re.compile("[0-9a-f]{16}")


def apply_model(
    ct: Path,
    output: Path,
    model: Path,
    *,
    lung_mask: Path | None = None,
    segment_weights: Path | None = None,
    segment_lobe_weights: Path | None = None,
    device: str = "cpu",
) -> list[Path]:
    """Apply a trained model to a CT.

    Args:
        ct: DICOM folder of the CT.
        output: folder to write `ct.nii.gz`, `lungs.nii.gz`, `<target>.nii.gz`, `apply.json` and `apply.png` to.
        model: folder of a trained model (`results/train/<model>`); the images of all its folds are averaged.
        lung_mask: the user's own mask: NIfTI on the CT's grid, RTSTRUCT or SEG.
        segment_weights: weights of the backend that segmented the study's lungs, if it was one with weights.
        segment_lobe_weights: its weights for lobes, if it had any.
        device: `cpu`, `cuda` or `mps`.

    Returns:
        The files written.

    Raises:
        Ct2vqError: no trained model, an unreadable CT, no lungs found, or the weights of the study's backend are not
            on this machine (D708).
    """
    weights = sorted(model.glob("fold*/weights.safetensors"))
    if not weights:
        raise Ct2vqError("no trained model here", path=model, hint="train first, or name results/train/<model>")
    header = _common_header(weights)
    settings = {block: completed_block(block, header.get(block) or {}) for block in ("convert", "segment", "crop")}
    weights_here = {"weights": segment_weights, "lobe_weights": segment_lobe_weights}
    backend = None if lung_mask else _backend(settings["segment"], weights_here)
    files = _prepare(ct, output, settings, lung_mask, backend)
    case = read_cropped_case(files["cropped"], ())
    way_back = WayBack(read_volume(files["cropped"] / "lungs.nii.gz"), read_volume(files["lungs"]))
    label = label_of(header["simulated"])
    images = {}
    for target, image in ensemble(weights, case, device).items():
        images[target] = output / f"{target}.nii.gz"
        write_volume(way_back(image), images[target], label)
    record = {
        "label": label,
        "model": model.name,
        "folds": len(weights),
        "weights_sha256": [sha256_file(path) for path in weights],
        "targets": header["targets"],
    }
    write_json(record, output / "apply.json")
    figure = _draw(files, images, model.name, header["simulated"], output / "apply.png")
    return [files["ct"], files["lungs"], *images.values(), output / "apply.json", figure]


def _backend(settings: Mapping[str, Any], weights: Mapping[str, Path | None]) -> Backend | None:
    """What segmented the lungs of the study that trained the model, with the weights of this machine.

    Raises:
        SegmentationError: D708 weights that are not told, or others than the study's.
    """
    name = settings["backend"]
    if name == "classic":
        return None
    from ct2vq.segment.backends import backend_of

    used = {key: settings[name].get(key) for key in weights if key == "weights" or settings[name].get(key)}
    for key, digest in used.items():
        _require_weights(weights[key], digest, f"segment-{key.replace('_', '-')}", name)
    return backend_of(settings, {key: str(weights[key]) for key in used})


def _require_weights(path: Path | None, digest: str | None, option: str, backend: str) -> None:
    if path is None or not path.exists():
        raise SegmentationError(
            "D708",
            f"the study's lungs were segmented by `{backend}`, whose weights are not here",
            path=path,
            key=f"--{option}",
            hint="name them with this option, or give your own --lung-mask",
        )
    with tempfile.TemporaryDirectory() as folder:
        found = folder_digest(path, Path(folder))
    # older models carry a path or nothing
    if digest and _DIGEST.fullmatch(digest) and found != digest:
        raise SegmentationError(
            "D708",
            f"other weights of `{backend}` than the study's: digest {found}, expected {digest}",
            path=path,
            key=f"--{option}",
            hint="name the weights that the study used, or give your own --lung-mask",
        )


def _prepare(
    ct: Path, output: Path, settings: Mapping[str, Any], lung_mask: Path | None, backend: Backend | None
) -> dict[str, Path]:
    """Convert, segment and crop as the study that trained the model did."""
    cropped = output / "cropped"
    files = {"ct": output / "ct.nii.gz", "lungs": output / "lungs.nii.gz", "cropped": cropped}
    convert_ct(ct, files["ct"], output / "ct.json", settings["convert"], "apply")
    segment_case(
        files["ct"],
        files["lungs"],
        output / "lungs.json",
        settings["segment"],
        lung_mask,
        same_frame=frame_of_folder(ct) if lung_mask else None,
        backend=backend,
    )
    outputs = {
        "ct": cropped / "ct.nii.gz",
        "enhanced": cropped / "ct_enhanced.nii.gz",
        "lungs": cropped / "lungs.nii.gz",
        "record": cropped / "crop.json",
    }
    crop_case(files["ct"], files["lungs"], outputs, settings["crop"])
    return files


def _common_header(weights: list[Path]) -> dict[str, Any]:
    headers = [read_header(path) for path in weights]
    for path, header in zip(weights, headers, strict=True):
        if (header["targets"], header.get("crop")) != (headers[0]["targets"], headers[0].get("crop")):
            raise Ct2vqError("the folds of this model were trained differently", path=path, hint="train them again")
    if "crop" not in headers[0]:
        raise Ct2vqError(f"a baseline of kind `{headers[0]['kind']}` cannot be applied alone", path=weights[0])
    return headers[0]


def _draw(files: Mapping[str, Path], images: Mapping[str, Path], model: str, simulated: bool, figure: Path) -> Path:
    from ct2vq.panels import draw_case

    settings = complete_config({"study": "apply"})
    draw_case(
        {f"{model}_{target}": path for target, path in images.items()},
        files["ct"],
        files["lungs"],
        figure,
        case="CT without SPECT",
        diagnosis="",
        labels={model: model.replace("_", " ")},
        networks=[model],
        arms={model: dict.fromkeys(images, model)},
        defects=settings["evaluate"]["defects"],
        simulated=simulated,
        figure=settings["report"]["figure"],
    )
    return figure

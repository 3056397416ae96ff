"""Stage `apply`: a trained model on a new CT without SPECT gives the two images on that CT's grid."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.config import complete_config
from ct2vq.convert import convert_ct
from ct2vq.crop import WayBack, crop_case
from ct2vq.errors import Ct2vqError
from ct2vq.files import sha256_file, write_json
from ct2vq.inputs import read_cropped_case
from ct2vq.segment import segment_case
from ct2vq.segment.own import frame_of_folder
from ct2vq.synthesize import ensemble, label_of, read_header
from ct2vq.volume import read_volume, write_volume

logger = logging.getLogger(__name__)


def apply_model(
    ct: Path, output: Path, model: Path, *, lung_mask: Path | None = None, device: str = "cpu"
) -> list[Path]:
    """Apply a trained model to a CT.

    Args:
        ct: DICOM folder of the CT.
        output: folder to write `ct.nii.gz`, `lungs.nii.gz`, `<target>.nii.gz`, `apply.json` and `apply.png` to.
        model: folder of a trained model (`results/train/<model>`); the images of all its folds are averaged.
        lung_mask: the user's own mask: NIfTI on the CT's grid, RTSTRUCT or SEG.
        device: `cpu`, `cuda` or `mps`.

    Returns:
        The files written.

    Raises:
        Ct2vqError: no trained model, an unreadable CT, or no lungs found.
    """
    weights = sorted(model.glob("fold*/weights.safetensors"))
    if not weights:
        raise Ct2vqError("no trained model here", path=model, hint="train first, or name results/train/<model>")
    header = _common_header(weights)
    files = _prepare(ct, output, header, lung_mask)
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


def _prepare(ct: Path, output: Path, settings: Mapping[str, Any], lung_mask: Path | None) -> dict[str, Path]:
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

    draw_case(
        {f"{model}_{target}": path for target, path in images.items()},
        files["ct"],
        files["lungs"],
        figure,
        case="CT without SPECT",
        diagnosis="",
        labels={model: model.replace("_", " ")},
        networks=[model],
        simulated=simulated,
        figure=complete_config({"study": "apply"})["report"]["figure"],
    )
    return figure

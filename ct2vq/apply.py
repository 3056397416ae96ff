"""Stage `apply`: trained models on a new CT without SPECT give the two images on that CT's grid."""

from __future__ import annotations

import importlib
import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.config import complete_config, completed_block
from ct2vq.convert import convert_ct
from ct2vq.crop.ct import crop_case
from ct2vq.crop.restore import WayBack
from ct2vq.digests import folder_digest
from ct2vq.errors import Ct2vqError, SegmentationError
from ct2vq.files import sha256_file, write_json
from ct2vq.inputs import CroppedCase, read_cropped_case
from ct2vq.segment import Backend, segment_case
from ct2vq.segment.own import frame_of_folder
from ct2vq.synthesize.header import label_of, read_header, spread_label
from ct2vq.synthesize.predict import mean_images, predict_all
from ct2vq.synthesize.uncertainty import dropout_spread, fold_spread, joined_spread
from ct2vq.volume import read_volume, write_volume

logger = logging.getLogger(__name__)

#: as `folder_digest` gives it
_DIGEST = re.compile("[0-9a-f]{16}")


def apply_model(
    ct: Path,
    output: Path,
    models: Sequence[Path],
    *,
    lung_mask: Path | None = None,
    segment_weights: Path | None = None,
    segment_lobe_weights: Path | None = None,
    device: str = "cpu",
    config: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> list[Path]:
    """Apply trained models to a CT.

    Args:
        ct: DICOM folder of the CT.
        output: folder to write `ct.nii.gz`, `lungs.nii.gz`, `<target>.nii.gz`, `apply.json` and `apply.png` to, and
            `<target>_uncertainty.nii.gz` if that is asked for.
        models: folders of trained models (`results/train/<model>`), prepared alike. An image is the mean over all folds
            of a model, then over the models that predict it.
        lung_mask: the user's own mask: NIfTI on the CT's grid, RTSTRUCT or SEG.
        segment_weights: weights of the backend that segmented the study's lungs, if it was one with weights.
        segment_lobe_weights: its weights for lobes, if it had any.
        device: `cpu`, `cuda` or `mps`.
        config: a complete configuration, of which `seed` and block `synthesize` are read; None: the defaults.
        threads: jobs side by side; they change no bytes.

    Returns:
        The files written.

    Raises:
        Ct2vqError: no trained model, models that were prepared differently, an unreadable CT, no lungs found, or the
            weights of the study's backend are not on this machine (D708).
    """
    config = config or complete_config({"study": "apply"})
    weights = {model.resolve().name: _weights_of(model) for model in models}
    header = _common_header([path for paths in weights.values() for path in paths])
    settings = {block: completed_block(block, header.get(block) or {}) for block in ("convert", "segment", "crop")}
    weights_here = {"weights": segment_weights, "lobe_weights": segment_lobe_weights}
    backend = None if lung_mask else _backend(settings["segment"], weights_here)
    with ThreadPoolExecutor(threads) as pool:
        if threads > 1:
            pool.submit(importlib.import_module, "torch")  # seconds, while the CT is read
        files, volumes = _prepare(ct, output, settings, lung_mask, backend)
        case = read_cropped_case(files["cropped"], ())
        images, spreads = _predicted(weights, case, device, config, threads)
        grid = read_volume(files["cropped"] / "lungs.nii.gz")
        way_back, label = WayBack(grid, volumes["lungs"]), label_of(header["simulated"])
        written = {target: output / f"{target}.nii.gz" for target in images}
        jobs = [pool.submit(_write_image, way_back, images[target], path, label) for target, path in written.items()]
        told = ""
        if spreads:
            told = spread_label(_whose(weights, config["synthesize"]), header["simulated"])
            for target, image in spreads.items():
                path = written[f"{target}_uncertainty"] = output / f"{target}_uncertainty.nii.gz"
                jobs.append(pool.submit(lambda one, to: write_volume(way_back.linear(one), to, told), image, path))
        figure = _draw(volumes, grid, images, "_".join(weights), header["simulated"], output / "apply.png")
        for job in jobs:
            job.result()
    write_json(_record(weights, header, list(images), told), output / "apply.json")
    return [files["ct"], files["lungs"], *written.values(), output / "apply.json", figure]


def _weights_of(model: Path) -> list[Path]:
    weights = sorted(model.glob("fold*/weights.safetensors"))
    if not weights:
        raise Ct2vqError("no trained model here", path=model, hint="train first, or name results/train/<model>")
    return weights


def _predicted(
    weights: Mapping[str, Sequence[Path]], case: CroppedCase, device: str, config: Mapping[str, Any], threads: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The images, and how far the models disagree if that is asked for, on the network's grid by target."""
    settings = config["synthesize"]
    members = {name: predict_all(paths, case, device, settings, threads) for name, paths in weights.items()}
    images = mean_images([mean_images(folds) for folds in members.values()])
    if settings["uncertainty"] == "folds":
        return images, fold_spread([fold for folds in members.values() for fold in folds])
    if settings["uncertainty"] == "dropout":
        return images, joined_spread(
            [
                dropout_spread(
                    path, case, device, settings, seed=config["seed"], name=f"apply/{name}/{path.parent.name}"
                )
                for name, paths in weights.items()
                for path in paths
            ]
        )
    return images, {}


def _whose(weights: Mapping[str, Sequence[Path]], settings: Mapping[str, Any]) -> str:
    """Whose standard deviation the map of uncertainty is."""
    if settings["uncertainty"] == "folds":
        return f"{sum(map(len, weights.values()))} folds' models"
    return f"{settings['dropout_samples']} dropout runs"


def _write_image(way_back: WayBack, image: np.ndarray, path: Path, label: str) -> None:
    write_volume(way_back(image), path, label)


def _record(
    weights: Mapping[str, Sequence[Path]], header: Mapping[str, Any], targets: Sequence[str], told: str
) -> dict[str, Any]:
    """What stands in `apply.json`; of several models, each with its folds."""
    record = {
        "label": label_of(header["simulated"]),
        "model": ", ".join(weights),
        "folds": max(map(len, weights.values())),
        "weights_sha256": [sha256_file(path) for paths in weights.values() for path in paths],
        "targets": list(targets),
    }
    if len(weights) > 1:
        record["models"] = {name: [sha256_file(path) for path in paths] for name, paths in weights.items()}
    return record | ({"uncertainty": told} if told else {})


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
) -> tuple[dict[str, Path], dict[str, sitk.Image]]:
    """Convert, segment and crop as the study that trained the models did: the files, and CT and lungs from them."""
    cropped = output / "cropped"
    files = {"ct": output / "ct.nii.gz", "lungs": output / "lungs.nii.gz", "cropped": cropped}
    convert_ct(ct, files["ct"], output / "ct.json", settings["convert"], "apply")
    image = read_volume(files["ct"])
    segment_case(
        files["ct"],
        files["lungs"],
        output / "lungs.json",
        settings["segment"],
        lung_mask,
        same_frame=frame_of_folder(ct) if lung_mask else None,
        backend=backend,
        image=image,
    )
    outputs = {
        "ct": cropped / "ct.nii.gz",
        "enhanced": cropped / "ct_enhanced.nii.gz",
        "texture": cropped / "ct_texture.nii.gz",
        "lungs": cropped / "lungs.nii.gz",
        "record": cropped / "crop.json",
    }
    lungs = read_volume(files["lungs"])
    crop_case(files["ct"], files["lungs"], outputs, settings["crop"], (image, lungs))
    return files, {"ct": image, "lungs": lungs}


def _common_header(weights: Sequence[Path]) -> dict[str, Any]:
    """What all weights say of their preparation.

    Raises:
        Ct2vqError: a baseline, or weights that were prepared differently.
    """
    headers = [read_header(path) for path in weights]
    for path, header in zip(weights, headers, strict=True):
        if "crop" not in header:
            raise Ct2vqError(f"a baseline of kind `{header['kind']}` cannot be applied alone", path=path)
        for block in ("convert", "segment", "crop", "simulated"):
            if _as_prepared(header, block) != _as_prepared(headers[0], block):
                problem = f"the folds and models to apply were trained on other images than each other (`{block}`)"
                raise Ct2vqError(problem, path=path, hint="train them again")
        same_model = path.parent.parent == weights[0].parent.parent
        if same_model and header["targets"] != headers[0]["targets"]:
            raise Ct2vqError("the folds of this model were trained differently", path=path, hint="train them again")
    return headers[0]


def _as_prepared(header: Mapping[str, Any], block: str) -> Any:
    """A block of the preparation; settings that came after the weights have their defaults."""
    return header.get(block) if block == "simulated" else completed_block(block, header.get(block) or {})


def _draw(
    volumes: Mapping[str, sitk.Image],
    network_grid: sitk.Image,
    images: Mapping[str, np.ndarray],
    model: str,
    simulated: bool,
    figure: Path,
) -> Path:
    from ct2vq.panels import draw_images

    settings = complete_config({"study": "apply"})
    draw_images(
        {f"{model}_{target}": image for target, image in images.items()},
        volumes["ct"],
        volumes["lungs"],
        network_grid,
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

"""Trained networks of others, used where their weights lie on disk: lungmask and TotalSegmentator.

Nothing is ever downloaded, and no usage is reported: both libraries would fetch weights by themselves, so they are
called below the functions that do. Both are optional (requirements-lungmask.txt, requirements-totalsegmentator.txt)
and are imported only where the config asks for them.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.errors import SegmentationError
from ct2vq.lungs import LOBE_SIDES, LOBES
from ct2vq.volume import from_array, read_volume, require_same_grid, to_array, write_volume

#: lobe labels of lungmask's LTRCLobes (its README) as ours
LTRC_LOBES = {1: 4, 2: 5, 3: 1, 4: 2, 5: 3}
#: TotalSegmentator's names of our lobes
TOTAL_NAMES = {
    1: "lung_upper_lobe_right",
    2: "lung_middle_lobe_right",
    3: "lung_lower_lobe_right",
    4: "lung_upper_lobe_left",
    5: "lung_lower_lobe_left",
}


def backend_of(
    settings: Mapping[str, Any], weights: Mapping[str, str | None]
) -> Callable[[sitk.Image, Mapping[str, Any]], tuple[sitk.Image, sitk.Image | None]] | None:
    """The backend that settings name, with the places of its weights; None for the method without weights.

    Args:
        settings: config block `segment`; of weights it may hold digests.
        weights: path by key of the backend's block; they take the digests' places.
    """
    name = settings.get("backend", "classic")
    if name == "classic":
        return None
    block = {**settings[name], **weights}
    return lambda ct, _: run_backend(ct, {"backend": name, name: block})


def run_backend(ct: sitk.Image, settings: Mapping[str, Any]) -> tuple[sitk.Image, sitk.Image | None]:
    """Lungs, and lobes if the network tells them.

    Args:
        ct: HU, any grid and direction.
        settings: config block `segment`.

    Returns:
        labels 1 right and 2 left, and lobes (`ct2vq.lungs.LOBES`) or None, on the CT's grid.

    Raises:
        SegmentationError: the library or the weights are not there (D708).
    """
    if settings["backend"] == "lungmask":
        return _lungmask(ct, settings["lungmask"])
    lobes = _totalsegmentator(ct, settings["totalsegmentator"])
    return _sides(lobes), lobes


def _lungmask(ct: sitk.Image, settings: Mapping[str, Any]) -> tuple[sitk.Image, sitk.Image | None]:
    """R231 alone, or LTRCLobes with R231 filling what it leaves out (Hofmanninger et al., Eur Radiol Exp 2020;4:50)."""
    lungs = _weights(settings["weights"], "lungmask.weights", "the file `unet_r231-d5d2fc3d.pth`", folder=False)
    wanted = settings["lobe_weights"]
    lobes = wanted and _weights(wanted, "lungmask.lobe_weights", "the file `unet_ltrclobes-3a07043d.pth`", folder=False)
    try:
        import torch
        from lungmask import LMInferer
    except ModuleNotFoundError as error:
        raise _not_installed("lungmask", error) from error
    torch.set_num_threads(1)
    _into_the_log("lungmask")
    choice = (
        {"modelpath": str(lobes), "fillmodel": "R231", "fillmodel_path": str(lungs)}
        if lobes
        else {"modelpath": str(lungs)}
    )
    network = LMInferer(force_cpu=True, batch_size=int(settings["batch_size"]), tqdm_disable=True, **choice)
    found = network.apply(ct).astype(np.uint8)
    if not lobes:
        return from_array(found, ct), None
    table = np.zeros(256, dtype=np.uint8)
    table[list(LTRC_LOBES)] = list(LTRC_LOBES.values())
    image = from_array(table[found], ct)
    return _sides(image), image


def _into_the_log(library: str) -> None:
    """Let a library's warnings go to the rule's log; lungmask would tell the names of weights files on stdout."""
    logger = logging.getLogger(library)
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def _totalsegmentator(ct: sitk.Image, settings: Mapping[str, Any]) -> sitk.Image:
    """The five lobes of the task `total` (Wasserthal et al., Radiol Artif Intell 2023;5:e230024).

    Only the network that knows the lobes runs, on the whole image: no rough first pass, whose weights would be one
    more thing to have.
    """
    key = "totalsegmentator.weights"
    root = _weights(settings["weights"], key, "the folder with `Dataset291_...` (or `Dataset297_...`)", folder=True)
    # Read at import: where nnU-Net finds its models.
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(root)
    try:
        import torch
        from totalsegmentator.config import setup_nnunet
        from totalsegmentator.map_tasks_config import TASK_CONFIGS, TASK_ID_WEIGHTS_CONFIGS
        from totalsegmentator.map_to_binary import class_map

        setup_nnunet()
        from totalsegmentator.nnunet import nnUNet_predict_image
    except ModuleNotFoundError as error:
        raise _not_installed("totalsegmentator", error) from error
    torch.set_num_threads(1)
    mode = TASK_CONFIGS["total"]["sub_modes"]["fast" if settings["fast"] else "default"]
    # the first part of the full-resolution model knows the organs, lobes among them
    task = mode["task_id"] if settings["fast"] else mode["task_id"][:1]
    number = task if settings["fast"] else task[0]
    model = root / TASK_ID_WEIGHTS_CONFIGS[number]["foldername"]
    _weights(str(model), key, f"the folder `{model.name}`", folder=True)
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "ct.nii.gz", Path(folder) / "lobes.nii.gz"
        write_volume(ct, given)
        image, _, _ = nnUNet_predict_image(
            given,
            None,
            task,
            model="3d_fullres",
            folds=[0],
            trainer=mode["trainer"],
            tta=False,
            multilabel_image=True,
            resample=mode["resample"],
            task_name="total",
            nr_threads_resampling=1,
            nr_threads_saving=1,
            quiet=True,
            device=torch.device("cpu"),
        )
        image.to_filename(str(made))
        found = read_volume(made)
    require_same_grid(ct, found, "the CT", "TotalSegmentator's answer")
    values = to_array(found)
    numbers = {name: label for label, name in class_map["total"].items()}
    result = np.zeros(values.shape, dtype=np.uint8)
    for lobe in LOBES:
        result[values == numbers[TOTAL_NAMES[lobe]]] = lobe
    return from_array(result, ct)


def _sides(lobes: sitk.Image) -> sitk.Image:
    """The lungs that lobes make up."""
    table = np.zeros(max(LOBE_SIDES) + 1, dtype=np.uint8)
    table[list(LOBE_SIDES)] = list(LOBE_SIDES.values())
    return from_array(table[to_array(lobes)], lobes)


def _weights(told: str | None, key: str, expected: str, *, folder: bool) -> Path:
    """Where weights lie.

    Raises:
        SegmentationError: they are not there (D708).
    """
    path = Path(told) if told else None
    if path is None or not (path.is_dir() if folder else path.is_file()):
        raise SegmentationError(
            "D708",
            f"no weights here, {expected} is expected" if path else f"no weights are named, {expected} is expected",
            path=path,
            key=f"segment: {key}",
            hint="get them from their authors (nothing is downloaded), or set segment: backend: classic",
        )
    return path


def _not_installed(name: str, error: ModuleNotFoundError) -> SegmentationError:
    return SegmentationError(
        "D708",
        f"the backend `{name}` cannot be imported: no module {error.name}",
        key="segment: backend",
        hint=f"pip install -r requirements-{name}.txt, or set segment: backend: classic",
    )

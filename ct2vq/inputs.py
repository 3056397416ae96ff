"""What networks read: a cropped case as arrays, and the channels made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ct2vq.crop.texture import TEXTURES
from ct2vq.crop.window import window
from ct2vq.lungs import normalised_position
from ct2vq.volume import read_volume, require_same_grid, to_array, to_components

#: names of the volumes made of a case's CT
CT_FILES = ("ct", "ct_enhanced", "ct_texture", "lungs")
#: HU of a texture's spread that a network sees as 1
_SPREAD_HU = 200.0


@dataclass(frozen=True)
class CroppedCase:
    """A case on the network's grid; all arrays `(z, y, x)`.

    Attributes:
        case_id: the case.
        hu: CT in HU, float32.
        enhanced: enhanced CT, float32, 0 outside the lungs.
        texture: `ct2vq.crop.texture.TEXTURES` first, `(texture, z, y, x)`, float32, 0 outside the lungs.
        lungs: labels, uint8 (1 right, 2 left).
        spacing_mm: voxel size.
        targets: normalised SPECT images 0..1 by name (empty for a new case).
    """

    case_id: str
    hu: np.ndarray
    enhanced: np.ndarray
    texture: np.ndarray
    lungs: np.ndarray
    spacing_mm: float
    targets: Mapping[str, np.ndarray]

    @property
    def inside(self) -> np.ndarray:
        """The lungs as a boolean mask."""
        return self.lungs > 0


def read_cropped_case(folder: Path, targets: Sequence[str]) -> CroppedCase:
    """Read `results/crop/<case>` with some of its targets.

    Raises:
        GeometryError: the volumes do not share a grid.
        Ct2vqError: a volume is missing.
    """
    names = (*CT_FILES, *targets)
    volumes = {name: read_volume(folder / f"{name}.nii.gz") for name in names}
    for name in names:
        require_same_grid(volumes["lungs"], volumes[name], f"{folder.name} lungs", f"{folder.name} {name}")
    arrays = {name: to_array(volume) for name, volume in volumes.items() if name != "ct_texture"}
    return CroppedCase(
        folder.name,
        arrays["ct"],
        arrays["ct_enhanced"],
        to_components(volumes["ct_texture"]),
        arrays["lungs"],
        float(volumes["lungs"].GetSpacing()[0]),
        {target: arrays[target] for target in targets},
    )


def case_folders(images: Sequence[str]) -> list[Path]:
    """The folders of a list of cropped images, each once, in order."""
    return list(dict.fromkeys(Path(image).parent for image in images))


def ct_channels(network: Mapping[str, Any]) -> int:
    """How many of the first channels are made from CT values; augmentation changes only these."""
    return 1 + bool(network["enhanced"]) + len(TEXTURES) * bool(network["texture"])


def channels(network: Mapping[str, Any]) -> int:
    """How many channels `network_channels` makes."""
    return ct_channels(network) + 3 * bool(network["coordinates"])


def network_channels(case: CroppedCase, network: Mapping[str, Any], window_hu: Sequence[float]) -> np.ndarray:
    """Input channels of a network, float32 `(channel, z, y, x)`, all 0 outside the lungs.

    The windowed CT comes first, the enhanced CT if `enhanced` is set, textures if `texture` is (shares of bright
    voxels by their square root, as most are small; the spread in units of 200 HU), lung-normalised position if
    `coordinates` is.
    """
    found = [window(case.hu, case.inside, tuple(window_hu))]
    if network["enhanced"]:
        found.append(case.enhanced)
    if network["texture"]:
        low, high, spread = case.texture
        found += [low, np.sqrt(high), spread / _SPREAD_HU]
    if network["coordinates"]:
        found += list(normalised_position(case.lungs))
    return np.stack(found).astype(np.float32)

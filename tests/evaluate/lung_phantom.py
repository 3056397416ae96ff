"""A pair of lungs on a fine and a coarse grid with images whose defects are known, for the tests of `evaluate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from factories import lung_labels
from scipy.ndimage import gaussian_filter

from ct2vq.config import complete_config
from ct2vq.evaluate.images import CaseImages
from ct2vq.evaluate.regions import find_regions
from ct2vq.lungs import LOBES, resample_labels
from ct2vq.segment.regions import thirds
from ct2vq.volume import from_array, make_grid, to_array, write_volume

SETTINGS = complete_config({"study": "x"})["evaluate"]
ARMS = {"ddran": {"perfusion": "ddran", "ventilation": "ddran"}}
#: a body of 288 x 192 x 192 mm: the CT in 4 mm, the network's grid in 8 mm
FINE_MM, COARSE_MM = 4.0, 8.0
ORIGIN = (-142.0, -94.0, -94.0)


def fine_lungs() -> sitk.Image:
    """Labels on the CT's grid."""
    return from_array(lung_labels((48, 48, 72)), make_grid((72, 48, 48), [FINE_MM] * 3, ORIGIN))


def coarse_lungs() -> sitk.Image:
    """Labels on the network's grid."""
    centre = [first + (COARSE_MM - FINE_MM) / 2 for first in ORIGIN]
    return resample_labels(fine_lungs(), make_grid((36, 24, 24), [COARSE_MM] * 3, centre))


def lobes(lungs: sitk.Image) -> sitk.Image:
    """Lobes by height: three in the right lung, two in the left."""
    labels = to_array(lungs)
    height = np.linspace(0, 1, labels.shape[0])[:, None, None] * np.ones(labels.shape)
    right = np.select([height > 0.6, height > 0.45], [1, 2], 3)
    return from_array(np.where(labels == 1, right, np.where(labels == 2, np.where(height > 0.5, 4, 5), 0)), lungs)


def noise(seed: int, shape: tuple[int, ...], sigma: float = 2.0) -> np.ndarray:
    """A smooth random field of unit variance."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return field / field.std()


def function(seed: int, lungs: sitk.Image, spread: float = 0.22) -> np.ndarray:
    """An image of function of about 0.6 in the lungs, 0 outside."""
    labels = to_array(lungs)
    return np.where(labels > 0, np.clip(0.6 + spread * noise(seed, labels.shape), 0, 1), 0).astype(np.float32)


def phantom_case(*, known: bool = False) -> CaseImages:
    """SPECT and two models of both targets on the network's grid; with the truth if it is `known`."""
    lungs = coarse_lungs()
    regions = find_regions(lungs, SETTINGS["core_mm"], thirds(fine_lungs()), lobes(fine_lungs()))
    images = {}
    for offset, target in enumerate(("perfusion", "ventilation")):
        images["spect", target] = function(offset, lungs)
        images["ddran", target] = (images["spect", target] + 0.5 * function(10 + offset, lungs)) / 1.5
        if known:
            images["truth", target] = (3 * images["spect", target] + function(20 + offset, lungs)) / 4
            images["truth_visible", target] = (images["truth", target] + function(30 + offset, lungs)) / 2
    return CaseImages("c1", regions, images, np.zeros(to_array(lungs).shape, np.uint8) if known else None)


def write_phantom(folder: Path, case: CaseImages) -> dict[str, Path]:
    """The files that `read_images` takes."""
    lungs = coarse_lungs()
    volumes = {"lungs": lungs, "regions": thirds(fine_lungs()), "lobes": sitk.Cast(lobes(fine_lungs()), sitk.sitkUInt8)}
    volumes |= {f"{source}_{target}": from_array(image, lungs) for (source, target), image in case.images.items()}
    for name, volume in volumes.items():
        write_volume(volume, folder / f"{name}.nii.gz")
    return {name: folder / f"{name}.nii.gz" for name in volumes}


def names_of_lobes() -> list[str]:
    """Names of the five lobes."""
    return list(LOBES.values())

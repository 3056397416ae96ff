"""The regions in which images are compared, on the evaluation grid; arrays have axes `(z, y, x)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.lungs import LEFT, LOBE_SIDES, LOBES, RIGHT, THIRD_SIDES, THIRDS, labels_in_lungs
from ct2vq.names import LUNGS
from ct2vq.volume import resample, to_array

CORE, CROP = "core", "crop"
#: name of each lung, by its label
LUNG_NAMES = {RIGHT: "right", LEFT: "left"}
#: parts of which each has a share of all function
PARTS = (*LUNG_NAMES.values(), *THIRDS.values(), *LOBES.values())


@dataclass(frozen=True)
class Regions:
    """Parts of the lungs on one grid.

    Attributes:
        masks: each region as booleans `(z, y, x)`, in the order of the tables; `lungs` is the first.
        spacing_mm: voxel size of the isotropic grid.
    """

    masks: Mapping[str, np.ndarray]
    spacing_mm: float

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size `(z, y, x)` in mm."""
        return (self.spacing_mm,) * 3

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return self.spacing_mm**3 / 1000

    @property
    def inside(self) -> np.ndarray:
        """Both lungs as booleans `(z, y, x)`."""
        return self.masks[LUNGS]

    def volume_ml(self, region: str) -> float:
        """Volume of a region in mL."""
        return float(np.count_nonzero(self.masks[region])) * self.voxel_ml


def find_regions(
    lungs: sitk.Image, core_mm: float, thirds: sitk.Image | None = None, lobes: sitk.Image | None = None
) -> Regions:
    """The regions of a pair of lungs: both, their core, each lung, thirds and lobes where they are given.

    Thirds and lobes fill each lung exactly, so that the volumes of a lung's parts add up to its own.

    Args:
        lungs: labels 1 right, 2 left on the evaluation grid, which is isotropic.
        core_mm: thickness in mm of the shell that the core leaves out.
        thirds: labels by `ct2vq.lungs.THIRDS` on any grid.
        lobes: labels by `ct2vq.lungs.LOBES` on any grid.
    """
    labels = to_array(lungs)
    inside, spacing_mm = labels > 0, float(lungs.GetSpacing()[0])
    masks = {LUNGS: inside, CORE: core_of(inside, core_mm, spacing_mm)}
    masks |= {name: labels == side for side, name in LUNG_NAMES.items()}
    for given, names, sides in ((thirds, THIRDS, THIRD_SIDES), (lobes, LOBES, LOBE_SIDES)):
        if given is not None:
            carried = labels_in_lungs(to_array(resample(given, lungs, linear=False)), lungs, sides)
            masks |= {name: carried == label for label, name in names.items()}
    return Regions(masks, spacing_mm)


def core_of(inside: np.ndarray, depth_mm: float, spacing_mm: float) -> np.ndarray:
    """The lungs without a shell: voxels whose centre lies at least `depth_mm` from the lungs' surface.

    The surface lies half a voxel outside the centres of the outermost voxels. Edge blur and the empty background,
    which any image of the lungs shares, act in the shell (a SPECT resolves about 10 mm).

    Args:
        inside: the lungs.
        depth_mm: thickness of the shell in mm.
        spacing_mm: voxel size.
    """
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1, 1:-1]
    return (distance - 0.5) * spacing_mm >= depth_mm if depth_mm > 0 else inside.copy()

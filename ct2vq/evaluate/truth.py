"""What the image of a simulated patient should be, on the network's grid and normalised as the SPECT was.

The truth lies in the patient's true lungs on the CT's grid, the images in the lungs that were found: where these reach
beyond the true ones, the truth of the nearest true lung goes on. Positions are mm (LPS), arrays `(z, y, x)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.config import TARGETS
from ct2vq.crop.grid import averaged
from ct2vq.crop.spect import normalise_spect
from ct2vq.fields import jacobian
from ct2vq.files import read_json
from ct2vq.lungs import fill_from_inside
from ct2vq.volume import from_array, read_volume, require_same_grid, resample, to_array, write_volume

#: references of simulated cases, and what their files are called in the truth
TRUTHS = {"truth": "system", "truth_visible": "visible_system"}
#: labels of `findings.nii.gz`
VISIBLE_EMBOLUS, INVISIBLE_EMBOLUS, OTHER_DISEASE = 1, 2, 3
#: values of the truth's `disease.nii.gz`
_SHOWN, _HIDDEN = 1, 2
#: lung behind a clot keeps a third of its perfusion or less and all of its ventilation; gravity changes Q/V by less
_CLOT_RATIO = 0.5
#: below it a weight is round-off of the interpolation
_LEAST_WEIGHT = 1e-3


class LungInterpolator:
    """Linear interpolation between lung voxels only: motion and function end at the pleura.

    Args:
        lungs: labels on the grid of the volumes.
        grid: labels on the new grid; a voxel outside the lungs takes the value of the nearest one inside.
        average: average first what the new grid cannot hold, as a SPECT is averaged.
    """

    def __init__(self, lungs: sitk.Image, grid: sitk.Image, *, average: bool = False) -> None:
        self.lungs, self.grid, self.average = lungs, grid, average
        self.inside = to_array(lungs) > 0
        self.weight = to_array(self._resampled(from_array(self.inside.astype(np.float32), lungs)))
        known = (self.weight > _LEAST_WEIGHT) & (to_array(grid) > 0)
        self.nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)

    def _resampled(self, image: sitk.Image) -> sitk.Image:
        return resample(averaged(image, self.grid.GetSpacing()[0]) if self.average else image, self.grid)

    def __call__(self, image: sitk.Image) -> np.ndarray:
        """The values of an image on the new grid, float32 `(z, y, x)`; of displacements `(z, y, x, 3)`.

        Raises:
            GeometryError: the image is not on the lungs' grid.
        """
        require_same_grid(self.lungs, image, "lungs", "image")
        values = to_array(image).astype(np.float32)
        mask, weight = self.inside, np.maximum(self.weight, _LEAST_WEIGHT)
        if values.ndim == 4:
            mask, weight = mask[..., None], weight[..., None]
        masked = sitk.GetImageFromArray(np.where(mask, values, np.float32(0)), isVector=values.ndim == 4)
        masked.CopyInformation(self.lungs)
        return (to_array(self._resampled(masked)) / weight)[tuple(self.nearest)]


@dataclass(frozen=True)
class KnownTruth:
    """The truth of a simulated case, and how its SPECT was made comparable.

    Attributes:
        folder: `results/simulate/<case>/truth`.
        spect: config block `crop.spect`, by which the SPECT was normalised.
        modulate: whether the SPECT was multiplied by the Jacobian determinant (config `register.modulate`).
    """

    folder: Path
    spect: Mapping[str, Any]
    modulate: bool = False


def carry_truth(truth: KnownTruth, lungs: Path, outputs: Mapping[str, Path]) -> None:
    """Write a simulated case's truth on the network's grid.

    Args:
        truth: the truth on the CT's grid.
        lungs: lung labels on the network's grid.
        outputs: volumes to write: `<reference>_<target>` for each of `TRUTHS` and `TARGETS` (0..1 in the lungs), and
            `findings` (labels of the module).

    Raises:
        GeometryError: the truth's volumes do not share a grid, or the lungs are empty.
        CropError: a truth without activity in the lungs.
    """
    grid, true_lungs = read_volume(lungs), read_volume(truth.folder / "lungs.nii.gz")
    inside, spacing_mm = to_array(grid) > 0, float(grid.GetSpacing()[0])
    at = LungInterpolator(true_lungs, grid, average=True)
    factor = _change_of_volume(truth.folder, true_lungs, grid) if truth.modulate else 1.0
    known = without_hot_spots(truth.spect)
    for reference, kind in TRUTHS.items():
        for target in TARGETS:
            values = at(read_volume(truth.folder / f"{target}_{kind}.nii.gz")) * factor
            normalised, _ = normalise_spect(values, inside, spacing_mm, known)
            write_volume(from_array(normalised, grid), outputs[f"{reference}_{target}"])
    write_volume(_findings(truth.folder, grid), outputs["findings"])


def without_hot_spots(spect: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of normalisation for images without artefacts: whatever is bright in the truth is function."""
    return {**spect, "hot_spots": {**spect["hot_spots"], "method": "none"}}


def _change_of_volume(truth: Path, lungs: sitk.Image, grid: sitk.Image) -> np.ndarray:
    """Jacobian determinant `(z, y, x)` of the true motion from the CT to the SPECT.

    The lungs slide along the chest wall: no derivative is taken across their surface, where the nearest one goes on.
    """
    displacement = LungInterpolator(lungs, grid)(read_volume(truth / "ct_to_spect_displacement.nii.gz"))
    field = sitk.GetImageFromArray(displacement.astype(np.float64), isVector=True)
    field.CopyInformation(grid)
    deep = ndimage.binary_erosion(to_array(grid) > 0)
    return fill_from_inside(jacobian(field), deep).astype(np.float32) if deep.any() else np.float32(1)


def _findings(truth: Path, grid: sitk.Image) -> sitk.Image:
    """Labels of what is wrong with each part of the lungs, on a grid: the label at each voxel's centre."""
    facts = read_json(truth / "truth.json")
    names = ("disease", "segments", "perfusion", "ventilation", "lungs")
    volumes = {name: read_volume(truth / f"{name}.nii.gz") for name in names}
    labels = label_findings({name: to_array(volume) for name, volume in volumes.items()}, facts)
    carried = to_array(resample(from_array(labels, volumes["disease"]), grid, linear=False))
    return from_array(np.where(to_array(grid) > 0, carried, 0).astype(np.uint8), grid)


def label_findings(truth: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> np.ndarray:
    """Emboli that a CT shows, emboli that it does not, and other disease, by the labels of the module.

    The truth tells what a CT shows and what it does not, and of each finding its segments. Nothing but emboli is
    hidden; of what shows in a segment with a visible embolus, lung that is ventilated and hardly perfused is behind
    the clot.

    Args:
        truth: `disease`, `segments`, `lungs` (labels), `perfusion` and `ventilation` (sharp), all `(z, y, x)`.
        facts: `truth.json`.

    Returns:
        uint8 `(z, y, x)`.
    """
    inside = truth["lungs"] > 0
    shown = (truth["disease"] == _SHOWN) & inside
    labels = np.where(shown, OTHER_DISEASE, 0).astype(np.uint8)
    labels[(truth["disease"] == _HIDDEN) & inside] = INVISIBLE_EMBOLUS
    segments = _segments_of(facts["findings"], facts["segments"])
    if segments:
        ratio = truth["perfusion"] / np.maximum(truth["ventilation"], np.float32(1e-6))
        healthy = inside & (truth["disease"] == 0)
        usual = float(np.median(ratio[healthy])) if healthy.any() else 1.0
        labels[shown & np.isin(truth["segments"], segments) & (ratio < _CLOT_RATIO * usual)] = VISIBLE_EMBOLUS
    return labels


def _segments_of(findings: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> Sequence[int]:
    """Labels of the segments that hold a visible embolus."""
    labels = {name: int(label) for label, name in names.items()}
    emboli = [one for one in findings if one["kind"] == "embolus" and one["visible_on_ct"]]
    return sorted({labels[segment] for one in emboli for segment in one["segments"]})

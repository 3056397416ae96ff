"""A case's images on the evaluation grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.evaluate.regions import Regions, find_regions
from ct2vq.lungs import fill_from_inside, grid_around, resample_labels, resample_smoothed
from ct2vq.names import CEILINGS, REFERENCES
from ct2vq.volume import from_array, read_volume, require_same_grid, resample, to_array

#: inputs that are labels, no images of function
LABELS = ("lungs", "regions", "lobes", "findings")
#: mm left round the lungs on a grid of its own, so that the windows of SSIM over the whole crop find background
_MARGIN_MM = 8.0


@dataclass(frozen=True)
class CaseImages:
    """What is known of a case on the evaluation grid; all arrays `(z, y, x)`.

    Attributes:
        case_id: the case.
        regions: parts of the lungs.
        images: float32 images of function, 0 outside the lungs, by source (`spect`, `truth`, `truth_visible` or a
            model) and target.
        findings: labels of `ct2vq.evaluate.truth`, None where the truth is not known.
    """

    case_id: str
    regions: Regions
    images: Mapping[tuple[str, str], np.ndarray]
    findings: np.ndarray | None = None

    @property
    def references(self) -> list[str]:
        """What images are compared with, in the order of the tables."""
        return [name for name in REFERENCES if any(source == name for source, _ in self.images)]

    def models(self) -> dict[tuple[str, str], np.ndarray]:
        """Images by model and target; last the ceilings, which are the truth under another name."""
        found = {key: image for key, image in self.images.items() if key[0] not in REFERENCES}
        ceilings = {
            (name, target): image
            for name, truth in CEILINGS.items()
            for (source, target), image in self.images.items()
            if source == truth
        }
        return found | ceilings

    def pairs(self) -> list[tuple[str, str, str]]:
        """Model, target and reference of all that is compared; no image is compared with itself."""
        return [
            (model, target, reference)
            for model, target in self.models()
            for reference in self.references
            if (reference, target) in self.images and reference in references_of(model)
        ]

    def with_images(self, images: Mapping[tuple[str, str], np.ndarray]) -> CaseImages:
        """The case with some images replaced by others on the same grid."""
        return replace(self, images={**self.images, **images})


def references_of(model: str) -> tuple[str, ...]:
    """What a model may be scored against: a ceiling only against what knows more than it."""
    return REFERENCES[: REFERENCES.index(CEILINGS[model])] if model in CEILINGS else REFERENCES


def read_images(case_id: str, files: Mapping[str, Path], settings: Mapping[str, Any]) -> CaseImages:
    """Read a case and bring all of it onto the evaluation grid.

    Args:
        case_id: the case.
        files: `lungs` on the network's grid; `regions` (thirds) and perhaps `lobes` on any; perhaps `findings`; all
            others are images `<source>_<target>`.
        settings: config block `evaluate`. Without `spacing_mm` the network's grid is that of the evaluation, and
            every image must lie on it; with it every image is resampled, whatever grid it has.

    Raises:
        GeometryError: no lungs, or an image that is not on the network's grid where it must be.
    """
    lungs = read_volume(files["lungs"])
    grid = evaluation_grid(lungs, settings["spacing_mm"])
    labels = {name: read_volume(files[name]) for name in LABELS[1:] if name in files}
    regions = find_regions(grid, settings["core_mm"], labels.get("regions"), labels.get("lobes"))
    images = {}
    for name, path in files.items():
        if name not in LABELS:
            source, target = name.rsplit("_", 1)
            images[source, target] = _on_grid(read_volume(path), lungs, grid, name)
    findings = labels.get("findings")
    carried = None if findings is None else to_array(resample(findings, grid, linear=False))
    return CaseImages(case_id, regions, images, carried)


def evaluation_grid(lungs: sitk.Image, spacing_mm: float | None) -> sitk.Image:
    """Lung labels on the evaluation grid: the network's own, or an isotropic one of another spacing.

    Args:
        lungs: labels on the network's grid.
        spacing_mm: voxel size in mm, None for the network's grid.
    """
    if spacing_mm is None:
        return lungs
    return resample_labels(lungs, grid_around(lungs, spacing_mm, _MARGIN_MM))


def _on_grid(image: sitk.Image, lungs: sitk.Image, grid: sitk.Image, name: str) -> np.ndarray:
    """The image in the lungs on the evaluation grid; what lies outside them counts nowhere."""
    inside = to_array(grid) > 0
    if grid is lungs:
        require_same_grid(lungs, image, "lungs", name)
        return np.where(inside, to_array(image), 0).astype(np.float32)
    own = to_array(resample(lungs, image, linear=False)) > 0
    filled = from_array(fill_from_inside(to_array(image), own), image) if own.any() else image
    return np.where(inside, to_array(resample_smoothed(filled, grid, outside=0)), 0).astype(np.float32)

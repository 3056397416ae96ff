"""How good a registration is, without knowing the truth: figures for `qc.json`, on coarse grids and in a second.

The case is sampled every `SAMPLE_MM` in and around the CT's lungs; the Jacobian and the inverse consistency are
measured where the fields are stored. "Before" is as the headers place the images, "after" is through the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.config import TARGETS
from ct2vq.fields import as_transform, grid_of, inverse_error, jacobian
from ct2vq.lungs import SIDES, dice, grid_around, smooth_in_lungs
from ct2vq.register.content import FWHM_PER_SIGMA, SPECT_FWHM_MM, compare_content
from ct2vq.register.frames import spects_of
from ct2vq.register.landmarks import Landmarks
from ct2vq.volume import resample, to_array, voxel_volume_ml

SAMPLE_MM = 4.0
#: the sampled region reaches this far beyond the lungs; SPECT counts within it are what can lie inside or outside
REGION_MM = 30.0
#: mutual information is measured in the lungs and this far round them, where the pleura's edge and the diaphragm lie
EDGE_MM = 15.0
#: grey values beyond these are bone and metal, or nothing
HU_RANGE = (-1000.0, 200.0)
BINS = 32
#: standard deviation of the average that lung detail is told from: well above a vessel, well below a lobe
DETAIL_MM = 12.0
#: lung so near the surface of either lung shows chest wall, diaphragm and hilum, which any two patients share
DETAIL_DEPTH_MM = 8.0
#: standard deviation of the neighbourhood in which detail is compared: a few vessels lie in it
NEIGHBOURHOOD_MM = 8.0
#: less contrast in a neighbourhood is none, HU
LEAST_CONTRAST_HU = 5.0
DETAIL_PERCENTILE = 75
SPECT_SIGMA_MM = SPECT_FWHM_MM / FWHM_PER_SIGMA
SIDE_NAMES = dict(zip(SIDES, ("right", "left"), strict=True))


@dataclass(frozen=True)
class Pair:
    """A registered case, sampled in and around the CT's lungs.

    Attributes:
        images: `ct`, `ct_lungs`, perhaps `attenuation_ct` with `attenuation_ct_lungs`, SPECT images.
        forward: displacement field from the CT's points, mm (LPS).
        inverse: the way back.
    """

    images: Mapping[str, sitk.Image]
    forward: sitk.Image
    inverse: sitk.Image

    @cached_property
    def grid(self) -> sitk.Image:
        """The sampled region."""
        return grid_around(self.images["ct_lungs"], SAMPLE_MM, REGION_MM)

    @cached_property
    def transform(self) -> sitk.Transform:
        """From points of the CT to points of the camera's images."""
        return as_transform(self.forward)

    @cached_property
    def labels(self) -> np.ndarray:
        """Lung labels `(z, y, x)`."""
        return sampled_labels(self.images["ct_lungs"], self.grid)

    @cached_property
    def distance_mm(self) -> np.ndarray:
        """Distance to the nearest lung voxel."""
        return ndimage.distance_transform_edt(self.labels == 0) * SAMPLE_MM

    @cached_property
    def displacement(self) -> np.ndarray:
        """Displacement `(z, y, x, 3)` in mm."""
        return to_array(resample(self.forward, self.grid))

    @property
    def targets(self) -> list[str]:
        """The SPECT images that are carried."""
        return [name for name in TARGETS if name in self.images]


def measure_quality(
    images: Mapping[str, sitk.Image],
    forward: sitk.Image,
    inverse: sitk.Image,
    landmarks: Landmarks | None = None,
) -> dict[str, Any]:
    """Every figure that can be had of a registration; `None` where it does not apply.

    Args:
        images: `ct` and `ct_lungs`; `attenuation_ct` and `attenuation_ct_lungs`, if there is one; SPECT images, without
            an attenuation CT the registered one first.
        forward: displacement field from CT to SPECT, mm (LPS).
        inverse: displacement field from SPECT to CT.
        landmarks: pairs of points that belong together.

    Returns:
        Figures by the names of `ct2vq.register.figures.FIGURES`, and under `spect` those of each SPECT image.
    """
    pair = Pair(images, forward, inverse)
    record = _deformation(pair) | _lungs(pair) | _likeness(pair) | _errors(pair, landmarks)
    record["spect"] = {target: _spect(pair, target) for target in pair.targets}
    return record


def _deformation(pair: Pair) -> dict[str, float | None]:
    """What the field does in the lungs: volume, folding, there and back, length."""
    inside = sampled_labels(pair.images["ct_lungs"], grid_of(pair.forward)) > 0
    volume = jacobian(pair.forward)[inside]
    error, lost = inverse_error(pair.forward, pair.inverse, inside)
    moved = pair.displacement[pair.labels > 0]
    length = np.linalg.norm(moved, axis=-1)
    apart = np.linalg.norm(moved - np.median(moved, axis=0), axis=-1)
    return {
        "jacobian_min": float(volume.min()),
        "jacobian_p1": float(np.percentile(volume, 1)),
        "jacobian_p99": float(np.percentile(volume, 99)),
        "jacobian_max": float(volume.max()),
        "folding_percent": float((volume <= 0).mean() * 100),
        "inverse_consistency_mean_mm": float(error.mean()) if error.size else None,
        "inverse_consistency_p95_mm": float(np.percentile(error, 95)) if error.size else None,
        "inverse_consistency_max_mm": float(error.max()) if error.size else None,
        "inverse_outside_percent": 100 * lost,
        "displacement_mean_mm": float(length.mean()),
        "displacement_p95_mm": float(np.percentile(length, 95)),
        "displacement_max_mm": float(length.max()),
        "deformation_max_mm": float(apart.max()),
    }


def _lungs(pair: Pair) -> dict[str, float | None]:
    """Volumes and overlap of the lungs of both CTs, and the CT's lungs that the attenuation CT does not show."""
    volume = _volume_ml(pair.images["ct_lungs"])
    names = ["dice", *(f"dice_{side}" for side in SIDE_NAMES.values())]
    record: dict[str, float | None] = {f"{name}_{when}": None for name in names for when in ("before", "after")}
    record |= {"lung_volume_ct_ml": volume, "lung_volume_attenuation_ct_ml": None, "lung_volume_ratio": None}
    record["lungs_outside_attenuation_ct_percent"] = None
    if "attenuation_ct" not in pair.images:
        return record
    lungs = pair.images["attenuation_ct_lungs"]
    for when, transform in (("before", None), ("after", pair.transform)):
        moved = sampled_labels(lungs, pair.grid, transform)
        record[f"dice_{when}"] = dice(pair.labels > 0, moved > 0)
        for side, name in SIDE_NAMES.items():
            record[f"dice_{name}_{when}"] = dice(pair.labels == side, moved == side)
    other = _volume_ml(lungs)
    record |= {"lung_volume_attenuation_ct_ml": other, "lung_volume_ratio": volume / other}
    record["lungs_outside_attenuation_ct_percent"] = _outside_percent(pair, pair.images["attenuation_ct"])
    return record


def sampled_labels(lungs: sitk.Image, grid: sitk.Image, transform: sitk.Transform | None = None) -> np.ndarray:
    """Lung labels `(z, y, x)` on a grid, each side interpolated by itself.

    The nearest voxel instead would roughen the surface of a coarse mask: of two masks of one pair of lungs with voxels
    of 5 and 6 mm it makes a Dice of 0.95, this one of 0.97.
    """
    labels = np.zeros(grid.GetSize()[::-1], np.uint8)
    for side in SIDES:
        share = resample(sitk.Cast(lungs == side, sitk.sitkFloat32), grid, transform)
        labels[to_array(share) >= 0.5] = side
    return labels


def _volume_ml(lungs: sitk.Image) -> float:
    return int(np.count_nonzero(sitk.GetArrayViewFromImage(lungs))) * voxel_volume_ml(lungs)


def _outside_percent(pair: Pair, image: sitk.Image) -> float:
    """Share of the CT's lungs whose place in an image lies beyond its voxels, in %."""
    k, j, i = np.nonzero(pair.labels)
    index = np.stack([i, j, k], axis=-1)
    points = index * np.asarray(pair.grid.GetSpacing()) + np.asarray(pair.grid.GetOrigin())
    points = points + pair.displacement[k, j, i]
    axes = np.reshape(image.GetDirection(), (3, 3))
    # the axes are columns of an orthogonal matrix, so that a product with it is a product with its inverse
    at = (points - np.asarray(image.GetOrigin())) @ axes / np.asarray(image.GetSpacing())
    held = ((at >= -0.5) & (at <= np.asarray(image.GetSize()) - 0.5)).all(axis=-1)
    return float(100 * (1 - held.mean()))


def _likeness(pair: Pair) -> dict[str, float | None]:
    """How alike the images are before and after: both CTs, or the blurred lungs and the SPECT that is registered."""
    through_ct = "attenuation_ct" in pair.images
    record: dict[str, float | None] = {"lung_detail_before": None, "lung_detail_after": None}
    near = pair.distance_mm <= EDGE_MM if through_ct else np.ones(pair.labels.shape, bool)
    fixed, moving = _ct_pair(pair) if through_ct else _spect_pair(pair)
    for when, transform in (("before", None), ("after", pair.transform)):
        outside = HU_RANGE[0] if through_ct else 0.0
        moved = to_array(resample(moving, pair.grid, transform, outside=outside))
        limits = HU_RANGE if through_ct else None
        record[f"mutual_information_{when}"] = mutual_information(fixed[near], moved[near], limits)
        if through_ct:
            lungs = sampled_labels(pair.images["attenuation_ct_lungs"], pair.grid, transform)
            record[f"lung_detail_{when}"] = lung_detail(fixed, moved, (pair.labels > 0) & (lungs > 0))
    record["mutual_information_gain"] = record["mutual_information_after"] - record["mutual_information_before"]
    return record


def _ct_pair(pair: Pair) -> tuple[np.ndarray, sitk.Image]:
    fixed = to_array(resample(averaged(pair.images["ct"]), pair.grid, outside=HU_RANGE[0]))
    return fixed, averaged(pair.images["attenuation_ct"])


def _spect_pair(pair: Pair) -> tuple[np.ndarray, sitk.Image]:
    blurred = ndimage.gaussian_filter((pair.labels > 0).astype(np.float32), SPECT_SIGMA_MM / SAMPLE_MM)
    return blurred, sitk.Cast(spects_of(pair.images)[0], sitk.sitkFloat32)


def lung_detail(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float | None:
    """How well what is finer than `DETAIL_MM` in the lungs agrees: vessels, fissures and scars of one patient.

    A deformable registration makes any two pairs of lungs overlap, but not their vessels (docs/registration.md has
    figures of right and wrong pairs). Correlated are small neighbourhoods, so that a few large vessels at the hilum,
    which any two patients share, do not decide; of these the upper quartile counts, because a registration that fails
    in a part of the lungs still shows the right patient in the rest.

    Args:
        a: HU `(z, y, x)` every `SAMPLE_MM`.
        b: HU at the same points.
        inside: lung in both images; places within `DETAIL_DEPTH_MM` of its surface do not count.

    Returns:
        Upper quartile of the local correlation, -1 to 1; None if hardly any lung is left.
    """
    depth = ndimage.distance_transform_edt(inside) * SAMPLE_MM
    core = depth > DETAIL_DEPTH_MM
    if core.sum() < 2:
        return None
    fine = [_fine(np.clip(hu, *HU_RANGE), inside) for hu in (a, b)]
    # the outermost voxels of lung hold a part of the chest wall
    local = _local_correlation(*fine, depth > SAMPLE_MM)
    return float(np.percentile(local[core], DETAIL_PERCENTILE))


def _fine(hu: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return hu - smooth_in_lungs(hu, inside, DETAIL_MM / SAMPLE_MM)


def _local_correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Correlation in a Gaussian neighbourhood of every voxel, of voxels inside only; 0 where an image shows nothing."""

    def mean(values: np.ndarray) -> np.ndarray:
        return smooth_in_lungs(values, inside, NEIGHBOURHOOD_MM / SAMPLE_MM)

    mean_a, mean_b = mean(a), mean(b)
    variances = [np.maximum(mean(v * v) - m * m, LEAST_CONTRAST_HU**2) for v, m in ((a, mean_a), (b, mean_b))]
    return (mean(a * b) - mean_a * mean_b) / np.sqrt(variances[0] * variances[1])


def averaged(image: sitk.Image) -> sitk.Image:
    """The image at about `SAMPLE_MM`, averaged over whole voxels where it is finer, so that noise does not count."""
    factors = [max(1, int(SAMPLE_MM // spacing)) for spacing in image.GetSpacing()]
    factors = [min(factor, size) for factor, size in zip(factors, image.GetSize(), strict=True)]
    return sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors)


def mutual_information(a: np.ndarray, b: np.ndarray, limits: tuple[float, float] | None = None) -> float:
    """Mutual information in nats (Maes et al., IEEE Trans Med Imaging 1997;16:187) from a joint histogram.

    Args:
        a: values.
        b: values at the same points.
        limits: range of the bins, values beyond count to the outermost ones; None: 0 to the 99th percentile of each.
    """
    ranges = [limits or (0.0, max(float(np.percentile(v, 99)), 1e-6)) for v in (a, b)]
    clipped = [np.clip(v, *limit) for v, limit in zip((a, b), ranges, strict=True)]
    joint, *_ = np.histogram2d(*clipped, bins=BINS, range=ranges)
    joint = joint / joint.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / independent[filled])).sum())


def _errors(pair: Pair, landmarks: Landmarks | None) -> dict[str, float | int | None]:
    """Target registration error at landmarks, in mm, where the SPECT was taken."""
    record: dict[str, float | int | None] = {"landmarks": 0 if landmarks is None else len(landmarks.ct)}
    for when, transform in (("before", None), ("after", pair.transform)):
        error = None if landmarks is None else landmarks.error_mm(transform)
        record[f"tre_mean_{when}_mm"] = None if error is None else float(error.mean())
        record[f"tre_p95_{when}_mm"] = None if error is None else float(np.percentile(error, 95))
        record[f"tre_max_{when}_mm"] = None if error is None else float(error.max())
    return record


def _spect(pair: Pair, target: str) -> dict[str, Any]:
    """Counts in the lungs, what the field of view leaves out, and whether activity and lungs agree."""
    spect = sitk.Cast(pair.images[target], sitk.sitkFloat32)
    near = pair.distance_mm <= REGION_MM
    record: dict[str, Any] = {"lungs_outside_spect_percent": _outside_percent(pair, spect)}
    for when, transform in (("before", None), ("after", pair.transform)):
        counts = np.maximum(to_array(resample(spect, pair.grid, transform)), 0)
        total = float(counts[near].sum())
        record[f"counts_inside_{when}"] = float(counts[pair.labels > 0].sum()) / total if total > 0 else 0.0
    through_ct = "attenuation_ct" in pair.images
    lungs = pair.images["attenuation_ct_lungs" if through_ct else "ct_lungs"]
    # a SPECT is carried as it lies to its attenuation CT; without one it was registered to the CT itself
    content = compare_content([spect], lungs, None if through_ct else pair.transform)
    return record | content.record()

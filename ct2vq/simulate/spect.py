"""SPECT images of perfusion and ventilation in the mean tidal state: blur, background, hot spots and noise.

Noise: the expected image is blurred by the system without its post-filter, Poisson counts are drawn, and the
post-filter is applied, so that noise is correlated as in a filtered reconstruction. Reconstruction amplifies noise
over pure counting: counts are drawn at `expected / noise_gain` and scaled back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from ct2vq.simulate import anatomy
from ct2vq.simulate.anatomy import Body, smoothstep
from ct2vq.simulate.disease import LungState
from ct2vq.simulate.function import FunctionModel, regional_function
from ct2vq.simulate.lungs import sample_lung
from ct2vq.simulate.territories import TerritoryMap
from ct2vq.simulate.trees import Tree
from ct2vq.volume import affine, from_array, to_array

_FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
#: FWHM of the reconstruction's post-filter, mm (part of the system's FWHM)
POST_FILTER_FWHM_MM = 7.5
_BREATHING_PHASES = 5
_SUPERSAMPLING = 2


@dataclass(frozen=True)
class Activity:
    """Uptake per volume on the SPECT grid (z, y, x), before any blur; mean 1 in the lungs."""

    perfusion: np.ndarray
    ventilation: np.ndarray
    visible_perfusion: np.ndarray
    visible_ventilation: np.ndarray
    lung: np.ndarray
    body: np.ndarray


def uptake(
    division: TerritoryMap, state: LungState, model: FunctionModel, grid: sitk.Image, points: np.ndarray
) -> Activity:
    """Uptake on the SPECT grid; voxels at the lungs' border hold their share of lung.

    Args:
        division: territories.
        state: regional state.
        model: regional function.
        grid: the SPECT grid.
        points: (3, z, y, x) positions of its voxels, mm.
    """
    edge = float(np.mean(grid.GetSpacing()))
    shape = anatomy.measure(division.body, points)
    distance, side = shape.lung, shape.side
    near = distance < edge
    share = np.clip(0.5 - distance[near] / edge, 0, 1)
    lung = sample_lung(division, points[:, near], distance[near], side[near])
    maps = [*regional_function(model, state, lung), *regional_function(model, state, lung, visible_only=True)]
    volumes = []
    for values in maps:
        volume = np.zeros(distance.shape, dtype=np.float32)
        volume[near] = values * share / np.average(values, weights=share)
        volumes.append(volume)
    fraction = np.zeros(distance.shape, dtype=np.float32)
    fraction[near] = share
    inside = anatomy.skin_distance(division.body, points) < 0
    return Activity(*volumes, fraction, inside.astype(np.float32))


def system_blur(volume: np.ndarray, grid: sitk.Image, fwhm_mm: float, body: Body, tidal_mm: float) -> np.ndarray:
    """The expected image: breathing along z (most at the diaphragm, none at the apex) and a Gaussian PSF."""
    spacing = grid.GetSpacing()
    sigma = [fwhm_mm * _FWHM_TO_SIGMA / s for s in reversed(spacing)]
    return gaussian_filter(_breathe(volume, grid, body, tidal_mm), sigma)


def _breathe(volume: np.ndarray, grid: sitk.Image, body: Body, tidal_mm: float) -> np.ndarray:
    """Mean over a breath: each voxel moves along z by up to half of `tidal_mm` times its share of the motion."""
    z = grid.GetOrigin()[2] + grid.GetSpacing()[2] * np.arange(volume.shape[0])
    low = (min(body.dome_z) - 0.3 * body.sulcus_depth) * body.size
    top = body.apex_z * body.size
    amount = smoothstep((top - z) / (top - low)) * tidal_mm / 2 / grid.GetSpacing()[2]
    phases = np.sin(np.pi * ((np.arange(_BREATHING_PHASES) + 0.5) / _BREATHING_PHASES - 0.5))
    result = np.zeros_like(volume)
    for phase in phases:
        at = np.clip(np.arange(volume.shape[0]) + phase * amount, 0, volume.shape[0] - 1)
        lower = np.minimum(at.astype(int), volume.shape[0] - 2)
        weight = (at - lower).astype(np.float32)[:, None, None]
        result += (1 - weight) * volume[lower] + weight * volume[lower + 1]
    return result / len(phases)


def hot_spots(
    airways: Tree, state: LungState, grid: sitk.Image, rng: np.random.Generator
) -> tuple[np.ndarray, list[dict]]:
    """Technegas that settles in central airways: points of activity at airway divisions, in units of lung mean x mL.

    More and hotter in obstruction and with a mass.

    Returns:
        activity (z, y, x) to be added to the uptake before blur, and a description of each spot.
    """
    diseased = {"obstruction": 7.0, "tumour": 3.0, "emphysema": 3.0}.get(state.diagnosis, 0.0)
    count = int(rng.poisson(1.0 + diseased * max(state.severity, 0.2)))
    names = sorted(airways.nodes)
    spots = []
    volume = np.zeros(tuple(reversed(grid.GetSize())), dtype=np.float32)
    ml = float(np.prod(grid.GetSpacing())) / 1000
    for name in rng.choice(names, min(count, len(names)), replace=False):
        position = airways.nodes[name] + rng.normal(0, 2, 3)
        strength = float(rng.lognormal(np.log(5.0 + 0.8 * diseased), 0.6))
        index = np.linalg.solve(affine(grid), np.append(position, 1.0))[:3]
        i, j, k = np.rint(index).astype(int)
        if all(0 <= a < n for a, n in zip((i, j, k), grid.GetSize(), strict=True)):
            volume[k, j, i] += strength / ml
            position = [round(float(v), 2) for v in position]
            spots.append({"name": str(name), "position_spect_mm": position, "lung_mean_ml": round(strength, 3)})
    return volume, spots


def acquire(
    activity: np.ndarray,
    body_mask: np.ndarray,
    grid: sitk.Image,
    *,
    counts: float,
    fwhm_mm: float,
    noise_gain: float,
    background: float,
    body: Body,
    tidal_mm: float,
    rng: np.random.Generator,
) -> sitk.Image:
    """One SPECT: expected image scaled to `counts`, Poisson noise, post-filter, whole counts.

    Args:
        activity: uptake (z, y, x) before blur.
        body_mask: 1 inside the skin.
        grid: the SPECT grid.
        counts: expected total of the whole image.
        fwhm_mm: resolution of the finished image.
        noise_gain: factor on the variance of pure counting.
        background: share of all counts that lies evenly in the body; as much again is spread as residual scatter.
        body: the person, for the breathing.
        tidal_mm: breathing excursion at the diaphragm.
        rng: source of the noise.

    Returns:
        uint16 counts.
    """
    first = np.sqrt(max(fwhm_mm**2 - POST_FILTER_FWHM_MM**2, 0.0))
    expected = system_blur(activity, grid, first, body, tidal_mm)
    scatter = gaussian_filter(expected, 45 / np.asarray(grid.GetSpacing())[::-1])
    expected = expected / expected.sum() * (1 - 2 * background)
    expected += background * (body_mask / body_mask.sum() + scatter / scatter.sum())
    drawn = rng.poisson(np.maximum(expected, 0).astype(np.float64) * counts / noise_gain) * noise_gain
    sigma = [POST_FILTER_FWHM_MM * _FWHM_TO_SIGMA / s for s in reversed(grid.GetSpacing())]
    filtered = gaussian_filter(drawn, sigma)
    return from_array(_round_keeping_total(filtered), grid)


def _round_keeping_total(values: np.ndarray) -> np.ndarray:
    """Round to uint16 with errors carried along the rows, so that sparse background keeps its counts."""
    total = np.cumsum(values, axis=-1)
    return np.clip(np.diff(np.floor(total + 0.5), axis=-1, prepend=0.0), 0, 65535).astype(np.uint16)


def read_at(volume: np.ndarray, grid: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Values of a volume (z, y, x) at positions (3, n) in mm, cubic interpolation, not below 0."""
    origin, spacing = np.asarray(grid.GetOrigin()), np.asarray(grid.GetSpacing())
    index = [((points[i] - origin[i]) / spacing[i]).astype(np.float32) for i in (2, 1, 0)]
    return np.maximum(map_coordinates(volume, index, order=3, mode="constant", output=np.float32), 0)


def total_counts(image: sitk.Image) -> float:
    """Sum over all voxels."""
    return float(to_array(image).astype(np.float64).sum())

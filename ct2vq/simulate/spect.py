"""SPECT of perfusion and ventilation: uptake, breathing, blur, attenuation residue, hot spots, shine-through, noise.

Two fidelities: `psf` blurs the uptake by the finished image's resolution and adds noise that is matched to the other
(`noise`); `osem` projects it through collimator and body and reconstructs it (`osem`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates

from ct2vq.simulate import noise
from ct2vq.simulate.anatomy import smoothstep
from ct2vq.simulate.chest import Chest
from ct2vq.simulate.dicom import TC99M_HALF_LIFE_S, Acquisition
from ct2vq.simulate.disease import LungState
from ct2vq.simulate.units import FIRST_SEGMENTAL, Units
from ct2vq.volume import affine, from_array

_FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
_BREATHING_PHASES = 5
#: share of counts that lies evenly in the body, and as much again in residual scatter; assumptions
BACKGROUND = {"perfusion": 0.02, "ventilation": 0.03}
#: change of the log image over 100 mm of depth that attenuation correction leaves (10 to 15 % between centre and
#: periphery is usual, its sign varies; an assumption), (mean, sd)
_RESIDUE = (-0.08, 0.10)
#: ventilation's count rate over the lungs, counts a second (1 to 3 kcps: Nucl Med Commun; published_lungs.tsv)
_VENTILATION_CPS = (1600.0, 3000.0)
#: excursion of the diaphragm in quiet breathing, supine (World J Clin Cases 2020;8:2408; lower for the SPECT's calm)
_TIDAL_MM = (11.0, 19.0)
#: between the scans the patient lies still for the injection: seconds
_PAUSE_S = 480.0
#: from the last breath of Technegas to the first view, minutes
_UPTAKE_MINUTES = 10.0
VIEWS, HEADS = 120, 2
#: activity in the lungs, MBq, for 1000 counts a second: two heads of 80 cps/MBq in air (`SENSITIVITY_CPS_PER_MBQ`), of
#: which the chest lets about 0.37 through; an assumption
_MBQ_PER_KCPS = 17.0


@dataclass(frozen=True)
class Protocol:
    """The session: ventilation first, then perfusion, whose image holds what ventilation's tracer still emits.

    Attributes:
        scans: by target.
        rate_ratio: count rate during the perfusion scan relative to the ventilation scan's.
        shine_through: share of the perfusion scan's counts that ventilation's tracer emits.
        residue: by target, what attenuation correction leaves (see `_RESIDUE`).
        tidal_mm: breathing excursion at the diaphragm.
    """

    scans: dict[str, Acquisition]
    rate_ratio: float
    shine_through: float
    residue: dict[str, float]
    tidal_mm: float


def draw_protocol(settings: dict, rng: np.random.Generator) -> Protocol:
    """Draw a session. Durations follow from counts and count rates, shine-through from the rates and the decay.

    Args:
        settings: config block `simulate.spect`: `counts` by target, `count_rate_ratio` [low, high].
        rng: source of randomness.
    """
    counts, rate = settings["counts"], float(rng.uniform(*_VENTILATION_CPS))
    ratio = float(rng.uniform(*settings["count_rate_ratio"]))
    durations = {"ventilation": counts["ventilation"] / rate, "perfusion": counts["perfusion"] / (ratio * rate)}
    apart = durations["ventilation"] + _PAUSE_S
    left = 2.0 ** (-apart / TC99M_HALF_LIFE_S)
    steps, mbq = VIEWS / HEADS, rate / 1000 * _MBQ_PER_KCPS
    first, second = _UPTAKE_MINUTES, _UPTAKE_MINUTES + apart / 60
    scans = {
        "ventilation": Acquisition(mbq, 0.0, first, VIEWS, durations["ventilation"] / steps, HEADS),
        "perfusion": Acquisition(
            mbq * (ratio - left), second - 5, second, VIEWS, durations["perfusion"] / steps, HEADS
        ),
    }
    residue = {target: float(rng.normal(*_RESIDUE)) for target in sorted(scans)}
    return Protocol(scans, ratio, left / ratio, residue, float(rng.uniform(*_TIDAL_MM)))


def shares_of_lung(units: Units, grid: sitk.Image, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much of each voxel is lung, and the terminal unit there.

    Args:
        units: the divided lungs.
        grid: a SPECT grid.
        points: (3, z, y, x) positions of its voxels in the reference state, mm.

    Returns:
        indices (n,) of voxels (flat) with any lung, their shares (n,) and units (n,).
    """
    edge = float(np.mean(grid.GetSpacing()))
    flat = points.reshape(3, -1)
    distance, side = units.chest.lung(flat)
    near = np.flatnonzero(distance < edge / 2)
    share = np.clip(0.5 - distance[near] / edge, 0, 1)
    return near, share, units.at(flat[:, near], side[near])


def uptake(values: np.ndarray, lung: tuple[np.ndarray, np.ndarray, np.ndarray], grid: sitk.Image) -> np.ndarray:
    """Uptake per volume (z, y, x) of units' values (units,), before any blur; mean 1 in the lungs."""
    near, share, unit = lung
    volume = np.zeros(int(np.prod(grid.GetSize())), dtype=np.float32)
    volume[near] = values[unit] * share / np.average(values[unit], weights=share)
    return volume.reshape(tuple(reversed(grid.GetSize())))


def breathe(volume: np.ndarray, grid: sitk.Image, chest: Chest, tidal_mm: float) -> np.ndarray:
    """Mean over a breath: each voxel moves along z by up to half of `tidal_mm` times its share of the motion."""
    z = grid.GetOrigin()[2] + grid.GetSpacing()[2] * np.arange(volume.shape[0])
    low = chest.base_z - 0.1 * (chest.apex_z - chest.base_z)
    amount = smoothstep((chest.apex_z - z) / (chest.apex_z - low)) * tidal_mm / 2 / grid.GetSpacing()[2]
    phases = np.sin(np.pi * ((np.arange(_BREATHING_PHASES) + 0.5) / _BREATHING_PHASES - 0.5))
    result = np.zeros_like(volume)
    for phase in phases:
        at = np.clip(np.arange(volume.shape[0]) + phase * amount, 0, volume.shape[0] - 1)
        lower = np.minimum(at.astype(int), volume.shape[0] - 2)
        weight = (at - lower).astype(np.float32)[:, None, None]
        result += (1 - weight) * volume[lower] + weight * volume[lower + 1]
    return result / len(phases)


def system_blur(volume: np.ndarray, grid: sitk.Image, fwhm_mm: float, chest: Chest, tidal_mm: float) -> np.ndarray:
    """The image at the system's resolution: breathing along z (most at the diaphragm) and a Gaussian PSF."""
    sigma = [fwhm_mm * _FWHM_TO_SIGMA / s for s in reversed(grid.GetSpacing())]
    return gaussian_filter(breathe(volume, grid, chest, tidal_mm), sigma)


@dataclass(frozen=True)
class HotSpot:
    """Technegas that settled in a central airway: where (reference state, mm), and how much (lung mean x mL)."""

    name: str
    position: np.ndarray
    strength: float


def draw_hot_spots(units: Units, state: LungState, rng: np.random.Generator) -> list[HotSpot]:
    """Draw clumps at divisions of central airways: few in normals, more and hotter where airways are diseased."""
    diseased = 0.2 + 0.8 * state.severity if state.airway_disease else (0.3 if state.mass is not None else 0.0)
    count = int(rng.poisson(0.7 + 6.0 * diseased))
    airways = units.airways
    last = int(airways.generation[FIRST_SEGMENTAL]) + 2
    central = np.flatnonzero((airways.generation >= 1) & (airways.generation <= last))
    chosen = rng.choice(central, min(count, len(central)), replace=False)
    spots = []
    for branch in chosen:
        position = airways.end[branch] + rng.normal(0, 2, 3)
        strength = float(rng.lognormal(np.log(4.0 + 6.0 * diseased), 0.6))
        spots.append(HotSpot(airways.names.get(int(branch), f"airway {int(branch)}"), position, strength))
    return spots


def deposit(spots: list[HotSpot], grid: sitk.Image, to_scan: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The clumps on a SPECT grid (z, y, x), as uptake per volume, to be added before any blur."""
    volume = np.zeros(tuple(reversed(grid.GetSize())), dtype=np.float32)
    ml = float(np.prod(grid.GetSpacing())) / 1000
    for spot in spots:
        position = to_scan(spot.position[:, None])[:, 0]
        i, j, k = np.rint(np.linalg.solve(affine(grid), np.append(position, 1.0))[:3]).astype(int)
        if all(0 <= a < n for a, n in zip((i, j, k), grid.GetSize(), strict=True)):
            volume[k, j, i] += spot.strength / ml
    return volume


def share_counts(image: np.ndarray, body: np.ndarray, background: float, voxel_mm: float) -> np.ndarray:
    """An image with background and residual scatter, all adding up to 1 (z, y, x).

    Args:
        image: expected activity, any scale.
        body: 1 inside the skin.
        background: share of counts that lies evenly in the body; as much again is scatter with 45 mm sigma.
        voxel_mm: voxel size.
    """
    scatter = gaussian_filter(image, 45 / voxel_mm)
    total = (1 - 2 * background) * image / image.sum()
    return total + background * (body / body.sum() + scatter / scatter.sum())


def attenuation_residue(chest: Chest, points: np.ndarray, amount: float) -> np.ndarray:
    """Factor (z, y, x) that imperfect attenuation correction leaves: exponential in the depth under the skin."""
    depth = np.clip(-chest.skin(points), 0, 130) / np.float32(100)
    return np.exp(np.float32(amount) * (depth - np.float32(0.7)))


def acquire_psf(
    parts: list[tuple[np.ndarray, float]],
    grid: sitk.Image,
    *,
    body: np.ndarray,
    residue: np.ndarray,
    background: float,
    counts: float,
    fwhm_mm: float,
    chest: Chest,
    tidal_mm: float,
    rng: np.random.Generator,
) -> sitk.Image:
    """One SPECT of the fast fidelity.

    Args:
        parts: uptakes (z, y, x) before blur, each with its share of the counts.
        grid: the SPECT grid.
        body: 1 inside the skin.
        residue: factor by imperfect attenuation correction.
        background: see `share_counts`.
        counts: expected total of the image.
        fwhm_mm: resolution of the finished image.
        chest: for the breathing.
        tidal_mm: breathing excursion at the diaphragm.
        rng: source of the noise.

    Returns:
        uint16 counts.
    """
    voxel = grid.GetSpacing()[0]
    expected = np.zeros(tuple(reversed(grid.GetSize())), dtype=np.float32)
    for volume, share in parts:
        image = system_blur(volume, grid, fwhm_mm, chest, tidal_mm) * residue
        expected += share * share_counts(image, body, background, voxel)
    return from_array(_round_keeping_total(noise.add_noise(expected * counts, counts, voxel, rng)), grid)


def acquire_osem(
    parts: list[tuple[np.ndarray, float]],
    grid: sitk.Image,
    *,
    attenuation: np.ndarray,
    known: np.ndarray,
    body: np.ndarray,
    background: float,
    counts: float,
    chest: Chest,
    tidal_mm: float,
    rng: np.random.Generator,
) -> sitk.Image:
    """One SPECT of the slow fidelity: projected through collimator and body, reconstructed by OSEM.

    Args:
        parts: uptakes (z, y, x) before blur, each with its share of the counts.
        grid: the SPECT grid.
        attenuation: HU (z, y, x) in the scan's state.
        known: HU (z, y, x) as the camera's own CT shows them, a little elsewhere.
        body: 1 inside the skin.
        background: share of the activity that lies evenly in the body.
        counts: expected total of detected counts.
        chest: for the breathing.
        tidal_mm: breathing excursion at the diaphragm.
        rng: source of the noise.

    Returns:
        uint16 counts; an exact reconstruction would add up to `counts`.

    Raises:
        ConfigError: PyTomography is not installed.
    """
    from ct2vq.simulate import osem

    activity = np.zeros(tuple(reversed(grid.GetSize())), dtype=np.float32)
    for volume, share in parts:
        breathed = breathe(volume, grid, chest, tidal_mm)
        activity += share * ((1 - background) * breathed / breathed.sum() + background * body / body.sum())
    maps = (osem.attenuation_map(attenuation), osem.attenuation_map(known))
    image = osem.reconstruct(activity, *maps, grid.GetSpacing()[0], counts, rng)
    return from_array(_round_keeping_total(image), grid)


def _round_keeping_total(values: np.ndarray) -> np.ndarray:
    """Round to uint16 with errors carried along the rows, so that sparse background keeps its counts."""
    total = np.cumsum(values.astype(np.float64), axis=-1)
    return np.clip(np.diff(np.floor(total + 0.5), axis=-1, prepend=0.0), 0, 65535).astype(np.uint16)


def read_at(volume: np.ndarray, grid: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Values of a volume (z, y, x) at positions (3, n) in mm, cubic interpolation, not below 0."""
    origin, spacing = np.asarray(grid.GetOrigin()), np.asarray(grid.GetSpacing())
    index = [((points[i] - origin[i]) / spacing[i]).astype(np.float32) for i in (2, 1, 0)]
    return np.maximum(map_coordinates(volume, index, order=3, mode="constant", output=np.float32), 0)

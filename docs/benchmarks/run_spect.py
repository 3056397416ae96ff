"""Measure the fast `psf` noise of simulated SPECT against OSEM: `make bench-spect` writes spect.tsv and spect.json.

Both arms image the same two lungs in an attenuating torso (76 x 76 x 48 voxels of 4.8 mm; the right lung uniform, the
left with a gradient from front to back) at the counts of a perfusion and a ventilation scan. `osem` projects, draws
Poisson counts and reconstructs with an attenuation map that lies 3 mm to the left and 6 mm too high; `psf` blurs and
adds correlated noise. `noise_cov` is the standard deviation over the mean in the uniform lung, 14 mm inside its
surface; `variance_exponent` is p in variance ~ mean^p in the other lung; `noise_fwhm` is the full width at half
maximum of the noise's autocorrelation; `noise_power` is the share of the variance in a band of spatial frequency.
`point_fwhm` is that of 5 mL of lung-mean activity in one voxel on top of the lung, without noise, in the middle of a
lung and near its wall. `attenuation_bias` is the mean change that the misplaced attenuation map makes in the uniform
lung and within 15 mm above the diaphragm, `scatter_bias` the one that the missed scatter makes. Seconds are processor
time of one scan.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import importlib.metadata  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from machine import describe_machine  # noqa: E402
from scipy.fft import irfftn, rfftn  # noqa: E402
from scipy.interpolate import CubicSpline  # noqa: E402
from scipy.ndimage import distance_transform_edt  # noqa: E402

from ct2vq.files import write_json, write_tsv  # noqa: E402
from ct2vq.simulate.noise import add_noise, expected_image  # noqa: E402
from ct2vq.simulate.osem import Camera, reconstruct  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
COUNTS = {"perfusion": 5e6, "ventilation": 2e6}
VOXEL_MM = 4.8
SHAPE = (48, 76, 76)
#: how far the reconstruction's attenuation map lies off, mm along x, y, z
SHIFT_MM = (3.0, 0.0, 6.0)
#: linear attenuation at 140 keV in 1/mm: soft tissue, lung at 0.27 g/cm3, spine
SOFT, LUNG, SPINE = 0.0154, 0.0042, 0.0194
BANDS_PER_MM = (0.0, 0.015, 0.03, 0.045, 0.06, 0.104)
POINT_ML = 5.0
#: voxels (z, y, x) in the middle of the right lung and 14 mm from its outer wall
POINTS = {"central": (26, 38, 24), "peripheral": (26, 38, 13)}
MARGIN_MM = 14.0
_SUPERSAMPLING = 2

Scan = Callable[[np.ndarray, float, np.random.Generator | None], np.ndarray]


@dataclass(frozen=True)
class Phantom:
    """Two lungs in a torso; arrays (z, y, x). `depth` is the distance in mm from the lungs' surface, inside."""

    activity: np.ndarray
    attenuation: np.ndarray
    known_attenuation: np.ndarray
    depth: np.ndarray
    right: np.ndarray


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--realisations", type=int, default=12, help="noisy scans for each arm and target")
    options = parser.parse_args()
    phantom = make_phantom()
    arms: dict[str, Scan] = {"psf": lambda *scan: _psf(*scan), "osem": lambda *scan: _osem(phantom, *scan)}
    rows = [row for arm, scan in arms.items() for row in _measure(arm, scan, phantom, options.realisations)]
    rows += _biases(phantom)
    folder = Path(__file__).parent
    write_tsv(pd.DataFrame(rows, columns=COLUMNS), folder / "spect.tsv")
    command = f"python docs/benchmarks/run_spect.py --realisations {options.realisations}"
    header: dict[str, Any] = describe_machine("Noise and resolution of simulated SPECT", __doc__ or "", command, 1)
    header["versions"]["pytomography"] = importlib.metadata.version("pytomography")
    write_json(header, folder / "spect.json")


def make_phantom(size: float = 1.0) -> Phantom:
    """The phantom, `size` times as large as drawn."""
    lung, activity, attenuation = _draw((0.0, 0.0, 0.0), size)
    right = np.zeros(SHAPE, dtype=bool)
    right[..., : SHAPE[2] // 2] = True
    depth = distance_transform_edt(lung > 0.99) * VOXEL_MM
    return Phantom(activity, attenuation, _draw(SHIFT_MM, size)[2], depth, right)


def _draw(shift_mm: tuple[float, ...], size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of lung, activity and attenuation of each voxel, averaged over subvoxels."""
    step = VOXEL_MM / _SUPERSAMPLING
    axes = [(np.arange(n * _SUPERSAMPLING) - (n * _SUPERSAMPLING - 1) / 2) * step for n in SHAPE]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    x, y, z = ((v - s) / size for v, s in zip((x, y, z), shift_mm, strict=True))
    sideways = np.abs(x)
    pleura = ((sideways - 74) / 60) ** 2 + (y / 86) ** 2 + (np.where(z < 0, z / 400, z / 100)) ** 2 < 1
    diaphragm = -50 - 45 * (((sideways - 70) / 62) ** 2 + (y / 90) ** 2)
    heart = ((x - 28) / 55) ** 2 + ((y + 30) / 48) ** 2 + ((z + 40) / 50) ** 2 < 1
    lung = pleura & (z > diaphragm) & ~heart & (sideways > 14)
    torso = (sideways / 168) ** 2.7 + (np.abs(y - 4) / 112) ** 2.7 < 1
    spine = (np.hypot(x, y - 62) < 20) & ~lung
    activity = lung * np.where(x < 0, 1.0, 1 + 0.7 * y / 86)
    attenuation = np.where(lung, LUNG, np.where(spine, SPINE, SOFT)) * torso
    return _average(lung), _average(activity), _average(attenuation)


def _average(fine: np.ndarray) -> np.ndarray:
    shape = [size for n in SHAPE for size in (n, _SUPERSAMPLING)]
    return fine.astype(np.float32).reshape(shape).mean(axis=(1, 3, 5))


def _osem(phantom: Phantom, activity: np.ndarray, counts: float, rng: np.random.Generator | None) -> np.ndarray:
    return reconstruct(activity, phantom.attenuation, phantom.known_attenuation, VOXEL_MM, counts, rng)


def _psf(activity: np.ndarray, counts: float, rng: np.random.Generator | None) -> np.ndarray:
    expected = expected_image(activity * (counts / activity.sum()), VOXEL_MM)
    return expected if rng is None else add_noise(expected, counts, VOXEL_MM, rng)


def _measure(arm: str, scan: Scan, phantom: Phantom, realisations: int) -> Iterator[list[Any]]:
    for target, counts in COUNTS.items():
        start = time.process_time()
        images = [
            scan(phantom.activity, counts, np.random.default_rng([seed, int(counts)])) for seed in range(realisations)
        ]
        seconds = (time.process_time() - start) / realisations
        for metric, value, unit in [*noise_figures(np.stack(images), phantom), ("processor_time", seconds, "s")]:
            yield [arm, "two lungs", target, "", metric, float(f"{value:.4g}"), unit]
    for place, voxel in POINTS.items():
        for direction, value in point_fwhm(scan, phantom, voxel).items():
            yield [arm, "two lungs", "", "truth", f"point_fwhm_{place}_{direction}", float(f"{value:.4g}"), "mm"]


def noise_figures(images: np.ndarray, phantom: Phantom) -> Iterator[tuple[str, float, str]]:
    """Metric, value and unit from realisations (n, z, y, x) of one scan."""
    mean, variance = images.mean(axis=0, dtype=np.float64), images.var(axis=0, ddof=1, dtype=np.float64)
    uniform = (phantom.depth > MARGIN_MM) & phantom.right
    graded = (phantom.depth > MARGIN_MM) & ~phantom.right
    yield "noise_cov", 100 * np.sqrt(variance[uniform].mean()) / mean[uniform].mean(), "%"
    yield "variance_exponent", exponent(mean[graded], variance[graded]), "1"
    correlation = autocorrelation(images - mean, uniform)
    yield "noise_fwhm_transaxial", (_width(correlation, 1) + _width(correlation, 2)) / 2, "mm"
    yield "noise_fwhm_axial", _width(correlation, 0), "mm"
    for low, high, share in zip(BANDS_PER_MM, BANDS_PER_MM[1:], power_shares(correlation), strict=False):
        yield f"noise_power_{low:g}_{high:g}_per_mm", 100 * share, "%"


def exponent(mean: np.ndarray, variance: np.ndarray, bins: int = 8) -> float:
    """Slope of log variance over log mean, in bins of the mean."""
    order = np.array_split(np.argsort(mean), bins)
    means, variances = ([float(v[index].mean()) for index in order] for v in (mean, variance))
    return float(np.polyfit(np.log(means), np.log(variances), 1)[0])


def autocorrelation(noise: np.ndarray, mask: np.ndarray, reach: int = 10) -> np.ndarray:
    """Correlation of noise (n, z, y, x) between voxels of a mask, for lags up to `reach` voxels: (2r+1, 2r+1, 2r+1)."""
    shape = [n + reach for n in mask.shape]
    overlap = irfftn(np.abs(rfftn(mask.astype(np.float64), shape)) ** 2, shape)
    power = np.mean([np.abs(rfftn(image * mask, shape)) ** 2 for image in noise], axis=0)
    covariance = irfftn(power, shape) / np.maximum(overlap, 0.5)
    lags = np.ix_(*[np.arange(-reach, reach + 1)] * 3)
    return covariance[lags] / covariance[0, 0, 0]


def _width(correlation: np.ndarray, axis: int) -> float:
    """Full width at half maximum along an axis, mm."""
    centre = correlation.shape[0] // 2
    index: list[Any] = [centre] * 3
    index[axis] = slice(centre, None)
    return 2 * _half_width(correlation[tuple(index)])


def _half_width(profile: np.ndarray) -> float:
    """Distance in mm at which a profile with its maximum at index 0 has fallen to a half."""
    fine = np.arange(0, len(profile) - 1, 0.01)
    values = CubicSpline(np.arange(len(profile)), profile)(fine)
    return float(fine[np.argmax(values < profile[0] / 2)]) * VOXEL_MM


def power_shares(correlation: np.ndarray) -> np.ndarray:
    """Shares of the noise power in `BANDS_PER_MM`, in all directions together; lags are tapered to the edge."""
    window = np.hanning(correlation.shape[0] + 2)[1:-1]
    tapered = correlation * window[:, None, None] * window[None, :, None] * window[None, None, :]
    power = np.fft.fftn(np.fft.ifftshift(tapered)).real
    axis = np.fft.fftfreq(correlation.shape[0], VOXEL_MM)
    frequency = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    shares, _ = np.histogram(frequency, bins=BANDS_PER_MM, weights=power)
    return shares / power.sum()


def point_fwhm(scan: Scan, phantom: Phantom, voxel: tuple[int, int, int]) -> dict[str, float]:
    """FWHM in mm, by direction, of what a point adds to the image."""
    counts, total = 1e6, float(phantom.activity.sum())
    with_point = phantom.activity.copy()
    with_point[voxel] += POINT_ML * 1000 / VOXEL_MM**3
    added = scan(with_point, counts * float(with_point.sum()) / total, None) - scan(phantom.activity, counts, None)
    widths = []
    for axis in range(3):
        line = np.moveaxis(added, axis, 0)[(slice(None), *[v for i, v in enumerate(voxel) if i != axis])]
        low, high = line[: voxel[axis] + 1][::-1], line[voxel[axis] :]
        widths.append(_half_width(low) + _half_width(high))
    return {"axial": widths[0], "transaxial": (widths[1] + widths[2]) / 2}


def _above_diaphragm(lung: np.ndarray, height_mm: float = 15.0) -> np.ndarray:
    """Voxels of the lower half with lung at, and tissue within `height_mm` below."""
    base = np.zeros_like(lung)
    for step in range(1, round(height_mm / VOXEL_MM) + 1):
        base[step:] |= lung[step:] & ~lung[:-step]
    base[SHAPE[0] // 2 :] = False
    return base


def _biases(phantom: Phantom) -> Iterator[list[Any]]:
    """What the reconstruction's wrong attenuation map and missed scatter do to the mean."""
    counts, known = 1e6, phantom.known_attenuation
    image = reconstruct(phantom.activity, phantom.attenuation, known, VOXEL_MM, counts, None)
    in_place = reconstruct(phantom.activity, phantom.attenuation, phantom.attenuation, VOXEL_MM, counts, None)
    found = replace(Camera(), scatter_found=1.0)
    corrected = reconstruct(phantom.activity, phantom.attenuation, known, VOXEL_MM, counts, None, found)
    uniform = (phantom.depth > MARGIN_MM) & phantom.right
    base = _above_diaphragm(phantom.depth > 0)
    for metric, change in (
        ("attenuation_bias_base", image[base].sum() / in_place[base].sum() - 1),
        ("attenuation_bias_uniform", image[uniform].sum() / in_place[uniform].sum() - 1),
        ("scatter_bias_uniform", image[uniform].sum() / corrected[uniform].sum() - 1),
    ):
        yield ["osem", "two lungs", "", "", metric, float(f"{100 * change:.3g}"), "%"]


if __name__ == "__main__":
    main()

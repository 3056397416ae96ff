"""The fast `psf` fidelity of SPECT: a blurred image and correlated noise, with the constants of the `osem` fidelity.

All constants were measured on reconstructions of `ct2vq.simulate.osem` with its default camera: lungs in an attenuating
torso at 5 and 2 million counts, on voxels of 4.8 mm (docs/benchmarks/run_spect.py compares the two again).
"""

from __future__ import annotations

import numpy as np
from scipy.fft import fftfreq, irfftn, rfftfreq, rfftn
from scipy.ndimage import gaussian_filter

from ct2vq.errors import GeometryError

_FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
#: Gaussian that turns the activity into OSEM's mean image best, along z and across it, mm
FWHM_AXIAL_MM, FWHM_TRANSAXIAL_MM = 7.4, 11.0
#: share of the image that is scatter which the correction missed, and its width
RESIDUAL_SCATTER, RESIDUAL_SCATTER_FWHM_MM = 0.05, 90.0
#: relative standard deviation at the activity's own mean level, times the root of the counts for each cm2 of V^(2/3)
NOISE_SCALE = 13.55
#: standard deviation grows with this power of the local mean; 0.5 would be pure counting, 1 the limit of MLEM
NOISE_EXPONENT = 0.58
#: where almost nothing is, the noise is at most as large as the mean
_LARGEST_COV = 1.0
#: noise power ~ f_xy exp(-f_xy^2 / 2 a^2 - f_z^2 / 2 b^2): a and b in 1/mm
_BAND_TRANSAXIAL_PER_MM, _BAND_AXIAL_PER_MM = 0.0204, 0.0298


def expected_image(activity: np.ndarray, voxel_mm: float) -> np.ndarray:
    """The mean reconstructed image of an activity (z, y, x): blur and residual scatter; the total is kept.

    Args:
        activity: activity of each voxel (z, y, x), any unit, breathing blur included; z along the axis of the camera.
        voxel_mm: edge of a voxel.

    Returns:
        float32 (z, y, x) in the same unit.
    """
    fwhm = np.array([FWHM_AXIAL_MM, FWHM_TRANSAXIAL_MM, FWHM_TRANSAXIAL_MM])
    activity = np.asarray(activity, dtype=np.float32)
    sharp = gaussian_filter(activity, fwhm / voxel_mm * _FWHM_TO_SIGMA)
    scatter = gaussian_filter(activity, RESIDUAL_SCATTER_FWHM_MM / voxel_mm * _FWHM_TO_SIGMA)
    return (1 - RESIDUAL_SCATTER) * sharp + RESIDUAL_SCATTER * scatter


def add_noise(expected: np.ndarray, counts: float, voxel_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Noise as OSEM leaves it: never negative, without bias, correlated, stronger where there is more activity.

    OSEM's noise is close to log-normal (Barrett, Wilson & Tsui, Phys Med Biol 1994;39:833), so a correlated normal
    field multiplies the image through its exponential; the mean stays exact in every voxel. The field's spectrum is
    the ramp of a tomographic reconstruction (Riederer, Pelc & Chesler, Phys Med Biol 1978;23:446) under a low pass
    across the axis, and a low pass along it. Its strength at the mean level (weighted by activity) follows the counts
    in a projection: counts over the volume to the power of 2/3, the volume being the total over the mean level.

    Args:
        expected: mean image (z, y, x), any unit, z along the axis of the camera.
        counts: detected counts of the whole scan.
        voxel_mm: edge of a voxel.
        rng: source of the noise.

    Returns:
        float32 (z, y, x) in the unit of `expected`.

    Raises:
        GeometryError: the image is empty or somewhere negative.
    """
    expected = np.asarray(expected, dtype=np.float64)
    total = expected.sum()
    if not total > 0 or expected.min() < 0:
        raise GeometryError("noise needs an expected image that is positive somewhere and negative nowhere")
    level = (expected * expected).sum() / total
    volume_ml = total / level * (voxel_mm / 10) ** 3
    at_level = NOISE_SCALE / np.sqrt(counts / volume_ml ** (2 / 3))
    relative = np.maximum(expected / level, np.finfo(np.float32).tiny)
    cov = np.minimum(at_level * relative ** (NOISE_EXPONENT - 1), _LARGEST_COV)
    variance = np.log1p(cov * cov)
    field = correlated_field(expected.shape, voxel_mm, rng)
    return (expected * np.exp(np.sqrt(variance) * field - variance / 2)).astype(np.float32)


def correlated_field(shape: tuple[int, ...], voxel_mm: float, rng: np.random.Generator) -> np.ndarray:
    """A normal field (z, y, x), mean 0 and standard deviation 1, with the spectrum of OSEM's noise."""
    power = _noise_power(shape, voxel_mm)
    full = np.concatenate([power, power[..., 1 : (shape[-1] + 1) // 2]], axis=-1)
    white = rfftn(rng.standard_normal(shape))
    return irfftn(white * np.sqrt(power / full.mean()), shape)


def _noise_power(shape: tuple[int, ...], voxel_mm: float) -> np.ndarray:
    """Power at the frequencies of `rfftn`, not scaled."""
    z, y = (fftfreq(n, voxel_mm) for n in shape[:2])
    x = rfftfreq(shape[2], voxel_mm)
    axial = np.exp(-((z / _BAND_AXIAL_PER_MM) ** 2) / 2)
    across = np.hypot(y[:, None], x[None, :])
    transaxial = across * np.exp(-((across / _BAND_TRANSAXIAL_PER_MM) ** 2) / 2)
    return axial[:, None, None] * transaxial[None]

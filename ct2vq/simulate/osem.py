"""SPECT by projection and OSEM reconstruction: the `osem` fidelity, and the reference that `noise.py` is calibrated to.

Photons are projected through the true attenuation and the collimator's depth-dependent blur, scatter is added, Poisson
counts are drawn, and the scan is reconstructed as a clinic does: with the attenuation map of a CT that is not quite in
place, an imperfect scatter estimate, a resolution model and a post-filter. PyTomography (Polson et al., SoftwareX
2025;29:102020) holds the projector and the reconstruction. It is an optional dependency, imported only inside
functions: `pip install -r requirements-osem.txt`.

Projector and reconstruction share one grid and one rotation, so that sampling errors largely cancel: the images are
somewhat better than a real camera's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ct2vq.errors import ConfigError, GeometryError

if TYPE_CHECKING:
    import torch

FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
#: linear attenuation at 140 keV, 1/mm: NIST XAAMDI (Hubbell & Seltzer, NISTIR 5632), interpolated between 100 and
#: 150 keV on log-log axes; water 1.00 g/cm3, cortical bone (ICRU-44) 1.92 g/cm3, lead 11.35 g/cm3
WATER_PER_MM = 0.01538
BONE_PER_MM = 0.02953
_LEAD_PER_MM = 2.71
#: HU of cortical bone on diagnostic CT (Schneider et al., Phys Med Biol 2000;45:459, table 1)
_BONE_HU = 1524.0
#: half of water's attenuation separates body from air
_BODY_PER_MM = WATER_PER_MM / 2


@dataclass(frozen=True)
class Camera:
    """A dual-head camera with low-energy high-resolution (LEHR) collimators, and its reconstruction.

    Attributes:
        views: projections over 360 degrees; two heads with 60 steps each (EANM guidelines for V/P SPECT ask for
            120-128: Bajc et al., Eur J Nucl Med Mol Imaging 2009;36:1356 and 2019;46:2429).
        hole_diameter_mm, hole_length_mm: hexagonal holes of a Siemens Symbia LEHR collimator (`SY-LEHR` in SIMIND's
            collimator table).
        crystal_mm: thickness of the NaI(Tl) crystal (3/8 inch).
        intrinsic_fwhm_mm: intrinsic resolution of such a crystal at 140 keV (NEMA NU 1, data sheets).
        clearance_mm: from the outermost skin to the collimator, on a circular orbit. Assumption.
        scatter_to_primary: scattered by primary counts in a 20 % window over the chest: 0.3-0.4 (Zaidi & Koral, Eur J
            Nucl Med Mol Imaging 2004;31:761).
        scatter_fwhm_mm: width of the scattered photons around the primary ones. Assumption: a Gaussian for the broad
            exponentials of convolution subtraction (Axelsson et al., J Nucl Med 1984;25:490).
        scatter_found: share of the scatter that the energy-window estimate finds. Assumption.
        scatter_estimate_fwhm_mm: smoothing of the noisy scatter-window counts. Assumption.
        iterations, subsets: of OSEM, with attenuation, scatter and resolution model. Lung SPECT asks for at least 60
            updates (Norberg et al., Nucl Med Commun 2007;28:929).
        post_filter_fwhm_mm: Gaussian post-filter. Assumption: 7-8 mm is common.
    """

    views: int = 120
    hole_diameter_mm: float = 1.11
    hole_length_mm: float = 24.05
    crystal_mm: float = 9.5
    intrinsic_fwhm_mm: float = 3.8
    clearance_mm: float = 25.0
    scatter_to_primary: float = 0.35
    scatter_fwhm_mm: float = 100.0
    scatter_found: float = 0.85
    scatter_estimate_fwhm_mm: float = 40.0
    iterations: int = 3
    subsets: int = 20
    post_filter_fwhm_mm: float = 7.5

    def fwhm_mm(self, distance_mm: np.ndarray) -> np.ndarray:
        """System resolution (FWHM, mm) at distances from the collimator's face, mm.

        Collimator and intrinsic resolution in quadrature, hole length corrected for penetration (Cherry, Sorenson &
        Phelps, Physics in Nuclear Medicine, 4th ed., eq. 14-2 and 14-4).
        """
        length = self.hole_length_mm - 2 / _LEAD_PER_MM
        collimator = self.hole_diameter_mm * (length + distance_mm + self.crystal_mm) / length
        return np.hypot(collimator, self.intrinsic_fwhm_mm)


def attenuation_map(hu: np.ndarray) -> np.ndarray:
    """Linear attenuation at 140 keV (1/mm) of a CT (HU), any shape, float32.

    Bilinear: air to water below 0 HU, water to cortical bone above (Patton & Turkington, J Nucl Med Technol 2008;36:1).
    """
    soft = WATER_PER_MM * (1 + hu / 1000)
    bone = WATER_PER_MM + hu * (BONE_PER_MM - WATER_PER_MM) / _BONE_HU
    return np.maximum(np.where(hu > 0, bone, soft), 0).astype(np.float32)


def reconstruct(
    activity: np.ndarray,
    attenuation: np.ndarray,
    reconstruction_attenuation: np.ndarray,
    voxel_mm: float,
    counts: float,
    rng: np.random.Generator | None,
    camera: Camera | None = None,
) -> np.ndarray:
    """One scan, acquired and reconstructed, on one thread: the same generator state gives the same bytes.

    Args:
        activity: expected activity for each voxel (z, y, x), any unit, breathing blur included. Axes point to the head,
            the back and the left; voxels are cubes; the camera turns around z through the grid's centre.
        attenuation: linear attenuation (z, y, x) at 140 keV in the state of the scan, 1/mm.
        reconstruction_attenuation: the same from the camera's own CT, as the reconstruction knows it, 1/mm.
        voxel_mm: edge of a voxel.
        counts: expected total of detected counts, scatter included.
        rng: source of the noise; `None` reconstructs the expected projections.
        camera: settings.

    Returns:
        float32 (z, y, x): an exact reconstruction would be `activity * counts / activity.sum()`.

    Raises:
        ConfigError: PyTomography is not installed, or the views cannot be dealt into the subsets.
        GeometryError: the arrays differ in shape or are not square in (y, x); no activity.
    """
    camera = camera or Camera()
    _check(activity, attenuation, reconstruction_attenuation, camera)
    with _one_cpu_thread():
        scanner = _Scanner(attenuation, voxel_mm, camera)
        primary = scanner.project(activity, attenuation)
        scatter = camera.scatter_to_primary * _blur(primary, camera.scatter_fwhm_mm / voxel_mm)
        scale = counts / (primary.sum() + scatter.sum())
        measured, estimate = (primary + scatter) * scale, scatter * scale
        if rng is not None:
            measured = rng.poisson(measured).astype(np.float64)
            estimate = _blur(rng.poisson(estimate), camera.scatter_estimate_fwhm_mm / voxel_mm)
        image = scanner.osem(measured, camera.scatter_found * estimate, reconstruction_attenuation)
    image = gaussian_filter(image, camera.post_filter_fwhm_mm / voxel_mm * FWHM_TO_SIGMA)
    return (image * (counts / (scale * activity.sum(dtype=np.float64)))).astype(np.float32)


def _check(activity: np.ndarray, attenuation: np.ndarray, known: np.ndarray, camera: Camera) -> None:
    if not activity.shape == attenuation.shape == known.shape or activity.shape[1] != activity.shape[2]:
        raise GeometryError(
            f"activity and attenuation maps must share one grid that is square in (y, x); found {activity.shape}, "
            f"{attenuation.shape} and {known.shape} (z, y, x)"
        )
    if not activity.sum() > 0:
        raise GeometryError("there is no activity to image")
    if camera.views % camera.subsets:
        raise ConfigError(f"{camera.views} views cannot be dealt evenly into {camera.subsets} subsets")


def _blur(projections: np.ndarray, fwhm_voxels: float) -> np.ndarray:
    """Projections (view, u, z) blurred within each view by a Gaussian that keeps the total."""
    sigma = fwhm_voxels * FWHM_TO_SIGMA
    return gaussian_filter(projections.astype(np.float64), (0, sigma, sigma), mode="reflect")


@contextmanager
def _one_cpu_thread() -> Iterator[None]:
    """PyTomography on the CPU, torch on one thread: sums split over threads differ in the last bit.

    Raises:
        ConfigError: PyTomography is not installed.
    """
    try:
        import pytomography
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the `osem` fidelity needs PyTomography, which cannot be imported: no module {error.name}",
            key="simulate.spect.fidelity",
            hint="pip install -r requirements-osem.txt, or choose the fidelity `psf`",
        ) from error
    import torch

    threads, device = torch.get_num_threads(), pytomography.device
    torch.set_num_threads(1)
    pytomography.set_device("cpu")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        pytomography.set_device(device)


class _Scanner:
    """A camera on a circular orbit around one body; arrays go in and come out as (z, y, x) and (view, u, z)."""

    def __init__(self, attenuation: np.ndarray, voxel_mm: float, camera: Camera) -> None:
        from pytomography.metadata.SPECT import SPECTObjectMeta, SPECTProjMeta

        depth, width, _ = attenuation.shape
        voxel_cm = voxel_mm / 10
        self.camera = camera
        self.object_meta = SPECTObjectMeta([voxel_cm] * 3, [width, width, depth])
        radius_cm = (_body_radius_mm(attenuation, voxel_mm) + camera.clearance_mm) / 10
        angles = 360 / camera.views * np.arange(camera.views)
        self.projection_meta = SPECTProjMeta(
            [width, depth], [voxel_cm] * 2, angles, radii=np.full(camera.views, radius_cm)
        )

    def project(self, activity: np.ndarray, attenuation: np.ndarray) -> np.ndarray:
        """Expected primary projections (view, u, z), float64."""
        projections = self._matrix(attenuation).forward(_to_tensor(activity))
        return np.maximum(projections.numpy().astype(np.float64), 0)

    def osem(self, measured: np.ndarray, scatter: np.ndarray, attenuation: np.ndarray) -> np.ndarray:
        """Activity (z, y, x) from measured counts and estimated scatter (view, u, z)."""
        import torch
        from pytomography.algorithms import OSEM
        from pytomography.likelihoods import PoissonLogLikelihood

        tensors = [torch.from_numpy(values.astype(np.float32)) for values in (measured, scatter)]
        likelihood = PoissonLogLikelihood(self._matrix(attenuation), *tensors)
        image = OSEM(likelihood)(self.camera.iterations, self.camera.subsets)
        return image.permute(2, 1, 0).numpy()

    def _matrix(self, attenuation: np.ndarray) -> Any:
        from pytomography.projectors.SPECT import SPECTSystemMatrix

        transforms = [_Attenuation(attenuation), _CollimatorBlur(self.camera)]
        return SPECTSystemMatrix(transforms, [], self.object_meta, self.projection_meta)


class _Attenuation:
    """The library's attenuation transform with one stored factor for each view: 0.5 GB for a third of the time."""

    def __init__(self, attenuation: np.ndarray) -> None:
        self.attenuation = attenuation

    def configure(self, object_meta: Any, proj_meta: Any) -> None:
        """Rotate the map to each view and store the share of photons that leaves the body (called by the library)."""
        from pytomography.transforms.SPECT.attenuation import get_prob_of_detection_matrix
        from pytomography.utils import pad_object, rotate_detector_z

        padded = pad_object(_to_tensor(10 * self.attenuation))
        self.factors = [
            get_prob_of_detection_matrix(rotate_detector_z(padded, angle), object_meta.dx).contiguous()
            for angle in proj_meta.angles
        ]

    def forward(self, activity: torch.Tensor, view: int) -> torch.Tensor:
        """Attenuate a rotated volume on its way to the camera."""
        return activity * self.factors[view]

    backward = forward


class _CollimatorBlur:
    """The library's resolution transform as two matrix products for each plane, five times as fast on a CPU."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera

    def configure(self, object_meta: Any, proj_meta: Any) -> None:
        """Blur matrices of each plane from its distance to the collimator (called by the library)."""
        from pytomography.utils import get_distance

        planes, width, depth = object_meta.padded_shape
        distance_mm = 10 * get_distance(planes, proj_meta.radii[0], object_meta.dx)
        sigma = self.camera.fwhm_mm(distance_mm) / (10 * object_meta.dx) * FWHM_TO_SIGMA
        self.across, self.along = (_gaussian_matrices(sigma, size) for size in (width, depth))

    def forward(self, activity: torch.Tensor, view: int) -> torch.Tensor:
        """Blur each plane (x) of a rotated volume (x, y, z); the matrices are symmetric, so it is its own adjoint."""
        return self.across @ activity @ self.along

    backward = forward


def _gaussian_matrices(sigma: np.ndarray, size: int) -> torch.Tensor:
    """Convolution with sampled Gaussians as matrices (len(sigma), size, size); sigma in voxels, lost at the border."""
    import torch

    lag = np.arange(-4 * size, 4 * size + 1)
    kernels = np.exp(-((lag / sigma[:, None]) ** 2) / 2)
    kernels /= kernels.sum(axis=1, keepdims=True)
    index = np.arange(size)
    return torch.from_numpy(kernels[:, index[:, None] - index[None, :] + 4 * size].astype(np.float32))


def _to_tensor(volume: np.ndarray) -> torch.Tensor:
    """PyTomography's axes (x, y, z) from (z, y, x), float32."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(volume.T, dtype=np.float32))


def _body_radius_mm(attenuation: np.ndarray, voxel_mm: float) -> float:
    """Largest distance of the body from the axis of rotation."""
    _, y, x = np.nonzero(attenuation > _BODY_PER_MM)
    if not y.size:
        raise GeometryError("the attenuation map holds no body (nothing attenuates like soft tissue)")
    centre = (attenuation.shape[1] - 1) / 2
    return float(np.hypot(y - centre, x - centre).max()) * voxel_mm

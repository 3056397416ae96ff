"""SPECT by projection and OSEM: constants against published figures, and the library's result on a small body."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ct2vq.errors import ConfigError, GeometryError
from ct2vq.simulate.osem import (
    BONE_PER_MM,
    FWHM_TO_SIGMA,
    WATER_PER_MM,
    Camera,
    _one_cpu_thread,
    _Scanner,
    _to_tensor,
    attenuation_map,
    reconstruct,
)

VOXEL_MM = 12.0
SMALL = Camera(views=24, iterations=6, subsets=4)


def body(radius_mm: float = 120.0) -> tuple[np.ndarray, np.ndarray]:
    """A cylinder of water and a grid's coordinates (3, z, y, x) in mm, on 16 x 32 x 32 voxels."""
    z, y, x = (np.indices((16, 32, 32)) - np.array([7.5, 15.5, 15.5])[:, None, None, None]) * VOXEL_MM
    return np.where(np.hypot(y, x) < radius_mm, WATER_PER_MM, 0).astype(np.float32), np.stack([z, y, x])


def ball(points: np.ndarray, centre: tuple[float, ...], radius_mm: float) -> np.ndarray:
    """A ball of unit activity (z, y, x)."""
    offset = points - np.array(centre)[:, None, None, None]
    return (np.linalg.norm(offset, axis=0) < radius_mm).astype(np.float32)


def test_attenuation_of_air_water_lung_and_bone():
    values = attenuation_map(np.array([-1100.0, -1000.0, -700.0, 0.0, 1524.0]))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [0, 0, 0.3 * WATER_PER_MM, WATER_PER_MM, BONE_PER_MM], atol=1e-8)


def test_attenuation_rises_with_hu_and_slower_above_water():
    values = attenuation_map(np.arange(-1000, 3000, 50.0))
    steps = np.diff(values)
    assert (steps > 0).all()
    assert steps[-1] < 0.7 * steps[0]


def test_resolution_matches_the_collimators_data_sheet():
    """A Symbia LEHR collimator resolves 7.5 mm at 10 cm; 0.3 mm are left to septal penetration and scatter."""
    distances = np.array([0.0, 100.0, 200.0])
    fwhm = Camera().fwhm_mm(distances)
    assert fwhm[1] == pytest.approx(7.5, abs=0.3)
    assert (np.diff(fwhm) > 3).all()


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytomography", None)
    attenuation, points = body()
    with pytest.raises(ConfigError, match="pip install -r requirements-osem"):
        reconstruct(ball(points, (0, 0, 0), 40), attenuation, attenuation, VOXEL_MM, 1e5, None, SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attenuation": np.zeros((16, 32, 30))}, "one grid"),
        ({"activity": np.zeros((16, 32, 32))}, "no activity"),
        ({"camera": replace(SMALL, subsets=7)}, "subsets"),
    ],
)
def test_wrong_input_is_named(change, message):
    attenuation, points = body()
    arguments = {
        "activity": ball(points, (0, 0, 0), 40),
        "attenuation": attenuation,
        "reconstruction_attenuation": attenuation,
        "voxel_mm": VOXEL_MM,
        "counts": 1e5,
        "rng": None,
        "camera": SMALL,
    }
    with pytest.raises((GeometryError, ConfigError), match=message):
        reconstruct(**arguments | change)


def test_a_body_is_needed():
    pytest.importorskip("pytomography")
    attenuation, points = body()
    with pytest.raises(GeometryError, match="no body"):
        reconstruct(ball(points, (0, 0, 0), 40), 0 * attenuation, attenuation, VOXEL_MM, 1e5, None, SMALL)


def test_projections_are_attenuated_by_the_depth_of_water():
    """A source in the axis of a water cylinder loses exp(-mu r) towards every side."""
    pytest.importorskip("pytomography")
    attenuation, points = body(radius_mm=96.0)
    activity = ball(points, (0, 0, 0), 13)
    with _one_cpu_thread():
        totals = _Scanner(attenuation, VOXEL_MM, SMALL).project(activity, attenuation).sum(axis=(1, 2))
    expected = activity.sum() * np.exp(-WATER_PER_MM * 96.0)
    np.testing.assert_allclose(totals, expected, rtol=0.08)
    assert totals.mean() == pytest.approx(expected, rel=0.04)


def test_the_stored_projector_is_the_librarys():
    """Attenuation and blur are replaced for speed only."""
    pytest.importorskip("pytomography")
    from pytomography.metadata.SPECT import SPECTPSFMeta
    from pytomography.projectors.SPECT import SPECTSystemMatrix
    from pytomography.transforms.SPECT import SPECTAttenuationTransform, SPECTPSFTransform

    attenuation, points = body()
    activity = ball(points, (24, -50, 35), 40)
    with _one_cpu_thread():
        scanner = _Scanner(attenuation, VOXEL_MM, SMALL)
        blur = SPECTPSFMeta([], lambda cm: SMALL.fwhm_mm(10 * cm) / 10 * FWHM_TO_SIGMA, min_sigmas=6)
        transforms = [SPECTAttenuationTransform(_to_tensor(10 * attenuation)), SPECTPSFTransform(blur)]
        library = SPECTSystemMatrix(transforms, [], scanner.object_meta, scanner.projection_meta)
        expected = library.forward(_to_tensor(activity)).numpy()
        np.testing.assert_allclose(scanner.project(activity, attenuation), expected, atol=1e-5 * expected.max())
        back = [
            matrix.backward(_to_tensor(np.ones((16, 32, 24)))) for matrix in (library, scanner._matrix(attenuation))
        ]
    np.testing.assert_allclose(back[1], back[0], rtol=1e-3)


def test_activity_comes_back_where_it_was_and_in_its_amount():
    """Off centre along every axis; the error of 85 % found scatter is a few percent."""
    pytest.importorskip("pytomography")
    attenuation, points = body()
    activity = ball(points, (24, -50, 35), 40)
    image = reconstruct(activity, attenuation, attenuation, VOXEL_MM, 1e6, None, SMALL)
    assert image.dtype == np.float32
    assert image.min() >= 0
    centre = (image * points).sum(axis=(1, 2, 3)) / image.sum()
    expected = (activity * points).sum(axis=(1, 2, 3)) / activity.sum()
    np.testing.assert_allclose(centre, expected, atol=2.0)
    near = ball(points, (24, -50, 35), 75) > 0
    assert image[near].sum() == pytest.approx(1e6, rel=0.05)
    blurred = gaussian_filter(activity, 0.6)
    assert np.corrcoef(image.ravel(), blurred.ravel())[0, 1] > 0.95


def test_too_little_attenuation_in_the_reconstruction_loses_activity():
    pytest.importorskip("pytomography")
    attenuation, points = body()
    activity = ball(points, (0, 0, 0), 60)
    right = reconstruct(activity, attenuation, attenuation, VOXEL_MM, 1e6, None, SMALL).sum()
    low = reconstruct(activity, attenuation, 0.8 * attenuation, VOXEL_MM, 1e6, None, SMALL).sum()
    assert 0.6 < low / right < 0.85


def test_the_same_generator_gives_the_same_bytes_and_noise_falls_with_counts():
    pytest.importorskip("pytomography")
    attenuation, points = body()
    activity = ball(points, (0, 0, 0), 80)

    def image(seed: int, counts: float) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return reconstruct(activity, attenuation, attenuation, VOXEL_MM, counts, rng, SMALL) / counts

    first = image(1, 2e4)
    assert first.tobytes() == image(1, 2e4).tobytes()
    few = np.std(first - image(2, 2e4))
    many = np.std(image(1, 2e6) - image(2, 2e6))
    assert few / many == pytest.approx(10, rel=0.25)

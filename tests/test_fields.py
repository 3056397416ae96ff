"""Displacement fields: volume change on any grid, and counts that are kept when they are asked to be."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from factories import random_direction
from hypothesis import given, settings
from hypothesis import strategies as st

from ct2vq.fields import as_transform, carry, displacements, grid_over, inverse_error, jacobian
from ct2vq.volume import from_array, make_grid, resample, to_array, voxel_volume_ml

CT = make_grid((40, 36, 38), (5.0, 5.5, 5.0), (-100, -98, -95))
SPECT = make_grid((34, 34, 34), (7.0, 7.0, 7.0), (-115, -115, -115))


def positions(grid: sitk.Image) -> np.ndarray:
    """Patient position (mm, LPS) of every voxel, `(z, y, x, 3)`."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.GetSize()), indexing="ij"), axis=-1)
    matrix = np.reshape(grid.GetDirection(), (3, 3)) * np.asarray(grid.GetSpacing())
    return (index @ matrix.T + np.asarray(grid.GetOrigin())).transpose(2, 1, 0, 3)


def waves(seed: int, grid: sitk.Image, amplitude_mm: float) -> sitk.Image:
    """A smooth random field: three waves of 150 to 300 mm in each component."""
    draw = np.random.default_rng(seed)
    p, d = positions(grid), np.zeros((*grid.GetSize()[::-1], 3))
    for component in range(3):
        for _ in range(3):
            direction = draw.normal(size=3)
            wave = 2 * np.pi / draw.uniform(150, 300) * direction / np.linalg.norm(direction)
            d[..., component] += amplitude_mm / 3 * np.sin(p @ wave + draw.uniform(0, 2 * np.pi))
    field = sitk.GetImageFromArray(d, isVector=True)
    field.CopyInformation(grid)
    return field


def activity(seed: int) -> sitk.Image:
    """Smooth counts that vanish well inside the volume, so that nothing leaves it."""
    draw = np.random.default_rng(seed)
    p = positions(SPECT)
    counts = np.zeros(p.shape[:-1])
    for _ in range(4):
        counts += draw.uniform(20, 100) * np.exp(
            -(np.linalg.norm(p - draw.uniform(-25, 25, 3), axis=-1) ** 2) / 2 / 14**2
        )
    return from_array(counts.astype(np.float32), SPECT)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_jacobian_of_a_linear_map_is_its_determinant_on_any_grid(seed: int, turn: int) -> None:
    """ITK's own filter is wrong on turned grids: this is why there is another."""
    matrix = np.eye(3) + np.random.default_rng(seed).uniform(-0.3, 0.3, (3, 3))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix.ravel().tolist())
    grid = make_grid((6, 7, 5), (4.0, 6.0, 9.0), (10, -20, 30), random_direction(turn).ravel())
    assert np.allclose(jacobian(displacements(transform, grid)), np.linalg.det(matrix), atol=1e-9)


def test_a_mirror_folds_everywhere() -> None:
    mirror = sitk.AffineTransform(3)
    mirror.SetMatrix((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert (jacobian(displacements(mirror, grid_over(CT, 10.0))) < 0).all()


def test_a_field_of_one_slice_has_a_jacobian() -> None:
    field = displacements(sitk.ScaleTransform(3, (2, 3, 5)), make_grid((5, 5, 1), (1, 1, 1), (0, 0, 0)))
    assert np.allclose(jacobian(field), 6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.floats(0.8, 25)] * 3), st.floats(2, 12))
def test_a_field_reaches_beyond_the_faces_of_its_volume(
    turn: int, spacing: tuple[float, float, float], field_mm: float
) -> None:
    """Thick slices, lungs at the border: half a slice of them lies outside the outermost voxels' centres."""
    image = make_grid((7, 5, 3), spacing, (10, -20, 30), random_direction(turn).ravel())
    shift = (3.0, -4.0, 5.0)
    transform = as_transform(displacements(sitk.TranslationTransform(3, shift), grid_over(image, field_mm)))
    far = np.array(image.GetSize()) - 0.5
    for corner in np.ndindex(2, 2, 2):
        at = image.TransformContinuousIndexToPhysicalPoint(np.where(corner, far, -0.5).tolist())
        assert transform.TransformPoint(at) == pytest.approx(np.add(at, shift))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 15))
def test_modulated_counts_are_conserved(seed: int, amplitude_mm: float) -> None:
    """The integral of the carried image is that of the SPECT, whatever the field does to its volume."""
    field, spect = waves(seed, grid_over(CT, 5.0), amplitude_mm), activity(seed)
    carried = carry(spect, CT, field, modulate=True)
    before = to_array(spect).sum() * voxel_volume_ml(spect)
    assert to_array(carried).sum() * voxel_volume_ml(carried) == pytest.approx(before, rel=0.01)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_counts_of_a_region_are_conserved(seed: int) -> None:
    """What lay in a lobe of the SPECT lies in the lobe that the field carries there."""
    field, spect = waves(seed, grid_over(CT, 5.0), 12.0), activity(seed)
    half = from_array((positions(SPECT)[..., 2] > 0).astype(np.float32), SPECT)
    both = from_array(to_array(spect) * to_array(half), SPECT)
    carried = to_array(carry(both, CT, field, modulate=True)).sum() * voxel_volume_ml(CT)
    assert carried == pytest.approx(to_array(both).sum() * voxel_volume_ml(SPECT), rel=0.02)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.8, 1.3))
def test_unmodulated_concentrations_are_kept_and_counts_are_not(seed: int, scale: float) -> None:
    spect = activity(seed)
    field = displacements(sitk.ScaleTransform(3, (scale,) * 3), grid_over(CT, 5.0))
    plain, modulated = carry(spect, CT, field), carry(spect, CT, field, modulate=True)
    assert to_array(plain).max() == pytest.approx(to_array(spect).max(), rel=0.12)
    assert np.allclose(to_array(modulated), to_array(plain) * scale**3, rtol=1e-4)
    counts = to_array(spect).sum() * voxel_volume_ml(spect)
    assert to_array(plain).sum() * voxel_volume_ml(CT) == pytest.approx(counts / scale**3, rel=0.02)


def test_without_displacement_carrying_is_resampling() -> None:
    still = displacements(sitk.Transform(3, sitk.sitkIdentity), grid_over(CT, 5.0))
    spect = activity(1)
    expected = to_array(resample(spect, CT))
    assert np.allclose(to_array(carry(spect, CT, still)), expected, atol=1e-4)
    assert np.allclose(to_array(carry(spect, CT, still, modulate=True)), expected, atol=1e-4)
    assert carry(spect, CT, still).GetPixelID() == spect.GetPixelID()


def test_there_and_back_is_measured_in_mm() -> None:
    there = displacements(sitk.TranslationTransform(3, (4, 0, 3)), grid_over(CT, 5.0))
    back = displacements(sitk.TranslationTransform(3, (-4, 0, -1)), grid_over(SPECT, 5.0))
    inside = np.linalg.norm(positions(there), axis=-1) < 60
    error, lost = inverse_error(there, back, inside)
    assert np.allclose(error, 2) and len(error) == inside.sum() and lost == 0
    assert as_transform(there).TransformPoint((0.0, 0.0, 0.0)) == pytest.approx((4, 0, 3))

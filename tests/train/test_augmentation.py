"""Augmentation moves image, lungs and truth together, loses no lung, and is a function of its generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ct2vq.config import complete_config
from ct2vq.train.augment import WITHOUT_FOLDS, Warp, _rotation, _sampling_grid, augment, deform
from ct2vq.train.data import Sample

NOTHING: dict[str, Any] = dict.fromkeys(complete_config({"study": "x"})["train"]["augmentation"], 0)


def a_sample(seed: int, shape: tuple[int, int, int] = (8, 9, 10), margin: int = 2) -> Sample:
    generator = np.random.default_rng(seed)
    lungs = np.zeros(shape, np.float32)
    lungs[(slice(margin, -margin or None),) * 3] = 1
    image, truth = (torch.from_numpy(generator.random((n, *shape)).astype(np.float32) * lungs) for n in (5, 2))
    return Sample("c", image, torch.from_numpy(lungs)[None], truth)


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(0, 3), st.integers(0, 6))
def test_augmentation_moves_everything_together_and_wraps_nothing_round(seed: int, margin: int, reach: int) -> None:
    before = a_sample(seed, margin=margin)
    chosen = NOTHING | {"shift_voxels": reach, "scale": 0.1, "noise": 0.05}
    after = augment(before, chosen, torch.Generator().manual_seed(seed), 2)
    again = augment(before, chosen, torch.Generator().manual_seed(seed), 2)
    assert torch.equal(after.image, again.image)
    assert after.lungs.sum() == before.lungs.sum()
    outside = after.lungs[0] == 0
    assert (after.image[:, outside] == 0).all()
    assert (after.truth[:, outside] == 0).all()
    for a, b in ((after.truth, before.truth), (after.image[2:], before.image[2:])):
        crops = [t[(slice(None), *box(s.lungs[0]))] for t, s in ((a, after), (b, before))]
        assert torch.equal(*crops), "the image was only shifted, not turned, mirrored or wrapped"


def box(lungs: torch.Tensor) -> tuple[slice, ...]:
    index = torch.nonzero(lungs)
    return tuple(slice(int(low), int(high) + 1) for low, high in zip(index.amin(0), index.amax(0), strict=True))


def test_no_augmentation_changes_nothing() -> None:
    before = a_sample(0)
    after = augment(before, NOTHING, torch.Generator(), 2)
    for name in ("image", "lungs", "truth"):
        assert torch.equal(getattr(after, name), getattr(before, name))


def test_mirroring_turns_left_and_right_of_everything() -> None:
    before, chosen = a_sample(0), NOTHING | {"mirror": 1}
    after = augment(before, chosen, torch.Generator(), 2)
    for name in ("image", "lungs", "truth"):
        assert torch.equal(getattr(after, name), getattr(before, name).flip(3))
    half = [augment(before, chosen | {"mirror": 0.5}, torch.Generator().manual_seed(k), 2) for k in range(60)]
    mirrored = sum(not torch.equal(s.truth, before.truth) for s in half)
    assert 15 < mirrored < 45


def ball(size: tuple[int, int, int] = (20, 24, 28), radius: float = 6.0) -> Sample:
    """A smooth image in a ball off the centre, known everywhere."""
    z, y, x = np.indices(size).astype(np.float32)
    inside = ((z - 9) ** 2 + (y - 12) ** 2 + (x - 14) ** 2 < radius**2).astype(np.float32)
    image = np.stack([0.5 + 0.02 * (z - 9), 0.5 + 0.02 * (y - 12), 0.5 + 0.02 * (x - 14)]) * inside
    truth = image[:1]
    return Sample("ball", *(torch.from_numpy(part) for part in (image, inside[None], truth)))


def test_a_rotation_turns_values_with_the_tissue_and_keeps_the_pleura_bright() -> None:
    before, angle = ball(), np.deg2rad(10)
    after = deform(before, Warp(torch.tensor([angle, 0.0, 0.0]), 1.0, None))
    inside = (before.lungs[0] > 0) & (after.lungs[0] > 0)
    assert inside.sum() > 0.97 * before.lungs.sum()
    y, x = (torch.arange(n, dtype=torch.float32) - c for n, c in ((24, 12), (28, 14)))
    source_y = (np.cos(angle) * y[:, None] - np.sin(angle) * x[None]).expand(20, 24, 28)
    expected = 0.5 + 0.02 * source_y
    assert (after.image[1] - expected)[inside].abs().max() < 0.011, "half a voxel's step at the rim, no darkening"
    assert torch.equal(after.truth[0], after.image[0]), "image and truth go together"


def test_zoom_changes_the_volume_by_its_cube() -> None:
    before = ball(radius=7)
    after = deform(before, Warp(torch.zeros(3), 1.1, None))
    assert float(after.lungs.sum() / before.lungs.sum()) == pytest.approx(1.1**3, rel=0.06)


def test_a_rotation_is_a_rotation() -> None:
    matrix = _rotation(torch.tensor([0.1, -0.2, 0.15]))
    assert torch.allclose(matrix @ matrix.T, torch.eye(3), atol=1e-6)
    assert float(torch.linalg.det(matrix)) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_the_affine_part_is_monai_s() -> None:
    from monai.transforms import Affine

    before = ball()
    ours = _sampling_grid(before.lungs[0], Warp(torch.tensor([0.0, 0.0, 0.0]), 1.08, None))
    volume = before.image
    made = torch.nn.functional.grid_sample(volume[None], ours[None], align_corners=True)[0]
    # MONAI scales coordinates about the middle of the array; ours about the middle of the lungs
    middle = [(n - 1) / 2 for n in volume.shape[1:]]
    shift = [(c - m) * (1 - 1 / 1.08) for c, m in zip((9, 12, 14), middle, strict=True)]
    theirs, _ = Affine(scale_params=(1 / 1.08,) * 3, translate_params=shift, padding_mode="zeros")(volume)
    assert torch.allclose(made, torch.as_tensor(theirs.as_tensor()), atol=1e-4)


@settings(max_examples=25)
@given(st.integers(0, 999), st.floats(0.1, 30), st.floats(0.01, 0.3), st.floats(0.1, 10))
def test_a_deformation_is_repeatable_and_loses_no_lung(seed: int, degrees: float, zoom: float, elastic: float) -> None:
    before = ball()
    chosen = NOTHING | {"rotation_degrees": degrees, "zoom": zoom, "elastic_voxels": elastic}
    after, again = (augment(before, chosen, torch.Generator().manual_seed(seed), 2) for _ in range(2))
    for name in ("image", "lungs", "truth"):
        assert torch.equal(getattr(after, name), getattr(again, name))
        assert getattr(after, name).shape == getattr(before, name).shape
    lungs = after.lungs[0]
    assert set(lungs.unique().tolist()) == {0.0, 1.0}
    assert (after.image[:, lungs == 0] == 0).all()
    assert float(after.truth.min()) >= 0
    assert float(after.truth.max()) <= float(before.truth.max()) + 1e-5
    assert not any(bool(lungs.select(axis, end).any()) for axis in range(3) for end in (0, -1))


@settings(max_examples=25)
@given(st.integers(0, 999))
def test_the_strongest_elastic_deformation_never_folds(seed: int) -> None:
    lungs = ball((24, 24, 24)).lungs[0]
    apart = 23 / 4
    elastic = (
        WITHOUT_FOLDS * apart * torch.sign(torch.randn((3, 5, 5, 5), generator=torch.Generator().manual_seed(seed)))
    )
    grid = _sampling_grid(lungs, Warp(torch.zeros(3), 1.0, elastic)).flip(-1)
    source = (grid + 1) / 2 * 23
    steps = [source.diff(dim=axis)[:23, :23, :23] for axis in range(3)]
    assert float(torch.linalg.det(torch.stack(steps, dim=-1)).min()) > 0


def test_a_deformation_that_would_push_lung_out_is_weakened() -> None:
    tight = ball((15, 19, 21), 6.9)
    after = augment(tight, NOTHING | {"zoom": 0.3}, torch.Generator().manual_seed(2), 2)
    assert not after.lungs[0, 0].any()


def test_deformations_off_draw_nothing() -> None:
    """Studies from before there were deformations keep their random numbers."""
    generator, reference = (torch.Generator().manual_seed(1) for _ in range(2))
    before = a_sample(0)
    augment(before, NOTHING | {"shift_voxels": 2}, generator, 2)
    torch.randint(-2, 3, (3,), generator=reference)
    torch.rand(2, 1, 1, 1, generator=reference)
    torch.randn((2, *before.size), generator=reference)
    assert torch.equal(generator.get_state(), reference.get_state())


def test_left_and_right_are_not_mirrored_by_default() -> None:
    default = complete_config({"study": "x"})["train"]["augmentation"]
    assert {key for key, value in default.items() if value} == {"shift_voxels", "scale", "noise"}

"""The losses against NumPy, blind to everything outside the lungs, with a gradient wherever they are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from factories import lung_labels
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.losses import lung_loss, masked_correlation, masked_l1

INSIDE = lung_labels((6, 7, 8)) > 0
SEEDS = st.integers(0, 10**6)
WEIGHTS = {"l1": 1.0, "correlation": 0.5}


def batch(seed: int, targets: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    prediction, truth = generator.random((2, 3, targets, *INSIDE.shape))
    lungs = np.stack([INSIDE, INSIDE & (generator.random(INSIDE.shape) < 0.5), np.roll(INSIDE, 1, 0)])[:, None]
    return prediction, truth, lungs


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(array)).double() for array in arrays]


@given(SEEDS, st.integers(1, 2))
def test_the_parts_are_numpys(seed: int, targets: int) -> None:
    prediction, truth, lungs = batch(seed, targets)
    l1 = masked_l1(*tensors(prediction, truth, lungs)).numpy()
    correlation = masked_correlation(*tensors(prediction, truth, lungs)).numpy()
    assert l1.shape == correlation.shape == (3, targets)
    for n in range(3):
        for target in range(targets):
            x, y = (image[n, target][lungs[n, 0]] for image in (prediction, truth))
            assert l1[n, target] == pytest.approx(np.abs(x - y).mean())
            assert correlation[n, target] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-4)
    loss = lung_loss(*tensors(prediction, truth, lungs), WEIGHTS).item()
    assert loss == pytest.approx(l1.mean() + 0.5 * (1 - correlation.mean()))


@given(SEEDS)
def test_the_loss_is_blind_to_the_rest(seed: int) -> None:
    prediction, truth, lungs = batch(seed)
    noise = np.where(lungs, 0, np.random.default_rng(seed).normal(0, 100, lungs.shape))
    plain, noisy = (lung_loss(*tensors(prediction + n, truth - n, lungs), WEIGHTS).item() for n in (0, noise))
    assert noisy == pytest.approx(plain)


def test_a_large_lung_counts_no_more_than_a_small_one() -> None:
    prediction, truth, lungs = batch(1)
    once = masked_l1(*tensors(prediction, truth, lungs)).mean()
    alone = [masked_l1(*tensors(*(a[n : n + 1] for a in (prediction, truth, lungs)))).mean() for n in range(3)]
    assert once.item() == pytest.approx(np.mean(alone))


def test_perfect_opposite_and_constant_images() -> None:
    _, truth, lungs = batch(2)
    perfect, opposite, constant = (
        lung_loss(*tensors(image, truth, lungs), WEIGHTS).item() for image in (truth, 1 - truth, truth * 0 + 0.5)
    )
    assert perfect == pytest.approx(0, abs=1e-4)
    assert opposite > constant > perfect
    assert masked_correlation(*tensors(truth * 0, truth, lungs)).abs().max().item() == pytest.approx(0)


@pytest.mark.parametrize("empty", [False, True])
def test_gradients_are_finite_even_for_a_constant_image_or_no_lung(empty: bool) -> None:
    _, truth, lungs = batch(3)
    prediction = torch.zeros(truth.shape, dtype=torch.float64, requires_grad=True)
    lung_loss(prediction, *tensors(truth, lungs * (not empty)), WEIGHTS).backward()
    assert torch.isfinite(prediction.grad).all()
    outside = ~np.broadcast_to(lungs, truth.shape)
    assert (prediction.grad.numpy()[outside] == 0).all()


def test_the_gradient_is_the_right_one() -> None:
    prediction, truth, lungs = (array[:1, :, :3, :4, :4] for array in batch(4))
    lungs = np.ones_like(lungs)
    guess, *rest = tensors(prediction, truth, lungs)
    guess.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: masked_correlation(x, *rest), (guess,))

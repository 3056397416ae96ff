"""The losses against NumPy, blind to everything outside the lungs, with a gradient wherever they are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from factories import TARGETS, TRAINING, lung_labels
from hypothesis import given
from hypothesis import strategies as st
from ssim_of_images import ssim

from ct2vq.losses import lung_loss, masked_correlation, masked_huber, masked_l1, masked_ssim, target_shares

INSIDE = lung_labels((6, 7, 8)) > 0
SEEDS = st.integers(0, 10**6)
WEIGHTS = TRAINING["loss"]
NOTHING = WEIGHTS | {"l1": 0, "correlation": 0}
ALL = WEIGHTS | {"huber": 0.7, "ssim": 0.3}
PARTS = ("l1", "huber", "ssim", "correlation")
BALANCES = ("equal", "fixed", "spread")


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
    images = tensors(prediction, truth, lungs)
    l1, huber = masked_l1(*images).numpy(), masked_huber(*images, 0.2).numpy()
    correlation = masked_correlation(*images).numpy()
    assert l1.shape == huber.shape == correlation.shape == (3, targets)
    for n in range(3):
        for target in range(targets):
            x, y = (image[n, target][lungs[n, 0]] for image in (prediction, truth))
            error = np.abs(x - y)
            assert l1[n, target] == pytest.approx(error.mean())
            assert huber[n, target] == pytest.approx(np.where(error < 0.2, error**2 / 0.4, error - 0.1).mean())
            assert correlation[n, target] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-4)
    loss = lung_loss(*images, WEIGHTS).item()
    assert loss == pytest.approx(l1.mean() + 0.5 * (1 - correlation.mean()))


@pytest.mark.parametrize("sigma", [1.0, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ssim_is_the_metric(sigma: float, dtype: torch.dtype) -> None:
    prediction, truth, lungs = batch(5)
    prediction = 0.7 * truth + 0.3 * prediction
    made = masked_ssim(*(t.to(dtype) for t in tensors(prediction, truth, lungs)), sigma)
    for n in range(3):
        for target in range(2):
            images = prediction[n, target], truth[n, target], lungs[n, 0]
            metric = ssim(*images, sigma_voxels=sigma, data_range=1.0, k1=0.01, k2=0.03)
            assert made[n, target].item() == pytest.approx(metric.number, abs=1e-5 if dtype == torch.float32 else 1e-9)


@given(SEEDS, st.sampled_from(BALANCES))
def test_the_loss_is_the_weighted_sum_of_its_parts(seed: int, balance: str) -> None:
    images, weights = (
        tensors(*batch(seed)),
        ALL | {"balance": balance, "target_weights": {"perfusion": 3, "ventilation": 1}},
    )
    whole = lung_loss(*images, weights, TARGETS).item()
    alone = [lung_loss(*images, weights | only(part) | {"balance": balance}, TARGETS).item() for part in PARTS]
    assert whole == pytest.approx(sum(alone))


def only(part: str) -> dict[str, float]:
    return {name: ALL[name] if name == part else 0 for name in PARTS}


@given(SEEDS)
def test_the_loss_is_blind_to_the_rest(seed: int) -> None:
    prediction, truth, lungs = batch(seed)
    noise = np.where(lungs, 0, np.random.default_rng(seed).normal(0, 100, lungs.shape))
    for balance in ("equal", "spread"):
        weights = ALL | {"balance": balance}
        plain, noisy = (lung_loss(*tensors(prediction + n, truth - n, lungs), weights).item() for n in (0, noise))
        assert noisy == pytest.approx(plain)


def test_a_large_lung_counts_no_more_than_a_small_one() -> None:
    prediction, truth, lungs = batch(1)
    once = masked_l1(*tensors(prediction, truth, lungs)).mean()
    alone = [masked_l1(*tensors(*(a[n : n + 1] for a in (prediction, truth, lungs)))).mean() for n in range(3)]
    assert once.item() == pytest.approx(np.mean(alone))


def test_equal_balance_is_the_plain_mean_of_both_targets() -> None:
    images = tensors(*batch(6))
    each = [lung_loss(*(t[:, n : n + 1] for t in images[:2]), images[2], ALL).item() for n in range(2)]
    assert lung_loss(*images, ALL).item() == pytest.approx(np.mean(each))


def test_fixed_balance_weighs_every_part_by_target() -> None:
    images = tensors(*batch(6))
    weights = ALL | {"balance": "fixed", "target_weights": {"perfusion": 3.0, "ventilation": 1.0}}
    each = [lung_loss(*(t[:, n : n + 1] for t in images[:2]), images[2], ALL).item() for n in range(2)]
    assert lung_loss(*images, weights, TARGETS).item() == pytest.approx(np.average(each, weights=[3, 1]))
    turned = [t.flip(1) for t in images[:2]]
    assert lung_loss(*turned, images[2], weights, TARGETS[::-1]).item() == pytest.approx(
        lung_loss(*images, weights, TARGETS).item()
    )
    with pytest.raises(ValueError, match="need names"):
        lung_loss(*images, weights)


def test_balance_by_spread_makes_contrast_irrelevant() -> None:
    prediction, truth, lungs = batch(7)
    for image in (prediction, truth):
        image[:, 1] = image[:, 0] / 4 + 0.3
    weights = NOTHING | {"l1": 1.0, "balance": "spread"}
    guess, *rest = tensors(prediction, truth, lungs)
    guess.requires_grad_()
    errors, relative = target_shares(*rest, weights, ())
    assert relative is None
    np.testing.assert_allclose(errors.numpy(), np.tile([0.4, 1.6], (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(errors.mean(dim=1), 1)
    by_target = (masked_l1(guess, *rest) * errors).detach()
    np.testing.assert_allclose(by_target[:, 0], by_target[:, 1])


@pytest.mark.parametrize("balance", BALANCES)
def test_the_balance_changes_no_model_of_one_target(balance: str) -> None:
    images = tensors(*batch(8, targets=1))
    weights = ALL | {"target_weights": {"perfusion": 5.0, "ventilation": 1.0}}
    losses = [lung_loss(*images, weights | {"balance": b}, TARGETS[:1]).item() for b in ("equal", balance)]
    assert losses[0] == pytest.approx(losses[1])


def test_perfect_opposite_and_constant_images() -> None:
    _, truth, lungs = batch(2)
    for weights in (WEIGHTS, ALL):
        perfect, opposite, constant = (
            lung_loss(*tensors(image, truth, lungs), weights).item() for image in (truth, 1 - truth, truth * 0 + 0.5)
        )
        assert perfect == pytest.approx(0, abs=1e-4)
        assert opposite > constant > perfect
    assert masked_correlation(*tensors(truth * 0, truth, lungs)).abs().max().item() == pytest.approx(0)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("balance", ["equal", "spread"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_gradients_are_finite_whatever_comes(empty: bool, constant: bool, balance: str, dtype: torch.dtype) -> None:
    _, truth, lungs = batch(3)
    truth = truth * 0 + 0.25 if constant else truth
    prediction = torch.zeros(truth.shape, dtype=dtype, requires_grad=True)
    loss = lung_loss(prediction, *tensors(truth, lungs * (not empty)), ALL | {"balance": balance})
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(prediction.grad).all()
    outside = ~np.broadcast_to(lungs, truth.shape)
    assert (prediction.grad.float().numpy()[outside] == 0).all()


def test_half_precision_and_autocast_are_computed_in_float32() -> None:
    images = [t.bfloat16() for t in tensors(*batch(4))]
    full = lung_loss(*(t.float() for t in images), ALL)
    with torch.autocast("cpu", torch.bfloat16):
        half = lung_loss(*images, ALL)
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


@pytest.mark.parametrize("part", PARTS)
def test_the_gradient_is_the_right_one(part: str) -> None:
    prediction, truth, lungs = (array[:1, :, :3, :4, :4] for array in batch(4))
    lungs = np.ones_like(lungs)
    lungs[..., 0] = 0
    guess, *rest = tensors(prediction, truth, lungs)
    guess.requires_grad_()
    weights = WEIGHTS | only(part)
    assert torch.autograd.gradcheck(lambda x: lung_loss(x, *rest, weights), (guess,))

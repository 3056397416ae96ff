"""The networks: shapes, zeros outside the lungs, what each switch changes, and the same gradients twice."""

from __future__ import annotations

import itertools

import pytest
import torch
from factories import NETWORK, TARGETS, lung_labels

from ct2vq.networks import build_network, parameter_count

LUNGS = torch.from_numpy((lung_labels() > 0).astype("float32"))[None, None]
SWITCHES = ("residual", "roi_attention", "skip_attention")


def network(targets: tuple[str, ...] = TARGETS, channels: int = 5, **changes):
    torch.manual_seed(0)
    return build_network(targets, NETWORK | changes, channels)


def image(channels: int = 5, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((batch, channels, *LUNGS.shape[2:]), generator=generator)


@pytest.mark.parametrize("targets", [("perfusion",), ("ventilation",), TARGETS])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_shapes_and_nothing_outside_the_lungs(targets: tuple[str, ...], levels: int) -> None:
    lungs = LUNGS.repeat(2, 1, 1, 1, 1)
    out = network(targets, levels=levels)(image(batch=2), lungs)
    assert out.shape == (2, len(targets), *LUNGS.shape[2:])
    inside = lungs.expand_as(out) > 0
    assert (out[~inside] == 0).all()
    assert (out[inside] > 0).all()
    assert (out[inside] < 1).all()
    assert out.std() > 0


@pytest.mark.parametrize("switches", list(itertools.product([True, False], repeat=3)))
def test_every_combination_of_parts_runs_and_learns(switches: tuple[bool, ...]) -> None:
    net = network(**dict(zip(SWITCHES, switches, strict=True)))
    net(image(), LUNGS).sum().backward()
    trained = [name for name, parameter in net.named_parameters() if parameter.grad is not None]
    assert any("encoder" in name for name in trained)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("switch", ["roi_attention", "skip_attention"])
def test_attention_is_parameters(switch: str) -> None:
    assert parameter_count(network(**{switch: False})) < parameter_count(network())


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_changes_the_image(switch: str) -> None:
    full, without = network(), network(**{switch: False})
    without.load_state_dict(full.state_dict(), strict=False)
    assert not torch.allclose(full(image(), LUNGS), without(image(), LUNGS))


def test_no_parameter_is_idle() -> None:
    net = network(residual=False)
    net(image(), LUNGS).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_every_parameter_of_the_full_network_learns() -> None:
    net = network()
    net(image(), LUNGS).square().sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # an instance norm takes away what a bias before it adds
    assert [name for name in idle if not name.endswith("bias")] == []


def test_size_grows_with_width_levels_blocks_and_targets() -> None:
    base = parameter_count(network())
    for change in ({"width": 8}, {"levels": 3}, {"blocks": 2}, {"targets": TARGETS[:1]}):
        count = parameter_count(network(**change))
        assert (count < base) if "targets" in change else (count > base), change


def test_two_decoders_share_one_encoder() -> None:
    both, one = network(), network(("perfusion",))
    encoder = sum(p.numel() for p in one.encoder.parameters())
    decoder = parameter_count(one) - encoder
    assert parameter_count(both) == encoder + 2 * decoder
    both(image(), LUNGS)[:, 0].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in both.decoders["ventilation"].parameters())
    assert any(p.grad is not None and p.grad.any() for p in both.encoder.parameters())


def test_targets_come_out_in_the_order_asked_for() -> None:
    first, second = network(), network(TARGETS[::-1])
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(image(), LUNGS), second(image(), LUNGS).flip(1))


def test_the_same_gradients_twice() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        gradients = []
        for _ in range(2):
            net = network(levels=3)
            net(image(), LUNGS).square().sum().backward()
            gradients.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
        assert torch.equal(*gradients)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_seed_decides_the_first_weights() -> None:
    torch.manual_seed(1)
    other = build_network(TARGETS, NETWORK, 5)
    same = network(), network()
    assert all(torch.equal(*pair) for pair in zip(*(net.parameters() for net in same), strict=True))
    assert not torch.equal(next(other.parameters()), next(same[0].parameters()))

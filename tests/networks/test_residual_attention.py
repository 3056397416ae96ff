"""The networks: shapes, zeros outside the lungs, what each switch changes, and the same gradients twice."""

from __future__ import annotations

import itertools

import pytest
import torch
from factories import NETWORK, TARGETS, lung_labels

from ct2vq.networks.build import build_network
from ct2vq.networks.cost import parameters
from ct2vq.networks.settings import ONCE_FIXED

LUNGS = torch.from_numpy((lung_labels() > 0).astype("float32"))[None, None]
SWITCHES = ("residual", "roi_attention", "skip_attention")


def network(targets: tuple[str, ...] = TARGETS, channels: int = 5, **changes):
    torch.manual_seed(0)
    return build_network("ran", targets, NETWORK | changes, channels)


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


def test_a_narrower_decoder_has_fewer_parameters_and_the_same_encoder() -> None:
    full, narrow = network(), network(decoder_width=0.5)
    assert parameters(narrow.encoder) == parameters(full.encoder)
    assert parameters(narrow.decoders) < 0.6 * parameters(full.decoders)
    out = narrow(image(), LUNGS)
    assert out.shape == (1, len(TARGETS), *LUNGS.shape[2:])
    out.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in narrow.decoders.parameters())
    tiny = network(decoder_width=0.01)(image(), LUNGS)
    assert tiny.shape == out.shape, "a channel is left at each level"


@pytest.mark.parametrize("switch", ["roi_attention", "skip_attention"])
def test_attention_is_parameters(switch: str) -> None:
    assert parameters(network(**{switch: False})) < parameters(network())


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
    base = parameters(network())
    for change in ({"width": 8}, {"levels": 3}, {"blocks": 2}, {"targets": TARGETS[:1]}):
        count = parameters(network(**change))
        assert (count < base) if "targets" in change else (count > base), change


def test_two_decoders_share_one_encoder() -> None:
    both, one = network(), network(("perfusion",))
    encoder = sum(p.numel() for p in one.encoder.parameters())
    decoder = parameters(one) - encoder
    assert parameters(both) == encoder + 2 * decoder
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
    other = build_network("ran", TARGETS, NETWORK, 5)
    same = network(), network()
    assert all(torch.equal(*pair) for pair in zip(*(net.parameters() for net in same), strict=True))
    assert not torch.equal(next(other.parameters()), next(same[0].parameters()))


def test_separate_encoders_are_two_networks_under_one_loss() -> None:
    separate, one = network(encoder="separate"), network(("perfusion",))
    assert parameters(separate) == 2 * parameters(one)
    separate(image(), LUNGS)[:, 0].sum().backward()
    for part in (separate.encoder, separate.decoders):
        assert all(p.grad is None or not p.grad.any() for p in part["ventilation"].parameters())
        assert any(p.grad is not None and p.grad.any() for p in part["perfusion"].parameters())
    with torch.no_grad():
        one.encoder.load_state_dict(separate.encoder["perfusion"].state_dict())
        one.decoders["perfusion"].load_state_dict(separate.decoders["perfusion"].state_dict())
        assert torch.equal(one(image(), LUNGS)[:, 0], separate(image(), LUNGS)[:, 0])


@pytest.mark.parametrize("size", [(9, 11, 13), (3, 3, 3), (4, 4, 4), (1, 5, 2)])
def test_any_size_is_padded_and_cut_back(size: tuple[int, int, int]) -> None:
    lungs = torch.ones((1, 1, *size))
    x = torch.randn((1, 5, *size), generator=torch.Generator().manual_seed(0))
    net = network()
    out = net(x, lungs)
    assert out.shape == (1, 2, *size)
    assert torch.isfinite(out).all()
    filled = [torch.nn.functional.pad(t, (0, 24 - size[2], 0, 16 - size[1], 0, 16 - size[0])) for t in (x, lungs)]
    if max(size) > net.multiple:
        z, y, w = (n + -n % net.multiple for n in size)
        same = net(*(t[..., :z, :y, :w].contiguous() for t in filled))[..., : size[0], : size[1], : size[2]]
        torch.testing.assert_close(out, same, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("activation", ["softplus", "clamp"])
def test_other_activations_are_cut_only_outside_of_training(activation: str) -> None:
    net = network(activation=activation)
    for decoder in net.decoders.values():
        decoder.head.weight.data *= 100
    free = net(image(), LUNGS)
    assert free.max() > 1
    assert (free.min() >= 0) == (activation == "softplus")
    net.eval()
    cut = net(image(), LUNGS)
    assert torch.equal(cut, free.clamp(0, 1))
    assert cut[:, :, LUNGS[0, 0] == 0].abs().max() == 0


def test_dropout_draws_only_while_training() -> None:
    plain, dropped = network(), network(dropout=0.5)
    assert list(plain.state_dict()) == list(dropped.state_dict())
    assert torch.equal(plain(image(), LUNGS), dropped.eval()(image(), LUNGS))
    dropped.train()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropped(image(), LUNGS))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_weights_that_know_less_of_themselves_are_todays_defaults() -> None:
    old = {key: value for key, value in NETWORK.items() if key not in ONCE_FIXED}
    torch.manual_seed(0)
    net = build_network("ran", TARGETS, old, 5)
    assert torch.equal(net(image(), LUNGS), network()(image(), LUNGS))
    assert len(old) == len(NETWORK) - len(ONCE_FIXED)
    assert {key for key in ONCE_FIXED if NETWORK[key] != ONCE_FIXED[key]} == {"texture"}, "there was no such channel"

"""Peers from MONAI behave like the RAN: same call, zeros, any size, the same bytes twice, every parameter learns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from factories import NETWORK, TARGETS
from safetensors.torch import load_file, save_file

from ct2vq.networks.build import build_network, multiple_of
from ct2vq.networks.settings import NETWORK_KINDS, PEERS, network_problems

SMALL = NETWORK | {"width": 4, "levels": 3, "stem": 2}
SIZES = [(16, 16, 24), (9, 11, 13)]


def settings(kind: str, **changes) -> dict:
    return SMALL | ({"width": 12} if kind == "swin_unetr" else {}) | changes


def network(kind: str, targets: tuple[str, ...] = TARGETS, seed: int = 0, channels: int = 3, **changes):
    torch.manual_seed(seed)
    return build_network(kind, targets, settings(kind, **changes), channels)


def inputs(size: tuple[int, int, int], batch: int = 1, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    lungs = (torch.rand((batch, 1, *size), generator=generator) > 0.4).float()
    return torch.randn((batch, channels, *size), generator=generator) * lungs, lungs


@pytest.mark.parametrize("kind", NETWORK_KINDS)
@pytest.mark.parametrize("targets", [("perfusion",), TARGETS])
@pytest.mark.parametrize("stem", [1, 2])
def test_every_kind_gives_images_in_the_lungs_and_learns(kind: str, targets: tuple[str, ...], stem: int) -> None:
    net = network(kind, targets, stem=stem)
    image, lungs = inputs((9, 11, 13), batch=2)
    out = net(image, lungs)
    assert out.shape == (2, len(targets), 9, 11, 13)
    inside = lungs.expand_as(out) > 0
    assert (out[~inside] == 0).all()
    assert ((out[inside] > 0) & (out[inside] < 1)).all()
    for channel in range(len(targets)):
        assert out[:, channel].std() > 0
    out.square().sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a norm takes away what a bias before it adds
    assert [name for name in idle if not name.endswith("bias")] == []


@pytest.mark.parametrize("kind", PEERS)
def test_the_same_gradients_twice_and_in_deterministic_mode(kind: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        gradients = []
        for _ in range(2):
            net = network(kind)
            net(*inputs((16, 16, 24))).square().sum().backward()
            gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
        assert torch.equal(*gradients)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_saved_and_read_again_it_is_the_same(kind: str, tmp_path: Path) -> None:
    net, other = network(kind).eval(), network(kind, seed=1).eval()
    image, lungs = inputs((16, 8, 8))
    with torch.no_grad():
        before = net(image, lungs)
        assert not torch.equal(before, other(image, lungs))
        save_file({key: value.contiguous() for key, value in net.state_dict().items()}, tmp_path / "weights")
        other.load_state_dict(load_file(tmp_path / "weights"))
        assert torch.equal(before, other(image, lungs))


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_a_case_does_not_see_the_others_of_its_batch(kind: str) -> None:
    net = network(kind)
    image, lungs = inputs((16, 16, 16), batch=2)
    with torch.no_grad():
        together = net(image, lungs)
        alone = torch.cat([net(image[n : n + 1], lungs[n : n + 1]) for n in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", PEERS)
def test_nothing_in_a_peer_has_a_backward_that_cuda_adds_in_any_order(kind: str) -> None:
    banned = ("MaxPool", "AvgPool", "Upsample", "BatchNorm", "ReflectionPad", "ReplicationPad")
    names = {type(module).__name__ for module in network(kind).modules()}
    assert [name for name in names if name.startswith(banned) or "AdaptiveAvg" in name] == []
    functions = _operations(network(kind))
    assert not [name for name in functions if any(word in name for word in ("upsample", "pool", "scatter", "cumsum"))]


def _operations(net: torch.nn.Module) -> set[str]:
    """Names of the operations of a forward and a backward pass."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: set[str] = set()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names.add(str(function))
            return function(*args, **(kwargs or {}))

    with Recorder() as recorder:
        net(*inputs((16, 8, 8))).sum().backward()
    assert any("convolution_backward" in name for name in recorder.names)
    return recorder.names


@pytest.mark.parametrize("kind", PEERS)
def test_dropout_is_switched_off_outside_of_training(kind: str) -> None:
    net, (image, lungs) = network(kind, dropout=0.5), inputs((16, 8, 8))
    with torch.no_grad():
        torch.manual_seed(0)
        draws = [net(image, lungs) for _ in range(2)]
        net.eval()
        still = [net(image, lungs) for _ in range(2)]
    assert not torch.equal(*draws)
    assert torch.equal(*still)


def test_sizes_and_settings_that_a_kind_needs() -> None:
    assert [multiple_of(kind, SMALL) for kind in NETWORK_KINDS] == [8, 8, 8, 8, 64]
    assert network_problems("ran", SMALL | {"levels": 1}) == []
    assert "levels" in network_problems("dynunet", SMALL | {"levels": 2})[0]
    assert "multiple of 12" in network_problems("swin_unetr", SMALL)[0]


def test_monai_is_imported_only_for_a_peer() -> None:
    code = (
        "import sys\nfrom ct2vq.networks.build import build_network\n"
        f"build_network('ran', ['perfusion'], {SMALL!r}, 3)\nprint('monai' in sys.modules)\n"
        "import ct2vq.networks.settings\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

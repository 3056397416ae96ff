"""Parameters and multiply-adds against what can be counted by hand."""

from __future__ import annotations

import pytest
import torch
from factories import NETWORK, TARGETS
from torch import nn

from ct2vq.networks.build import build_network
from ct2vq.networks.cost import multiply_adds, parameters


class One(nn.Module):
    """A convolution and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 3
        self.down = nn.Conv3d(4, 8, 2, stride=2)
        self.up = nn.ConvTranspose3d(8, 5, 2, stride=2, bias=False)

    def forward(self, image: torch.Tensor, lungs: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(torch.cat([image, lungs], dim=1)))


def test_counted_by_hand() -> None:
    voxels = 4 * 5 * 6
    assert parameters(One()) == 4 * 8 * 8 + 8 + 8 * 5 * 8
    assert multiply_adds(One(), (8, 10, 12)) == voxels * (4 * 8 * 8 + 8 * 5 * 8)


def test_frozen_parameters_do_not_count() -> None:
    net = One()
    net.down.requires_grad_(False)
    assert parameters(net) == 8 * 5 * 8


@pytest.mark.parametrize("kind", ["ran", "dynunet"])
def test_a_network_costs_in_proportion_to_its_voxels_and_stays_as_it_was(kind: str) -> None:
    net = build_network(kind, TARGETS, NETWORK | {"levels": 3}, 5)
    before = [p.clone() for p in net.parameters()]
    small, large = (multiply_adds(net, (n, n, n)) for n in (16, 32))
    assert large == 8 * small
    assert net.training
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


def test_two_decoders_cost_less_than_two_networks() -> None:
    both, one = (build_network("ran", targets, NETWORK, 5) for targets in (TARGETS, TARGETS[:1]))
    for cost in (parameters, lambda net: multiply_adds(net, (16, 16, 16))):
        assert cost(one) < cost(both) < 2 * cost(one)
    separate = build_network("ran", TARGETS, NETWORK | {"encoder": "separate"}, 5)
    assert multiply_adds(separate, (16, 16, 16)) == 2 * multiply_adds(one, (16, 16, 16))

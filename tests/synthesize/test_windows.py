"""Windows over a volume: nearly the whole volume's answer, and no more memory than there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from factories import NETWORK
from models import SYNTHESIZE

from ct2vq.errors import Ct2vqError
from ct2vq.networks.build import build_network
from ct2vq.networks.settings import multiple_of
from ct2vq.synthesize.windows import answer, bytes_per_voxel, fitting_window

SHAPE = (16, 16, 96)


def setting(**keys: object) -> dict:
    return SYNTHESIZE["sliding_window"] | keys


def one_case(kind: str, **network: object) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor, int]:
    """A network of any kind, and a volume whose upper part looks unlike its lower part."""
    torch.manual_seed(3)
    made = NETWORK | network
    image = torch.rand(1, 5, *SHAPE) * torch.linspace(0.2, 2, SHAPE[2])
    lungs = torch.ones(1, 1, *SHAPE)
    lungs[..., :3] = lungs[..., -3:] = 0
    return build_network(kind, ("perfusion",), made, 5).eval(), image * lungs, lungs, multiple_of(kind, made)


@pytest.mark.parametrize("kind", ["ran", "unet"])
def test_near_the_whole_volume(kind: str) -> None:
    """With statistics of the whole volume; each window by itself is farther off."""
    network, image, lungs, multiple = one_case(kind)
    with torch.no_grad():
        whole = network(image, lungs)
        shared, alone = (
            answer(network, image, lungs, multiple, setting(size=[16, 16, 64], statistics=how), "cpu")
            for how in ("volume", "window")
        )
        again = network(image, lungs)
    assert torch.equal(whole, again), "the network is left as it was"
    inside = lungs.bool()
    spread = float(whole[inside].std())
    error, without = (float((one - whole)[inside].abs().mean()) / spread for one in (shared, alone))
    assert error < 0.03
    assert error < without / 5
    assert not shared[~inside].any()
    assert np.corrcoef(shared[inside], whole[inside])[0, 1] > 0.997


def test_a_window_that_holds_everything_is_the_whole_volume() -> None:
    network, image, lungs, multiple = one_case("ran")
    with torch.no_grad():
        whole = network(image, lungs)
        for size in ([16, 16, 96], [99, 99, 99], "auto", None):
            assert torch.equal(whole, answer(network, image, lungs, multiple, setting(size=size), "cpu"))


def test_a_size_that_the_network_would_pad() -> None:
    network, image, lungs, multiple = one_case("ran", stem=2, levels=3)
    image, lungs = image[..., :69], lungs[..., :69]
    with torch.no_grad():
        seen = answer(network, image, lungs, multiple, setting(size=[16, 16, 33]), "cpu")
    assert seen.shape == lungs.shape and torch.isfinite(seen).all()
    assert not seen[~lungs.bool()].any()


def test_windows_by_free_memory() -> None:
    voxels = 64 * 80 * 96
    assert fitting_window((64, 80, 96), 100.0, 2 * 100.0 * voxels, 8) is None
    assert fitting_window((64, 80, 96), 100.0, 100.0 * voxels, 8) == (64, 80, 48)
    assert fitting_window((60, 80, 90), 100.0, 100.0 * voxels / 2, 8) == (64, 40, 48)
    with pytest.raises(Ct2vqError, match=r"sliding_window\.size.*MiB of free memory"):
        fitting_window((64, 80, 96), 100.0, 1000.0, 8)


def test_layers_are_counted_with_their_stride() -> None:
    fine, coarse = (one_case("ran", stem=stem)[0] for stem in (1, 2))
    assert 6 < bytes_per_voxel(fine, 5, 2, "cpu") / bytes_per_voxel(coarse, 5, 4, "cpu") < 10

"""Images of a case by one model, and by several models that never saw it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct2vq.baselines import predict_baseline
from ct2vq.errors import Ct2vqError
from ct2vq.inputs import CroppedCase, network_channels
from ct2vq.networks.settings import NETWORK_KINDS, multiple_of
from ct2vq.synthesize.header import read_header
from ct2vq.synthesize.views import views_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

logger = logging.getLogger(__name__)


def predict(weights: Path, case: CroppedCase, device: str, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Images of a case by one model.

    Args:
        weights: of a network or a baseline.
        case: on the network's grid.
        device: `cpu`, `cuda` or `mps`.
        settings: config block `synthesize`.

    Returns:
        float32 `(z, y, x)` on the network's grid, by target: 0..1 in the lungs, 0 outside.

    Raises:
        Ct2vqError: no model, no device, a case that does not fit memory, or a shift that leaves the crop.
    """
    header = read_header(weights)
    if header["kind"] not in NETWORK_KINDS:
        from safetensors.numpy import load_file

        tensors = load_file(weights)
        return {target: predict_baseline(header["kind"], tensors, case, target) for target in header["targets"]}
    network = LoadedNetwork(weights, header, case, device, settings)
    return network.averaged()


def predict_all(
    weights: Sequence[Path], case: CroppedCase, device: str, settings: Mapping[str, Any], jobs: int = 1
) -> list[dict[str, np.ndarray]]:
    """Images of a case by several models, in their order. Each computes in one thread: `jobs` change no bytes."""
    if jobs == 1 or device != "cpu":
        return [predict(path, case, device, settings) for path in weights]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda path: predict(path, case, device, settings), weights))


def mean_images(members: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Mean image of each target over those members that predict it."""
    targets = list(dict.fromkeys(target for member in members for target in member))
    return {target: np.mean([one[target] for one in members if target in one], axis=0) for target in targets}


class LoadedNetwork:
    """A trained network with the input that a case gives it.

    Args: as for `predict`; `header` is that of the weights.
    """

    def __init__(
        self, weights: Path, header: Mapping[str, Any], case: CroppedCase, device: str, settings: Mapping[str, Any]
    ) -> None:
        import torch

        from ct2vq.devices import make_repeatable, require_device

        require_device(device)
        make_repeatable(threads=1)
        channels = network_channels(case, header["network"], header["crop"]["window_hu"])
        with _memory_told():
            self.network = _load(weights, header).to(device).eval()
            self._image = torch.from_numpy(channels)[None].to(device)
            self._lungs = torch.from_numpy(case.inside[None, None].astype(np.float32)).to(device)
        self._inside, self._header, self._device, self._settings = case.inside, header, device, settings

    def averaged(self) -> dict[str, np.ndarray]:
        """The mean over the views of `synthesize.test_time_augmentation`, by target."""
        views = views_of(self._header, self._settings["test_time_augmentation"], self._inside)
        total = None
        for view in views:
            seen = view.undo(self._answer(view.show(self._image), view.show(self._lungs)))
            total = seen if total is None else total + seen
        assert total is not None
        return self._images(total / len(views))

    def plain(self) -> dict[str, np.ndarray]:
        """The answer to the CT as it is, by target."""
        return self._images(self._answer(self._image, self._lungs))

    def _answer(self, image: Tensor, lungs: Tensor) -> Tensor:
        import torch

        from ct2vq.synthesize.windows import answer

        multiple = multiple_of(self._header["kind"], self._header["network"])
        with torch.no_grad(), _memory_told():
            return answer(self.network, image, lungs, multiple, self._settings["sliding_window"], self._device)

    def _images(self, predicted: Tensor) -> dict[str, np.ndarray]:
        return dict(zip(self._header["targets"], predicted[0].float().cpu().numpy(), strict=True))


def _load(weights: Path, header: Mapping[str, Any]) -> nn.Module:
    from safetensors.torch import load_file

    from ct2vq.networks.build import build_network

    try:
        network = build_network(header["kind"], header["targets"], header["network"], header["in_channels"])
        network.load_state_dict(load_file(weights))
    except (KeyError, RuntimeError) as error:
        raise Ct2vqError(
            f"the weights do not fit this version's networks: {error}", path=weights, hint="train the model again"
        ) from error
    return network


@contextmanager
def _memory_told() -> Iterator[None]:
    """Say which setting helps when a case does not fit memory."""
    from ct2vq.devices import is_out_of_memory

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        told = str(error).strip().splitlines()[0] if str(error).strip() else "out of memory"
        raise Ct2vqError(
            f"the case does not fit memory: {told}",
            key="synthesize.sliding_window.size",
            hint="set it to auto, or to a window such as [96, 96, 96]",
        ) from error

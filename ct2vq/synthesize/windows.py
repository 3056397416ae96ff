"""A volume that does not fit memory, window by window.

Windows overlap and are blended with Gaussian importance (MONAI's `sliding_window_inference`; nnU-Net, Isensee et al.
2021, doi 10.1038/s41592-020-01008-z). Instance normalisation sees its window only, where training saw the whole volume:
a window at the apex is then normalised unlike one at the hilum. So the mean and the variance of each layer are gathered
from all windows first, each voxel counted once, and shared by them. That goes layer by layer, because what a layer sees
depends on the statistics of those before it; a window goes no farther than the layer that is asked. What stays is that
convolutions see zeros beyond a window's border, which the importance keeps small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from ct2vq.errors import Ct2vqError

#: share of the free memory that a network's activations may take; the rest is for the volume and for other processes
SHARE = 0.5
#: windows narrower than this are mostly border (assumption)
SMALLEST = 32
#: of the importance, relative to the window: MONAI's and nnU-Net's value
SIGMA_SCALE = 0.125
#: side of the volume on which activations are measured, at least
_PROBE = 16


def answer(
    network: nn.Module, image: Tensor, lungs: Tensor, multiple: int, settings: Mapping[str, Any], device: str
) -> Tensor:
    """A network's images, of the whole volume at once or window by window.

    Args:
        network: `forward(image, lungs)`, in the state in which it is to answer.
        image: `(1, channel, z, y, x)`.
        lungs: `(1, 1, z, y, x)`.
        multiple: what the sides of a window must be multiples of (`ct2vq.networks.settings.multiple_of`).
        settings: config block `synthesize.sliding_window`.
        device: where the network is; `auto` asks for the memory there.

    Returns:
        `(1, target, z, y, x)`.

    Raises:
        Ct2vqError: not even the smallest window fits memory.
    """
    shape = tuple(lungs.shape[2:])
    size = settings["size"]
    if size == "auto":
        needed = bytes_per_voxel(network, image.shape[1], multiple, device)
        size = fitting_window(shape, needed, available_bytes(device), multiple)
    if size is None:
        return network(image, lungs)
    window = [min(_up(side, multiple), _up(whole, multiple)) for side, whole in zip(size, shape, strict=True)]
    if all(side >= whole for side, whole in zip(window, shape, strict=True)):
        return network(image, lungs)
    return slide(network, image, lungs, window, multiple, settings)


def slide(
    network: nn.Module,
    image: Tensor,
    lungs: Tensor,
    window: Sequence[int],
    multiple: int,
    settings: Mapping[str, Any],
) -> Tensor:
    """A network's images window by window, `(1, target, z, y, x)`.

    Args:
        network: as for `answer`.
        image: `(1, channel, z, y, x)`.
        lungs: `(1, 1, z, y, x)`.
        window: sides `(z, y, x)`, multiples of `multiple`.
        multiple: windows start at multiples of it, so that strided layers see the volume's own grid.
        settings: config block `synthesize.sliding_window`.
    """
    from monai.inferers import sliding_window_inference

    shape = lungs.shape[2:]
    missing = [-side % multiple for side in shape]
    padding = (0, missing[2], 0, missing[1], 0, missing[0])
    volume = F.pad(torch.cat([image, lungs], dim=1), padding)
    steps = [max(multiple, int(side * (1 - settings["overlap"])) // multiple * multiple) for side in window]
    # MONAI cuts the step off to a whole number: a hair more keeps it from losing a voxel, and with it the grid's phase
    overlap = [max(0.0, 1 - (step + 1e-3) / side) for step, side in zip(steps, window, strict=True)]
    with ExitStack() as stack:
        if settings["statistics"] == "volume":
            windows = Windows(volume.shape[2:], window, steps, volume.device)
            statistics = SharedStatistics(network, windows, volume)
            stack.enter_context(statistics.watching())
            statistics.gather()
        result = sliding_window_inference(
            volume,
            window,
            1,
            lambda patch: network(patch[:, :-1], patch[:, -1:]),
            overlap,
            mode="gaussian",
            sigma_scale=SIGMA_SCALE,
        )
    z, y, x = shape
    return result[..., :z, :y, :x] * lungs


class Windows:
    """Where windows lie, and how much of each voxel one answers for; over all windows that sums to 1."""

    def __init__(self, shape: Sequence[int], window: Sequence[int], steps: Sequence[int], device: torch.device) -> None:
        from monai.data.utils import compute_importance_map, dense_patch_slices

        self.places = dense_patch_slices(shape, window, steps)
        self._importance = compute_importance_map(
            tuple(window), mode="gaussian", sigma_scale=SIGMA_SCALE, device=device
        )
        self._total = torch.zeros(tuple(shape), device=device)
        for place in self.places:
            self._total[place] += self._importance

    def share(self, place: Sequence[slice]) -> Tensor:
        """A window's share of each of its voxels, `(1, 1, z, y, x)`."""
        return (self._importance / self._total[tuple(place)])[None, None]


class _Enough(Exception):  # noqa: N818
    """A window has gone as far as it had to."""


class SharedStatistics:
    """Means and variances of a network's instance normalisations over a whole volume, from its windows.

    Args:
        network: its `nn.InstanceNorm3d` are replaced while it is watched; each is met once in a forward pass.
        windows: of the volume.
        volume: image and lungs `(1, channel + 1, z, y, x)`.
    """

    def __init__(self, network: nn.Module, windows: Windows, volume: Tensor) -> None:
        self._network, self._windows, self._volume = network, windows, volume
        self._known: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._asked: nn.Module | None = None
        self._share = torch.empty(0)
        self._sums: list[Tensor] = []
        self._gathering = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Normalise by what is known, for as long as the context lasts."""
        layers = [layer for layer in self._network.modules() if isinstance(layer, nn.InstanceNorm3d)]
        hooks = [layer.register_forward_hook(self._normalise) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def gather(self) -> None:
        """Learn one layer after the other, in the order in which the network meets them."""
        self._gathering = True
        while self._gathering:
            self._asked, self._sums = None, []
            for place in self._windows.places:
                self._run(place)
                if self._asked is None:  # it went through: all layers are known
                    self._gathering = False
                    break
            else:
                weight, first, second = self._sums
                mean = first / weight
                self._known[self._asked] = (mean, (second / weight - mean**2).clamp_min(0))

    def _run(self, place: Sequence[slice]) -> None:
        self._share = self._windows.share(place)
        patch = self._volume[(slice(None), slice(None), *place)]
        with suppress(_Enough):
            self._network(patch[:, :-1], patch[:, -1:])

    def _normalise(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if layer in self._known:
            mean, variance = (one.to(output) for one in self._known[layer])
            normalised = (inputs[0] - mean) / torch.sqrt(variance + layer.eps)
            if layer.weight is None:
                return normalised
            return normalised * layer.weight[:, None, None, None] + layer.bias[:, None, None, None]
        if not self._gathering:
            return output
        values = _wide(inputs[0])
        factor = [wide // own for wide, own in zip(self._share.shape[2:], values.shape[2:], strict=True)]
        weight = _wide(F.avg_pool3d(self._share, factor))  # never with a gradient
        sums = [part.sum(dim=(2, 3, 4), keepdim=True) for part in (weight, weight * values, weight * values**2)]
        self._sums = [old + new for old, new in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._asked = layer
        raise _Enough


def bytes_per_voxel(network: nn.Module, channels: int, multiple: int, device: str) -> float:
    """Memory that a network's layers ask for, in bytes per voxel of its input, measured on a small volume.

    The outputs of all layers together: more than is ever held at once without a gradient (docs/synthesis.md).
    """
    side = _up(_PROBE, multiple)
    total = 0

    def count(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal total
        total += output.numel() * output.element_size() if isinstance(output, Tensor) else 0

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if not list(layer.children())]
    try:
        network(
            torch.zeros((1, channels, side, side, side), device=device),
            torch.ones((1, 1, side, side, side), device=device),
        )
    finally:
        for hook in hooks:
            hook.remove()
    return total / side**3


def fitting_window(
    shape: Sequence[int], voxel_bytes: float, available: float, multiple: int
) -> tuple[int, int, int] | None:
    """The largest window whose activations fit: the longest side is halved until they do.

    Args:
        shape: of the volume, `(z, y, x)`.
        voxel_bytes: as `bytes_per_voxel`.
        available: free memory in bytes, of which `SHARE` is used.
        multiple: what sides must be multiples of.

    Returns:
        Sides `(z, y, x)`; None if the whole volume fits.

    Raises:
        Ct2vqError: a window of `SMALLEST` voxels does not fit.
    """
    sides = [_up(side, multiple) for side in shape]
    smallest = _up(SMALLEST, multiple)
    whole = list(sides)
    while sides[0] * sides[1] * sides[2] * voxel_bytes > SHARE * available:
        longest = sides.index(max(sides))
        half = _up(-(-sides[longest] // 2), multiple)
        if half < smallest or half == sides[longest]:
            raise Ct2vqError(
                f"{available / 2**20:.0f} MiB of free memory hold no window of this network "
                f"({voxel_bytes:.0f} bytes a voxel)",
                key="synthesize.sliding_window.size",
                hint="give the job more memory, or train a model of smaller width",
            )
        sides[longest] = half
    return None if sides == whole else (sides[0], sides[1], sides[2])


def available_bytes(device: str) -> float:
    """Free memory of the device, or of the machine, in bytes."""
    if device == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    import psutil

    return float(psutil.virtual_memory().available)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _wide(tensor: Tensor) -> Tensor:
    """In double precision, which MPS does not have: there on the CPU."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()

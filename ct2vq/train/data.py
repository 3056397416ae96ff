"""Training cases as tensors: each is read once, kept in memory as far as that goes, the rest unpacked on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ct2vq.errors import TrainingError
from ct2vq.files import replacing, sha256_text
from ct2vq.inputs import network_channels, read_cropped_case
from ct2vq.train.checkpoint import FULL


@dataclass(frozen=True)
class Sample:
    """A case as tensors: `image (channel, z, y, x)`, `lungs (1, z, y, x)`, `truth (target, z, y, x)`, float32."""

    case_id: str
    image: Tensor
    lungs: Tensor
    truth: Tensor

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along `(z, y, x)`."""
        return tuple(self.lungs.shape[1:])

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.image, self.lungs, self.truth))


@dataclass(frozen=True)
class Unpacked:
    """A case that did not fit in memory: its tensors, one after the other along the first axis, in a `.npy` file."""

    case_id: str
    path: Path
    channels: int
    size: tuple[int, int, int]

    def sample(self) -> Sample:
        """The case, read from the file (the operating system keeps in memory what it can)."""
        tensors = torch.from_numpy(np.load(self.path))
        image, lungs, truth = tensors.tensor_split((self.channels, self.channels + 1))
        return Sample(self.case_id, image, lungs, truth)


class Cases:
    """Cases of a training in order, by number.

    Args:
        folders: `results/crop/<case>` of each.
        model: the model's config block.
        window_hu: window of the CT channel.
        budget: bytes of memory for cases; those that go beyond are unpacked once into `store`, which is as exact.
        store: folder for these.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        model: Mapping[str, Any],
        window_hu: Sequence[float],
        budget: float,
        store: Path,
    ) -> None:
        self._cases: list[Sample | Unpacked] = []
        self.bytes_in_memory = 0
        for folder in folders:
            sample = _read(folder, model, window_hu)
            if self.bytes_in_memory + sample.bytes <= budget:
                self.bytes_in_memory += sample.bytes
                self._cases.append(sample)
            else:
                self._cases.append(_unpack(sample, store))

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, number: int) -> Sample:
        case = self._cases[number]
        return case if isinstance(case, Sample) else case.sample()

    def size(self, number: int) -> tuple[int, int, int]:
        """Voxels of a case along `(z, y, x)`, without reading it."""
        return self._cases[number].size

    @property
    def on_disk(self) -> int:
        """How many cases did not fit in memory."""
        return sum(isinstance(case, Unpacked) for case in self._cases)

    @property
    def largest(self) -> int:
        """Number of the case with most voxels."""
        return max(range(len(self)), key=lambda number: int(np.prod(self.size(number))))


def _read(folder: Path, model: Mapping[str, Any], window_hu: Sequence[float]) -> Sample:
    case = read_cropped_case(folder, model["targets"])
    return Sample(
        case.case_id,
        torch.from_numpy(network_channels(case, model["network"], window_hu)),
        torch.from_numpy(case.inside[None].astype(np.float32)),
        torch.from_numpy(np.stack([case.targets[target] for target in model["targets"]])),
    )


def _unpack(sample: Sample, store: Path) -> Unpacked:
    path = store / f"{sha256_text(sample.case_id)[:16]}.npy"
    try:
        with replacing(path) as temporary:
            np.save(temporary, torch.cat([sample.image, sample.lungs, sample.truth]).numpy())
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise TrainingError(
            "no space is left for cases that do not fit in memory",
            path=store,
            hint="free some space, or raise train.memory_mb or train.cache_mb",
        ) from error
    return Unpacked(sample.case_id, path, sample.image.shape[0], sample.size)


def hold_out(
    folders: Sequence[Path], patients: Mapping[str, str], number: int, seed: int, fold: int
) -> tuple[list[Path], list[Path]]:
    """Set some patients of the training folds aside, chosen by a hash; at least one is left to learn from.

    The same ones for every model, so that their curves can be compared, and others in each fold, so that no single
    patient watches over all trainings.

    Returns:
        Folders to learn from, and folders that watch.
    """
    everyone = sorted(set(patients.values()), key=lambda patient: sha256_text(f"{seed}:validation:{fold}:{patient}"))
    aside = set(everyone[: min(number, len(everyone) - 1)])
    learn = [folder for folder in folders if patients[folder.name] not in aside]
    watch = [folder for folder in folders if patients[folder.name] in aside]
    return learn, watch


def stack(samples: Sequence[Sample], size: Sequence[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Samples of several sizes as one batch, padded with 0 (outside the lungs) to the largest, or to `(z, y, x)`."""
    size = size or [max(sample.size[axis] for sample in samples) for axis in range(3)]

    def padded(tensor: Tensor) -> Tensor:
        missing = [n - m for n, m in zip(size, tensor.shape[1:], strict=True)]
        return torch.nn.functional.pad(tensor, (0, missing[2], 0, missing[1], 0, missing[0]))

    parts = zip(*((padded(s.image), padded(s.lungs), padded(s.truth)) for s in samples), strict=True)
    image, lungs, truth = (torch.stack(part) for part in parts)
    return image, lungs, truth

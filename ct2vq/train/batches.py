"""The batches of an epoch: order, augmentation, and which process computes which cases at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ct2vq.inputs import ct_channels
from ct2vq.train.augment import apply, draw
from ct2vq.train.data import Cases, stack


@dataclass(frozen=True)
class Piece:
    """What a process computes at once: tensors of some cases, and their share of the batch's loss."""

    image: Tensor
    lungs: Tensor
    truth: Tensor
    share: float


@dataclass
class Batches:
    """This process's part of each batch.

    Attributes:
        cases: what is learnt from.
        model: the model's config block.
        training: the model's training settings.
        ranks: processes that share each batch.
        rank: the number of this one.
        at_once: cases that it computes at once.
    """

    cases: Cases
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    ranks: int
    rank: int
    at_once: int

    @property
    def number(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.cases) // self.training["batch_size"])

    def of_epoch(self, generator: torch.Generator) -> Iterator[list[Piece]]:
        """All batches of an epoch, augmented; order and augmentation are drawn from `generator`."""
        order = torch.randperm(len(self.cases), generator=generator).tolist()
        size = self.training["batch_size"]
        for start in range(0, len(order), size):
            yield self.pieces(order[start : start + size], generator)

    def pieces(self, chosen: Sequence[int], generator: torch.Generator) -> list[Piece]:
        """Cases of a batch that fall to this process, in pieces of `at_once`, all padded to the batch's size.

        A piece's share makes the sum over pieces, and the mean that DDP takes over processes, the batch's mean. A
        process for which no case is left computes one that counts nothing, so that it can take part in the sums.
        """
        from_ct = ct_channels(self.model["network"])
        sizes = [self.cases.size(number) for number in chosen]
        changes = [draw(size, self.training["augmentation"], generator, from_ct) for size in sizes]
        largest = [max(size[axis] for size in sizes) for axis in range(3)]
        part = -(-len(chosen) // self.ranks)
        mine = list(range(self.rank * part, min((self.rank + 1) * part, len(chosen))))
        weight = self.ranks / len(chosen) if mine else 0.0
        mine = mine or [0]
        pieces = []
        for start in range(0, len(mine), self.at_once):
            some = mine[start : start + self.at_once]
            batch = stack([apply(self.cases[chosen[n]], changes[n]) for n in some], largest)
            pieces.append(Piece(*batch, share=len(some) * weight))
        return pieces

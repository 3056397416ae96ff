"""Checkpoints that are whole or not there: `latest.pt` and the one before it, each with a digest of its content."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ct2vq.errors import TrainingError
from ct2vq.files import replacing

logger = logging.getLogger(__name__)

LATEST = "latest.pt"
PREVIOUS = "previous.pt"
#: what the system says when a disk, or the user's share of it, is full
FULL = (errno.ENOSPC, errno.EDQUOT)
DIGEST_BYTES = hashlib.sha256().digest_size


def save_checkpoint(state: Mapping[str, Any], folder: Path) -> None:
    """Write a checkpoint; it replaces `latest.pt` at once and is on the disk when this returns.

    A kill at any moment leaves a whole `latest.pt` or, between two renamings, a whole `previous.pt`.

    Raises:
        TrainingError: the disk is full; what was there before is kept.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    latest = folder / LATEST
    try:
        with replacing(latest) as temporary:
            _write(temporary, content)
            if latest.exists():
                os.replace(latest, folder / PREVIOUS)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise TrainingError(
            "no space is left on the disk for a checkpoint; the last one is kept",
            path=latest,
            hint=f"free {2 * len(content) / 1e6:.0f} MB and run again: the training goes on from there",
        ) from error
    _sync_folder(folder)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Say what a full disk means for a training, whatever file it was that no longer found a place.

    Raises:
        TrainingError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise TrainingError(
            "no space is left on the disk",
            path=error.filename,
            hint="free some space and run again: the training goes on from its last checkpoint",
        ) from error


def _write(path: Path, content: memoryview) -> None:
    with open(path, "wb") as stream:
        stream.write(hashlib.sha256(content).digest())
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Bring the renaming itself to the disk, where the file system has such a thing."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        logger.debug("the file system cannot sync a folder")
    finally:
        os.close(descriptor)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint (tensors on the CPU), or None; a damaged one is told and the one before is taken."""
    for name in (LATEST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            return _read(path)
        except Exception as error:  # whatever a damaged file makes the reader raise
            logger.warning("checkpoint %s is damaged (%s): the one before it is taken", path, error)
    return None


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    digest, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its content is not what was written")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

"""Volumes that tell neither case nor source except by what is in the picture.

All volumes of a pack have one size, one voxel and one header; lungs lie somewhere in the same box; values are steps of
one scale, 0 outside the lungs, 1 for the least and 255 for the brightest in them; real and synthesised images of a case
have equally many voxels at 255.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import random
from collections.abc import Iterable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct2vq.errors import Ct2vqError
from ct2vq.report.volumes import HU_RANGE, nifti_bytes

#: steps of the brightest voxels, of the brightest that are not clipped, and of the least in the lungs
BRIGHTEST, HIGHEST, LOWEST = 255, 254, 1
#: a volume lies at one of 4 x 4 x 4 places in its box, another one at each showing, so that no bytes come back
PLACES = tuple(product(range(4), repeat=3))
#: bytes before the voxels of a NIfTI-1 file without extensions
HEADER_BYTES = 352
#: what stands round the filler that makes scripts equally long
OPENING, CLOSING = "/* ", "*/\n"


def common_box(shapes: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Size `(z, y, x)` of the box that takes every volume at every place of `PLACES`."""
    margin = PLACES[-1][0]
    return tuple(max(sizes) + margin for sizes in zip(*shapes, strict=True))  # type: ignore[return-value]


def places_of(case_id: str, seed: str) -> list[tuple[int, int, int]]:
    """All places of a case in the box, in the random order in which its showings take them."""
    places = list(PLACES)
    random.Random(f"{seed}:{case_id}").shuffle(places)
    return places


def clipped_voxels(images: Iterable[np.ndarray], inside: np.ndarray, percentile: float) -> int:
    """How many voxels in the lungs become the brightest, in every image of a case and target alike.

    Those above the percentile; more where an image has more voxels at its highest value, because it was clipped before.

    Args:
        images: real and synthesised `(z, y, x)`.
        inside: the lungs.
        percentile: config key `read.display_percentile`.
    """
    wanted = max(1, math.ceil(round((1 - percentile / 100) * int(inside.sum()), 6)))
    highest = ((image[inside], image[inside].max()) for image in images)
    return max(wanted, *(int((values == top).sum()) for values, top in highest))


def function_steps(image: np.ndarray, inside: np.ndarray, clipped: int) -> np.ndarray:
    """An image of function in steps of the display.

    Args:
        image: function `(z, y, x)`, 0 or more; what is no number counts as 0.
        inside: the lungs.
        clipped: how many of the highest voxels become `BRIGHTEST`; the value of the last of them is the scale.

    Returns:
        uint8, 0 outside the lungs.

    Raises:
        Ct2vqError: there is no function in the lungs.
    """
    values = np.maximum(np.nan_to_num(image[inside].astype(np.float64)), 0.0)
    order = np.argsort(values, kind="stable")
    scale = values[order[-clipped]]
    if scale <= 0:
        raise Ct2vqError("an image has no function in the lungs, so it cannot be shown")
    steps = np.clip(LOWEST + np.rint(values / scale * (HIGHEST - LOWEST)), LOWEST, HIGHEST).astype(np.uint8)
    steps[order[-clipped:]] = BRIGHTEST
    # networks never reach 0: without this, the least value would tell the source
    steps[order[0]] = LOWEST
    blinded = np.zeros(image.shape, np.uint8)
    blinded[inside] = steps
    return blinded


def ct_steps(hu: np.ndarray) -> np.ndarray:
    """A CT in whole HU of 12 bits (int16)."""
    return np.clip(np.rint(np.nan_to_num(hu, nan=HU_RANGE[0])), *HU_RANGE).astype(np.int16)


def in_box(volume: np.ndarray, box: tuple[int, int, int], place: tuple[int, int, int]) -> np.ndarray:
    """A volume in its box: in the middle, but for its place; 0 round function, air round a CT.

    Args:
        volume: `(z, y, x)`, uint8 function or int16 CT.
        box: size of the box.
        place: one of `PLACES`.
    """
    background = 0 if volume.dtype == np.uint8 else HU_RANGE[0]
    boxed = np.full(box, background, volume.dtype)
    margin = PLACES[-1][0]
    starts = (
        (size - margin - length) // 2 + shift for size, length, shift in zip(box, volume.shape, place, strict=True)
    )
    where = tuple(slice(start, start + length) for start, length in zip(starts, volume.shape, strict=True))
    boxed[where] = volume
    return boxed


def volume_script(name: str, voxels: np.ndarray, spacing_mm: float) -> str:
    """The script that gives a volume to the page, not yet padded.

    Args:
        name: what the page asks for.
        voxels: `(z, y, x)` in the box, uint8 or int16.
        spacing_mm: of its isotropic voxels.
    """
    header = _header(voxels.shape, voxels.dtype.str, spacing_mm)
    packed = gzip.compress(header + voxels.tobytes(), compresslevel=6, mtime=0)
    encoded = base64.b64encode(packed).decode("ascii")
    return f"ct2vqVolume({json.dumps(name)},{json.dumps(encoded)});\n"


def filler(length: int, name: str, seed: str) -> str:
    """A comment of exactly `length` characters that looks like a volume, drawn from the name.

    Raises:
        ValueError: there is no comment so short.
    """
    random_text = length - len(OPENING) - len(CLOSING)
    if random_text < 0:
        raise ValueError(f"no comment has {length} characters")
    # of 4 characters 3 bytes; `/` and `*` cannot meet in it: base64 has no `*`
    stream = hashlib.shake_256(f"{seed}:{name}".encode()).digest(3 * (random_text // 4 + 1))
    return OPENING + base64.b64encode(stream).decode("ascii")[:random_text] + CLOSING


SHORTEST_FILLER = len(OPENING) + len(CLOSING)


@cache
def _header(shape: tuple[int, int, int], kind: str, spacing_mm: float) -> bytes:
    """The one header of a kind of volume: along the patient's axes, centred, function with steps of 1/255."""
    image = sitk.GetImageFromArray(np.zeros(shape, kind))
    image.SetSpacing((spacing_mm,) * 3)
    image.SetOrigin(tuple(-spacing_mm * (size - 1) / 2 for size in shape[::-1]))
    slope = 1.0 / BRIGHTEST if kind == np.dtype(np.uint8).str else 1.0
    return nifti_bytes(image, slope)[:HEADER_BYTES]


def opaque_name(*parts: Any, seed: str, length: int = 12) -> str:
    """A name that tells nothing: the first hexadecimal digits of a SHA-256 of the seed and of a place in the study."""
    text = ":".join(map(str, (seed, *parts)))
    return hashlib.sha256(text.encode()).hexdigest()[:length]

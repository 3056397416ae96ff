"""What the CT shows below the network's voxels: how its own voxels are distributed within each of them.

SPECT resolves some 10 mm, so networks work on coarse grids; emphysema, narrowed vessels and scars are texture of 1 to
2 mm, of which a mean density keeps little. Shares and spreads of the CT's voxels in every voxel of the network's grid
bring them along at the price of a few channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.lungs import bounding_box, fill_from_inside, smooth_in_lungs
from ct2vq.volume import affine, to_array

#: components of a texture, of the smoothed CT: the shares of voxels below `texture.low_hu` and above `texture.high_hu`,
#: and the standard deviation in HU. That of the CT as it is, noise included, gained nothing (docs/networks.md).
TEXTURES = ("low", "high", "spread")
#: HU beyond these count as the limit: a calcification in one voxel would say more than all the lung around it
LIMITS_HU = (-1200.0, -450.0)
#: HU from which squares are summed up, near the lungs' mean: so float64 sums lose nothing
_CENTRE_HU = -850.0
#: slices that are dealt out to the network's voxels at a time
_SLICES = 16
#: standard deviation, in the network's voxels, over which counts are spread: voxels that hold no part of a CT with
#: thick slices get their neighbours'
_SPREAD_VOXELS = 0.5
#: a voxel of the network's with fewer of the CT's voxels (after spreading) takes its texture from the nearest other
_LEAST_VOXELS = 0.01


def texture(ct: sitk.Image, lungs: sitk.Image, grid: sitk.Image, settings: Mapping[str, Any]) -> np.ndarray:
    """Shares and spreads of the CT's voxels within each voxel of a coarser grid, over lung alone.

    Args:
        ct: CT in HU.
        lungs: labels on its grid (1 right, 2 left).
        grid: lung labels on the network's grid.
        settings: config block `crop.texture`: `smooth_mm`, `low_hu`, `high_hu`.

    Returns:
        float32 `(len(TEXTURES), z, y, x)` on the network's grid, 0 outside its lungs.
    """
    inside = sitk.GetArrayViewFromImage(lungs) > 0
    box = bounding_box(inside)
    inside = inside[box]
    hu = np.clip(sitk.GetArrayViewFromImage(ct)[box], *LIMITS_HU, dtype=np.float32)
    sigma = settings["smooth_mm"] / np.asarray(ct.GetSpacing())[::-1]
    hu = smooth_in_lungs(hu, inside, sigma) if settings["smooth_mm"] else hu
    sums = _sums(hu, inside, _index_map(ct, grid, box), grid.GetSize()[::-1], settings)
    number, *sums = (ndimage.gaussian_filter(part, _SPREAD_VOXELS, mode="constant") for part in sums)
    known, wanted = number > _LEAST_VOXELS, to_array(grid) > 0
    if not (known & wanted).any():
        return np.zeros((len(TEXTURES), *wanted.shape), dtype=np.float32)
    low, high, mean, squares = (part / np.where(known, number, 1.0) for part in sums)
    spread = np.sqrt(np.maximum(squares - mean**2, 0))
    parts = [np.where(wanted, fill_from_inside(part, known), 0) for part in (low, high, spread)]
    return np.stack(parts).astype(np.float32)


def _index_map(ct: sitk.Image, grid: sitk.Image, box: tuple[slice, ...]) -> np.ndarray:
    """The matrix (3, 4) from an index `(x, y, z, 1)` in a box of the CT to a continuous one `(x, y, z)` in `grid`."""
    corner = np.eye(4)
    corner[:3, 3] = [part.start for part in reversed(box)]
    return (np.linalg.inv(affine(grid)) @ affine(ct) @ corner)[:3]


def _sums(
    hu: np.ndarray, inside: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], settings: Mapping[str, Any]
) -> np.ndarray:
    """Over the lung voxels in each voxel of a grid: number, low ones, high ones, HU, its squares.

    A voxel that lies across the border of the grid's counts for both sides by its share: whole voxels would make
    stripes where slices and grid are as far apart, and another image of the mirrored or turned CT.

    Returns:
        float64 `(5, z, y, x)`; HU counts from `_CENTRE_HU`.
    """
    total = np.zeros((5, int(np.prod(shape))))
    matrix = matrix[::-1]  # of the grid's axes z, y, x
    rows, columns = np.arange(hu.shape[1])[:, None], np.arange(hu.shape[2])
    within = [one[0] * columns + one[1] * rows + one[3] for one in matrix]
    extent = np.minimum(np.abs(matrix[:, :3]).sum(axis=1), 1)
    for first in range(0, len(hu), _SLICES):
        part = slice(first, first + _SLICES)
        chosen = inside[part]
        if not chosen.any():
            continue
        height = np.arange(first, first + len(chosen))[:, None, None]
        at = [(flat + one[2] * height)[chosen] for flat, one in zip(within, matrix, strict=True)]
        values = hu[part][chosen].astype(np.float64)
        above = values - _CENTRE_HU
        features = [values < settings["low_hu"], values > settings["high_hu"], above, above**2]
        for place, voxels, share in _dealt(at, extent, shape):
            total[0] += np.bincount(place, share, total.shape[1])
            for row, feature in zip(total[1:], features, strict=True):
                row += np.bincount(place, share * feature[voxels], total.shape[1])
    return total.reshape(5, *shape)


def _dealt(
    at: Sequence[np.ndarray], extent: np.ndarray, shape: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Which voxels of a grid boxes lie in: flat index of the grid's voxel, number of the box, and share of the box.

    Args:
        at: continuous index of the boxes' centres along each axis of the grid.
        extent: size of the boxes along each axis, in voxels of the grid; at most 1, so that a box lies in two at most.
        shape: of the grid.
    """
    lower = [np.floor(one - size / 2 + 0.5).astype(np.int64) for one, size in zip(at, extent, strict=True)]
    # how much of a box lies beyond the border of the voxel that it begins in
    beyond = [
        np.clip((one + size / 2 - low - 0.5) / size, 0, 1) for one, low, size in zip(at, lower, extent, strict=True)
    ]
    for sides in product((0, 1), repeat=3):
        shares = [part if side else 1 - part for side, part in zip(sides, beyond, strict=True)]
        share = shares[0] * shares[1] * shares[2]
        index = [low + side for low, side in zip(lower, sides, strict=True)]
        reached = np.all([(one >= 0) & (one < number) for one, number in zip(index, shape, strict=True)], axis=0)
        voxels = np.flatnonzero((share > 0) & reached)
        yield np.ravel_multi_index([one[voxels] for one in index], shape), voxels, share[voxels]

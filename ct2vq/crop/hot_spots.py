"""Hot spots of a SPECT: clumps of tracer in airways (Technegas) or injected clots (MAA), found and replaced.

Technegas settles where flow is turbulent, at divisions of central airways and, in obstructive disease, farther out
(Roach et al., J Nucl Med 2013;54:1588; Bajc et al., Eur J Nucl Med Mol Imaging 2019;46:2429). A clump is small
compared with the camera's resolution, so that its image is a blob of that resolution: much brighter than the lung a
centimetre or two away, and compact. High function (the dependent lung, what is left beside a defect) is broad. Where
it lies is not asked, because the lungs' mask leaves out the airways themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

#: level of the lungs that a hot spot has to stand above, besides its neighbourhood: a percentile that defects in half
#: of the lungs leave alone
LEVEL_PERCENTILE = 75.0
#: a hot spot reaches at least to where the image is this share above its neighbourhood: a tenth of a very hot peak is
#: still more than any lung
EDGE_RISE = 0.5
#: fewer voxels tell no neighbourhood
_MIN_NEIGHBOURS = 8
_NEIGHBOURS = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])


@dataclass(frozen=True)
class HotSpots:
    """Hot spots of an image.

    Attributes:
        labels: `(z, y, x)` int32: 0, or the number of the hot spot (1, 2, ... in the order of `spots`).
        spots: of each its `index` `(z, y, x)`, `peak` and `neighbourhood` (the image's units), and `volume_ml`.
    """

    labels: np.ndarray
    spots: list[dict[str, Any]]

    @property
    def mask(self) -> np.ndarray:
        """All voxels of hot spots."""
        return self.labels > 0


def find_hot_spots(values: np.ndarray, inside: np.ndarray, spacing_mm: float, settings: Mapping[str, Any]) -> HotSpots:
    """Find compact blobs that stand far above their neighbourhood and above the lungs' level.

    From the hottest local maximum down, a hot spot (1) is at least `floor` times the lungs' `LEVEL_PERCENTILE`-th
    percentile, (2) at least `contrast` times the median of the lung in a shell of `neighbourhood_mm` round it, and
    (3) at most `max_ml` large where it is above half way between that median and its peak. It takes all voxels round
    its peak, up to the shell's middle, that are above the median by more than `edge` of the peak's height.

    Args:
        values: counts or concentrations `(z, y, x)`, finite.
        inside: the lungs.
        spacing_mm: voxel size of the isotropic grid.
        settings: config block `crop.spect.hot_spots`.
    """
    image = np.where(inside, values, 0).astype(np.float32)
    labels = np.zeros(inside.shape, dtype=np.int32)
    level = float(np.percentile(values[inside], LEVEL_PERCENTILE))
    spots: list[dict[str, Any]] = []
    if level <= 0:
        return HotSpots(labels, spots)
    distance = _distances(settings["neighbourhood_mm"][1], spacing_mm)
    for peak in _peaks(image, inside, settings["floor"] * level):
        if labels[peak]:
            continue
        box, own = _box_round(peak, distance.shape[0] // 2, inside.shape)
        found = _measure(image[box], inside[box], labels[box] > 0, distance[own], spacing_mm, settings)
        if found is None:
            continue
        neighbourhood, core_ml, region = found
        labels[box][region & (labels[box] == 0)] = len(spots) + 1
        spots.append(
            {
                "index": [int(i) for i in peak],
                "peak": float(image[peak]),
                "neighbourhood": neighbourhood,
                "volume_ml": core_ml,
            }
        )
    return HotSpots(labels, spots)


def _distances(radius_mm: float, spacing_mm: float) -> np.ndarray:
    """Distance in mm of each voxel of a cube from its centre."""
    reach = int(np.ceil(radius_mm / spacing_mm))
    squares = (np.arange(-reach, reach + 1) * spacing_mm) ** 2
    return np.sqrt(squares[:, None, None] + squares[:, None] + squares)


def _peaks(image: np.ndarray, inside: np.ndarray, lowest: float) -> Iterator[tuple[int, int, int]]:
    """Local maxima in the lungs (26 neighbours) above a value, the hottest first; equal ones in the array's order."""
    highest = ndimage.maximum_filter(image, size=3, mode="constant")
    found = np.argwhere(inside & (image >= highest) & (image > lowest))
    order = np.argsort(-image[tuple(found.T)], kind="stable")
    for index in found[order]:
        yield tuple(int(i) for i in index)


def _box_round(
    centre: tuple[int, int, int], reach: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The cube round a voxel as far as it lies in the volume: slices of the volume, and of the cube."""
    low = [max(c - reach, 0) for c in centre]
    high = [min(c + reach + 1, n) for c, n in zip(centre, shape, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    own = tuple(slice(a - c + reach, b - c + reach) for a, b, c in zip(low, high, centre, strict=True))
    return box, own


def _measure(
    values: np.ndarray,
    inside: np.ndarray,
    taken: np.ndarray,
    distance: np.ndarray,
    spacing_mm: float,
    settings: Mapping[str, Any],
) -> tuple[float, float, np.ndarray] | None:
    """Median of the neighbourhood, volume (mL) at half height and region of a peak; None if it is no hot spot.

    Args:
        values: the image in a box round the peak.
        inside: the lungs.
        taken: what belongs to hotter spots.
        distance: mm from the peak.
        spacing_mm: voxel size.
        settings: see `find_hot_spots`.
    """
    near, far = settings["neighbourhood_mm"]
    shell = values[inside & ~taken & (distance >= near) & (distance <= far)]
    if len(shell) < _MIN_NEIGHBOURS:
        return None
    neighbourhood, peak = float(np.median(shell)), float(values[distance == 0][0])
    if peak < settings["contrast"] * neighbourhood:
        return None
    height = peak - neighbourhood
    core = _joined(inside & (values > neighbourhood + 0.5 * height), distance)
    core_ml = float(core.sum()) * spacing_mm**3 / 1000
    if core_ml > max(settings["max_ml"], spacing_mm**3 / 1000):
        return None
    edge = min(settings["edge"] * height, EDGE_RISE * neighbourhood)
    bright = inside & (values > neighbourhood + edge) & (distance <= (near + far) / 2)
    return neighbourhood, core_ml, _joined(bright, distance)


def _joined(mask: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The part of a mask that hangs together (6 neighbours) with the centre."""
    parts, _ = ndimage.label(mask)
    return parts == parts[distance == 0][0]


def remove_hot_spots(values: np.ndarray, inside: np.ndarray, found: HotSpots, method: str) -> np.ndarray:
    """The image without its hot spots; voxels outside them stay as they are.

    Args:
        values: counts or concentrations `(z, y, x)`.
        inside: the lungs.
        found: of `find_hot_spots`.
        method: `inpaint` (the harmonic function between the lung voxels that border the hot spot: no value exceeds
            theirs), `cap` (no voxel exceeds the highest of the lung voxels that border it) or `none`.

    Returns:
        A copy, of the type of `values`.
    """
    result = np.array(values)
    if method == "none" or not found.spots:
        return result
    if method == "cap":
        for number, box in enumerate(ndimage.find_objects(found.labels), start=1):
            _cap(result, inside & ~found.mask, found.labels, number, box)
    else:
        result[found.mask] = _harmonic(result, inside, found)
    return result


def _cap(
    result: np.ndarray, healthy: np.ndarray, labels: np.ndarray, number: int, box: tuple[slice, ...] | None
) -> None:
    """Limit one hot spot, in place, to the highest healthy voxel that borders it."""
    if box is None:
        return
    wide = tuple(slice(max(axis.start - 1, 0), axis.stop + 1) for axis in box)
    spot = labels[wide] == number
    border = ndimage.binary_dilation(spot) & healthy[wide]
    if border.any():
        view = result[wide]
        view[spot] = np.minimum(view[spot], view[border].max())


def _harmonic(values: np.ndarray, inside: np.ndarray, found: HotSpots) -> np.ndarray:
    """Values of all voxels of hot spots by Laplace's equation: each is the mean of its neighbours in the lungs.

    What no other lung borders gets the median of its hot spot's neighbourhood. The discrete harmonic function obeys the
    maximum principle (Bertalmio et al., SIGGRAPH 2000, call it isotropic inpainting).
    """
    voxels = np.argwhere(found.mask)
    number = np.full(inside.shape, -1)
    number[found.mask] = np.arange(len(voxels))
    rows, columns, known, links = [], [], np.zeros(len(voxels)), np.zeros(len(voxels))
    for step in _NEIGHBOURS:
        beside = voxels + step
        row = np.flatnonzero(((beside >= 0) & (beside < inside.shape)).all(axis=1))
        row = row[inside[tuple(beside[row].T)]]
        other = number[tuple(beside[row].T)]
        links[row] += 1
        rows.append(row[other >= 0])
        columns.append(other[other >= 0])
        edge = row[other < 0]
        known[edge] += values[tuple(beside[edge].T)]
    # a vanishing weight of the neighbourhood's median decides where nothing else does
    median = np.array([spot["neighbourhood"] for spot in found.spots])[found.labels[found.mask] - 1]
    row, column = np.concatenate(rows), np.concatenate(columns)
    joined = sparse.coo_matrix((-np.ones(len(row)), (row, column)), shape=(len(voxels),) * 2)
    system = (joined + sparse.diags(links + _TIE)).tocsc()
    return spsolve(system, known + _TIE * median)


_TIE = 1e-6

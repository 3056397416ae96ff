"""What is dense and yet of the lung, or beside it: consolidation, tumour, and pleural fluid.

A voxel without air belongs to a lung if the lung, or the chest wall behind it, is seen from it nearly all around. The
heart and the mediastinum see their lung on one side only, a dome of the diaphragm sees none below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from ct2vq.lungs import LEFT, RIGHT
from ct2vq.segment.wall import Wall
from ct2vq.segment.working import Coarse, ball, box, opened

VIEWS = tuple(step for step in product((-1, 0, 1), repeat=3) if any(step))
#: share of the views that must end in the lung or at its wall: 17 of 26 for the mediastinum's side at most
SURROUNDED = 0.75
#: and of the nine to the midline and the nine to the feet each: the heart's edge has 3 or less, a diaphragm's fewer
FROM_EACH = 0.75
#: the same for tissue with some air in it, which no heart has
SURROUNDED_IF_LIGHT = 0.5
#: some air: lighter than fat (-120 to -60 HU) however noisy the image
LIGHT_HU = -150.0
#: thinner things are vessels, pleura, or edges that are part air
THICK_MM = 3.0
#: fluid: 0 to 20 HU (transudate) to 30 HU (exudate); noise is averaged over the smoothing below
FLUID_HU = (-15.0, 25.0)
FLUID_SMOOTHING_MM = 4.0
#: smaller pools than this are partial volume or necrosis
FLUID_ML, FLUID_THICK_MM = 20.0, 4.0
#: share of a pool's surroundings that are no lung; necrosis in a tumour has less
FLUID_AT_WALL = 0.25
#: share of air in a dense region's core: consolidation has its bronchi open, a tumour is solid. Pieces of 10 mL and
#: more had 0 in simulated tumours, 6 % in the real LUNG1-001, 19 to 94 % in simulated consolidation (one of nine: 4 %)
AIR_IN_CONSOLIDATION = 0.1
#: the rim of a region is part lung and tells nothing
RIM_MM = 4.0
#: a bronchus narrower than twice this counts to the dense region around it
BRONCHUS_MM = 6.0
SMALLEST_ML = 0.5
#: the radius of lobar arteries and veins is 5 mm at most
THICKER_THAN_VESSELS_MM = 6.0


@dataclass(frozen=True)
class Dense:
    """Dense regions on a working copy: side labels `(z, y, x)`, 0 elsewhere."""

    consolidation: np.ndarray
    tumour: np.ndarray
    effusion: np.ndarray


def dense_regions(coarse: Coarse, lungs: np.ndarray, allowed: np.ndarray, wall: Wall, middle: float) -> Dense:
    """Find what is dense at and in the lungs.

    Args:
        coarse: the working copy.
        lungs: side labels of what was found by its air, closed over vessels.
        allowed: where lung may be (inside the body, outside the airways).
        wall: the chest wall.
        middle: the patient's x of the body's middle in mm.
    """
    found = np.zeros_like(lungs)
    left = np.broadcast_to(coarse.x_mm(), lungs.shape) > middle
    free = allowed & wall.cavity & (lungs == 0)
    smooth = ndimage.gaussian_filter(coarse.hu, FLUID_SMOOTHING_MM / 2 / coarse.spacing)
    for side in (RIGHT, LEFT):
        own = lungs == side
        if not own.any():
            continue
        target = own | (wall.beside & (left == (side == LEFT)))
        within = box(own, np.ceil(10.0 / coarse.spacing).astype(int))
        medial = np.array([view[2] == (1 if side == RIGHT else -1) for view in VIEWS])
        views, inner, below = (
            count / chosen.sum() for count, chosen in zip(*surrounded(target[within], medial), strict=True)
        )
        dense = free[within] & (views >= SURROUNDED) & (inner >= FROM_EACH) & (below >= FROM_EACH)
        light = free[within] & (smooth[within] < LIGHT_HU) & (np.minimum(views, below) >= SURROUNDED_IF_LIGHT)
        piece = opened(dense | light, coarse.spacing, THICK_MM)
        found[within][_joined(piece, own[within], coarse)] = side
    return _kinds(coarse, found, _fluid(coarse, found > 0, lungs, smooth))


def surrounded(target: np.ndarray, medial: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """From each voxel, how many of the 26 views along the grid meet the target before the image's end.

    Args:
        target: mask `(z, y, x)`.
        medial: which of `VIEWS` go to the midline.

    Returns:
        the counts, and which views they are of: all, those to the midline, and those to the feet.
    """
    sets = [np.ones(len(VIEWS), dtype=bool), medial, np.array([view[0] < 0 for view in VIEWS])]
    counts = [np.zeros(target.shape, dtype=np.uint8) for _ in sets]
    for index, view in enumerate(VIEWS):
        met = _look(target, view)
        for count, chosen in zip(counts, sets, strict=True):
            if chosen[index]:
                count += met
    return counts, sets


def _look(target: np.ndarray, view: tuple[int, int, int]) -> np.ndarray:
    """Whether the target is met on the way from each voxel in one view's direction."""
    axis = next(axis for axis in range(3) if view[axis])
    met = np.moveaxis(target.copy(), axis, 0)
    step = [view[other] for other in range(3) if other != axis]
    order = range(len(met) - 2, -1, -1) if view[axis] > 0 else range(1, len(met))
    to = tuple(slice(max(0, -s), -s if s > 0 else None) for s in step)
    come = tuple(slice(max(0, s), s if s < 0 else None) for s in step)
    for index in order:
        met[index][to] |= met[index + view[axis]][come]
    return np.moveaxis(met, 0, axis)


def _joined(piece: np.ndarray, lung: np.ndarray, coarse: Coarse) -> np.ndarray:
    """The parts of a mask that touch the lung and are no specks."""
    labels, count = ndimage.label(piece)
    if not count:
        return piece
    touching = np.unique(labels[ndimage.binary_dilation(lung)])
    size = np.bincount(labels.ravel()) * coarse.voxel_ml
    keep = np.zeros(count + 1, dtype=bool)
    keep[touching] = size[touching] >= SMALLEST_ML
    keep[0] = False
    return keep[labels]


def thick_regions(coarse: Coarse, lungs: np.ndarray) -> Dense:
    """What is dense and thicker than vessels among what the lungs were closed over: for a study that leaves it out."""
    thick = opened((lungs > 0) & (coarse.hu > LIGHT_HU), coarse.spacing, THICKER_THAN_VESSELS_MM)
    return _kinds(coarse, np.where(thick, lungs, 0), np.zeros(lungs.shape, dtype=bool))


def _kinds(coarse: Coarse, found: np.ndarray, fluid: np.ndarray) -> Dense:
    """Tell tumour and consolidation apart in what is not fluid."""
    rest = np.where(fluid, 0, found)
    solid = np.zeros(found.shape, dtype=bool)
    labels, _ = ndimage.label(rest > 0)
    for label, bounds in enumerate(ndimage.find_objects(labels), start=1):
        near = _with_margin(bounds, np.ceil(BRONCHUS_MM / coarse.spacing).astype(int) + 1)
        piece = labels[near] == label
        grown = ball(piece, coarse.spacing, BRONCHUS_MM, grow=True)
        with_bronchi = ball(grown, coarse.spacing, BRONCHUS_MM, grow=False) | piece
        core = ball(with_bronchi, coarse.spacing, RIM_MM, grow=False)
        if (coarse.hu[near][core if core.any() else with_bronchi] < LIGHT_HU).mean() < AIR_IN_CONSOLIDATION:
            solid[near] |= piece
    return Dense(np.where(solid, 0, rest), np.where(solid, rest, 0), np.where(fluid, found, 0))


def _with_margin(bounds: tuple[slice, ...], margin: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(max(0, s.start - int(m)), s.stop + int(m)) for s, m in zip(bounds, margin, strict=True))


def _fluid(coarse: Coarse, dense: np.ndarray, lungs: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """Pools of fluid: homogeneous, of water's HU, broad along the wall."""
    pool = dense & (smooth > FLUID_HU[0]) & (smooth < FLUID_HU[1])
    pool = opened(pool, coarse.spacing, FLUID_THICK_MM)
    labels, _ = ndimage.label(pool)
    fluid = np.zeros_like(dense)
    for label, bounds in enumerate(ndimage.find_objects(labels), start=1):
        near = _with_margin(bounds, np.ceil(2 * FLUID_THICK_MM / coarse.spacing).astype(int) + 1)
        piece = labels[near] == label
        if piece.sum() * coarse.voxel_ml < FLUID_ML:
            continue
        grown = ball(piece, coarse.spacing, 2 * FLUID_THICK_MM, grow=True) & ~piece
        if (~dense & (lungs == 0))[near][grown].mean() >= FLUID_AT_WALL:
            fluid[near] |= piece
    # the opening and the smoothing took the pool's rim
    return ball(fluid, coarse.spacing, FLUID_THICK_MM, grow=True) & dense & (coarse.hu > -60) if fluid.any() else fluid

"""Where the chest wall runs, also where no air marks it: from the ribs and from the lung around.

In each axial slice the wall is a distance from the chest's middle for every direction (a star-shaped outline). A rib
shows it by its inner side, a healthy lung by its own surface; between them it is interpolated, because ribs and lungs
are smooth and a tumour, consolidation or fluid is a dent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from ct2vq.segment.working import Coarse, along

#: directions in a slice, and the step along a ray in mm
DIRECTIONS, STEP_MM = 180, 2.0
#: calcified rib in a copy of 2 mm: spongy bone begins at about 150 HU
BONE_HU = 150.0
#: a lung that ends so near to a rib touches the wall: intercostal muscle and pleura are 3 to 8 mm
CONTACT_MM = 12.0
#: dents are bridged from head to feet up to this height
HULL_MM = 60.0
#: a rib tells the wall so far from it, in directions (of 2 degrees) and in mm from head to feet
SMOOTH_DIRECTIONS, SMOOTH_MM = 3.0, 8.0
#: sternum and spine are no lateral wall: so many degrees to each side of the midline
MIDLINE_DEGREES = 25.0


@dataclass(frozen=True)
class Wall:
    """The chest wall on a working copy, masks `(z, y, x)`.

    Attributes:
        cavity: inside the wall.
        beside: the wall itself and what lies behind it, where lung touches it both above and below: there it bounds
            the lung, and no diaphragm.
    """

    cavity: np.ndarray
    beside: np.ndarray


def chest_wall(coarse: Coarse, lungs: np.ndarray, middle: float) -> Wall:
    """Estimate the wall.

    Args:
        coarse: the working copy.
        lungs: mask of what was found of the lungs.
        middle: the patient's x of the body's middle in mm.
    """
    radius, direction = _polar_grid(coarse, lungs, middle)
    outer, rib = _along_rays(coarse, lungs, middle)
    contact = (outer > 0) & (rib - outer < CONTACT_MM)
    gap = float(np.median((rib - outer)[contact])) if contact.any() else CONTACT_MM / 2
    distance = _outline(coarse, outer, rib - gap)
    between = _between(contact)
    turn = 360.0 / DIRECTIONS * direction
    lateral = np.abs(np.abs((turn % 180.0) - 90.0)) < 90.0 - MIDLINE_DEGREES
    cavity = radius < distance[:, direction]
    return Wall(cavity, ~cavity & between[:, direction] & lateral)


def _polar_grid(coarse: Coarse, lungs: np.ndarray, middle: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance in mm from the middle, and index of the direction (0 front, growing to the left) of a slice's voxels."""
    y, x = _offsets(coarse, lungs, middle)
    turn = np.arctan2(x, -y) % (2 * np.pi)
    return np.hypot(y, x), np.rint(turn * DIRECTIONS / (2 * np.pi)).astype(int) % DIRECTIONS


def _offsets(coarse: Coarse, lungs: np.ndarray, middle: float) -> tuple[np.ndarray, np.ndarray]:
    """How far back and how far left in mm each voxel of a slice lies from the chest's middle."""
    z, y, x = (np.arange(n) for n in lungs.shape)
    weight = max(1, lungs.sum())
    height = round(float((lungs.sum(axis=(1, 2)) * z).sum() / weight))
    back = float((lungs.sum(axis=(0, 2)) * y).sum() / weight)
    row = along(coarse.image, lungs.shape, 0)[height, round(back)]
    centre = np.interp(middle, row, x)
    shape = lungs.shape[1:]
    return (
        np.broadcast_to((y - back)[:, None] * coarse.spacing[1], shape),
        np.broadcast_to((x - centre)[None] * coarse.spacing[2], shape),
    )


def _along_rays(coarse: Coarse, lungs: np.ndarray, middle: float) -> tuple[np.ndarray, np.ndarray]:
    """By slice and direction: where the lung ends, and where the first bone behind it begins, in mm (inf: none)."""
    y, x = _offsets(coarse, lungs, middle)
    turn = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    steps = np.arange(0.0, 260.0, STEP_MM)
    rows = (-np.cos(turn)[:, None] * steps - y[0, 0]) / coarse.spacing[1]
    columns = (np.sin(turn)[:, None] * steps - x[0, 0]) / coarse.spacing[2]
    outer, rib = np.zeros((len(lungs), DIRECTIONS)), np.full((len(lungs), DIRECTIONS), np.inf)
    for z in np.flatnonzero(lungs.any(axis=(1, 2))):
        hit = ndimage.map_coordinates(lungs[z].astype(np.uint8), [rows, columns], order=0) > 0
        outer[z] = np.where(hit.any(axis=1), steps[len(steps) - 1 - hit[:, ::-1].argmax(axis=1)], 0)
        bone = ndimage.map_coordinates(coarse.hu[z], [rows, columns], order=1, cval=-1000.0) > BONE_HU
        bone &= steps > np.maximum(outer[z] - 2 * STEP_MM, 40.0)[:, None]
        rib[z] = np.where(bone.any(axis=1), steps[bone.argmax(axis=1)], np.inf)
    return outer, rib


def _outline(coarse: Coarse, outer: np.ndarray, inner_rib: np.ndarray) -> np.ndarray:
    """The wall's distance in mm by slice and direction, nowhere inside the lung.

    A chest is convex: no dent reaches beyond the convex hull of both lungs. A hull's chord cuts a wide dent short;
    there a rib a little farther out tells the wall, as one farther in does.
    """
    hull = np.stack([_hull(row) for row in outer])
    steps = 2 * int(HULL_MM / coarse.spacing[0] / 2) + 1
    hull = ndimage.grey_closing(np.pad(hull, ((steps, steps), (0, 0)), mode="edge"), (steps, 1))[steps:-steps]
    dent = outer < hull - CONTACT_MM
    near = np.isfinite(inner_rib) & (np.abs(inner_rib - hull) < CONTACT_MM)
    known = np.where(dent, near, outer > 0)
    told = _blend(np.where(dent, inner_rib, outer), known, np.array([SMOOTH_MM / coarse.spacing[0], SMOOTH_DIRECTIONS]))
    return np.maximum(np.where(dent & (told > 0), told, np.minimum(hull, np.where(near, inner_rib, hull))), outer)


def _blend(values: np.ndarray, known: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Gaussian average of the known values, 0 far from any; directions go round."""
    total, weight = (
        ndimage.gaussian_filter(part, sigma, mode=("nearest", "wrap"))
        for part in (np.where(known, values, 0.0), known.astype(float))
    )
    return np.where(weight > 0.02, total / np.maximum(weight, 0.02), 0)


def _hull(outer: np.ndarray) -> np.ndarray:
    """Distance to the convex hull of one slice's lungs by direction; 0 without lungs."""
    if (outer > 0).sum() < 3:
        return outer
    turn = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    ways = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    points = np.vstack([ways[outer > 0] * outer[outer > 0, None], ways * 1.0])
    facets = ConvexHull(points).equations
    along_normal = ways @ facets[:, :2].T
    with np.errstate(divide="ignore"):
        distance = np.where(along_normal > 1e-9, -facets[:, 2] / along_normal, np.inf)
    return distance.min(axis=1)


def _between(contact: np.ndarray) -> np.ndarray:
    """Where lung touches the wall above and below, in nearly the same direction."""
    near = ndimage.maximum_filter1d(contact, 9, axis=1, mode="wrap")
    below = np.logical_or.accumulate(near, axis=0)
    above = np.flip(np.logical_or.accumulate(np.flip(near, 0), axis=0), 0)
    return below & above

"""The patient in the image: no room, no table."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ct2vq.errors import SegmentationError
from ct2vq.segment.working import Coarse, ball, largest

#: HU of the body's surface: fat is about -100, lung below -400
BODY_HU = -300.0
#: a piece of air at the edge of the image is the room (about -1000) and not a cut lung (median -700 to -900) below this
ROOM_AIR_HU = -920.0
#: table foam and blankets: light, but not as empty as the room's air
FOAM_HU = -850.0


def find_body(coarse: Coarse) -> np.ndarray:
    """The patient with everything inside, without the table and the room.

    In each axial slice, what is not body and touches the side of the image is the room if most of it is as empty as
    air, or is light (table foam) and not enclosed by the body; otherwise it is a lung that the field of view cuts.
    """
    solid = largest(ball(coarse.hu > BODY_HU, coarse.spacing, 3.0, grow=False))
    if not solid.any():
        raise SegmentationError("D701", "no body found in the CT", hint="are the values HU?")
    body = ball(solid, coarse.spacing, 4.0, grow=True) & (coarse.hu > BODY_HU)
    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[1, 1, :] = in_plane[1, :, 1] = True
    rest, count = ndimage.label(~body, structure=in_plane)
    size = np.bincount(rest.ravel(), minlength=count + 1)
    empty = np.bincount(rest[coarse.hu < ROOM_AIR_HU], minlength=count + 1)
    light = np.bincount(rest[coarse.hu < FOAM_HU], minlength=count + 1)
    enclosed = np.bincount(rest[_enclosed(body)], minlength=count + 1)
    edge = np.zeros(count + 1, dtype=bool)
    for side in (rest[:, 0], rest[:, -1], rest[:, :, 0], rest[:, :, -1]):
        edge[np.unique(side)] = True
    room = edge & ((empty > 0.5 * size) | ((light > 0.5 * size) & (enclosed < 0.5 * size)))
    room[0] = False
    return ~room[rest]


def _enclosed(body: np.ndarray) -> np.ndarray:
    """Voxels with body on at least three of their four sides in the axial plane."""
    sides = np.zeros(body.shape, dtype=np.uint8)
    for axis in (1, 2):
        sides += np.logical_or.accumulate(body, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
    return sides >= 3


def middle_mm(coarse: Coarse, inside: np.ndarray) -> float:
    """The patient's x of the body's middle in mm."""
    columns = coarse.x_mm() * inside
    return float(columns.sum() / inside.sum())

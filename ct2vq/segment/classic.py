"""The method without weights: air inside the body, minus the airways, in two lungs, with what is dense in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct2vq.lungs import LEFT, RIGHT
from ct2vq.segment.airway import find_airway
from ct2vq.segment.body import find_body, middle_mm
from ct2vq.segment.choose import choose_lungs
from ct2vq.segment.closing import close
from ct2vq.segment.dense import Dense, dense_regions, thick_regions
from ct2vq.segment.refine import refine
from ct2vq.segment.sides import split
from ct2vq.segment.wall import chest_wall
from ct2vq.segment.working import Coarse, coarsen

#: closes the seam between the lung and what is dense at it
SEAM_MM = 5.0


def segment_classic(ct: sitk.Image, settings: Mapping[str, Any]) -> tuple[sitk.Image, dict[str, Any]]:
    """Find both lungs by their air, and what is dense and belongs to them by what surrounds it.

    Steps: turn and coarsen; air inside the body; take out trachea and main bronchi; choose the lungs among the rest;
    split them where they touch; close over vessels; dense regions by the convention; carry the labels to the CT's
    grid with the border from its HU.

    Args:
        ct: HU, any grid and direction.
        settings: config block `segment`.

    Returns:
        labels uint8 on the CT's grid (1 right, 2 left), and facts: `warnings`, `dense_ml`.

    Raises:
        SegmentationError: no body (D701), no plausible lungs (D702).
    """
    coarse = coarsen(ct, float(settings["working_spacing_mm"]))
    inside = find_body(coarse)
    middle = middle_mm(coarse, inside)
    air = inside & (coarse.hu < float(settings["threshold_hu"]))
    airway, warnings = find_airway(coarse, air, middle)
    lungs = choose_lungs(coarse, air & ~airway, middle, settings)
    sides, notes = split(lungs, coarse.x_mm(), coarse.spacing, middle)
    closed = close(coarse, sides, airway, inside, float(settings["closing_mm"]))
    dense = dense_regions(coarse, closed, inside & ~airway, chest_wall(coarse, closed > 0, middle), middle)
    whole, solid = by_convention(coarse, closed, dense, airway, inside, settings["inside"])
    labels = refine(ct, coarse, whole, solid, float(settings["threshold_hu"]))
    return labels, {"warnings": [*warnings, *notes], "dense_ml": _volumes(coarse, dense)}


def by_convention(
    coarse: Coarse,
    closed: np.ndarray,
    dense: Dense,
    airway: np.ndarray,
    inside: np.ndarray,
    convention: Mapping[str, bool],
) -> tuple[np.ndarray, np.ndarray]:
    """The lungs with and without what the study counts to them.

    Args:
        coarse: the working copy.
        closed: side labels `(z, y, x)`, closed over vessels.
        dense: what is dense at and in them.
        airway: central airways.
        inside: the body.
        convention: config block `segment.inside`.

    Returns:
        side labels, and the mask of what in them has no air.
    """
    parts = {"consolidation": dense.consolidation, "tumour": dense.tumour, "effusion": dense.effusion}
    added = np.maximum.reduce([parts[name] for name in parts if convention[name]] or [np.zeros_like(closed)])
    left_out = np.zeros(closed.shape, dtype=bool)
    for name in parts:
        if not convention[name]:
            left_out |= parts[name] > 0
    if not (convention["consolidation"] and convention["tumour"]):
        within = thick_regions(coarse, closed)
        for name, kind in (("consolidation", within.consolidation), ("tumour", within.tumour)):
            if not convention[name]:
                left_out |= kind > 0
    whole = np.where(left_out, 0, np.where(added > 0, added, closed)).astype(np.uint8)
    if added.any():
        whole = close(coarse, whole, airway | left_out, inside, SEAM_MM)
    if convention["central_airways"] and airway.any():
        whole = _with_airways(coarse, whole, airway)
    return whole, added > 0


def _with_airways(coarse: Coarse, lungs: np.ndarray, airway: np.ndarray) -> np.ndarray:
    """Central airways between the lungs' top and base go to the nearer lung."""
    heights = np.flatnonzero(lungs.any(axis=(1, 2)))
    nearest = ndimage.distance_transform_edt(lungs == 0, coarse.spacing, return_distances=False, return_indices=True)
    between = airway & (lungs == 0)
    between[: heights[0]] = between[heights[-1] + 1 :] = False
    return np.where(between, lungs[tuple(nearest)], lungs)


def _volumes(coarse: Coarse, dense: Dense) -> dict[str, dict[str, float]]:
    """Volume in mL of each kind at each lung, beyond what the closing took in."""
    kinds = {"consolidation": dense.consolidation, "tumour": dense.tumour, "effusion": dense.effusion}
    return {
        kind: {
            name: round(float((labels == side).sum()) * coarse.voxel_ml, 1)
            for side, name in ((RIGHT, "right"), (LEFT, "left"))
        }
        for kind, labels in kinds.items()
    }

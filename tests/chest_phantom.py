"""A chest whose lungs, densities and activity are formulas of position, and settings that register it in a second."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ct2vq.config import complete_config
from ct2vq.volume import from_array, make_grid

SETTINGS = complete_config({"study": "tests"})["register"] | {
    "spacing_mm": 8.0,
    "margin_mm": 24,
    "lung_margin_mm": 8,
    "linear_iterations": [40, 15],
    "deformable_iterations": [25, 10],
    "field_spacing_mm": 8.0,
}
SHIFT = np.array([9.0, -7.0, 6.0])
ANGLE = np.deg2rad(4.0)
DIAPHRAGM_MM = 12.0
CT = make_grid((56, 44, 52), (5, 5, 5), (-138, -108, -128))
LOW_DOSE = make_grid((48, 38, 44), (6, 6, 6), (-140, -112, -130))
SPECT = make_grid((36, 30, 34), (8, 8, 8), (-138, -114, -132))


def to_ct(q: np.ndarray) -> np.ndarray:
    """Where in the CT a point `(..., 3)` of the attenuation CT lies: the truth, rigid and then smooth."""
    c, s = np.cos(ANGLE), np.sin(ANGLE)
    x, y, z = np.moveaxis(q - SHIFT, -1, 0)
    x, y = c * x - s * y, s * x + c * y
    # the base moves most, the apex not at all
    z = z + DIAPHRAGM_MM * 0.5 * (1 - np.tanh((z + 40) / 40)) * np.exp(-((x / 120) ** 2) - (y / 120) ** 2)
    return np.stack([x, y, z], axis=-1)


def labels_at(p: np.ndarray) -> np.ndarray:
    """Lung labels at points `(..., 3)` of the CT."""
    x, y, z = np.moveaxis(p, -1, 0)
    labels = np.zeros(x.shape, np.uint8)
    for side, centre in ((1, -55.0), (2, 55.0)):
        labels[((x - centre) / 42) ** 2 + (y / 62) ** 2 + (z / 85) ** 2 < 1] = side
    return labels


def hu_at(p: np.ndarray, vessels: float = 1.0) -> np.ndarray:
    """Chest with two lungs, vessels as waves of density, and a spine that tells front from back.

    Args:
        p: points `(..., 3)` of the CT in mm.
        vessels: stretch of the waves; another value is another patient.
    """
    x, y, z = np.moveaxis(p, -1, 0)
    body = (x / 135) ** 2 + (y / 95) ** 2 < 1
    u, v, w = x * vessels, y * vessels, z * vessels
    waves = 60 * (np.sin(u / 9) * np.sin(v / 11) * np.sin(w / 10) + np.sin(w / 17 + u / 23))
    hu = np.where(body, np.where(labels_at(p) > 0, -820 + waves, 40.0), -1000.0)
    return np.where((x / 15) ** 2 + ((y - 75) / 12) ** 2 < 1, 190.0, hu)


def activity_at(p: np.ndarray) -> np.ndarray:
    """Counts that rise towards the head, and next to none outside the lungs."""
    return np.where(labels_at(p) > 0, 100.0 + 0.3 * p[..., 2], 1.0)


def points(grid: sitk.Image) -> np.ndarray:
    """Positions `(z, y, x, 3)` in mm of a grid along the patient's axes."""
    k, j, i = np.indices(grid.GetSize()[::-1])
    return np.stack([i, j, k], axis=-1) * np.array(grid.GetSpacing()) + np.array(grid.GetOrigin())


def volume(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """A volume of the type that files have: uint8 for labels, else float32."""
    return from_array(array if array.dtype == np.uint8 else array.astype(np.float32), grid)


def chest(moved: bool = True) -> dict[str, sitk.Image]:
    """All images of a case; unless moved, everything lies where the CT shows it."""
    noise = np.random.default_rng(0)
    away = to_ct if moved else lambda q: q
    p, q, r = points(CT), away(points(LOW_DOSE)), away(points(SPECT))
    return {
        "ct": volume(hu_at(p) + noise.normal(0, 15, p.shape[:-1]), CT),
        "ct_lungs": volume(labels_at(p), CT),
        "attenuation_ct": volume(hu_at(q) + noise.normal(0, 30, q.shape[:-1]), LOW_DOSE),
        "attenuation_ct_lungs": volume(labels_at(q), LOW_DOSE),
        "perfusion": volume(activity_at(r), SPECT),
        "ventilation": volume(activity_at(r) * 2, SPECT),
    }

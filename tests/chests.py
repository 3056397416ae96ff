"""Chests made of ellipsoids, for tests of the segmentation."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ct2vq.volume import from_array, make_grid

AIR, LUNG, TISSUE = -1000.0, -820.0, 40.0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def ellipsoid(points: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    return (((points - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) < 1


def chest(spacing: tuple = (4.0, 4.0, 4.0), axes: np.ndarray | None = None) -> tuple[sitk.Image, np.ndarray]:
    """A chest in patient coordinates on a grid of any axes: HU with noise, and the true labels `(z, y, x)`.

    The right lung is the larger one; a trachea, main bronchi, a vessel, stomach gas under the left lung and a table
    with hollow inside are there to be told from lung.
    """
    axes = np.eye(3) if axes is None else axes
    size = [int(340 / spacing[0]), int(300 / spacing[1]), int(300 / spacing[2])]
    half = (np.array(size) - 1) / 2 * spacing
    grid = make_grid(size, spacing, (axes @ -half).tolist(), axes.ravel())
    z, y, x = np.meshgrid(*(np.arange(n) for n in size[::-1]), indexing="ij")
    points = (np.stack([x, y, z], axis=-1) * np.array(spacing) - half) @ axes.T
    px, py, pz = np.moveaxis(points, -1, 0)
    hu = np.full(px.shape, AIR)
    hu[(px / 150) ** 2 + (py / 105) ** 2 < 1] = TISSUE
    hu[(np.abs(py - 124) < 10) & (np.abs(px) < 140)] = -100
    hu[(np.abs(py - 124) < 5) & (np.abs(px) < 135)] = -900
    right = ellipsoid(points, (-72, 0, 0), (56, 76, 110))
    left = ellipsoid(points, (72, 0, 5), (50, 70, 105))
    labels = np.where(right, 1, np.where(left, 2, 0)).astype(np.uint8)
    hu[labels > 0] = LUNG
    hu[ellipsoid(points, (60, 0, -130), (35, 35, 18))] = AIR  # stomach gas under the left lung
    hu[(np.hypot(px, py) < 9) & (pz > 20)] = AIR  # trachea
    hu[(np.abs(pz - 22) < 7) & (np.abs(py) < 7) & (np.abs(px) < 22)] = AIR  # main bronchi
    hu[(np.hypot(py - 10, pz + 10) < 5) & (np.abs(px + 50) < 40)] = TISSUE  # a vessel in the right lung
    hu += np.random.default_rng(1).normal(0, 15, size=hu.shape)
    return from_array(hu.astype(np.float32), grid), labels

"""Seeded randomness: one generator for each purpose, and smooth random fields that can be read at any point."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

#: half size (x, y, z) in mm of the box in which random fields vary; beyond it the edge value goes on
FIELD_HALF_BOX_MM = (190.0, 150.0, 240.0)


def generator(seed: int, name: str, purpose: str) -> np.random.Generator:
    """A generator that depends on the study's seed, a case or patient and a purpose, on nothing else.

    Args:
        seed: the study's seed.
        name: a case or patient id.
        purpose: what the numbers are for, such as `anatomy`; different purposes give independent numbers.
    """
    digest = hashlib.sha256(f"{seed}/{name}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


class RandomField:
    """A stationary Gaussian field with mean 0 and standard deviation 1, defined on a lattice in the lungs' box."""

    def __init__(self, rng: np.random.Generator, correlation_mm: float) -> None:
        """Draw the field.

        Args:
            rng: source of the white noise.
            correlation_mm: standard deviation of the Gaussian that smooths white noise to the field.
        """
        self.spacing = float(np.clip(correlation_mm / 2.0, 4.0, 12.0))
        self.origin = np.array(FIELD_HALF_BOX_MM, dtype=np.float32)
        shape = [int(np.ceil(2 * half / self.spacing)) + 1 for half in FIELD_HALF_BOX_MM]
        noise = rng.standard_normal(shape, dtype=np.float32)
        lattice = gaussian_filter(noise, correlation_mm / self.spacing, mode="wrap")
        self.lattice = (lattice - lattice.mean()) / lattice.std()

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The field at `points` (3, ...) in mm; float32 of shape (...)."""
        origin = self.origin.reshape(3, *([1] * (points.ndim - 1)))
        index = (points + origin) / np.float32(self.spacing)
        return map_coordinates(self.lattice, index, order=1, mode="nearest", output=np.float32)

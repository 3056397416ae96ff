"""From the breath-hold of the diagnostic CT to the tidal state of the SPECT: an analytic, smooth map of space.

`p_spect = rotation (p_ct + u(p_ct)) + offset`, in mm (LPS). `u` lifts the diaphragm by the set excursion and leaves
the apices where they are, carries the upper abdomen along, narrows the chest a little and adds a smooth irregular part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ct2vq.simulate.anatomy import Body, skin_distance, smoothstep

_INVERSE_ROUNDS = 40


@dataclass(frozen=True)
class Motion:
    """How one case moved between its CT and its SPECT; lengths in mm."""

    body: Body
    diaphragm_mm: float
    chest_wall: tuple[float, float]
    waves: np.ndarray
    phases: np.ndarray
    amplitudes: np.ndarray
    rotation: np.ndarray
    offset: np.ndarray
    tidal_mm: float

    def to_spect(self, points: np.ndarray) -> np.ndarray:
        """Positions (3, ...) in the SPECT state of positions in the CT state."""
        moved = points + self._breathing(points)
        shape = moved.shape
        rotated = self.rotation.astype(moved.dtype) @ moved.reshape(3, -1)
        return (rotated + self.offset[:, None].astype(moved.dtype)).reshape(shape)

    def to_ct(self, points: np.ndarray) -> np.ndarray:
        """Positions (3, n) in the CT state of positions in the SPECT state, by fixed-point iteration."""
        still = self.rotation.T @ (points - self.offset[:, None])
        result = still.copy()
        for _ in range(_INVERSE_ROUNDS):
            result = still - self._breathing(result)
        return result

    def _breathing(self, points: np.ndarray) -> np.ndarray:
        """Displacement (3, ...) without the rigid part."""
        x, y, z = points
        size = np.float32(self.body.size)
        top, low = self.body.apex_z * size, min(self.body.dome_z) * size - self.diaphragm_mm
        down = np.clip((top - z) / (top - low), 0, None)
        along = np.minimum(down, 1) ** 1.3 * (1 - smoothstep((down - 1.35) / 1.1))
        deep = smoothstep(-skin_distance(self.body, points) / 45)
        chest = smoothstep(down / 0.5) * (1 - 0.6 * smoothstep((down - 1.0) / 0.8))
        waves = [
            self.amplitudes[i] * np.sin(np.tensordot(self.waves[i], points, 1) + self.phases[i]) * deep
            for i in range(3)
        ]
        sideways = -self.chest_wall[0] * chest * x / (self.body.half_width[0] * size) + waves[0]
        front = smoothstep((40 - y) / (120 * size))
        backward = self.chest_wall[1] * chest * front + waves[1]
        upward = self.diaphragm_mm * along * (0.15 + 0.85 * deep) + waves[2]
        return np.stack([sideways, backward, upward]).astype(points.dtype)


def draw_motion(body: Body, settings: dict, rng: np.random.Generator) -> Motion:
    """Draw the motion of a case.

    Args:
        body: the person.
        settings: config block `simulate.motion`: `diaphragm_mm` [low, high], `rigid_mm`, `rigid_deg` (each the
            largest offset and angle along an axis).
        rng: source of randomness.
    """
    low, high = settings["diaphragm_mm"]
    excursion = float(rng.uniform(low, high))
    share = excursion / 20.0
    waves = rng.normal(0, 1, (3, 3))
    waves *= 2 * np.pi / rng.uniform(90, 150, (3, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    angles = rng.uniform(-1, 1, 3) * settings["rigid_deg"]
    return Motion(
        body=body,
        diaphragm_mm=excursion,
        chest_wall=(float(rng.uniform(1, 3.5) * share), float(rng.uniform(2, 6) * share)),
        waves=waves.astype(np.float32),
        phases=rng.uniform(0, 2 * np.pi, 3).astype(np.float32),
        amplitudes=(rng.uniform(0.5, 2.0, 3) * min(1.0, share + 0.3)).astype(np.float32),
        rotation=Rotation.from_euler("xyz", angles, degrees=True).as_matrix(),
        offset=rng.uniform(-1, 1, 3) * settings["rigid_mm"],
        tidal_mm=float(rng.uniform(7, 13)),
    )


def jacobian_determinant(mapped: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Determinant of d p_spect / d p_ct: how much volume of the SPECT state a volume of the CT state becomes.

    Args:
        mapped: positions (3, z, y, x) in the SPECT state of the voxels of a CT grid with axes along x, y, z.
        spacing: the grid's spacing in order x, y, z (mm).

    Returns:
        float32 (z, y, x).
    """
    gradients = [np.gradient(mapped[i], spacing[2], spacing[1], spacing[0]) for i in range(3)]
    (xz, xy, xx), (yz, yy, yx), (zz, zy, zx) = gradients
    return (xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)).astype(np.float32)

"""From the breath-hold of a CT to the reference state (the mean tidal state that the SPECT shows).

`p_ref = slip(rotation (p_ct + u(p_ct)) + offset)`, in mm (LPS). `u` lifts the diaphragm by the set excursion, leaves
the apices where they are, carries the upper abdomen along, narrows the chest a little and adds a smooth irregular
part: it moves the whole body. `slip` moves only what lies inside the lungs: along the pleura, never through it, so that
lung slides on the chest wall, which the body's part holds back. So the map is smooth inside each lung and has its one
discontinuity at the pleura.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from ct2vq.errors import GeometryError
from ct2vq.simulate.anatomy import smoothstep
from ct2vq.simulate.chest import Chest

_INVERSE_ROUNDS = 25
_LARGEST_STEP_MM = 6.0
_INVERSE_TOLERANCE_MM = 0.5
#: voxel size of the sliding field, mm, and the number of steps in which it is integrated
_SLIP_STEP_MM, _SLIP_STEPS = 6.0, 8
#: depth under the pleura over which the sliding fades, mm
_SLIP_DEPTH_MM = 22.0
#: share of the diaphragm's lift that the chest wall follows
_WALL_SHARE = 0.15
#: how much more the rib cage widens for each mm of the diaphragm in full inspiration: so a litre takes about 20 mm
#: (Thorax 1994, in resources/published_lungs.tsv)
_RIB_CAGE = 3.0
#: depth under the inner chest wall over which the body comes to follow the diaphragm, mm
_DEEP_MM = 25.0


@dataclass(frozen=True)
class Slip:
    """A displacement (3, z, y, x) in mm on a lattice around the lungs, tangential to the pleura."""

    values: np.ndarray
    origin: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The displacement (3, ...) at points (3, ...); that of the lattice's edge beyond it."""
        index = ((points - self.origin.reshape(3, *([1] * (points.ndim - 1)))) / _SLIP_STEP_MM)[::-1]
        index = index.astype(np.float32)
        return np.stack([map_coordinates(v, index, order=1, mode="nearest", output=np.float32) for v in self.values])


@dataclass(frozen=True)
class Motion:
    """How one scan's breathing state and position differ from the reference; lengths in mm."""

    chest: Chest
    diaphragm_mm: float
    chest_wall: tuple[float, float] = (0.0, 0.0)
    waves: np.ndarray = field(default_factory=lambda: np.zeros((3, 3), dtype=np.float32))
    phases: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.float32))
    amplitudes: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.float32))
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    full_inspiration: bool = False
    wall_mm: float = 20.0
    slip: Slip | None = None

    def body(self, points: np.ndarray) -> np.ndarray:
        """Where the body (not the lung inside it) at positions (3, ...) of the scan lies in the reference state."""
        moved = points + self._breathing(points)
        rotated = self.rotation.astype(moved.dtype) @ moved.reshape(3, -1)
        return (rotated + self.offset[:, None].astype(moved.dtype)).reshape(moved.shape)

    def lung(self, points: np.ndarray) -> np.ndarray:
        """Where lung at positions (3, ...) of the scan lies in the reference state."""
        return self.slide(self.body(points))

    def slide(self, moved: np.ndarray) -> np.ndarray:
        """The lung's own part of the motion, after the body's."""
        return moved if self.slip is None else moved + self.slip(moved)

    def to_scan(self, points: np.ndarray) -> np.ndarray:
        """Positions (3, n) in the scan of lung at positions in the reference state, by damped Newton steps.

        Raises:
            GeometryError: the steps do not end within 0.5 mm of a position.
        """
        result = self.rotation.T @ (points - self.offset[:, None])
        for _ in range(_INVERSE_ROUNDS):
            error = points - self.lung(result)
            step = np.linalg.solve(self._gradient(result), error.T[:, :, None])[:, :, 0].T
            length = np.linalg.norm(step, axis=0)
            result = result + step * np.minimum(1.0, _LARGEST_STEP_MM / np.maximum(length, 1e-9))
        left = float(np.abs(points - self.lung(result)).max()) if points.size else 0.0
        if left > _INVERSE_TOLERANCE_MM:
            problem = f"the motion could not be inverted: {left:.2f} mm are left"
            raise GeometryError(problem, key="simulate.motion", hint="set smaller motion")
        return result

    def _gradient(self, points: np.ndarray) -> np.ndarray:
        """Derivative (n, 3, 3) of the lungs' motion by central differences over 2 mm."""
        columns = []
        for axis in range(3):
            shift = np.zeros((3, 1))
            shift[axis] = 1.0
            columns.append((self.lung(points + shift) - self.lung(points - shift)) / 2.0)
        return np.moveaxis(np.stack(columns, axis=1), 2, 0)

    def _breathing(self, points: np.ndarray) -> np.ndarray:
        """Displacement (3, ...) of the body without the rigid part."""
        x, y, _z = points
        down, along = self._along(points)
        deep = self._deep(points)
        chest = smoothstep(down / 0.5) * (1 - 0.6 * smoothstep((down - 1.0) / 0.8))
        waves = [
            self.amplitudes[i] * np.sin(np.tensordot(self.waves[i], points, 1) + self.phases[i]) * deep
            for i in range(3)
        ]
        sideways = -self.chest_wall[0] * chest * (x - self.chest.middle_x) / self.chest.half_width + waves[0]
        front = smoothstep((self.chest.middle_y + 40 - y) / (0.93 * self.chest.half_width))
        backward = self.chest_wall[1] * chest * front + waves[1]
        upward = self.diaphragm_mm * along * (_WALL_SHARE + (1 - _WALL_SHARE) * deep) + waves[2]
        return np.stack([sideways, backward, upward]).astype(points.dtype)

    def _deep(self, points: np.ndarray) -> np.ndarray:
        """How far a point (3, ...) belongs to what follows the diaphragm: 0 in the chest wall, 1 deep inside."""
        return smoothstep((-self.chest.skin(points) - self.wall_mm) / _DEEP_MM)

    def _along(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position from apex (0) to dome (1) in the scan's state, and the share of the dome's lift there."""
        top, low = self.chest.apex_z, self.chest.base_z - self.diaphragm_mm
        down = np.clip((top - points[2]) / (top - low), 0, None)
        return down, np.minimum(down, 1) ** 1.3 * (1 - smoothstep((down - 1.35) / 1.1))


def draw_motion(chest: Chest, settings: dict, rng: np.random.Generator) -> Motion:
    """Draw how the diagnostic CT's breath-hold differs from the SPECT's state.

    Args:
        chest: the chest in the reference state.
        settings: config block `simulate.motion`: `diaphragm_mm` and `full_diaphragm_mm` [low, high],
            `full_inspiration` (share of cases), `rigid_mm`, `rigid_deg` (largest offset and angle along an axis).
        rng: source of randomness.
    """
    full = bool(rng.random() < settings["full_inspiration"])
    excursion = float(rng.uniform(*settings["full_diaphragm_mm" if full else "diaphragm_mm"]))
    share = excursion / 20.0 * (_RIB_CAGE if full else 1.0)
    waves = rng.normal(0, 1, (3, 3))
    waves *= 2 * np.pi / rng.uniform(90, 150, (3, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    angles = rng.uniform(-1, 1, 3) * settings["rigid_deg"]
    motion = Motion(
        chest=chest,
        wall_mm=wall_thickness(chest),
        diaphragm_mm=excursion,
        chest_wall=(float(rng.uniform(1, 3.5) * share), float(rng.uniform(2, 6) * share)),
        waves=waves.astype(np.float32),
        phases=rng.uniform(0, 2 * np.pi, 3).astype(np.float32),
        amplitudes=(rng.uniform(0.5, 2.0, 3) * min(1.0, share + 0.3)).astype(np.float32),
        rotation=Rotation.from_euler("xyz", angles, degrees=True).as_matrix(),
        offset=rng.uniform(-1, 1, 3) * settings["rigid_mm"],
        full_inspiration=full,
    )
    return with_slip(motion)


def draw_attenuation_motion(chest: Chest, settings: dict, rng: np.random.Generator) -> Motion:
    """Draw how the camera's CT differs from the SPECT's mean state: some other moment of quiet breathing."""
    share = float(rng.uniform(-1, 1))
    excursion = settings["attenuation_mm"] * share
    return with_slip(Motion(chest=chest, wall_mm=wall_thickness(chest), diaphragm_mm=excursion))


def wall_thickness(chest: Chest) -> float:
    """Depth of the pleura under the skin where the chest wall is thinnest, mm."""
    points = chest.lattice(8.0)
    return float(np.percentile(-chest.skin(points)[chest.lung(points)[0] < 0], 2))


def with_slip(motion: Motion) -> Motion:
    """The motion with the lungs' sliding: they follow the diaphragm nearly up to the pleura, the chest wall does not.

    The slide is described in the reference state, after the body's part; it falls a little short of the diaphragm's
    descent (by 1 mm of 17, 7 of 51).
    """
    chest = motion.chest
    lattice = chest.lattice(_SLIP_STEP_MM)
    distance, _side = chest.lung(lattice)
    distance = gaussian_filter(distance, 1.0)
    gradient = np.stack(np.gradient(distance, _SLIP_STEP_MM)[::-1])
    normal = gradient / np.maximum(np.linalg.norm(gradient, axis=0), 0.3)
    _down, along = motion._along(lattice)
    behind = (1 - _WALL_SHARE) * (1 - motion._deep(lattice))
    upward = np.zeros_like(lattice)
    upward[2] = motion.diaphragm_mm * along * behind
    near = np.exp(-((distance / _SLIP_DEPTH_MM) ** 2))
    velocity = (upward - (upward * normal).sum(0) * normal * near) * np.exp(-np.maximum(-distance, 0) / 60)
    velocity = np.stack([gaussian_filter(v, 1.0) for v in velocity]).astype(np.float32)
    origin = lattice[:, 0, 0, 0]
    field_, step = Slip(velocity, origin), 1.0 / _SLIP_STEPS
    moved = lattice.copy()
    for _ in range(_SLIP_STEPS):
        moved = moved + step * field_(moved)
    return replace(motion, slip=Slip(moved - lattice, origin))


def jacobian_determinant(mapped: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Determinant of d p_ref / d p_scan: how much volume of the reference state a volume of the scan becomes.

    Args:
        mapped: positions (3, z, y, x) in the reference state of the voxels of a grid with axes along x, y, z.
        spacing: the grid's spacing in order x, y, z (mm).

    Returns:
        float32 (z, y, x).
    """
    gradients = [np.gradient(mapped[i], spacing[2], spacing[1], spacing[0]) for i in range(3)]
    (xz, xy, xx), (yz, yy, yx), (zz, zy, zx) = gradients
    return (xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)).astype(np.float32)


@dataclass(frozen=True)
class Shift:
    """A patient who lies a little elsewhere: `p_ref = p_scan - offset`, mm."""

    offset: np.ndarray

    def to_reference(self, points: np.ndarray) -> np.ndarray:
        """Positions (3, ...) in the reference position of positions in the scan."""
        return points - self.offset.reshape(3, *([1] * (points.ndim - 1))).astype(points.dtype)

    def to_scan(self, points: np.ndarray) -> np.ndarray:
        """Positions (3, ...) in the scan of positions in the reference position."""
        return points + self.offset.reshape(3, *([1] * (points.ndim - 1))).astype(points.dtype)


def draw_shifts(settings: dict, rng: np.random.Generator) -> dict[str, Shift]:
    """How far the patient lies from the attenuation CT's position in each SPECT scan."""
    return {
        target: Shift(rng.uniform(-1, 1, 3) * settings["between_scans_mm"] / 2)
        for target in ("perfusion", "ventilation")
    }

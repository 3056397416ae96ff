"""The body in the reference state (the SPECT's mean tidal state): signed distances that can be read at any point.

Positions are mm in DICOM's patient system (LPS: +x left, +y back, +z head); the origin lies in the midline, halfway
through the chest from front to back, near the middle of the lungs. Arrays of points have shape (3, ...). A signed
distance is negative inside. Shapes are described at unit size and scaled as a whole to the wanted lung volume.

The forms are our own composition; sizes follow adult anatomy (ICRP Publication 89 (2002), reference adults).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ct2vq.lungs import LEFT, RIGHT
from ct2vq.simulate.randomness import RandomField

#: height from the apex at which the chest reaches its full width
_FULL_WIDTH_DEPTH_MM = 135.0
#: distance between lung and inner chest wall: the two pleurae and the endothoracic fascia
_PLEURA_MM = 2.0


@dataclass(frozen=True)
class Body:
    """One person. Lengths in mm at unit `size`; `side` arrays hold (right, left)."""

    sex: str
    age: int
    height_cm: float
    weight_kg: float
    size: float
    half_width: tuple[float, float]
    half_depth: float
    lung_centre_x: float
    apex_z: float
    dome_z: tuple[float, float]
    sulcus_depth: float
    fat: float
    muscle: float
    heart_centre: tuple[float, float, float]
    heart_radii: tuple[float, float, float]
    spine_y: float
    scoliosis: float
    rib_spacing: float
    gas_centre: tuple[float, float, float]
    gas_radii: tuple[float, float, float]
    oblique_fissure: tuple[tuple[float, float], tuple[float, float]]
    horizontal_fissure: float
    wobble: RandomField
    fissure_wobble: RandomField


def draw_body(rng: np.random.Generator) -> Body:
    """Draw a person, scaled so that both lungs together have a realistic tidal volume."""
    sex = "F" if rng.random() < 0.5 else "M"
    height = float(rng.normal(164 if sex == "F" else 177, 6.5))
    weight = float(np.clip(rng.normal(25.5, 3.6), 18, 36)) * (height / 100) ** 2
    age = int(np.clip(rng.normal(62, 12), 24, 88))
    overweight = weight / (height / 100) ** 2 - 22.0
    width = rng.normal(129, 3.5)
    body = Body(
        sex=sex,
        age=age,
        height_cm=round(height, 1),
        weight_kg=round(weight, 1),
        size=1.0,
        half_width=(float(width + rng.normal(3, 2)), float(width + rng.normal(-2, 2))),
        half_depth=float(rng.normal(89, 4)),
        lung_centre_x=float(rng.normal(46, 2)),
        apex_z=float(rng.normal(116, 6)),
        dome_z=_draw_domes(rng),
        sulcus_depth=float(rng.uniform(58, 84)),
        fat=float(np.clip(8 + 1.6 * overweight + rng.normal(0, 2), 4, 26)),
        muscle=float(rng.uniform(10, 15)),
        heart_centre=(float(rng.normal(27, 4)), float(rng.normal(-31, 3)), float(rng.normal(-50, 4))),
        heart_radii=(float(rng.normal(63, 4)), float(rng.normal(47, 3)), float(rng.normal(54, 3))),
        spine_y=float(rng.normal(61, 3)),
        scoliosis=float(rng.normal(0, 3)),
        rib_spacing=float(rng.uniform(23, 27)),
        gas_centre=(float(rng.uniform(48, 66)), float(rng.uniform(-48, -25)), float(rng.uniform(-122, -108))),
        gas_radii=(float(rng.uniform(16, 32)), float(rng.uniform(12, 20)), float(rng.uniform(12, 20))),
        oblique_fissure=(
            (float(rng.normal(-7, 4)), float(rng.normal(0.85, 0.08))),
            (float(rng.normal(-5, 4)), float(rng.normal(0.95, 0.08))),
        ),
        horizontal_fissure=float(rng.normal(10, 4)),
        wobble=RandomField(rng, 40.0),
        fissure_wobble=RandomField(rng, 30.0),
    )
    return _scale_to_volume(body, _tidal_volume_ml(body, rng))


def _draw_domes(rng: np.random.Generator) -> tuple[float, float]:
    """Height of the right and left diaphragm dome; the right stands higher (usually by half a vertebra)."""
    right = float(rng.normal(-66, 7))
    return right, right - float(rng.uniform(4, 16))


def _tidal_volume_ml(body: Body, rng: np.random.Generator) -> float:
    """Mean volume of lung (gas, tissue and blood) in tidal breathing, supine: grows with height, less in women.

    About a litre above what Fleming et al. measured by CT (`resources/published_lungs.tsv`), because diseased and older
    lungs are larger.
    """
    middle = 3500 + 35 * (body.height_cm - 170) - (300 if body.sex == "F" else 0)
    return float(np.clip(rng.normal(middle, 450), 2300, 5200))


def _scale_to_volume(body: Body, volume_ml: float) -> Body:
    """Scale the whole body so that the lungs have `volume_ml`."""
    points = lattice(body, 6.0)
    now = float((measure(body, points).lung < 0).sum()) * 6.0**3 / 1000.0
    return replace(body, size=float((volume_ml / now) ** (1 / 3)))


def lattice(body: Body, step_mm: float) -> np.ndarray:
    """Points (3, nz, ny, nx) of a regular lattice around the lungs."""
    x, y = 150.0 * body.size, 110.0 * body.size
    z_low, z_high = (body.dome_z[1] - body.sulcus_depth - 25) * body.size, (body.apex_z + 10) * body.size
    axes = [np.arange(-a, b, step_mm, dtype=np.float32) for a, b in ((-z_low, z_high), (y, y), (x, x))]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack([x, y, z])


def smoothstep(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and `3 v^2 - 2 v^3` between."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def ellipsoid(points: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Approximate signed distance to an ellipsoid: measured along the ray from its centre."""
    offset = [points[i] - np.float32(centre[i]) for i in range(3)]
    ratio = np.sqrt(sum((offset[i] / np.float32(radii[i])) ** 2 for i in range(3)))
    length = np.sqrt(sum(o * o for o in offset))
    return length - length / np.maximum(ratio, np.float32(1e-3))


def thorax_distance(body: Body, points: np.ndarray) -> np.ndarray:
    """Signed distance to the inner chest wall (open below), in mm."""
    x, y, z = points / np.float32(body.size)
    depth = np.clip((body.apex_z - z) / np.float32(_FULL_WIDTH_DEPTH_MM), 0.0, 1.0)
    profile = np.sqrt(np.maximum(1 - (1 - depth) ** np.float32(2.3), 1e-4))
    lateral = np.abs(x) - np.float32(body.lung_centre_x)
    outer = np.where(x < 0, body.half_width[0], body.half_width[1]).astype(np.float32) - body.lung_centre_x
    width = np.where(lateral > 0, outer, np.float32(75.0)) * profile
    shift = y - 10 * (1 - profile)
    power = np.float32(2.4)
    ratio = ((np.abs(lateral) / width) ** power + (np.abs(shift) / (body.half_depth * profile)) ** power) ** (1 / power)
    length = np.hypot(lateral, shift)
    sideways = length - length / np.maximum(ratio, np.float32(1e-3)) + 3.0 * body.wobble(points)
    return np.maximum(sideways, z - np.float32(body.apex_z)) * np.float32(body.size)


def diaphragm_distance(body: Body, points: np.ndarray) -> np.ndarray:
    """Distance above (negative) or below (positive) the upper face of the diaphragm, in mm."""
    x, y, z = points / np.float32(body.size)
    lateral = np.abs(x) - 58
    across = lateral / np.where(lateral > 0, np.float32(74), np.float32(125))
    along = (y + 8) / np.float32(body.half_depth)
    squared = across * across + along * along
    fall = body.sulcus_depth * squared ** np.float32(1.15)
    slope = 2.3 * body.sulcus_depth / 80 * np.sqrt(squared)
    share = smoothstep((x + 25) / 50)
    dome = body.dome_z[0] * (1 - share) + body.dome_z[1] * share
    return (dome - fall - z) / np.sqrt(1 + slope * slope) * np.float32(body.size)


def spine_axis(body: Body, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (x, y) of the vertebral bodies at height `z`, all at unit size: scoliosis and kyphosis."""
    return body.scoliosis * np.sin(z / 70), body.spine_y - 9 * (z / 120) ** 2


def heart_distance(body: Body, points: np.ndarray) -> np.ndarray:
    """Signed distance to the heart with its sac, its long axis pointing left, forward and down."""
    x, y, z = points / np.float32(body.size)
    cx, cy, cz = body.heart_centre
    x, y, z = x - cx, y - cy, z - cz
    cosine, sine = np.cos(0.5), np.sin(0.5)
    along, up = cosine * x - sine * z, sine * x + cosine * z
    return ellipsoid(np.stack([along, y, up]), (0, 0, 0), body.heart_radii) * np.float32(body.size)


def aorta_distance(body: Body, points: np.ndarray) -> np.ndarray:
    """Signed distance to the ascending aorta, the arch and the descending aorta."""
    x, y, z = points / np.float32(body.size)
    spine_x, spine_y = spine_axis(body, z)
    arch_z = body.apex_z - 62
    descending = np.maximum(np.hypot(x - spine_x - 21, y - spine_y + 17) - 12, z - arch_z)
    ascending = np.maximum(np.hypot(x + 8, y + 20) - 15, np.maximum(z - arch_z, -z - 5))
    along_x = (y + 20) / (body.spine_y + 2) * 27 - 8
    middle = (y - 12) / 34
    arch = np.hypot((x - along_x) * 0.85, z - (arch_z + 12 * (1 - middle * middle))) - 12
    arch = np.maximum(arch, np.maximum(-24 - y, y - body.spine_y + 8))
    return np.minimum(np.minimum(descending, ascending), arch) * np.float32(body.size)


def _mediastinum_distance(body: Body, points: np.ndarray, heart: np.ndarray, aorta: np.ndarray) -> np.ndarray:
    """Signed distance to everything between the lungs: column of vessels and fat, heart, aorta, spine."""
    x, y, z = points / np.float32(body.size)
    spine_x, spine_y = spine_axis(body, z)
    width = 7 + 20 * np.exp(-(((y - 12) / 38) ** 2)) + 6 * smoothstep((z - 60) / 40)
    column = np.abs(x - 4) - width
    spine = np.hypot(x - spine_x, y - spine_y) - 22
    behind = np.maximum(np.abs(x - spine_x) - 17, spine_y - y)
    unit = np.minimum(np.minimum(column, spine), behind) * np.float32(body.size)
    return np.minimum(np.minimum(unit, heart), aorta)


@dataclass(frozen=True)
class Distances:
    """Signed distances in mm (negative inside) of points (3, ...), each of shape (...), and the side of each point.

    `wall` is the inner chest wall, `diaphragm` all that lies below the diaphragm, `lung` the nearer lung, `cavity` the
    nearer pleural cavity: the lung and the fluid beside it.
    """

    wall: np.ndarray
    diaphragm: np.ndarray
    heart: np.ndarray
    aorta: np.ndarray
    lung: np.ndarray
    side: np.ndarray
    cavity: np.ndarray


def measure(body: Body, points: np.ndarray) -> Distances:
    """All distances that shape the lungs."""
    wall, above = thorax_distance(body, points), diaphragm_distance(body, points)
    heart, aorta = heart_distance(body, points), aorta_distance(body, points)
    lung = np.maximum(np.maximum(wall + _PLEURA_MM, above), -_mediastinum_distance(body, points, heart, aorta))
    side = np.where(points[0] < 0, RIGHT, LEFT).astype(np.uint8)
    lung = lung.astype(np.float32)
    return Distances(wall, -above, heart, aorta, lung, side, lung)


def fissure_distances(body: Body, points: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height in mm above the oblique fissure of each point's lung and above the horizontal fissure."""
    _x, y, z = points / np.float32(body.size)
    wobble = 5.0 * body.fissure_wobble(points)
    start = np.where(side == RIGHT, body.oblique_fissure[0][0], body.oblique_fissure[1][0])
    slope = np.where(side == RIGHT, body.oblique_fissure[0][1], body.oblique_fissure[1][1])
    oblique = (z - start - slope * (y - 4) + wobble) / np.sqrt(1 + slope * slope)
    horizontal = z - body.horizontal_fissure - 0.15 * (y + 30) + wobble
    return oblique * body.size, horizontal * body.size


def lobe_of(body: Body, points: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Lobe label (see `ct2vq.lungs.LOBES`) of each point, whether or not it lies in a lung; uint8 of shape (...)."""
    oblique, horizontal = fissure_distances(body, points, side)
    right = np.where(oblique < 0, 3, np.where(horizontal < 0, 2, 1))
    left = np.where(oblique < 0, 5, 4)
    return np.where(side == RIGHT, right, left).astype(np.uint8)


def skin_distance(body: Body, points: np.ndarray) -> np.ndarray:
    """Signed distance to the skin, in mm: shoulders narrow to the neck above the lungs."""
    x, y, z = points / np.float32(body.size)
    neck = smoothstep((z - body.apex_z - 5) / 75)
    upper = smoothstep((z - 20) / 100)
    wall = body.fat + body.muscle + 6
    half_x = (max(body.half_width) + wall) * (1 - 0.60 * neck)
    half_y = (body.half_depth + 0.75 * wall + 8) * (1 - 0.16 * upper) * (1 - 0.18 * neck)
    y = y - 6 - 6 * upper
    power = np.float32(2.7)
    ratio = ((np.abs(x) / half_x) ** power + (np.abs(y) / half_y) ** power) ** (1 / power)
    length = np.hypot(x, y)
    return (length - length / np.maximum(ratio, np.float32(1e-3))) * np.float32(body.size)


def lung_coordinates(body: Body, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position within the chest: 0 front to 1 back (gravity, supine), and 0 base to 1 apex; unclipped."""
    _, y, z = points / np.float32(body.size)
    low = min(body.dome_z) - 0.5 * body.sulcus_depth
    return (y + body.half_depth) / (2 * body.half_depth), (z - low) / (body.apex_z - low)

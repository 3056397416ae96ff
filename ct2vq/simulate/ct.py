"""CT of the body: HU from volume fractions of air, tissue and blood, then the scanner's blur and noise.

Perfusion and ventilation are never read. HU = 1000 (density / density of water - 1) for mixtures of air, tissue and
blood (the density of lung is what its HU says; water 1 g/mL, air 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from ct2vq.simulate import anatomy
from ct2vq.simulate.anatomy import Body, Distances, ellipsoid, smoothstep
from ct2vq.simulate.disease import LungState
from ct2vq.simulate.lungs import LungSample, sample_lung
from ct2vq.simulate.randomness import RandomField
from ct2vq.simulate.territories import TerritoryMap
from ct2vq.simulate.trees import Tree
from ct2vq.volume import from_array, to_array

#: HU of tissues on an unenhanced CT at 120 kV (usual textbook values)
HU_AIR, HU_FAT, HU_MUSCLE, HU_BLOOD, HU_LIVER, HU_SPLEEN = -1000.0, -100.0, 50.0, 42.0, 58.0, 48.0
HU_SPONGY_BONE, HU_CORTICAL_BONE, HU_CARTILAGE, HU_DISC, HU_TUMOUR = 180.0, 620.0, 90.0, 75.0, 38.0
#: density of blood and lung tissue, g/mL (ICRP Publication 89)
_TISSUE_DENSITY = 1.05
_TABLE_GAP_MM = 4.0


@dataclass(frozen=True)
class DensityModel:
    """One person's lung density; `mean` in g/mL in the tidal state, `gravity` its relative change front to back."""

    mean: float
    gravity: float
    height: float
    texture_strength: float
    calibration_hu: float
    texture: RandomField
    fine_texture: RandomField
    bowel: RandomField


def draw_density(rng: np.random.Generator) -> DensityModel:
    """Draw how dense a person's lungs are (about +-50 HU between people), and a scanner's calibration offset."""
    return DensityModel(
        mean=float(np.clip(rng.normal(0.218, 0.042), 0.145, 0.32)),
        gravity=float(rng.uniform(0.25, 0.7)),
        height=float(rng.normal(-0.1, 0.1)),
        texture_strength=float(rng.uniform(0.06, 0.12)),
        calibration_hu=float(rng.normal(0, 4)),
        texture=RandomField(rng, 14.0),
        fine_texture=RandomField(rng, 4.0),
        bowel=RandomField(rng, 12.0),
    )


@dataclass(frozen=True)
class Subject:
    """All that a CT shows of a person."""

    body: Body
    division: TerritoryMap
    state: LungState
    density: DensityModel
    arteries: Tree
    veins: Tree
    airways: Tree


def lung_density(model: DensityModel, state: LungState, lung: LungSample) -> np.ndarray:
    """Density (n,) of the parenchyma in the tidal state, g/mL, without the tubes that are drawn apart."""
    t = lung.territory
    tissue = model.mean * (1 + model.gravity * (lung.gravity - 0.5) + model.height * (lung.height - 0.5))
    blood_share = 0.45 * state.blood[t] + 0.55
    density = tissue * blood_share * state.inflation[t]
    density = density * (1 + model.texture_strength * model.texture(lung.points))
    fine = model.fine_texture(lung.points)
    destroyed = state.emphysema(lung)
    density *= 1 - 0.72 * np.clip(destroyed * (1 + 0.35 * fine), 0, 1)
    density *= (1 + 0.05 * fine) * (1 - state.trapping[t]) * state.collapse[t]
    density += state.dependent_atelectasis * state.atelectasis(lung) - state.oligaemia[t]
    return np.clip(density, 0.03, 1.0).astype(np.float32)


def render(
    subject: Subject, grid: sitk.Image, points: np.ndarray, shape: Distances, jacobian: np.ndarray | None
) -> np.ndarray:
    """Noise-free HU (z, y, x) on a grid.

    Args:
        subject: the person.
        grid: the CT grid.
        points: (3, z, y, x), where each voxel lies in the reference (SPECT) state, mm.
        shape: the distances of `points`.
        jacobian: (z, y, x), volume in the SPECT state for a volume here; scales lung density so that mass is kept.
            None where the grid is in the SPECT state.
    """
    edge = np.float32(np.mean(grid.GetSpacing()))
    hu = _render_body(subject, points, shape, edge)
    distance = shape.lung
    near = distance < 6
    lung = sample_lung(subject.division, points[:, near], distance[near], shape.side[near])
    density = lung_density(subject.density, subject.state, lung)
    if jacobian is not None:
        density = density * jacobian[near]
    values = _paint(hu[near], 1000 * (density - 1), distance[near], edge)
    hu[near] = _render_fissures(subject, lung, values)
    _render_tubes(subject, points, shape, hu, edge)
    return hu


def _paint(values: np.ndarray, hu: np.ndarray | float, distance: np.ndarray, edge: np.ndarray | float) -> np.ndarray:
    """Replace `values` by `hu` inside a signed distance, mixed over one voxel (`edge`, mm) at the border."""
    share = np.clip(0.5 - distance / edge, 0, 1)
    return values + share * (hu - values)


def _render_body(subject: Subject, points: np.ndarray, shape: Distances, edge: float) -> np.ndarray:
    """HU (z, y, x) of table, chest wall, mediastinum and abdomen."""
    body = subject.body
    x, y, z = points / np.float32(body.size)
    skin = anatomy.skin_distance(body, points)
    hu = np.full(skin.shape, HU_AIR, dtype=np.float32)
    hu = _render_table(body, points, hu, edge)
    hu = _paint(hu, HU_FAT, skin, edge)
    hu = _paint(hu, 20.0, np.abs(skin + 1.0) - 1.0, edge)
    wall = shape.wall
    hu = _paint(hu, HU_MUSCLE, np.maximum(skin + body.fat, wall - 3 - body.muscle * 1.6), edge)
    back = np.maximum(np.abs(np.abs(x) - 34) - 24, np.abs(y - body.half_depth - 4) - 17) * body.size
    hu = _paint(hu, HU_MUSCLE, np.maximum(back, skin + body.fat * 0.7), edge)
    hu = _paint(hu, HU_FAT + 10, wall, edge)
    hu = _render_abdomen(subject, points, hu, np.maximum(wall, shape.diaphragm), edge)
    hu = _render_bones(body, (x, y, z), wall, skin, hu, edge)
    return _render_mediastinum(body, points, shape, hu, edge)


def _render_table(body: Body, points: np.ndarray, hu: np.ndarray, edge: float) -> np.ndarray:
    """A curved carbon-fibre table: two thin skins around foam."""
    wall = body.fat + body.muscle + 6
    back = (body.half_depth + 0.75 * wall + 8 + 6) * body.size + _TABLE_GAP_MM
    y = points[1] + 0.0011 * points[0] ** 2 - back
    wide = np.abs(points[0]) - 200
    hu = _paint(hu, -930.0, np.maximum(np.abs(y - 14) - 13, wide), edge)
    for face in (1.0, 27.0):
        hu = _paint(hu, -250.0, np.maximum(np.abs(y - face) - 1.2, wide), edge)
    return hu


def _render_abdomen(
    subject: Subject, points: np.ndarray, hu: np.ndarray, inside: np.ndarray, edge: float
) -> np.ndarray:
    """Liver, spleen, stomach with its gas bubble, and bowel among fat under the diaphragm."""
    body = subject.body
    deep = inside + 3
    hu = _paint(hu, HU_MUSCLE, inside, edge)
    low = inside < 2 * edge
    p, values, limit = points[:, low], hu[low], deep[low]
    unit = p / np.float32(body.size)
    bowel = -20 + 55 * np.tanh(2 * subject.density.bowel(p))
    values = _paint(values, bowel, limit, edge)
    liver = ellipsoid(unit, (-52, 0, body.dome_z[0] - 62), (84, 92, 74)) * body.size
    lobe = ellipsoid(unit, (2, -38, body.dome_z[0] - 36), (72, 42, 34)) * body.size
    values = _paint(values, HU_LIVER, np.maximum(np.minimum(liver, lobe), limit), edge)
    spleen = ellipsoid(unit, (88, 42, body.dome_z[1] - 50), (34, 44, 48)) * body.size
    values = _paint(values, HU_SPLEEN, np.maximum(spleen, limit), edge)
    cx, cy, cz = body.gas_centre
    stomach = ellipsoid(unit, (cx, cy + 14, cz - 4), (38, 44, 34)) * body.size
    values = _paint(values, 25.0, np.maximum(stomach, limit), edge)
    bubble = np.maximum(ellipsoid(unit, (cx, cy, cz), body.gas_radii), unit[1] - cy - 4) * body.size
    hu[low] = _paint(values, HU_AIR, np.maximum(bubble, limit + 4), edge)
    return hu


def _render_bones(
    body: Body,
    unit: tuple[np.ndarray, np.ndarray, np.ndarray],
    wall: np.ndarray,
    skin: np.ndarray,
    hu: np.ndarray,
    edge: float,
) -> np.ndarray:
    """Ribs that slope down to the front, sternum, scapulae and the spine."""
    x, y, z = unit
    size = np.float32(body.size)
    phase = (z - 0.42 * y) / body.rib_spacing
    across = (np.abs(phase - np.floor(phase) - 0.5) * body.rib_spacing - 6.0) * size
    rib = np.maximum(across, np.abs(wall - 7) - 4.5)
    rib = np.maximum(rib, np.maximum(skin + body.fat * 0.6, (z - body.apex_z - 4) * size))
    front = smoothstep((-y - 48) / 14)
    rib = np.maximum(rib, np.where(np.abs(x) < 12, 20.0, -20.0).astype(np.float32) * (y < 0))
    hu = _paint(hu, HU_CORTICAL_BONE * (1 - front) + HU_CARTILAGE * front, rib, edge)
    hu = _paint(hu, HU_SPONGY_BONE * (1 - front) + HU_CARTILAGE * front, rib + 2.6, edge)
    plate = np.abs(wall - 9) - 6
    sternum = np.maximum(np.maximum(plate, (np.abs(x) - 16) * size), np.maximum(y, -z - 65) * size)
    sternum = np.maximum(sternum, (z - body.apex_z + 38) * size)
    hu = _paint(_paint(hu, 420.0, sternum, edge), 150.0, sternum + 2.5, edge)
    blade = np.maximum(np.abs(wall - 21) - 2.2, (np.hypot((np.abs(x) - 92) / 30, (z - 58) / 60) - 1) * 30)
    blade = np.maximum(np.maximum(blade, skin + 5), (18 - y) * size)
    hu = _paint(hu, 500.0, blade, edge)
    return _render_spine(body, unit, hu, edge)


def _render_spine(
    body: Body, unit: tuple[np.ndarray, np.ndarray, np.ndarray], hu: np.ndarray, edge: float
) -> np.ndarray:
    """Vertebral bodies and discs, the canal, and arches with their processes."""
    x, y, z = unit
    size = np.float32(body.size)
    spine_x, spine_y = anatomy.spine_axis(body, z)
    x, y = x - spine_x, y - spine_y
    radius = np.hypot(x, y * 1.12)
    level = z / 25 - np.floor(z / 25)
    disc = smoothstep((np.abs(level - 0.5) - 0.36) / 0.06)
    vertebra = (radius - 17) * size
    hu = _paint(hu, 450 * (1 - disc) + HU_DISC * disc, vertebra, edge)
    hu = _paint(hu, HU_SPONGY_BONE * (1 - disc) + HU_DISC * disc, vertebra + 2.5, edge)
    arch = np.abs(np.hypot(x, y - 24) - 12) - 3
    process = np.maximum(np.abs(x) - 3.5, np.abs(y - 48) - 14)
    transverse = np.maximum(np.abs(y - 26 - 0.25 * np.abs(x)) - 4.5, np.abs(x) - 32)
    bony = np.minimum(arch, np.minimum(process, transverse) + 5 * disc) * size
    hu = _paint(hu, 430.0, bony, edge)
    return _paint(hu, 30.0, (np.hypot(x, y - 24) - 9) * size, edge)


def _render_mediastinum(body: Body, points: np.ndarray, shape: Distances, hu: np.ndarray, edge: float) -> np.ndarray:
    """Heart in its fat, aorta, the great vessels and oesophagus among fat."""
    x, y, z = points / np.float32(body.size)
    inside = np.maximum(shape.wall + 2, -shape.diaphragm)
    hu = _paint(hu, HU_BLOOD, np.maximum(shape.heart + 5, inside), edge)
    hu = _paint(hu, HU_BLOOD + 3, np.maximum(shape.aorta + 1.5, inside - 6), edge)
    cava = np.maximum(np.hypot(x + 18, y + 6) - 9, -z)
    oesophagus = np.hypot(x - 8, y - body.spine_y + 26) - 7
    upper = np.hypot(np.abs(x - 1) - 14, y + 8 + 0.1 * (z - 80)) - 6
    upper = np.maximum(upper, body.apex_z - 50 - z)
    thyroid = np.maximum(np.hypot(np.abs(x) - 16, y - 6) - 13, body.apex_z + 8 - z)
    tubes = np.minimum(np.minimum(cava, oesophagus), np.minimum(upper, thyroid)) * body.size
    return _paint(hu, HU_BLOOD, np.maximum(tubes, np.minimum(inside, (body.apex_z - 10 - z) * body.size)), edge)


def _render_fissures(subject: Subject, lung: LungSample, hu: np.ndarray) -> np.ndarray:
    """Interlobar fissures as faint lines of a little soft tissue."""
    oblique, horizontal = anatomy.fissure_distances(subject.body, lung.points, lung.side)
    horizontal = np.where((lung.side == anatomy.RIGHT) & (oblique > 0), np.abs(horizontal), 99)
    line = np.exp(-0.5 * (np.minimum(np.abs(oblique), horizontal) / 1.3) ** 2)
    return hu + 90 * line * (lung.depth > 1)


def _render_tubes(subject: Subject, points: np.ndarray, shape: Distances, hu: np.ndarray, edge: float) -> None:
    """Vessels, mass and airways, drawn into `hu` (z, y, x) in place."""
    body, state = subject.body, subject.state
    middle = np.maximum(
        np.abs(points[0]) - 60 * body.size, np.where(points[2] > 0.75 * body.apex_z * body.size, -9, shape.wall) + 3
    )
    middle = np.maximum(middle, 3 - shape.diaphragm)
    where = np.minimum(shape.lung, middle) < 0
    near, values = points[:, where], hu[where]
    veins_calibre = np.ones_like(state.calibre)
    for tree, calibre in ((subject.arteries, state.calibre), (subject.veins, veins_calibre)):
        distance, radius = tree.distance(near, calibre, 16.0)
        thin = np.clip(2 * radius / edge, 0, 1)
        share = np.clip(0.5 - distance / edge, 0, 1) * thin
        values = values + share * (np.maximum(values, HU_BLOOD) - values)
    lumen, radius = subject.airways.distance(near, veins_calibre, 14.0)
    lumen = np.maximum(lumen, -4 - shape.heart[where])  # bronchi pass around the heart
    thin = np.clip(radius / (0.5 * edge), 0, 1)
    wall = np.clip(0.5 - (lumen - 1.4) / edge, 0, 1) * thin
    values = values + wall * (np.maximum(values, -50) - values) * 0.7
    values = values + np.clip(0.5 - lumen / edge, 0, 1) * thin * (HU_AIR + 10 - values)
    if state.mass is not None:  # drawn last: it closes the bronchi that run into it
        values = _paint(values, HU_TUMOUR, state.mass.distance(near), edge)
    hu[where] = values


def scan(
    hu: np.ndarray, grid: sitk.Image, noise_hu: float, calibration_hu: float, rng: np.random.Generator
) -> sitk.Image:
    """The scanner's part: blur by the kernel, noise correlated by it, a calibration offset, whole numbers.

    Args:
        hu: noise-free HU (z, y, x).
        grid: its grid.
        noise_hu: standard deviation of the noise in the middle of the body, HU.
        calibration_hu: offset of everything denser than air.
        rng: source of the noise.

    Returns:
        int16 HU, not below -1024.
    """
    blurred = gaussian_filter(hu, (0.25, 0.55, 0.55))
    noise = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0.0, 0.75, 0.75))
    noise *= np.float32(noise_hu) / noise.std()
    inside = gaussian_filter((hu > -400).astype(np.float32), (2, 9, 9))
    blurred += noise * (0.45 + 0.75 * inside) + calibration_hu * (blurred + 1000) / 1000
    return from_array(np.clip(np.rint(blurred), -1024, 3071).astype(np.int16), grid)


def mean_lung_hu(image: sitk.Image, lungs: np.ndarray) -> float:
    """Mean HU in the lungs (z, y, x boolean)."""
    return float(to_array(image)[lungs].mean())

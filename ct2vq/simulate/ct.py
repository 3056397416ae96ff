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
from ct2vq.simulate.chest import DrawnChest
from ct2vq.simulate.disease import LungState
from ct2vq.simulate.lungs import LungSample, sample_lung
from ct2vq.simulate.randomness import RandomField
from ct2vq.simulate.units import Units
from ct2vq.simulate.world import World
from ct2vq.volume import from_array

#: HU of tissues on an unenhanced CT at 120 kV (usual textbook values)
HU_AIR, HU_FAT, HU_MUSCLE, HU_BLOOD, HU_LIVER, HU_SPLEEN = -1000.0, -100.0, 50.0, 42.0, 58.0, 48.0
HU_SPONGY_BONE, HU_CORTICAL_BONE, HU_CARTILAGE, HU_DISC, HU_TUMOUR, HU_FLUID = 180.0, 620.0, 90.0, 75.0, 38.0, 8.0
#: density of blood and lung tissue, g/mL (ICRP Publication 89)
_TISSUE_DENSITY = 1.05
_TABLE_GAP_MM = 4.0


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel: in-plane blur (sigma, mm), edge enhancement, and what both do to the noise."""

    name: str
    blur_mm: float
    enhance: float
    noise_factor: float
    noise_mm: float


#: from smooth to sharp; blur and noise are of the order of vendors' body and lung kernels, an assumption
KERNELS = {
    "SOFT": Kernel("SOFT", 0.9, 0.0, 0.8, 1.1),
    "MEDIUM": Kernel("MEDIUM", 0.65, 0.0, 1.0, 0.8),
    "SHARP": Kernel("SHARP", 0.5, 0.5, 1.5, 0.45),
}


@dataclass(frozen=True)
class DensityModel:
    """One case's lung density and the scan that shows it.

    Attributes:
        mass_g: mass of both lungs (air spaces, tissue and blood, without the large vessels).
        volume_ml: their volume in the reference state.
        gravity, height: relative change of density from front to back, base to apex.
        texture_strength: relative variation that function never shares.
        calibration_hu, gain: the scanner's offset (of everything that is not air) and slope.
        contrast_hu: enhancement of blood in vessels and heart, HU; 0 without contrast agent.
        kernel: the reconstruction kernel.
        texture, fine_texture, bowel: fields of its variation.
    """

    mass_g: float
    volume_ml: float
    gravity: float
    height: float
    texture_strength: float
    calibration_hu: float
    gain: float
    contrast_hu: float
    kernel: Kernel
    texture: RandomField
    fine_texture: RandomField
    bowel: RandomField

    @property
    def mean(self) -> float:
        """Mean density in the reference state, g/mL."""
        return self.mass_g / self.volume_ml


def draw_density(volume_ml: float, world: World, settings: dict, rng: np.random.Generator) -> DensityModel:
    """Draw the lungs' mass, and how a scanner shows it.

    Args:
        volume_ml: volume of both lungs in the reference state.
        world: the laws.
        settings: config block `simulate.ct`: `contrast` (share of cases), `kernels` (relative frequencies).
        rng: source of randomness.
    """
    mass = float(np.clip(rng.normal(800, 100), 550, 1100)) * (volume_ml / 3400) ** 0.5
    names = sorted(settings["kernels"])
    weights = np.array([settings["kernels"][name] for name in names], dtype=float)
    return DensityModel(
        mass_g=mass,
        volume_ml=volume_ml,
        gravity=float(rng.uniform(*world.density_gravity)),
        height=float(rng.normal(-0.1, 0.1)),
        texture_strength=float(rng.uniform(*world.texture_strength)),
        **draw_calibration(rng),
        contrast_hu=float(rng.uniform(90, 260)) * (rng.random() < settings["contrast"]),
        kernel=KERNELS[str(rng.choice(names, p=weights / weights.sum()))],
        texture=RandomField(rng, world.texture_mm),
        fine_texture=RandomField(rng, 4.0),
        bowel=RandomField(rng, 12.0),
    )


def draw_calibration(rng: np.random.Generator) -> dict[str, float]:
    """Draw how far a scanner is off: `calibration_hu` and `gain`."""
    return {"calibration_hu": float(rng.normal(0, 4)), "gain": float(rng.normal(1, 0.006))}


@dataclass(frozen=True)
class Subject:
    """All that a CT shows of a case."""

    chest: DrawnChest
    units: Units
    state: LungState
    density: DensityModel
    world: World

    @property
    def body(self) -> Body:
        """The drawn body."""
        return self.chest.body


def lung_density(
    model: DensityModel, state: LungState, world: World, lung: LungSample, contrast: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density of the parenchyma in the reference state: aerated (n,) and solid (n,), g/mL, and contrast's HU (n,).

    The tubes are drawn apart. Mixtures: tissue, blood and air; blood is a volume, not a flow. What is solid (filled,
    scarred or collapsed lung) does not thin out when the lungs inflate.
    """
    unit = lung.unit
    base = model.mean * (1 + model.gravity * (lung.gravity - 0.5) + model.height * (lung.height - 0.5))
    blood = base * world.blood_share * state.blood[unit] * (1 - state.oligaemia[unit]) / state.inflation[unit]
    density = base * (1 - world.blood_share) / state.inflation[unit] + blood
    factor, added = changes(model, state, world, lung)
    enhancement = blood * factor * model.contrast_hu * 0.9 if contrast else np.zeros_like(density)
    texture = 1 + model.texture_strength * model.texture(lung.points) + 0.05 * model.fine_texture(lung.points)
    return np.maximum(density * texture * factor, 0.02).astype(np.float32), added, enhancement


def changes(model: DensityModel, state: LungState, world: World, lung: LungSample) -> tuple[np.ndarray, np.ndarray]:
    """What disease does to density: a factor (n,) and an addition (n,) in g/mL."""
    unit, fine = lung.unit, model.fine_texture(lung.points)
    destroyed = np.clip(state.destruction(lung) * (1 + 0.35 * fine), 0, 1)
    factor = (1 - world.destruction_density * destroyed) * (1 - state.trapped[unit]) * state.collapse[unit]
    factor = factor * (1 - state.filled[unit])
    added = state.filled[unit] * 1.0 * _TISSUE_DENSITY
    added = added + state.dependent_atelectasis * state.atelectasis(lung)
    if state.scarring is not None:
        scar = state.scarring(lung)
        added = added + scar * (0.28 + 0.22 * np.clip(fine, -1.2, 2.0))
    return factor.astype(np.float32), added.astype(np.float32)


def render(
    subject: Subject,
    grid: sitk.Image,
    body_points: np.ndarray,
    lung_points: np.ndarray,
    shape: Distances,
    jacobian: np.ndarray | None,
    *,
    contrast: bool,
) -> np.ndarray:
    """Noise-free HU (z, y, x) on a grid.

    Args:
        subject: the case.
        grid: the CT grid (or a slab of it).
        body_points: (3, z, y, x), where each voxel of the body lies in the reference state, mm.
        lung_points: the same for lung: it slides along the pleura.
        shape: the distances of `body_points`.
        jacobian: (z, y, x), volume in the reference state for a volume here; scales lung density so that mass is
            kept. None where it does not matter.
        contrast: whether this scan was taken with the case's contrast agent.
    """
    edge = np.float32(np.mean(grid.GetSpacing()))
    blood_hu = HU_BLOOD + (subject.density.contrast_hu if contrast else 0.0)
    hu = _render_body(subject, body_points, shape, edge, blood_hu)
    distance = shape.lung
    near = distance < 6
    lung = sample_lung(subject.units, lung_points[:, near], distance[near], shape.side[near])
    aerated, solid, enhancement = lung_density(subject.density, subject.state, subject.world, lung, contrast)
    if jacobian is not None:
        aerated, enhancement = aerated * jacobian[near], enhancement * jacobian[near]
    density = np.minimum(aerated + solid, 1.06)
    values = _paint(hu[near], 1000 * (density - 1) + enhancement, distance[near], edge)
    hu[near] = _render_fissures(subject, lung, values)
    _render_tubes(subject, body_points, lung_points, shape, hu, edge, blood_hu)
    return hu


def _paint(values: np.ndarray, hu: np.ndarray | float, distance: np.ndarray, edge: np.ndarray | float) -> np.ndarray:
    """Replace `values` by `hu` inside a signed distance, mixed over one voxel (`edge`, mm) at the border."""
    share = np.clip(0.5 - distance / edge, 0, 1)
    return values + share * (hu - values)


def _render_body(subject: Subject, points: np.ndarray, shape: Distances, edge: float, blood_hu: float) -> np.ndarray:
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
    hu = _paint(hu, HU_FLUID, np.maximum(subject.chest.fluid(points, wall), shape.cavity - 2), edge)
    return _render_mediastinum(body, points, shape, hu, edge, blood_hu)


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


def _render_mediastinum(
    body: Body, points: np.ndarray, shape: Distances, hu: np.ndarray, edge: float, blood_hu: float
) -> np.ndarray:
    """Heart in its fat, aorta, the great vessels and oesophagus among fat."""
    x, y, z = points / np.float32(body.size)
    inside = np.maximum(shape.wall + 2, -shape.diaphragm)
    hu = _paint(hu, blood_hu * 0.8 + 0.2 * HU_MUSCLE, np.maximum(shape.heart + 5, inside), edge)
    hu = _paint(hu, blood_hu, np.maximum(shape.aorta + 1.5, inside - 6), edge)
    cava = np.maximum(np.hypot(x + 18, y + 6) - 9, -z)
    oesophagus = np.hypot(x - 8, y - body.spine_y + 26) - 7
    upper = np.hypot(np.abs(x - 1) - 14, y + 8 + 0.1 * (z - 80)) - 6
    upper = np.maximum(upper, body.apex_z - 50 - z)
    thyroid = np.maximum(np.hypot(np.abs(x) - 16, y - 6) - 13, body.apex_z + 8 - z)
    tubes = np.minimum(np.minimum(cava, oesophagus), np.minimum(upper, thyroid)) * body.size
    return _paint(
        hu,
        HU_BLOOD + 0.3 * (blood_hu - HU_BLOOD),
        np.maximum(tubes, np.minimum(inside, (body.apex_z - 10 - z) * body.size)),
        edge,
    )


def _render_fissures(subject: Subject, lung: LungSample, hu: np.ndarray) -> np.ndarray:
    """Interlobar fissures as faint lines of a little soft tissue."""
    oblique, horizontal = anatomy.fissure_distances(subject.body, lung.points, lung.side)
    horizontal = np.where((lung.side == anatomy.RIGHT) & (oblique > 0), np.abs(horizontal), 99)
    line = np.exp(-0.5 * (np.minimum(np.abs(oblique), horizontal) / 1.3) ** 2)
    return hu + 90 * line * (lung.depth > 1)


def _render_tubes(
    subject: Subject,
    body_points: np.ndarray,
    lung_points: np.ndarray,
    shape: Distances,
    hu: np.ndarray,
    edge: float,
    blood_hu: float,
) -> None:
    """Vessels, mass and airways, drawn into `hu` (z, y, x) in place; inside the lungs they slide with them."""
    body, state, units = subject.body, subject.state, subject.units
    x, z = body_points[0], body_points[2]
    middle = np.maximum(np.abs(x) - 60 * body.size, np.where(z > 0.75 * body.apex_z * body.size, -9, shape.wall) + 3)
    middle = np.maximum(middle, 3 - shape.diaphragm)
    where = np.minimum(shape.lung, middle) < 0
    inside = shape.lung[where] < 0
    near, values = np.where(inside, lung_points[:, where], body_points[:, where]), hu[where]
    for tree, calibre in ((units.arteries, state.calibre), (units.veins, np.ones(len(units.veins.parent)))):
        distance, radius = tree.distance(near, calibre, edge)
        share = _tube_share(distance, radius, edge)
        values = values + share * (np.maximum(values, blood_hu) - values)
    airways = units.airways
    lumen, radius = airways.distance(near, np.ones(len(airways.parent)), edge + 2)
    lumen = np.maximum(lumen, -4 - shape.heart[where])  # bronchi pass around the heart
    thin = np.clip(radius / (0.5 * edge), 0, 1) * (radius > 0.8)
    wall = np.clip(0.5 - (lumen - np.clip(0.3 * radius, 0.3, 1.4)) / edge, 0, 1) * thin
    values = values + wall * (np.maximum(values, -50) - values) * 0.7
    values = values + np.clip(0.5 - lumen / edge, 0, 1) * thin * (HU_AIR + 10 - values)
    if state.mass is not None:  # drawn last: it closes the bronchi that run into it
        values = _paint(values, HU_TUMOUR, state.mass.distance(near), edge)
    hu[where] = values


def _tube_share(distance: np.ndarray, radius: np.ndarray, edge: float) -> np.ndarray:
    """Share of a voxel that a tube fills, by the distance to its surface; a thin tube fills no more than its area."""
    area = np.minimum(1.0, np.pi * (radius / edge) ** 2)
    return np.clip(0.5 - distance / edge, 0, 1) * area / np.minimum(1.0, 0.5 + np.maximum(radius, 1e-3) / edge)


def scan(
    hu: np.ndarray, grid: sitk.Image, noise_hu: float, model: DensityModel, rng: np.random.Generator
) -> sitk.Image:
    """The scanner's part: blur by the kernel, noise correlated by it, calibration, whole numbers.

    Args:
        hu: noise-free HU (z, y, x).
        grid: its grid.
        noise_hu: standard deviation of the noise in the middle of the body with the medium kernel, HU.
        model: kernel and calibration.
        rng: source of the noise.

    Returns:
        int16 HU, not below -1024.
    """
    kernel, pixel = model.kernel, grid.GetSpacing()[0]
    blurred = gaussian_filter(hu, (0.25, kernel.blur_mm / pixel, kernel.blur_mm / pixel))
    if kernel.enhance:
        blurred += kernel.enhance * (blurred - gaussian_filter(blurred, (0, 1.0 / pixel, 1.0 / pixel)))
    correlated = kernel.noise_mm / pixel
    noise = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0.0, correlated, correlated))
    noise *= np.float32(noise_hu * kernel.noise_factor) / noise.std()
    inside = gaussian_filter((hu > -400).astype(np.float32), [25.0 / s for s in reversed(grid.GetSpacing())])
    blurred += noise * (0.45 + 0.75 * inside)
    dense = np.clip((blurred + 1000) / 100, 0, 1)
    blurred = (blurred + 1000) * model.gain - 1000 + model.calibration_hu * dense
    return from_array(np.clip(np.rint(blurred), -1024, 3071).astype(np.int16), grid)

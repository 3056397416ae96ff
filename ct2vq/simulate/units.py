"""How the lungs divide: lobes, segments, subsegments and terminal units, with the tubes that supply them.

A terminal unit is the lung that one seed point of the airway tree supplies, about 1 mL: several acini. Every point of
lung belongs to the nearest unit of its lobe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from ct2vq.lungs import LOBES
from ct2vq.simulate import anatomy, trees
from ct2vq.simulate.chest import Chest
from ct2vq.simulate.trees import Tree

#: segments of each lobe with their usual direction from the hub: (lateral, back, up); Boyden's nomenclature
SEGMENTS: dict[int, dict[str, tuple[float, float, float]]] = {
    1: {"apical": (0.1, 0.1, 1), "posterior": (0.5, 0.8, 0.3), "anterior": (0.4, -0.8, 0.2)},
    2: {"lateral": (0.8, -0.4, -0.4), "medial": (-0.1, -0.8, -0.6)},
    3: {
        "superior": (0.2, 0.9, 0.4),
        "medial basal": (-0.4, 0.1, -0.9),
        "anterior basal": (0.4, -0.5, -0.8),
        "lateral basal": (0.8, 0.2, -0.6),
        "posterior basal": (0.1, 0.7, -0.7),
    },
    4: {
        "apicoposterior": (0.2, 0.5, 0.9),
        "anterior": (0.5, -0.7, 0.3),
        "superior lingular": (0.7, -0.6, -0.3),
        "inferior lingular": (0.3, -0.6, -0.8),
    },
    5: {
        "superior": (0.2, 0.9, 0.4),
        "anteromedial basal": (0.1, -0.4, -0.9),
        "lateral basal": (0.8, 0.2, -0.6),
        "posterior basal": (0.1, 0.7, -0.7),
    },
}
#: distance of the units' seed points, mm
UNIT_SPACING_MM = 10.0
_UNIT_JITTER = 0.35
#: how far along the way from a lobe's hub to a segment's middle its bronchus divides
_SEGMENT_SHARE = 0.42
_LLOYD_ROUNDS = 4
#: index of the first lobar branch of airways and arteries, and of the first segmental one
FIRST_LOBAR, FIRST_SEGMENTAL = 3, 8
#: radius of the tubes of one unit (lumen), mm: segmental bronchi and arteries then measure about 5 and 6 mm across
#: (Horsfield and Cumming, J Appl Physiol 1968;24:373-383; Huang et al., J Appl Physiol 1996;81:2123-2133)
_UNIT_AIRWAY_MM, _UNIT_ARTERY_MM, _UNIT_VEIN_MM = 0.50, 0.52, 0.62
#: exponent of Murray's law
_MURRAY = 3.0
#: share of the units that have a vein of their own
_VEIN_SHARE = 0.45


@dataclass(frozen=True)
class Units:
    """The divided lungs. Arrays over units have shape (units,) or (units, 3).

    Attributes:
        chest: the chest.
        position: seed points, mm.
        lobe, segment, subsegment: labels from 1 on, uint8.
        volume_ml: volume of lung.
        gravity, height: position from front (0) to back (1), base (0) to apex (1).
        hilar: distance from the lobe's hub in units of 100 mm.
        depth: distance under the lung's surface in mm.
        segment_names, segment_lobe: by segment label.
        airways, arteries: trees of the same branches.
        veins: their own tree.
    """

    chest: Chest
    position: np.ndarray
    lobe: np.ndarray
    segment: np.ndarray
    subsegment: np.ndarray
    volume_ml: np.ndarray
    gravity: np.ndarray
    height: np.ndarray
    hilar: np.ndarray
    depth: np.ndarray
    segment_names: dict[int, str]
    segment_lobe: dict[int, int]
    airways: Tree
    arteries: Tree
    veins: Tree
    search: dict[int, tuple[cKDTree, np.ndarray]]

    def at(self, points: np.ndarray, side: np.ndarray) -> np.ndarray:
        """The unit (n,) that lung points belong to.

        Args:
            points: (3, n) in mm.
            side: (n,), 1 right or 2 left.
        """
        lobe = self.chest.lobe(points, side)
        unit = np.zeros(len(lobe), dtype=np.int32)
        for number in np.unique(lobe):
            tree, members = self.search[int(number)]
            here = lobe == number
            unit[here] = members[tree.query(points[:, here].T)[1]]
        return unit

    @property
    def side(self) -> np.ndarray:
        """1 right, 2 left (units,)."""
        return np.where(self.lobe <= 3, anatomy.RIGHT, anatomy.LEFT).astype(np.uint8)

    def mean(self, values: np.ndarray) -> float:
        """Mean of the units' values, weighted by volume."""
        return float(np.average(values, weights=self.volume_ml))


def divide_lungs(chest: Chest, rng: np.random.Generator) -> Units:
    """Fill both lungs with units and grow the airways, arteries and veins that supply them."""
    position, side = _seed_points(chest, rng)
    lobe = chest.lobe(position.T, side)
    kept = np.flatnonzero(lobe > 0)
    position, side, lobe = position[kept], side[kept], lobe[kept]
    segment, names, owners = _segments(chest, position, lobe, rng)
    bronchi = _bronchi(chest, position, segment, names, owners, rng)
    airways = trees.fill(bronchi, position, FIRST_SEGMENTAL - 1 + segment)
    airways = trees.with_radii(airways, _UNIT_AIRWAY_MM, _MURRAY, FIRST_SEGMENTAL)
    search = {}
    for number in sorted(set(lobe.tolist())):
        members = np.flatnonzero(lobe == number)
        search[number] = (cKDTree(position[members]), members)
    gravity, height = chest.coordinates(position.T)
    hub = np.stack([chest.hubs[int(number)] for number in lobe])
    units = Units(
        chest=chest,
        position=position,
        lobe=lobe,
        segment=segment.astype(np.uint8),
        subsegment=_subsegments(airways, segment),
        volume_ml=np.ones(len(position)),
        gravity=gravity,
        height=height,
        hilar=np.linalg.norm(position - hub, axis=1) / 100,
        depth=-chest.lung(position.T)[0],
        segment_names=names,
        segment_lobe=owners,
        airways=airways,
        arteries=_arteries(airways, chest, rng),
        veins=_veins(chest, position, lobe, airways, rng),
        search=search,
    )
    return replace(units, volume_ml=_volumes(units))


def _seed_points(chest: Chest, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Seed points (units, 3) in the lungs, a jittered lattice, and their sides."""
    points = chest.lattice(UNIT_SPACING_MM).reshape(3, -1)
    points = points + rng.uniform(-_UNIT_JITTER, _UNIT_JITTER, points.shape) * UNIT_SPACING_MM
    distance, side = chest.lung(points.astype(np.float32))
    inside = distance < -0.5
    return points[:, inside].T, side[inside]


def within(units: Units, chest: Chest) -> Units:
    """The units in a chest that holds less lung (fluid took some): depth and volume are measured anew."""
    units = replace(units, chest=chest, depth=-chest.lung(units.position.T.astype(np.float32))[0])
    return replace(units, volume_ml=_volumes(units, least=0))


def _volumes(units: Units, step: float = 5.0, least: int = 1) -> np.ndarray:
    """Volume of each unit (mL), counted on a lattice; at least that of `least` lattice points."""
    points = units.chest.lattice(step).reshape(3, -1)
    distance, side = units.chest.lung(points)
    inside = distance < 0
    owner = units.at(points[:, inside], side[inside])
    return np.maximum(np.bincount(owner, minlength=len(units.position)), least) * step**3 / 1000


def _features(points: np.ndarray, hub: np.ndarray, position_weight: float) -> np.ndarray:
    """(n, 6) of points (n, 3): direction from the hub, and position; nearest centres then are cones around the hub."""
    offset = points - hub
    direction = offset / np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 8.0)
    return np.concatenate([direction, offset * (position_weight / 80)], axis=1)


def _nearest(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest centre for each row."""
    return ((features[:, None] - centres[None]) ** 2).sum(2).argmin(1)


def _segments(
    chest: Chest, position: np.ndarray, lobe: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, dict[int, str], dict[int, int]]:
    """Segment of each unit: cones around the lobe's hub, started in their usual directions and evened by k-means."""
    segment = np.zeros(len(position), dtype=int)
    names: dict[int, str] = {}
    owners: dict[int, int] = {}
    for number, hub in chest.hubs.items():
        here = np.flatnonzero(lobe == number)
        features = _features(position[here], hub, 0.4)
        side = -1 if number <= 3 else 1
        vectors = np.array([(side * a, b, c) for a, b, c in SEGMENTS[number].values()], dtype=float)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) + rng.normal(0, 0.12, vectors.shape)
        centres = np.concatenate([vectors, vectors * 0.24], axis=1)
        for _ in range(_LLOYD_ROUNDS):
            nearest = _nearest(features, centres)
            rows = [features[nearest == k] for k in range(len(centres))]
            centres = np.stack([r.mean(0) if len(r) else c for r, c in zip(rows, centres, strict=True)])
        nearest = _nearest(features, centres)
        for k, name in enumerate(SEGMENTS[number]):
            label = len(names) + 1
            names[label], owners[label] = f"{LOBES[number]}, {name}", number
            segment[here[nearest == k]] = label
    return segment, names, owners


def _bronchi(
    chest: Chest,
    position: np.ndarray,
    segment: np.ndarray,
    names: dict[int, str],
    owners: dict[int, int],
    rng: np.random.Generator,
) -> Tree:
    """Trachea, main, lobar and segmental bronchi; the branch of segment s is `FIRST_SEGMENTAL - 1 + s`."""
    size = chest.half_width / 129.0
    hubs = {lobe: hub.astype(float) for lobe, hub in chest.hubs.items()}
    middle = (hubs[1] + hubs[4]) / 2
    carina = middle + np.array([0.0, 13.0, 9.0]) * size
    top = np.array([middle[0], middle[1] + 8.0, chest.apex_z + 70 * size])
    wide = float(rng.uniform(7.5, 9.5))
    mains = {-1: carina + np.array([-27.0, -2.0, -16.0]) * size, 1: carina + np.array([27.0, -2.0, -20.0]) * size}
    branches = [
        ("trachea", top, carina, (wide, wide), -1),
        ("right main bronchus", carina, mains[-1], (wide * 0.8, wide * 0.72), 0),
        ("left main bronchus", carina, mains[1], (wide * 0.75, wide * 0.68), 0),
    ]
    beside = np.array([0.0, 7.0, 3.0]) * size
    for lobe, hub in hubs.items():
        side = -1 if lobe <= 3 else 1
        label = f"{LOBES[lobe]}, lobar"
        branches.append((label, mains[side], hub + beside, (wide * 0.6, wide * 0.5), 1 if side < 0 else 2))
    for label, lobe in owners.items():
        own = position[segment == label]
        start = hubs[lobe] + beside
        target = own.mean(axis=0) if len(own) else start + np.array([1.0, 1.0, 1.0])
        end = start + _SEGMENT_SHARE * (target - start)
        branches.append((names[label], start, end, (0.0, 0.0), FIRST_LOBAR + lobe - 1))
    return trees.trunk(branches)


def _subsegments(airways: Tree, segment: np.ndarray) -> np.ndarray:
    """Label of each unit's subsegment: what the daughters of a segmental bronchus supply."""
    stems = FIRST_SEGMENTAL - 1 + np.unique(segment)
    label = np.zeros(len(airways.parent), dtype=int)
    daughters = np.flatnonzero(np.isin(airways.parent, stems))
    label[daughters] = np.arange(1, len(daughters) + 1)
    for generation in range(int(airways.generation[daughters].min()) + 1, int(airways.generation.max()) + 1):
        level = np.flatnonzero(airways.generation == generation)
        label[level] = np.where(label[level] > 0, label[level], label[airways.parent[level]])
    return label[airways.terminal].astype(np.uint8)


def _arteries(airways: Tree, chest: Chest, rng: np.random.Generator) -> Tree:
    """Arteries: the airways' branches, each beside its airway; trunk and main arteries lie before the bronchi."""
    size = chest.half_width / 129.0
    tree = trees.with_radii(airways, _UNIT_ARTERY_MM, _MURRAY, FIRST_SEGMENTAL)
    start, end, radius = tree.start.copy(), tree.end.copy(), tree.radius.copy()
    middle = (chest.hubs[1] + chest.hubs[4]).astype(float) / 2
    valve, fork = middle + np.array([12.0, -40.0, -25.0]) * size, middle + np.array([10.0, -24.0, -8.0]) * size
    hila = {-1: middle + np.array([-33.0, 1.0, -15.0]) * size, 1: middle + np.array([33.0, 1.0, -3.0]) * size}
    start[:3] = [valve, fork, fork]
    end[:3] = [fork, hila[-1], hila[1]]
    radius[:3] = [(13.0, 12.0), (11.0, 8.5), (10.5, 8.5)]
    for lobe, hub in chest.hubs.items():
        index = FIRST_LOBAR + lobe - 1
        start[index], end[index] = hila[-1 if lobe <= 3 else 1], hub
        radius[index] = (7.0, 5.5)
    named = {index: f"{name}, artery" for index, name in tree.names.items() if index >= FIRST_LOBAR}
    tree = replace(tree, start=start, end=end, radius=radius, names=named)
    gap = 1.15 * (airways.radius[:, 1] + tree.radius[:, 1]) + 0.5
    direction = np.array([0.35, -0.6, 0.7]) + rng.normal(0, 0.35, (len(gap), 3))
    return trees.beside(tree, FIRST_SEGMENTAL, gap, direction)


def _veins(chest: Chest, position: np.ndarray, lobe: np.ndarray, airways: Tree, rng: np.random.Generator) -> Tree:
    """Veins: from the left atrium into each lobe, their ends between units that different branches supply."""
    size = chest.half_width / 129.0
    middle = (chest.hubs[1] + chest.hubs[4]).astype(float) / 2
    atrium = middle + np.array([2.0, 1.0, -45.0]) * size
    stem = airways.parent[airways.terminal]
    neighbours = cKDTree(position).query(position, k=6)[1][:, 1:]
    between = (stem[neighbours] != stem[:, None]) & (lobe[neighbours] == lobe[:, None])
    partner = neighbours[np.arange(len(position)), between.argmax(axis=1)]
    chosen = np.flatnonzero(between.any(axis=1) & (rng.random(len(position)) < _VEIN_SHARE))
    seeds = (position[chosen] + position[partner[chosen]]) / 2
    branches = []
    for number, hub in chest.hubs.items():
        root = hub.astype(float) + np.array([0.0, -12.0, -12.0]) * size
        branches.append((f"{LOBES[number]}, vein", atrium, root, (8.0, 5.5), -1))
    numbers = np.array(list(chest.hubs))
    owner = np.searchsorted(numbers, lobe[chosen])
    tree = trees.fill(trees.trunk(branches), seeds, owner)
    return trees.with_radii(tree, _UNIT_VEIN_MM, _MURRAY, len(branches))

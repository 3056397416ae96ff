"""Arteries, veins and airways as tapering tubes from the hilum into the territories."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from ct2vq.simulate import anatomy
from ct2vq.simulate.territories import TerritoryMap

_SAMPLE_STEP_MM = 1.5


@dataclass
class Tree:
    """Tubes as samples along their centrelines: position (n, 3) mm, radius (n,) mm, territory (n,), 0 if shared."""

    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)
    nodes: dict[str, np.ndarray] = field(default_factory=dict)

    def add(
        self,
        start: np.ndarray,
        end: np.ndarray,
        radii: tuple[float, float],
        owner: int = 0,
        bend: np.ndarray | None = None,
    ) -> None:
        """Add a tube from `start` to `end` (mm), a quadratic curve that deviates by `bend` in its middle."""
        length = float(np.linalg.norm(end - start))
        t = np.linspace(0, 1, max(2, int(length / _SAMPLE_STEP_MM) + 1))[:, None]
        middle = (start + end) / 2 + (0 if bend is None else 2 * bend)
        points = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        radius = radii[0] + (radii[1] - radii[0]) * t[:, 0]
        self.pieces.append((points, radius, np.full(len(t), owner)))

    def samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All samples: positions (n, 3), radii (n,), territories (n,)."""
        columns = zip(*self.pieces, strict=True)
        points, radii, owners = (np.concatenate(column) for column in columns)
        return points, radii, owners

    def distance(self, points: np.ndarray, calibre: np.ndarray, reach_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance to the tubes' surface, and the radius of the nearest tube.

        Args:
            points: (3, n) in mm.
            calibre: factor on the radius by territory label (index 0: shared tubes).
            reach_mm: farther from a centreline the distance is reported as `reach_mm`.

        Returns:
            distance (n,) and radius (n,), in mm.
        """
        centres, radii, owners = self.samples()
        radii = radii * calibre[owners]
        found, index = cKDTree(centres).query(points.T, k=2, distance_upper_bound=reach_mm)
        radius = np.append(radii, 0.0)[index]
        signed = np.where(np.isfinite(found), found - radius, reach_mm)
        best = signed.argmin(1)[:, None]
        return np.take_along_axis(signed, best, 1)[:, 0], np.take_along_axis(radius, best, 1)[:, 0]


def _bend(start: np.ndarray, end: np.ndarray, rng: np.random.Generator, amount: float = 0.08) -> np.ndarray:
    """A random deviation in proportion to the length of a tube."""
    return rng.normal(0, amount / np.sqrt(3), 3) * np.linalg.norm(end - start)


def _segment_node(division: TerritoryMap, segment: int) -> np.ndarray:
    """Where a segmental artery divides: part of the way from the lobe's hub to the segment's middle."""
    own = [t for t in division.territories if t.segment == segment]
    middle = np.average([t.centroid for t in own], axis=0, weights=[t.volume_ml for t in own])
    hub = division.hubs[division.segment_lobe[segment]]
    return hub + 0.45 * (middle - hub)


def _tips(division: TerritoryMap, label: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random places (count, 3) in a territory, for the ends of its smallest tubes."""
    own = division.samples[:, division.sample_labels == label]
    return own[:, rng.choice(own.shape[1], min(count, own.shape[1]), replace=False)].T.astype(float)


def grow_arteries(division: TerritoryMap, rng: np.random.Generator) -> Tree:
    """Pulmonary arteries: trunk, one for each lung, lobe, segment, subsegment, and their last visible branches."""
    tree, size = Tree(), division.body.size
    trunk = np.array([12.0, -22.0, 22.0]) * size
    for lobe, hub in division.hubs.items():
        side = -1 if lobe <= 3 else 1
        hilum = np.array([side * 33.0, 6.0, 16.0]) * size
        tree.add(trunk, hilum, (11.0, 8.5))
        tree.add(hilum, hub.astype(float), (8.0, 6.0))
        tree.nodes[f"{anatomy.LOBES[lobe]}, artery"] = hub.astype(float)
    for segment, lobe in division.segment_lobe.items():
        own = [t for t in division.territories if t.segment == segment]
        if not own:
            continue
        node, hub = _segment_node(division, segment), division.hubs[lobe].astype(float)
        tree.add(hub, node, (4.6, 3.4), 0, _bend(hub, node, rng))
        tree.nodes[f"{anatomy.LOBES[lobe]}, {division.segment_names[segment]}, artery"] = node
        for territory in own:
            centre = territory.centroid.astype(float)
            tree.add(node, centre, (2.9, 1.9), territory.label, _bend(node, centre, rng))
            tree.nodes[f"{territory.name}, artery"] = centre
            for tip in _tips(division, territory.label, int(6 + territory.volume_ml / 8), rng):
                tree.add(centre, tip, (1.6, 0.6), territory.label, _bend(centre, tip, rng))
    return tree


def grow_veins(division: TerritoryMap, rng: np.random.Generator) -> Tree:
    """Pulmonary veins: from the left atrium, between the territories of a lobe."""
    tree, size = Tree(), division.body.size
    atrium = np.array([2.0, 6.0, -14.0]) * size
    for lobe, hub in division.hubs.items():
        root = hub + np.array([0.0, -12.0, -12.0]) * size
        tree.add(atrium, root, (9.0, 6.0))
        own = [t for t in division.territories if t.lobe == lobe]
        for a in own:
            b = min((t for t in own if t is not a), key=lambda t, a=a: float(np.linalg.norm(t.centroid - a.centroid)))
            middle = (a.centroid + b.centroid).astype(float) / 2 + rng.normal(0, 4, 3)
            tree.add(root, middle, (3.6, 1.8), 0, _bend(root, middle, rng))
            for tip in _tips(division, a.label, 6, rng):
                tree.add(middle, tip, (1.5, 0.6), 0, _bend(middle, tip, rng))
    return tree


def grow_airways(division: TerritoryMap, rng: np.random.Generator) -> Tree:
    """Trachea, main, lobar, segmental and subsegmental bronchi; radii are those of the lumen."""
    tree, size = Tree(), division.body.size
    carina = np.array([1.0, 20.0, 40.0]) * size
    top = np.array([0.0, 14.0, division.body.apex_z + 70]) * size
    wide = rng.uniform(7.5, 9.5)
    tree.add(top, carina, (wide, wide))
    tree.nodes["carina"] = carina
    beside = np.array([0.0, 7.0, 3.0])
    for lobe, hub in division.hubs.items():
        side = -1 if lobe <= 3 else 1
        main = np.array([side * 27.0, 18.0, 24.0 if side < 0 else 20.0]) * size
        tree.add(carina, main, (wide * 0.8, wide * 0.72))
        tree.add(main, hub + beside, (wide * 0.6, wide * 0.5))
        tree.nodes[f"{anatomy.LOBES[lobe]}, bronchus"] = hub + beside
    for segment, lobe in division.segment_lobe.items():
        own = [t for t in division.territories if t.segment == segment]
        if not own:
            continue
        start, node = division.hubs[lobe] + beside, _segment_node(division, segment) + 0.8 * beside
        tree.add(start, node, (wide * 0.34, wide * 0.26), 0, _bend(start, node, rng))
        tree.nodes[f"{anatomy.LOBES[lobe]}, {division.segment_names[segment]}, bronchus"] = node
        for territory in own:
            end = node + 0.7 * (territory.centroid - node)
            tree.add(node, end, (wide * 0.2, wide * 0.12), territory.label, _bend(node, end, rng))
    return tree

"""Bronchopulmonary segments and subsegments: cones that spread from each lobe's hub at the hilum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ct2vq.simulate import anatomy
from ct2vq.simulate.anatomy import Body
from ct2vq.simulate.randomness import RandomField

#: segments of each lobe with their usual direction from the hub: (lateral, back, up)
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
#: hub of each lobe (where its bronchus and artery enter), mm at unit size
HUBS = {1: (-46, 10, 32), 2: (-46, -8, -2), 3: (-42, 24, -6), 4: (46, 0, 30), 5: (43, 28, 2)}
_LLOYD_ROUNDS = 4


@dataclass(frozen=True)
class Territory:
    """A subsegment: its label, and where it lies."""

    label: int
    lobe: int
    segment: int
    name: str
    centroid: np.ndarray
    volume_ml: float


@dataclass(frozen=True)
class TerritoryMap:
    """The division of the lungs: labels can be read at any point."""

    body: Body
    hubs: dict[int, np.ndarray]
    segment_names: dict[int, str]
    segment_lobe: dict[int, int]
    segment_centres: dict[int, np.ndarray]
    subsegment_centres: dict[int, tuple[list[int], np.ndarray]]
    warp: tuple[RandomField, RandomField, RandomField]
    territories: tuple[Territory, ...]
    samples: np.ndarray
    sample_labels: np.ndarray

    def label(self, points: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lobe, segment and territory (subsegment) of lung points.

        Args:
            points: (3, n) in mm.
            side: (n,), 1 right or 2 left.

        Returns:
            three uint8 arrays (n,).
        """
        lobe = anatomy.lobe_of(self.body, points, side)
        segment = np.zeros_like(lobe)
        territory = np.zeros_like(lobe)
        moved = _warped(points, self.warp)
        for number, hub in self.hubs.items():
            here = np.flatnonzero(lobe == number)
            labels = [s for s, owner in self.segment_lobe.items() if owner == number]
            features = _features(moved[:, here], hub, 0.4)
            centres = np.stack([self.segment_centres[s] for s in labels])
            segment[here] = np.array(labels, dtype=np.uint8)[_nearest(features, centres)]
            for label in labels:
                inside = here[segment[here] == label]
                names, centres = self.subsegment_centres[label]
                nearest = _nearest(_features(moved[:, inside], hub, 1.2), centres)
                territory[inside] = np.array(names, dtype=np.uint8)[nearest]
        return lobe, segment, territory


def _warped(points: np.ndarray, warp: tuple[RandomField, ...]) -> np.ndarray:
    """Points moved by a smooth random field, so that borders between territories are not planes."""
    return np.stack([points[i] + 5.0 * warp[i](points) for i in range(3)])


def _features(points: np.ndarray, hub: np.ndarray, position_weight: float) -> np.ndarray:
    """(n, 6): direction from the hub, and position; nearest centres in this space are cones around the hub."""
    offset = (points - hub[:, None]).astype(np.float32)
    direction = offset / np.maximum(np.linalg.norm(offset, axis=0), 8.0)
    return np.concatenate([direction, offset * np.float32(position_weight / 80)]).T


def _nearest(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest centre for each row."""
    squared = -2 * features @ centres.T.astype(np.float32) + (centres**2).sum(1).astype(np.float32)
    return squared.argmin(1)


def _lloyd(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """A few rounds of k-means from given centres; a centre that loses all its rows stays."""
    for _ in range(_LLOYD_ROUNDS):
        nearest = _nearest(features, centres)
        rows = [features[nearest == k] for k in range(len(centres))]
        centres = np.stack([r.mean(0) if len(r) else c for r, c in zip(rows, centres, strict=True)])
    return centres


def _segment_starts(lobe: int, rng: np.random.Generator) -> np.ndarray:
    """Starting centres of a lobe's segments: their usual directions, turned a little at random."""
    side = -1 if lobe <= 3 else 1
    vectors = np.array([(side * a, b, c) for a, b, c in SEGMENTS[lobe].values()], dtype=float)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) + rng.normal(0, 0.12, vectors.shape)
    return np.concatenate([vectors, vectors * 0.4 * 0.6], axis=1).astype(np.float32)


def divide_lungs(body: Body, rng: np.random.Generator) -> TerritoryMap:
    """Divide both lungs into segments (18) and each segment into two to four subsegments."""
    step = 5.0
    points = anatomy.lattice(body, step).reshape(3, -1)
    shape = anatomy.measure(body, points)
    points, side = points[:, shape.lung < 0], shape.side[shape.lung < 0]
    warp = (RandomField(rng, 25.0), RandomField(rng, 25.0), RandomField(rng, 25.0))
    lobe = anatomy.lobe_of(body, points, side)
    moved = _warped(points, warp)
    hubs = {k: np.array(v, dtype=np.float32) * np.float32(body.size) for k, v in HUBS.items()}
    names: dict[int, str] = {}
    owners: dict[int, int] = {}
    segment_centres: dict[int, np.ndarray] = {}
    subsegments: dict[int, tuple[list[int], np.ndarray]] = {}
    for number, hub in hubs.items():
        inside = moved[:, lobe == number]
        features = _features(inside, hub, 0.4)
        centres = _lloyd(features, _segment_starts(number, rng))
        nearest = _nearest(features, centres)
        for k, name in enumerate(SEGMENTS[number]):
            label = len(names) + 1
            names[label], owners[label], segment_centres[label] = name, number, centres[k]
            own = _features(inside[:, nearest == k], hub, 1.2)
            count = int(np.clip(round(len(own) * step**3 / 1000 / 90 + rng.normal(0, 0.4)), 1, 4))
            starts = own[rng.choice(len(own), min(count, len(own)), replace=False)] if len(own) else centres[k : k + 1]
            first = sum(len(numbers) for numbers, _ in subsegments.values()) + 1
            subsegments[label] = (list(range(first, first + len(starts))), _lloyd(own, starts) if len(own) else starts)
    undescribed = TerritoryMap(body, hubs, names, owners, segment_centres, subsegments, warp, (), points, side)
    labels = undescribed.label(points, side)[2]
    described = _describe(undescribed, points, labels, step)
    return TerritoryMap(body, hubs, names, owners, segment_centres, subsegments, warp, described, points, labels)


def _describe(division: TerritoryMap, points: np.ndarray, labels: np.ndarray, step: float) -> tuple[Territory, ...]:
    """Name, centroid and volume of each territory that holds any lung."""
    found = []
    for segment, (numbers, _) in division.subsegment_centres.items():
        lobe = division.segment_lobe[segment]
        for order, label in enumerate(numbers):
            own = points[:, labels == label]
            if own.shape[1]:
                name = f"{anatomy.LOBES[lobe]}, {division.segment_names[segment]}, {'abcd'[order]}"
                volume = own.shape[1] * step**3 / 1000
                found.append(Territory(label, lobe, segment, name, own.mean(1), volume))
    return tuple(found)

"""Airways that are grown to fill the lungs, arteries that follow them, veins between them.

The growth is the volume-filling algorithm of Tawhai, Pullan and Hunter (Ann Biomed Eng 2000;28:793-802): every lobe
is filled with seed points, one for each terminal unit; from the end of a branch its points are divided in two by a
plane through their centre of mass that holds the branch's direction, and a new branch grows towards the centre of each
half by 40 % of the way; a branch that is left with one point ends in it. Of the planes that hold the direction we
take the one across which the points are spread widest, so that the daughters stay compact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

#: share of the way from a branch's end to the centre of a daughter's points (Tawhai et al. 2000)
LENGTH_SHARE = 0.4
#: largest angle between a branch and its daughter (Tawhai et al. 2000)
LARGEST_ANGLE_DEG = 60.0
#: a branch that would end in a unit stops short of its middle
_TERMINAL_SHARE = 0.6
_SAMPLE_STEP_MM = 1.5
#: tubes thicker than this are looked up apart, so that the many thin ones are searched for close by only
_THICK_MM = 2.5


@dataclass(frozen=True)
class Tree:
    """Branches in such an order that a parent comes before its daughters.

    Attributes:
        start, end: (n, 3) in mm.
        radius: (n, 2) at start and end, in mm (of the lumen).
        parent: (n,) index of the parent, -1 where there is none.
        generation: (n,) 0 for branches without parent.
        terminal: (units,) the branch that ends in each terminal unit.
        names: what some of the branches are called, by index.
    """

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    parent: np.ndarray
    generation: np.ndarray
    terminal: np.ndarray
    names: dict[int, str]

    def units_of(self, branches: np.ndarray) -> np.ndarray:
        """Whether each terminal unit lies downstream of one of the marked branches.

        Args:
            branches: (n,) boolean.
        """
        return self.downstream(branches)[self.terminal]

    def downstream(self, branches: np.ndarray) -> np.ndarray:
        """Marked branches and all their daughters (n,) boolean."""
        marked = np.array(branches, dtype=bool)
        for level in self._levels():
            marked[level] |= marked[self.parent[level]]
        return marked

    def unit_counts(self) -> np.ndarray:
        """Number of terminal units downstream of each branch (n,)."""
        return self.sums(np.ones(len(self.terminal))).astype(int)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of the units' values (units,) downstream of each branch (n,)."""
        totals = np.bincount(self.terminal, weights=values, minlength=len(self.parent))
        for level in reversed(self._levels()):
            totals += np.bincount(self.parent[level], weights=totals[level], minlength=len(totals))
        return totals

    def accumulate(self, values: np.ndarray) -> np.ndarray:
        """Sum of the branches' values (..., n) along the way to each terminal unit, (..., units)."""
        totals = np.array(values, dtype=np.float64)
        for level in self._levels():
            totals[..., level] += totals[..., self.parent[level]]
        return totals[..., self.terminal]

    def siblings(self) -> np.ndarray:
        """The sister of each branch (n,), -1 where it has none or more than one."""
        order = np.argsort(self.parent, kind="stable")
        parents, first, count = np.unique(self.parent[order], return_index=True, return_counts=True)
        result = np.full(len(self.parent), -1)
        pairs = first[(count == 2) & (parents >= 0)]
        result[order[pairs]], result[order[pairs + 1]] = order[pairs + 1], order[pairs]
        return result

    def _levels(self) -> list[np.ndarray]:
        """Indices of the branches of each generation from 1 on."""
        return [np.flatnonzero(self.generation == g) for g in range(1, int(self.generation.max()) + 1)]

    def distance(self, points: np.ndarray, calibre: np.ndarray, edge_mm: float) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance to the nearest tube's surface and that tube's radius.

        Args:
            points: (3, m) in mm.
            calibre: (n,) factor on each branch's radius.
            edge_mm: voxel size; tubes too thin for it to show are left out, and beyond it no distance is needed.

        Returns:
            distance (m,) in mm (at most about `edge_mm`), radius (m,) in mm.
        """
        radius = self.radius * calibre[:, None]
        shown = radius.max(axis=1) > 0.12 * edge_mm
        best = np.full(points.shape[1], float(edge_mm), dtype=np.float32)
        found = np.zeros(points.shape[1], dtype=np.float32)
        for group in (shown & (radius.max(axis=1) > _THICK_MM), shown & (radius.max(axis=1) <= _THICK_MM)):
            if not group.any():
                continue
            centres, radii = _samples(self.start[group], self.end[group], radius[group])
            reach = float(radii.max() + edge_mm)
            where = np.flatnonzero(_near_box(points, centres, reach))
            distance, index = cKDTree(centres).query(points[:, where].T, k=2, distance_upper_bound=reach)
            own = np.append(radii, 0.0)[index]
            signed = np.where(np.isfinite(distance), distance - own, edge_mm)
            pick = signed.argmin(1)[:, None]
            signed, own = np.take_along_axis(signed, pick, 1)[:, 0], np.take_along_axis(own, pick, 1)[:, 0]
            nearer = signed < best[where]
            best[where[nearer]], found[where[nearer]] = signed[nearer], own[nearer]
        return best, found


def _near_box(points: np.ndarray, centres: np.ndarray, reach: float) -> np.ndarray:
    """Whether points (3, m) lie in the box of the samples, widened by `reach`."""
    low, high = centres.min(axis=0) - reach, centres.max(axis=0) + reach
    return np.all((points > low[:, None]) & (points < high[:, None]), axis=0)


def _samples(start: np.ndarray, end: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points along branches, every `_SAMPLE_STEP_MM`: positions (k, 3), radii (k,)."""
    count = np.maximum(np.linalg.norm(end - start, axis=1) / _SAMPLE_STEP_MM, 1).astype(int) + 1
    owner = np.repeat(np.arange(len(count)), count)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    share = position / (count[owner] - 1)
    centres = start[owner] + share[:, None] * (end - start)[owner]
    return centres, radius[owner, 0] + share * (radius[owner, 1] - radius[owner, 0])


@dataclass
class _Growth:
    """Branches as they grow."""

    start: list[np.ndarray]
    end: list[np.ndarray]
    parent: list[np.ndarray]
    count: int

    def add(self, start: np.ndarray, end: np.ndarray, parent: np.ndarray) -> np.ndarray:
        """Add branches; returns their indices."""
        self.start.append(start)
        self.end.append(end)
        self.parent.append(parent)
        self.count += len(start)
        return np.arange(self.count - len(start), self.count)


def fill(trunk: Tree, points: np.ndarray, owner: np.ndarray) -> Tree:
    """Grow a tree from the ends of some branches until each point is the end of its own branch.

    Args:
        trunk: the branches that exist; its `terminal` is ignored.
        points: (units, 3) seed points in mm.
        owner: (units,) branch of `trunk` that each point is supplied through.

    Returns:
        the whole tree, with radii of 0 for what has grown.
    """
    growth = _Growth([trunk.start], [trunk.end], [trunk.parent], len(trunk.parent))
    terminal = np.full(len(points), -1)
    stems, group = np.unique(owner, return_inverse=True)
    members = np.arange(len(points))
    while len(members):
        nodes, direction = _ends(growth, stems)
        count = np.bincount(group, minlength=len(stems))
        single = count[group] == 1
        if single.any():
            tip, stem = points[members[single]], stems[group[single]]
            from_ = nodes[group[single]]
            terminal[members[single]] = growth.add(from_, from_ + _TERMINAL_SHARE * (tip - from_), stem)
        members, group = members[~single], group[~single]
        if not len(members):
            break
        half = _halves(points[members], group, len(stems), direction)
        stems, group = _grow(growth, points[members], stems, nodes, direction, 2 * group + half)
    start, end, parent = (np.concatenate(part) for part in (growth.start, growth.end, growth.parent))
    radius = np.zeros((len(start), 2))
    radius[: len(trunk.radius)] = trunk.radius
    return Tree(start, end, radius, parent, _generations(parent), terminal, dict(trunk.names))


def _ends(growth: _Growth, stems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (k, 3) and unit directions (k, 3) of branches."""
    start, end = np.concatenate(growth.start)[stems], np.concatenate(growth.end)[stems]
    along = end - start
    return end, along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)


def _halves(points: np.ndarray, group: np.ndarray, groups: int, direction: np.ndarray) -> np.ndarray:
    """On which side of its group's splitting plane each point lies (0 or 1); both sides hold points."""
    count = np.maximum(np.bincount(group, minlength=groups), 1)
    centre = (
        np.stack([np.bincount(group, weights=points[:, a], minlength=groups) for a in range(3)], 1) / count[:, None]
    )
    offset = points - centre[group]
    offset_across = offset - (offset * direction[group]).sum(1, keepdims=True) * direction[group]
    spread = np.zeros((groups, 3, 3))
    for a in range(3):
        for b in range(3):
            spread[:, a, b] = np.bincount(group, weights=offset_across[:, a] * offset_across[:, b], minlength=groups)
    normal = np.linalg.eigh(spread)[1][:, :, 2]
    normal *= np.where(normal[np.arange(groups), np.abs(normal).argmax(1)] < 0, -1, 1)[:, None]
    height = (offset_across * normal[group]).sum(1)
    half = (height > 0).astype(int)
    ones = np.bincount(group, weights=half, minlength=groups)
    uneven = (ones == 0) | (ones == np.bincount(group, minlength=groups))
    if uneven.any():  # points in one line with the branch: the farther half goes on alone
        along = (offset * direction[group]).sum(1)
        order = np.lexsort((along, group))
        rank = np.empty(len(group), dtype=int)
        rank[order] = np.arange(len(group)) - np.searchsorted(group[order], group[order])
        half = np.where(uneven[group], (2 * rank >= count[group]).astype(int), half)
    return half


def _grow(
    growth: _Growth, points: np.ndarray, stems: np.ndarray, nodes: np.ndarray, direction: np.ndarray, half: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add a branch towards the centre of each half; returns the new branches and the group of each point."""
    halves, group = np.unique(half, return_inverse=True)
    count = np.bincount(group)
    centre = np.stack([np.bincount(group, weights=points[:, a]) for a in range(3)], 1) / count[:, None]
    stem = halves // 2
    way = centre - nodes[stem]
    length = np.linalg.norm(way, axis=1, keepdims=True)
    heading = _limited(way / np.maximum(length, 1e-6), direction[stem])
    end = nodes[stem] + LENGTH_SHARE * length * heading
    return growth.add(nodes[stem], end, stems[stem]), group


def _limited(heading: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Headings (k, 3) turned back to at most `LARGEST_ANGLE_DEG` from the parents' directions (k, 3)."""
    cosine = (heading * direction).sum(1, keepdims=True)
    across = heading - cosine * direction
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    limit = np.deg2rad(LARGEST_ANGLE_DEG)
    return np.where(cosine < np.cos(limit), np.cos(limit) * direction + np.sin(limit) * across, heading)


def _generations(parent: np.ndarray) -> np.ndarray:
    """Number of ancestors of each branch; parents come first."""
    generation = np.zeros(len(parent), dtype=int)
    for index in np.flatnonzero(parent >= 0):
        generation[index] = generation[parent[index]] + 1
    return generation


def with_radii(tree: Tree, terminal_mm: float, exponent: float, grown_from: int, taper: float = 0.93) -> Tree:
    """Give grown branches radii by the number of units downstream: `r = terminal n^(1 / exponent)`.

    Args:
        tree: the tree.
        terminal_mm: radius of a branch that supplies one unit.
        exponent: 3 by Murray (PNAS 1926;12:207-214).
        grown_from: index of the first branch that takes such a radius; those before keep theirs.
        taper: radius at a branch's end relative to its start.
    """
    radius = tree.radius.copy()
    grown = terminal_mm * np.maximum(tree.unit_counts(), 1)[grown_from:] ** (1 / exponent)
    radius[grown_from:] = np.stack([grown, taper * grown], axis=1)
    return replace(tree, radius=radius)


def trunk(branches: list[tuple[str, np.ndarray, np.ndarray, tuple[float, float], int]]) -> Tree:
    """A tree from described branches: name, start and end in mm, radii, index of the parent (-1 if none)."""
    names, start, end, radius, parent = zip(*branches, strict=True)
    parents = np.array(parent)
    named = {index: name for index, name in enumerate(names) if name}
    columns = (np.array(column, dtype=np.float64) for column in (start, end, radius))
    return Tree(*columns, parents, _generations(parents), np.zeros(0, dtype=int), named)


def beside(tree: Tree, first: int, gap: np.ndarray, direction: np.ndarray) -> Tree:
    """The same branches shifted sideways, as arteries lie beside airways.

    Args:
        tree: the airways.
        first: branches before this one are left where they are.
        gap: (n,) how far each branch's end moves, mm.
        direction: (n, 3) whither, of any length; the part along the branch is taken out.
    """
    along = tree.end - tree.start
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    across = direction - (direction * along).sum(1, keepdims=True) * along
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    end = tree.end.copy()
    end[first:] += (gap[:, None] * across)[first:]
    start = tree.start.copy()
    start[first:] = end[tree.parent[first:]]
    return replace(tree, start=start, end=end)

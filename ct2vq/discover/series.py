"""From files to series: who, which study, which stack; copies counted once, mixed series taken apart."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise

from ct2vq.discover.header import Facts
from ct2vq.discover.inventory import Entry, Ids
from ct2vq.identity.store import Store

#: direction cosines that differ by more belong to another stack (0.6 degrees)
_SAME_DIRECTION = 0.01
#: two slices nearer than this lie at one place, mm (as ct2vq.dicom.geometry has it)
_SAME_PLACE_MM = 0.01
#: what may tell stacks apart that lie at the same places, in the order in which it is tried
_REPEATS = ("acquisition", "temporal", "echo", "taken", "series_type")


@dataclass
class Series:
    """Images that may make up one volume: a stack of single-frame images, or one multi-frame object.

    Attributes:
        cell: how the cohort table names it, `series:<id>` or `object:<id>`.
        patient, study: pseudonyms.
        entries: its files, each image once.
        copies: files that hold an image of this series once more.
        notes: what is remarkable, without identities.
    """

    cell: str
    patient: str
    study: str
    entries: list[Entry]
    copies: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def facts(self) -> Facts:
        """The facts of the first file."""
        return self.entries[0].facts

    @property
    def is_object(self) -> bool:
        """Whether it is one multi-frame object."""
        return self.cell.startswith("object:")

    @cached_property
    def slices(self) -> int:
        """Number of slices at different places."""
        if self.is_object:
            return whole(self.facts.frames)
        return 1 + sum(step > _SAME_PLACE_MM for step in self._steps) if self._depths else 0

    @cached_property
    def slice_mm(self) -> float | None:
        """Distance of slices in mm: the median of what the positions say."""
        if self.is_object:
            return abs(numbers(self.facts.slice_step or self.facts.thickness, 1)[0] or 0) or None
        steps = sorted(step for step in self._steps if step > _SAME_PLACE_MM)
        return steps[len(steps) // 2] if steps else None

    @cached_property
    def extent_mm(self) -> float | None:
        """How much of the patient's length (z) the slices cover, mm."""
        direction = normal(self.facts.orientation)
        if direction is None or self.slice_mm is None:
            return None
        length = (self.slices - 1) * self.slice_mm if self.is_object else self._depths[-1] - self._depths[0]
        return (length + self.slice_mm) * abs(direction[2])

    @cached_property
    def is_axial(self) -> bool | None:
        """Whether the slices lie across the patient; None if the header does not say."""
        direction = normal(self.facts.orientation)
        return None if direction is None else abs(direction[2]) > 0.9

    @cached_property
    def _depths(self) -> list[float]:
        return sorted(depth for entry in self.entries if (depth := _depth(entry.facts)) is not None)

    @cached_property
    def _steps(self) -> list[float]:
        return [b - a for a, b in pairwise(self._depths)]


def group(entries: Sequence[Entry], store: Store) -> tuple[list[Series], list[Ids]]:
    """All series of an inventory, and the ids of every file (empty ones for what is no DICOM object).

    Args:
        entries: the files.
        store: makes the pseudonyms.
    """
    patients = _patients(entries)
    first, copies, reused = _copies(entries)
    names = [_own_name(entry, index in reused) for index, entry in enumerate(entries)]
    stacks: dict[Hashable, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        if not entry.facts.state and first[index] == index:
            stacks[_series_key(entry.facts, patients[index])].append(index)
    ids = [Ids()] * len(entries)
    found = []
    for (patient, study, *_), members in stacks.items():
        found += _series_of([(index, entries[index]) for index in members], names, (patient, study), copies, store, ids)
    for index, original in enumerate(first):
        if original != index:
            ids[index] = ids[original]._replace(copy="1")
    _note_reused(found, {entries[index].path for index in reused})
    return found, ids


def _series_of(
    members: list[tuple[int, Entry]],
    names: Sequence[str],
    who: tuple[str, str],
    copies: Counter[int],
    store: Store,
    ids: list[Ids],
) -> list[Series]:
    """The stacks and objects of one series UID; their ids are noted for their files."""
    patient = store.pseudonym("patient", who[0])
    study = store.pseudonym("study", who[1] or who[0])
    uid = "\n".join((*who, members[0][1].facts.series_uid))
    parts = _parts([(index, entry.facts) for index, entry in members], names)
    entries = dict(members)
    made = []
    for key, indices in parts.items():
        series_id = store.pseudonym("series", uid if len(parts) == 1 else f"{uid}\n{key}")
        # A multi-frame object is named by its own UID, which stays when others join the series.
        is_object = whole(entries[indices[0]].facts.frames) > 1
        entity = store.pseudonym("object", names[indices[0]]) if is_object else ""
        for index in indices:
            ids[index] = Ids(series_id, entity)
        one = Series(
            f"object:{entity}" if entity else f"series:{series_id}",
            patient,
            study,
            [entries[index] for index in indices],
            sum(copies[index] for index in indices),
        )
        if len(parts) > 1:
            one.notes.append(f"one of {len(parts)} stacks or objects in its series")
        made.append(one)
    return made


# --- who -----------------------------------------------------------------------------------------------------------


def _patients(entries: Sequence[Entry]) -> list[str]:
    """A key for each file's patient: number and issuer; else name and birth date; else the study.

    A number without issuer is that of the only issuer which knows this number, if there is only one.
    """
    issuers: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.facts.issuer:
            issuers[entry.facts.patient_id].add(entry.facts.issuer)
    return [_patient(entry.facts, issuers) for entry in entries]


def _patient(facts: Facts, issuers: Mapping[str, set[str]]) -> str:
    if facts.patient_id:
        known = issuers.get(facts.patient_id, set())
        issuer = facts.issuer or (next(iter(known)) if len(known) == 1 else "")
        return f"id\n{facts.patient_id}\n{issuer}"
    if facts.patient_name.strip("^ "):
        return f"name\n{facts.patient_name.upper().strip('^ ')}\n{facts.birth_date}"
    return f"study\n{facts.study_uid}"


def patients_with_several_births(found: Iterable[Series]) -> set[str]:
    """Patients (pseudonyms) whose images state different birth dates: one number may stand for two persons."""
    births: dict[str, set[str]] = defaultdict(set)
    for series in found:
        births[series.patient].update(entry.facts.birth_date for entry in series.entries if entry.facts.birth_date)
    return {patient for patient, dates in births.items() if len(dates) > 1}


# --- copies --------------------------------------------------------------------------------------------------------


def _copies(entries: Sequence[Entry]) -> tuple[list[int], Counter[int], set[int]]:
    """For each file the file that stands for its image, the copies of each, and files that reuse another image's UID.

    Of several copies the largest stands for all: a cut-off or recompressed one is smaller.
    """
    by_uid: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        if entry.facts.sop:
            by_uid[entry.facts.sop].append(index)
    first, copies, reused = list(range(len(entries))), Counter[int](), set[int]()
    for indices in by_uid.values():
        if len(indices) == 1:
            continue
        same: dict[Facts, list[int]] = defaultdict(list)
        for index in indices:
            same[entries[index].facts._replace(detail="", cut_off="", syntax="")].append(index)
        if len(same) > 1:
            reused.update(indices)
        for group_of_copies in same.values():
            original = min(group_of_copies, key=lambda i: (-entries[i].size, entries[i].path))
            copies[original] = len(group_of_copies) - 1
            for index in group_of_copies:
                first[index] = original
    return first, copies, reused


def _note_reused(found: Iterable[Series], paths: set[str]) -> None:
    for series in found:
        number = sum(entry.path in paths for entry in series.entries) if paths else 0
        if number:
            series.notes.append(f"{number} image(s) share their UID with a different image")


# --- which stack ---------------------------------------------------------------------------------------------------


def _own_name(entry: Entry, reused: bool) -> str:
    """What names an object: its UID, with its path if the UID is missing or stands for several images."""
    return f"{entry.facts.sop}\n{entry.path}" if reused or not entry.facts.sop else entry.facts.sop


def _series_key(facts: Facts, patient: str) -> tuple[str, str, str]:
    return patient, facts.study_uid, facts.series_uid


def _parts(members: list[tuple[int, Facts]], names: Sequence[str]) -> dict[str, list[int]]:
    """Files of one series UID by what makes them a stack of their own; a multi-frame object is one by itself."""
    directions: list[tuple[float, ...]] = []
    stacks: dict[str, list[tuple[int, Facts]]] = defaultdict(list)
    for index, facts in members:
        if whole(facts.frames) > 1:
            stacks[f"object {names[index]}"].append((index, facts))
            continue
        place = _direction_number(facts.orientation, directions)
        kind = (facts.sop_class, facts.image_type.upper(), facts.rows, facts.columns, facts.kernel, facts.frame)
        stacks["\n".join((*kind, place))].append((index, facts))
    return {key: part for name, stack in stacks.items() for key, part in _without_repeats(name, stack).items()}


def _direction_number(orientation: str, known: list[tuple[float, ...]]) -> str:
    """A name for an orientation: that of the first one which is the same but for rounding."""
    cosines = numbers(orientation, 6)
    if cosines[0] is None:
        return "none"
    for other in known:
        if max(abs(a - b) for a, b in zip(cosines, other, strict=True)) < _SAME_DIRECTION:
            return "\\".join(f"{value:.3f}" for value in other)
    known.append(cosines)
    return "\\".join(f"{value:.3f}" for value in cosines)


def _without_repeats(name: str, stack: list[tuple[int, Facts]]) -> dict[str, list[int]]:
    """A stack in which places repeat is taken apart, if one attribute does it completely."""
    if _repeats([facts for _, facts in stack]):
        for attribute in _REPEATS:
            parts: dict[str, list[tuple[int, Facts]]] = defaultdict(list)
            for index, facts in stack:
                parts[getattr(facts, attribute)].append((index, facts))
            alone = not any(_repeats([facts for _, facts in part]) for part in parts.values())
            if len(parts) > 1 and alone and min(map(len, parts.values())) > 1:
                return {f"{name}\n{attribute} {key}": [i for i, _ in part] for key, part in parts.items()}
    return {name: [index for index, _ in stack]}


def _repeats(stack: Sequence[Facts]) -> bool:
    depths = sorted(depth for facts in stack if (depth := _depth(facts)) is not None)
    return any(b - a < _SAME_PLACE_MM for a, b in pairwise(depths))


# --- numbers -------------------------------------------------------------------------------------------------------


def whole(text: str) -> int:
    """A text as a whole number, 0 where it is none."""
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def numbers(text: str, count: int) -> tuple:
    """`count` finite numbers of a multi-valued text, else as many None."""
    try:
        values = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        values = ()
    return values if len(values) == count and all(map(math.isfinite, values)) else (None,) * count


@lru_cache(maxsize=4096)
def normal(orientation: str) -> tuple[float, float, float] | None:
    """Row x column of an orientation (PS3.3 C.7.6.2.1.1), None where it is missing or no plane."""
    a, b, c, d, e, f = numbers(orientation, 6)
    if a is None:
        return None
    cross = (b * f - c * e, c * d - a * f, a * e - b * d)
    return cross if abs(math.hypot(*cross) - 1) < _SAME_DIRECTION else None


def _depth(facts: Facts) -> float | None:
    """Where a slice lies along its normal, mm."""
    direction, place = normal(facts.orientation), numbers(facts.position, 3)
    if direction is None or place[0] is None:
        return None
    return sum(a * b for a, b in zip(direction, place, strict=True))

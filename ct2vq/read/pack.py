"""The folder that is handed to one reader, and the key that stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ct2vq.config import TARGETS
from ct2vq.errors import Ct2vqError
from ct2vq.files import copy_file, read_json, sha256_file, sha256_text, write_json, write_rows, write_text
from ct2vq.read import blind
from ct2vq.read.design import design_digest
from ct2vq.read.exports import canonical_json
from ct2vq.read.page import write_page
from ct2vq.read.wording import README, pack_wording, session_titles
from ct2vq.volume import read_volume, require_same_grid, to_array

FORMAT = 1
KEY_COLUMNS = (
    "session",
    "part",
    "item",
    "case_id",
    "patient_id",
    "source",
    "repeat_of",
    "order",
    "volume_perfusion",
    "volume_ventilation",
    "volume_ct",
)
#: all files of all packs have this time: when a volume was written would tell its case
FILE_TIME = 946684800  # 2000-01-01 00:00 UTC
VOLUMES = "volumes"


@dataclass(frozen=True)
class CaseVolumes:
    """What may be shown of a case, `(z, y, x)` on its network grid.

    Attributes:
        function: steps by source and target.
        ct: whole HU.
    """

    function: Mapping[tuple[str, str], np.ndarray]
    ct: np.ndarray


@dataclass
class Showing:
    """One item of a session: what the key says of it.

    Attributes:
        session, part: where it stands; `place` from 0.
        names: opaque name of each volume, by what it shows.
    """

    session: int
    part: str
    place: int
    case_id: str
    source: str
    repeat_of: int | None
    item: str
    names: dict[str, str] = field(default_factory=dict)


def write_pack(
    folder: str | Path,
    key: str | Path,
    record: str | Path,
    *,
    reader: str,
    design: str | Path,
    images: Mapping[str, Mapping[str, str | Path]],
    settings: Mapping[str, Any],
    secret: str,
    archive: str | Path,
    exports: str | Path,
) -> None:
    """Write a reader's pack, its key, and the record that tells the pack's digest.

    Args:
        folder: the pack; what was there is replaced.
        key: table of what each opaque name stands for.
        record: JSON with `reader`, `level`, `study`, `pack` (the digest) and `simulated_readers`.
        reader: pseudonym.
        design: `results/read/design.json`.
        images: paths by case: `ct`, `lungs`, and `<source>_<target>`, all on one grid a case.
        settings: config block `read`.
        secret: whoever knows it can tell the names (`ct2vq.identity.store`).
        archive: folder outside the results in which key, record and questions are kept for good.
        exports: folder of the answers that were imported.

    Raises:
        Ct2vqError: answers to another pack of this reader were imported already, or an image cannot be shown.
    """
    made = read_json(design)
    secret = f"{made['study']}:{secret}:{reader}"
    showings = list(_showings(made["readers"][reader]["sessions"], secret))
    with _new_folder(Path(folder)) as unfinished:
        spacing_mm = _write_volumes(unfinished / VOLUMES, showings, images, settings["display_percentile"], secret)
        pack = _content(made, reader, settings, showings, spacing_mm)
        pack["pack"] = pack_digest(pack, unfinished / VOLUMES)
        require_no_other_answers(exports, reader, pack["pack"], archive)
        write_page(pack, unfinished)
        _write_pack_script(pack, unfinished / "pack.js")
        write_text(README.format(reader=reader, study=made["study"], title=pack["title"]), unfinished / "README.txt")
        _write_key(showings, made["cases"], key)
        told = {name: pack[name] for name in ("reader", "level", "study", "pack", "simulated_readers")}
        write_json(told | {"format": FORMAT}, record)
        _keep([key, record, unfinished / "pack.js"], Path(archive) / f"{reader}-{pack['pack'][:8]}")
        _same_times(unfinished)


def require_no_other_answers(exports: str | Path, reader: str, digest: str, archive: str | Path) -> None:
    """Stop before a pack is replaced that somebody has answered.

    Raises:
        Ct2vqError: with the way out.
    """
    for path in sorted(Path(exports).glob("*.json")):
        told = read_json(path)
        if isinstance(told, dict) and told.get("reader") == reader and told.get("pack") != digest:
            raise Ct2vqError(
                f"reader `{reader}` has answered another pack (digest {str(told.get('pack'))[:8]}); the design, the "
                f"cases or their images have changed since (digest {digest[:8]})",
                path=path,
                key="read",
                hint=f"go back to the settings and images of that pack (its key is kept in {archive}), or move the "
                "file away to start a new reading",
            )


def _showings(sessions: list[Mapping[str, Any]], secret: str) -> Iterator[Showing]:
    """Every item of every session; names come from its place alone, so they tell nothing of the case."""
    for session in sessions:
        kinds = [*TARGETS, *(["ct"] if session["ct"] == "shown" else [])]
        for place, item in enumerate(session["items"]):
            at = (session["number"], place)
            names = {kind: blind.opaque_name(*at, kind, seed=secret) for kind in kinds}
            yield Showing(
                session["number"],
                session["part"],
                place,
                item["case_id"],
                item["source"],
                item["repeat_of"],
                blind.opaque_name(*at, "item", seed=secret),
                names,
            )


def _write_volumes(
    folder: Path,
    showings: list[Showing],
    images: Mapping[str, Mapping[str, str | Path]],
    percentile: float,
    secret: str,
) -> float:
    """Write the volumes of all showings, all of one length for function and for CT; returns the spacing in mm."""
    shown = sorted({showing.case_id for showing in showings})
    grids = {case: read_volume(images[case]["lungs"]) for case in shown}
    spacings = {tuple(round(value, 4) for value in grid.GetSpacing()) for grid in grids.values()}
    if len(spacings) != 1 or len(set(next(iter(spacings)))) != 1:
        raise Ct2vqError(f"the cases' grids have different or unequal spacings in mm: {sorted(spacings)}")
    spacing_mm = next(iter(spacings))[0]
    box = blind.common_box(grid.GetSize()[::-1] for grid in grids.values())
    raw = folder.with_name(f"{folder.name}.raw")
    raw.mkdir(parents=True)
    for case in shown:
        volumes = read_case(images[case], percentile)
        places = iter(blind.places_of(case, secret))
        for showing in (one for one in showings if one.case_id == case):
            place = next(places)
            for kind, name in showing.names.items():
                voxels = volumes.ct if kind == "ct" else volumes.function[showing.source, kind]
                script = blind.volume_script(name, blind.in_box(voxels, box, place), spacing_mm)
                (raw / f"{name}.js").write_text(script, encoding="ascii")
    lengths = _common_lengths(raw, showings)
    folder.mkdir()
    # in the order of their names: an archive or a stick may list files in the order in which they were written, and
    # the order of writing must not tell which belong to one case
    for name in sorted(lengths):
        text = (raw / f"{name}.js").read_text(encoding="ascii")
        padded = text + blind.filler(lengths[name] - len(text), name, secret)
        (folder / f"{name}.js").write_text(padded, encoding="ascii")
        (raw / f"{name}.js").unlink()
    raw.rmdir()
    return spacing_mm


def read_case(images: Mapping[str, str | Path], percentile: float) -> CaseVolumes:
    """Read a case's images and make them alike.

    Args:
        images: paths: `ct`, `lungs`, and `<source>_<target>`.
        percentile: config key `read.display_percentile`.

    Raises:
        Ct2vqError: an image has no function; GeometryError: the images are not on one grid.
    """
    lungs = read_volume(images["lungs"])
    inside = to_array(lungs) > 0
    arrays = {}
    for name, path in images.items():
        image = read_volume(path)
        require_same_grid(image, lungs, str(path), str(images["lungs"]))
        arrays[name] = to_array(image)
    function = {}
    for target in TARGETS:
        pair = {source: arrays[f"{source}_{target}"] for source in ("real", "synthesised")}
        clipped = blind.clipped_voxels(pair.values(), inside, percentile)
        function |= {(source, target): blind.function_steps(image, inside, clipped) for source, image in pair.items()}
    return CaseVolumes(function, blind.ct_steps(arrays["ct"]))


def _common_lengths(folder: Path, showings: list[Showing]) -> dict[str, int]:
    """The length that each script gets, by name: one for function, one for CT, each with room for a filler."""
    lengths: dict[str, int] = {}
    for is_ct in (False, True):
        names = [name for one in showings for kind, name in one.names.items() if (kind == "ct") == is_ct]
        longest = max(((folder / f"{name}.js").stat().st_size for name in names), default=0)
        lengths |= dict.fromkeys(names, longest + blind.SHORTEST_FILLER)
    return lengths


def _content(
    design: Mapping[str, Any],
    reader: str,
    settings: Mapping[str, Any],
    showings: list[Showing],
    spacing_mm: float,
) -> dict[str, Any]:
    """The pack in words: `pack.js` but for its digest."""
    own = design["readers"][reader]
    titles = session_titles([session["part"] for session in own["sessions"]])
    sessions = [
        {
            "number": session["number"],
            "part": session["part"],
            "ct": session["ct"],
            "title": title,
            "after": session["after"],
            "items": [_shown(one) for one in showings if one.session == session["number"]],
        }
        for session, title in zip(own["sessions"], titles, strict=True)
    ]
    return {
        "format": FORMAT,
        "study": design["study"],
        "design": design_digest(design),
        "reader": reader,
        "level": own["level"],
        "simulated": design["simulated"],
        "simulated_readers": design["simulated_readers"],
        "voxel_mm": [spacing_mm] * 3,
        "sessions": sessions,
    } | pack_wording(settings, design["parts"], design["simulated"])


def _shown(showing: Showing) -> dict[str, str | None]:
    files = {kind: f"{VOLUMES}/{name}.js" for kind, name in showing.names.items()}
    return {"item": showing.item, "ct": None} | files


def pack_digest(pack: Mapping[str, Any], volumes: Path) -> str:
    """SHA-256 over the canonical JSON of a pack and the SHA-256 of each of its volumes; the page does not count."""
    parts = {
        "pack": {key: value for key, value in pack.items() if key != "pack"},
        "volumes": {path.stem: sha256_file(path) for path in volumes.iterdir()},
    }
    return sha256_text(canonical_json(parts))


def _write_pack_script(pack: Mapping[str, Any], path: Path) -> None:
    write_text(f"ct2vqPack({canonical_json(pack)});\n", path)


def _write_key(showings: list[Showing], cases: Mapping[str, Mapping[str, str]], path: str | Path) -> None:
    items = {(one.session, one.place): one.item for one in showings}
    rows = [
        (
            one.session,
            one.part,
            one.item,
            one.case_id,
            cases[one.case_id]["patient_id"],
            one.source,
            None if one.repeat_of is None else items[one.session, one.repeat_of],
            one.place + 1,
            *(one.names.get(kind) for kind in (*TARGETS, "ct")),
        )
        for one in showings
    ]
    write_rows(rows, KEY_COLUMNS, path)


def _keep(paths: list[str | Path], copy: Path) -> None:
    """Copies that Snakemake does not know and so never deletes: without its key, a reader's work is lost."""
    for path in paths:
        copy_file(path, copy.with_suffix(Path(path).suffix))


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder that takes its name only when the block succeeds."""
    unfinished = folder.with_name(f".{os.getpid()}.part.{folder.name}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _same_times(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (FILE_TIME, FILE_TIME))

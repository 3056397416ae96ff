"""What comes back from a reader: one file with a digest, checked against the pack before anything is kept.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ct2vq.errors import ConfigError, Ct2vqError
from ct2vq.files import copy_file, replacing

FORMAT = 1
#: how `pack.js` hands its content to the page
PACK_OPENS, PACK_CLOSES = "ct2vqPack(", ");"
#: an export of a hundred cases has some hundred kilobytes
LARGEST_BYTES = 50_000_000
#: a year: nobody looks at one item for so long
LONGEST_SECONDS = 31_536_000
#: folder, within that of the exports, of those which a later export of the same reader replaced
REPLACED = "replaced"
ACCEPTABILITY = "acceptability"
#: the answer of who sees no defect, whether the pack's list of locations has it or not
NOWHERE = "none"


def canonical_json(document: Any) -> str:
    r"""The one text of a document that its digest is taken from, the same in Python and in JavaScript.

    Keys are sorted, there are no spaces, and what is not printable ASCII stands as `\uXXXX`. A number is an integer or
    has at most three decimals, so that both languages write the same digits.

    Raises:
        ValueError: a number that is not finite.
    """
    return json.dumps(_plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _plain(value: Any) -> Any:
    """Whole numbers without a decimal point, as JavaScript writes them; other floats rounded to three decimals."""
    if isinstance(value, float) and math.isfinite(value):
        rounded = round(value, 3)
        return int(rounded) if rounded == int(rounded) else rounded
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a document's canonical JSON without its key `digest`."""
    content = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(canonical_json(content).encode("ascii")).hexdigest()


def signed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document with its digest."""
    return {**document, "digest": digest_of(document)}


def read_pack(path: str | Path) -> dict[str, Any]:
    """The content of a pack's `pack.js`.

    Args:
        path: the pack's folder, or the file in it.

    Raises:
        Ct2vqError: the file is missing or is not a pack.
    """
    path = Path(path, "pack.js") if Path(path).is_dir() else Path(path)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise Ct2vqError("the pack does not exist", path=path, hint="build it: snakemake reader_pack") from error
    start, end = text.find(PACK_OPENS), text.rfind(PACK_CLOSES)
    try:
        return json.loads(text[start + len(PACK_OPENS) : end])
    except json.JSONDecodeError as error:
        raise Ct2vqError("this is not the description of a pack", path=path) from error


def read_export(path: str | Path) -> dict[str, Any]:
    """An export as it is, with its format and digest checked.

    Raises:
        Ct2vqError: no such file, no export, an unknown format, or a digest that does not fit the content.
    """
    document = _parsed(Path(path))
    if not isinstance(document, dict) or not {"format", "reader", "pack", "answers", "digest"} <= document.keys():
        raise Ct2vqError("this is not an export of a reader", path=path, hint="take the file that the page saved")
    if document["format"] != FORMAT:
        raise Ct2vqError(f"format {document['format']!r}, expected {FORMAT}", path=path, hint="another ct2vq wrote it")
    if not _fits(document):
        raise Ct2vqError(
            "the digest does not fit the content: the file was changed or damaged after its export",
            path=path,
            hint="ask the reader to export again; the answers are still in their browser",
        )
    return document


def _parsed(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise Ct2vqError("far too large for an export", path=path)
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_key_twice)
    except FileNotFoundError as error:
        raise Ct2vqError("the file does not exist", path=path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise Ct2vqError("not a readable JSON file: cut off, or something else", path=path) from error


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping; a key that stands twice hides a value from some readers of the file."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _fits(document: Mapping[str, Any]) -> bool:
    try:
        return document["digest"] == digest_of(document)
    except (ValueError, TypeError, RecursionError):
        return False


@dataclass(frozen=True)
class Coverage:
    """How much of a pack an export answers.

    Attributes:
        items: items of the pack.
        complete: items with every answer.
        unfinished: items begun without every answer.
    """

    items: int
    complete: int
    unfinished: int

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.complete == self.items


def check_export(document: Mapping[str, Any], pack: Mapping[str, Any], path: str | Path | None = None) -> Coverage:
    """Check an export against the pack that its reader got.

    Args:
        document: the export (`read_export`).
        pack: content of the reader's `pack.js`.
        path: for messages.

    Raises:
        Ct2vqError: another study, reader or pack, an item that the pack does not have or that stands twice, or a value
            that the page does not offer.
    """
    _check_origin(document, pack, path)
    problem = _content_problem(document, pack)
    if problem:
        raise Ct2vqError(problem, path=path, hint="the page does not write this: ask the reader to export again")
    items = sum(len(session["items"]) for session in pack["sessions"])
    complete = sum(answer["complete"] for answer in document["answers"])
    return Coverage(items, complete, len(document["answers"]) - complete)


def _check_origin(document: Mapping[str, Any], pack: Mapping[str, Any], path: str | Path | None) -> None:
    """Study, reader, and the pack's digest."""
    for name in ("study", "reader"):
        if document.get(name) != pack[name]:
            raise Ct2vqError(f"{name} `{document.get(name)}`, expected `{pack[name]}`", path=path, key=name)
    if document["pack"] != pack["pack"]:
        raise Ct2vqError(
            f"the answers belong to another pack ({str(document['pack'])[:8]}, the study's is {pack['pack'][:8]}): "
            "images or design changed after it was handed out",
            path=path,
            key="pack",
            hint="put back the configuration and images of the handed-out pack, or have the new pack read",
        )


def _content_problem(document: Mapping[str, Any], pack: Mapping[str, Any]) -> str | None:
    """The first thing wrong with an export's sessions and answers, None if nothing is."""
    if type(document.get("simulated_readers")) is not bool:
        return "it does not say whether the reader is simulated"
    if not isinstance(document["answers"], list) or not isinstance(document.get("sessions"), list):
        return "answers and sessions are no lists"
    parts = {session["number"]: session["part"] for session in pack["sessions"]}
    known = {(session["number"], item["item"]) for session in pack["sessions"] for item in session["items"]}
    problem = _sessions_problem(document["sessions"], parts)
    begun = set() if problem else {session["number"] for session in document["sessions"] if session.get("started")}
    seen: set[tuple[Any, Any]] = set()
    for answer in document["answers"]:
        if problem:
            return problem
        if not isinstance(answer, dict):
            return "an answer is no mapping"
        shown = (answer.get("session"), answer.get("item"))
        if type(shown[0]) is not int or not isinstance(shown[1], str) or shown not in known:
            return f"item `{shown[1]}` of session {shown[0]} is not in the pack"
        if shown[0] not in begun:
            return f"item `{shown[1]}` is answered, but session {shown[0]} was never begun"
        if shown in seen:
            return f"item `{shown[1]}` of session {shown[0]} is answered twice"
        seen.add(shown)
        problem = _answer_problem(answer, parts[shown[0]], pack)
        problem = problem and f"item `{shown[1]}` of session {shown[0]}: {problem}"
    return problem


def _sessions_problem(sessions: Sequence[Any], parts: Mapping[int, str]) -> str | None:
    numbers = [session.get("number") for session in sessions if isinstance(session, dict)]
    whole = len(numbers) == len(sessions) and all(type(number) is int for number in numbers)
    if not whole or not set(numbers) <= parts.keys() or len(set(numbers)) != len(numbers):
        return "its sessions are not those of the pack"
    for session in sessions:
        for name in ("started", "finished"):
            value = session.get(name)
            if value is not None and instant(value) is None:
                return f"session {session['number']}: {name} is no time: {value!r}"
        if type(session.get("washout_overridden", False)) is not bool:
            return f"session {session['number']}: washout_overridden is not yes or no"
    return None


def instant(text: Any) -> datetime | None:
    """A time as the page writes it (ISO 8601 with a zone), None if it is not one."""
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else None


def _answer_problem(answer: Mapping[str, Any], part: str, pack: Mapping[str, Any]) -> str | None:
    if answer.get("part") != part:
        return f"part `{answer.get('part')}`, expected `{part}`"
    seconds = answer.get("seconds")
    if not _is_number(seconds) or not 0 <= seconds <= LONGEST_SECONDS:
        return f"seconds {str(seconds)[:20]}"
    for name in ("visits", "changes"):
        count = answer.get(name, 0)
        if type(count) is not int or not 0 <= count <= LONGEST_SECONDS:
            return f"`{name}` is no number of times"
    values, offered = answer.get("values"), asked(pack, part)
    if not isinstance(values, dict) or type(answer.get("complete")) is not bool:
        return "without values, or without saying whether they are complete"
    for name, value in values.items():
        if name == "comment" and part != ACCEPTABILITY:
            valid = isinstance(value, str) and _is_text(value)
        elif name not in offered:
            return f"`{name}` was not asked"
        else:
            valid = value is None or _is_offered(value, name, offered[name])
        if not valid:
            return f"`{name}` has the value {value!r}, which the page does not offer"
    missing = [name for name in offered if values.get(name) in (None, [])]
    return f"called complete without `{missing[0]}`" if answer["complete"] and missing else None


def _is_number(value: Any) -> bool:
    # an integer may be too large for `math.isfinite`, and is finite
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: str) -> bool:
    """Whether it can be written: half of a surrogate pair, which JSON can hold, can not."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_offered(value: Any, name: str, offered: Sequence[Any]) -> bool:
    """Whether a value is among those offered; of locations several may be chosen, but not nowhere and somewhere."""
    if name != "locations":
        return not isinstance(value, bool) and value in offered
    if not isinstance(value, list) or len(set(map(str, value))) != len(value):
        return False
    return set(map(str, value)) <= {*offered, NOWHERE} and not (NOWHERE in value and len(value) > 1)


def asked(pack: Mapping[str, Any], part: str) -> dict[str, list[Any]]:
    """What a part asks: the values offered, by question."""
    if part == ACCEPTABILITY:
        levels = [level["value"] for level in pack["acceptability"]["levels"]]
        questions = {item["name"]: levels for item in pack["acceptability"]["items"]}
        guess = [choice["name"] for choice in pack.get("guess") or []]
        return questions | ({"guess": guess} if guess else {})
    block = pack["diagnosis"]
    offered = {
        "diagnosis": [choice["name"] for choice in block["choices"]],
        "confidence": [level["value"] for level in block["confidence"]],
        "locations": [place["name"] for place in block.get("locations") or []],
        "pattern": [pattern["name"] for pattern in block.get("patterns") or []],
    }
    return {name: values for name, values in offered.items() if values}


def stored_exports(folder: str | Path, readers: Iterable[str]) -> list[Path]:
    """Exports that were imported, in the readers' order; who has sent nothing is not there.

    Raises:
        ConfigError: answers of somebody whom the readers' table does not name: who is left out after reading biases
            the study, and nothing would tell.
    """
    known = list(readers)
    strangers = sorted({path.stem for path in Path(folder).glob("*.json")} - set(known))
    if strangers:
        raise ConfigError(
            f"answers of {', '.join(strangers)} were imported, but the readers' table does not name them",
            path=folder,
            key="read.readers",
            hint="put the line back; or move the file to a folder beside it, and report the exclusion",
        )
    paths = [Path(folder, f"{reader}.json") for reader in known]
    return [path for path in paths if path.is_file()]


def import_export(path: str | Path, packs: str | Path, folder: str | Path, *, study: str, partial: bool) -> str:
    """Check one export and keep it as `<folder>/<reader>.json`; what it replaces is kept beside it.

    Args:
        path: the reader's file.
        packs: folder of the packs, `<packs>/<reader>/pack.js`.
        folder: where accepted exports lie (config `read.exports`).
        study: name of the study.
        partial: whether an export with missing answers is accepted.

    Returns:
        What was done, one line.

    Raises:
        Ct2vqError: the file is refused, with the reason; nothing has changed then.
    """
    document = read_export(path)
    pack = _pack_of(document, Path(packs), study, path)
    coverage = check_export(document, pack, path)
    if document["simulated_readers"]:
        raise Ct2vqError("the answers of a simulated reader are not imported; the workflow makes them", path=path)
    if not coverage.whole and not partial:
        raise Ct2vqError(
            f"{coverage.complete} of {coverage.items} items are complete",
            path=path,
            hint="ask the reader to finish, or accept it as it is with --partial",
        )
    kept = Path(folder, f"{document['reader']}.json")
    replaced = _keep_earlier(document, kept, path)
    with replacing(kept) as temporary:
        temporary.write_bytes(Path(path).read_bytes())
    return f"{path}: accepted, {coverage.complete} of {coverage.items} items of reader {document['reader']}{replaced}"


def _pack_of(document: Mapping[str, Any], packs: Path, study: str, path: str | Path) -> dict[str, Any]:
    if document.get("study") != study:
        raise Ct2vqError(f"study `{document.get('study')}`, expected `{study}`", path=path, key="study")
    reader = str(document["reader"])
    known = sorted(found.parent.name for found in packs.glob("*/pack.js"))
    if reader not in known:
        raise Ct2vqError(f"no pack of reader `{reader}`", path=path, key="reader", hint=f"packs: {', '.join(known)}")
    return read_pack(packs / reader / "pack.js")


def _keep_earlier(document: Mapping[str, Any], kept: Path, path: str | Path) -> str:
    """Put aside what was imported before from this reader, if the new export goes on from it.

    Raises:
        Ct2vqError: it is the same, or it lacks or changes answers that are there.
    """
    if not kept.is_file():
        return ""
    earlier = read_export(kept)
    if earlier["digest"] == document["digest"]:
        raise Ct2vqError("imported already", path=path)
    if earlier["pack"] == document["pack"]:
        _require_no_loss(earlier, document, kept, path)
    aside = kept.parent / REPLACED / f"{kept.stem}-{earlier['digest'][:8]}.json"
    copy_file(kept, aside)
    return f"; the earlier file is kept as {aside}"


def _require_no_loss(earlier: Mapping[str, Any], later: Mapping[str, Any], kept: Path, path: str | Path) -> None:
    """Answers may be added; nothing of a finished session may have changed, and no answer may be missing."""
    before, after = (
        {(answer["session"], answer["item"]): answer for answer in document["answers"] if answer["complete"]}
        for document in (earlier, later)
    )
    lost = before.keys() - after.keys()
    finished = {session["number"]: session for session in earlier["sessions"] if session.get("finished")}
    both = [item for item in before.keys() & after.keys() if item[0] in finished]
    changed = [
        item for item in both if any(before[item].get(name) != after[item][name] for name in ("values", "seconds"))
    ]
    now = {session["number"]: session for session in later["sessions"]}
    times = [number for number, session in finished.items() if _times_of(session) != _times_of(now.get(number, {}))]
    problem = ""
    if lost:
        problem = f"it lacks {len(lost)} answers that were imported before"
    elif changed:
        problem = f"it changes {len(changed)} answers of finished sessions, or their seconds, that were imported before"
    elif times:
        problem = f"it changes start, end or washout of session {times[0]}, which was imported as finished"
    if problem:
        raise Ct2vqError(
            problem,
            path=path,
            hint=f"is it older? If it is to count, move {kept} away yourself",
        )


def _times_of(session: Mapping[str, Any]) -> tuple[Any, ...]:
    return session.get("started"), session.get("finished"), bool(session.get("washout_overridden"))


def import_exports(
    files: Sequence[str | Path], packs: str | Path, folder: str | Path, *, study: str, partial: bool
) -> tuple[list[str], list[str]]:
    """Import several exports, each by itself: a refused one keeps none of the others from being accepted.

    Returns:
        Lines of what was accepted, and of what was refused with its reason.
    """
    accepted, refused = [], []
    for path in files:
        try:
            accepted.append(import_export(path, packs, folder, study=study, partial=partial))
        except Ct2vqError as error:
            refused.append(str(error))
    return accepted, refused

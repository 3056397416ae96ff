"""Content digests: what a stage's code is, and what a raw folder holds.

Snakemake's own code trigger sees only a script's file. Each rule therefore passes, as a param, a digest of its adapter
and of every `ct2vq` module that the adapter uses, directly or through others, together with the pinned versions of the
libraries that those modules import. A changed line reruns the stages that depend on it; a touched file, a changed
comment or docstring reruns nothing.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ct2vq.errors import DicomError
from ct2vq.files import sha256_file, sha256_text, write_json
from ct2vq.identity.store import write_private

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "ct2vq"
#: modules that can change what a run says but not what it computes
WITHOUT_EFFECT = frozenset({"ct2vq.errors", "ct2vq.forecast", "ct2vq.gpus", "ct2vq.logs"})
AS_SIMULATED = "as simulated"
#: files of exact versions: what every run needs, and what one option needs on top
PIN_FILES = (
    "requirements.lock",
    "requirements-osem.txt",
    "requirements-lungmask.txt",
    "requirements-totalsegmentator.txt",
)
#: distributions whose import name is not their own name
DISTRIBUTIONS = {
    "ants": "antspyx",
    "dicomanonymizer": "dicom-anonymizer",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
#: libraries that another one imports for us and that take part in the computation
BEHIND = {"monai": ("einops",)}


class KnownCode:
    """What files of code do and what they import, each looked at once.

    Parsing all modules takes seconds, and every job of a cluster starts Snakemake again: what was found is kept in a
    file, by the content that it was found in.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._facts = _read_cache(file) if file else {}
        self._of_path: dict[tuple[Path, Path], dict[str, Any]] = {}
        self._is_new = False

    def meaning(self, path: Path, root: Path) -> str:
        """Digest of what a file does."""
        return self._found(path, root)["meaning"]

    def imports(self, path: Path, root: Path) -> list[str]:
        """Dotted names that a file imports, each once."""
        return self._found(path, root)["imports"]

    def keep(self) -> None:
        """Write what is new; without a place to write, the next start looks again."""
        if self._file and self._is_new:
            with suppress(OSError):
                write_json(self._facts, self._file)
            self._is_new = False

    def _found(self, path: Path, root: Path) -> dict[str, Any]:
        if (path, root) not in self._of_path:
            content = path.read_text(encoding="utf-8")
            key = sha256_text(f"{_how_code_is_read()}:{path.relative_to(root).as_posix()}:{content}")
            if key not in self._facts:
                tree = ast.parse(content, filename=str(path))
                names = list(dict.fromkeys(_imported(tree, path, root)))
                self._facts[key] = {"meaning": sha256_text(_dump(tree)), "imports": names}
                self._is_new = True
            self._of_path[path, root] = self._facts[key]
        return self._of_path[path, root]


IN_MEMORY = KnownCode()


@cache
def _how_code_is_read() -> str:
    """Digest of this module and Python's version: another one may find something else in the same file."""
    return sha256_text(f"{sys.version_info[:2]}{Path(__file__).read_text(encoding='utf-8')}")


@cache
def code_digest(entry: str, root: Path = ROOT, known: KnownCode | None = None) -> str:
    """Digest of a script, of the project's modules that it uses, and of the pinned libraries that these import.

    Args:
        entry: path of the script relative to the project's root, such as `scripts/register.py`.
        root: the project's root.
        known: what is known of the files already; what is found is added.
    """
    known = known or IN_MEMORY
    modules, libraries = _closure(root / entry, root, known)
    known.keep()
    parts = {path.relative_to(root).as_posix(): known.meaning(path, root) for path in modules}
    pins = pinned_versions(root)
    parts |= {f"pin:{name}": pins[name] for name in libraries if name in pins}
    return sha256_text(json.dumps(parts, sort_keys=True))[:16]


def folder_digest(source: Path | tuple[Path, tuple[Path, ...]], cache_folder: Path) -> str:
    """Digest of the names, sizes and contents of all files under a folder (or of one file).

    Of a series of the inventory (its folder and its files, as `resolve_source` gives them) it is `files_digest`.
    Content hashes are kept in `cache_folder` and reused while a file's size and modification time are unchanged.

    Returns:
        16 hexadecimal digits, or `missing` / `empty`, so that a folder that appears later is noticed.
    """
    if isinstance(source, tuple):
        return files_digest(source[1], cache_folder)
    files = list(_files(source))
    if not files:
        return "empty" if source.exists() else "missing"
    return _contents_digest(_content_hashes(files, str(source.absolute()), cache_folder))


def files_digest(files: Sequence[Path], cache_folder: Path) -> str:
    """Digest of the contents of given files, in whatever order and under whatever names.

    An export that is moved, or a series of which another copy is read, is still the same. Content hashes are kept as
    for `folder_digest`.

    Returns:
        16 hexadecimal digits, or `missing` if a file is not there.

    Raises:
        DicomError: a file cannot be read.
    """
    if not all(path.is_file() for path in files):
        return "missing"
    named = [(str(path.absolute()), path) for path in sorted(files)]
    hashes = _content_hashes(named, "\n".join(name for name, _ in named), cache_folder)
    return sha256_text(json.dumps(sorted(hashes.values())))[:16]


def _content_hashes(files: Sequence[tuple[str, Path]], cache_key: str, cache_folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its name; those of unchanged files come from the cache, which is kept by `cache_key`.

    The cache names files by hashes too: their own names may hold a patient's.
    """
    cache_file = cache_folder / f"{sha256_text(cache_key)[:32]}.json"
    known = _read_cache(cache_file)
    hidden = {name: sha256_text(f"{cache_key}/{name}")[:32] for name, _ in files}
    entries = {hidden[name]: _entry(path, known.get(hidden[name])) for name, path in files}
    if entries != known:
        write_private(cache_file, json.dumps(entries, sort_keys=True))
    return {name: entries[key]["sha256"] for name, key in hidden.items()}


def simulated_digest(source: Path, manifest: Path, cache_folder: Path) -> str:
    """`as simulated` while a simulated folder holds what the simulation wrote (or is still to come), else its digest.

    A folder that does not exist yet has no digest, and a param that changed once the folder is there would rerun the
    stage; a slice that somebody replaced must.

    Args:
        source: the DICOM folder of one volume.
        manifest: `manifest.json` of the case: SHA-256 by path relative to the manifest's folder.
        cache_folder: where content hashes are kept.
    """
    if not (source.is_dir() and manifest.is_file()):
        return AS_SIMULATED
    written = json.loads(manifest.read_text(encoding="utf-8"))
    prefix = f"{source.relative_to(manifest.parent).as_posix()}/"
    expected = {name.removeprefix(prefix): digest for name, digest in written.items() if name.startswith(prefix)}
    found = folder_digest(source, cache_folder)
    return AS_SIMULATED if found == _contents_digest(expected) else found


def _contents_digest(contents: dict[str, str]) -> str:
    return sha256_text(json.dumps(sorted(contents.items())))[:16]


def _files(source: Path) -> Iterator[tuple[str, Path]]:
    if source.is_file():
        yield source.name, source
    for folder, subfolders, names in os.walk(source):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            yield path.relative_to(source).as_posix(), path


def _entry(path: Path, known: dict | None) -> dict:
    try:
        status = path.stat()
        if known and (known["size"], known["mtime_ns"]) == (status.st_size, status.st_mtime_ns):
            return known
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_file(path)}
    except OSError as error:
        raise DicomError("D104", f"cannot be read: {error.strerror}", path=path) from error


def _read_cache(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _closure(entry: Path, root: Path, known: KnownCode | None = None) -> tuple[set[Path], set[str]]:
    """The project files reachable from `entry` by imports, and the distributions that they import."""
    known = known or IN_MEMORY
    reached: set[Path] = set()
    libraries: set[str] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        for name in known.imports(path, root):
            if name.split(".")[0] == PACKAGE:
                waiting += _module_files(name, root)
            elif name.split(".")[0] not in sys.stdlib_module_names:
                top = name.split(".")[0]
                distribution = DISTRIBUTIONS.get(top, top).lower().replace("_", "-")
                libraries |= {distribution, *BEHIND.get(distribution, ())}
    return reached, libraries


def _imported(tree: ast.Module, path: Path, root: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in the file; `from a import b` gives both `a` and `a.b`.

    What stands under `if TYPE_CHECKING:` is imported by no run: another Snakemake must not rerun a study.
    """
    inside = path.relative_to(root).with_suffix("").parts
    package = list(inside[:-1])
    for node in _nodes_that_run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _nodes_that_run(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _nodes_that_run(child)


@cache
def _module_files(name: str, root: Path) -> list[Path]:
    """The files that importing `name` runs: the module and the `__init__` of every package above it."""
    if name in WITHOUT_EFFECT:
        return []
    parts = name.split(".")
    found = [root.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
    found.append(root.joinpath(*parts[:-1], f"{parts[-1]}.py"))
    return [path for path in found if path.is_file()]


def _dump(node: object) -> str:
    """The syntax tree as text, without comments, layout and docstrings.

    Empty fields are left out, so that Python's minor versions agree on it.
    """
    if isinstance(node, ast.AST):
        fields = ((name, _dump(value)) for name, value in ast.iter_fields(node) if name not in {"kind", "type_ignores"})
        inside = ",".join(f"{name}={text}" for name, text in fields if text not in {"None", "[]"})
        return f"{type(node).__name__}({inside})"
    if isinstance(node, list):
        return f"[{','.join(_dump(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: object) -> bool:
    """A bare string statement: a docstring, or of no effect anyway."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def pinned_versions(root: Path = ROOT) -> dict[str, str]:
    """Exact version by distribution name (lower case, hyphens), of all files of pins."""
    return {name: version for file in PIN_FILES for name, version in _pins(root / file).items()}


@cache
def _pins(lock: Path) -> dict[str, str]:
    if not lock.is_file():
        return {}
    matches = re.finditer(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {match[1].lower().replace("_", "-"): match[2] for match in matches}

"""A changed line changes the digests of exactly those scripts that depend on it; nothing else changes any."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path

import pytest

from ct2vq import digests
from ct2vq.digests import AS_SIMULATED, ROOT, KnownCode, code_digest, folder_digest, simulated_digest
from ct2vq.errors import DicomError
from ct2vq.files import sha256_file, write_json

TREE = {
    "scripts/a.py": "from ct2vq.alpha import f\n",
    "scripts/b.py": "def main():\n    from ct2vq import beta\n    return beta\n",
    "scripts/c.py": "import ct2vq.sub.leaf as leaf\n",
    "scripts/d.py": "from ct2vq.logs import stage\nimport torch\n",
    "ct2vq/__init__.py": "__version__ = '1'\n",
    "ct2vq/logs.py": "from ct2vq import errors\n",
    "ct2vq/errors.py": "class E(Exception): pass\n",
    "ct2vq/alpha.py": (
        '"""Alpha."""\nfrom . import gamma\n\n\ndef f(x):\n    """Double."""\n    return 2 * x  # twice\n'
    ),
    "ct2vq/beta.py": "def g():\n    import numpy\n    from ct2vq.sub import leaf\n    return leaf, numpy\n",
    "ct2vq/gamma.py": "import scipy.stats as stats\nRATE = 0.5\n",
    "ct2vq/delta.py": "import pandas\n",
    "ct2vq/sub/__init__.py": "from .leaf import h\n",
    "ct2vq/sub/leaf.py": "from ..gamma import RATE\n\n\ndef h():\n    return RATE\n",
    "requirements.lock": "numpy==1.0\nscipy==2.0\npandas==3.0\ntorch==4.0\n",
}
SCRIPTS = "abcd"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digest_all(root: Path) -> dict[str, str]:
    for cached in (code_digest, digests._module_files, digests._pins):
        cached.cache_clear()
    known = KnownCode()
    return {name: code_digest(f"scripts/{name}.py", root, known) for name in SCRIPTS}


def changed_by(tree: Path, file: str, old: str, new: str) -> str:
    before = digest_all(tree)
    assert old in TREE[file]
    (tree / file).write_text(TREE[file].replace(old, new))
    after = digest_all(tree)
    return "".join(name for name in SCRIPTS if before[name] != after[name])


@pytest.mark.parametrize(
    ("file", "old", "new", "dependants"),
    [
        ("ct2vq/alpha.py", "2 * x", "3 * x", "a"),
        ("ct2vq/alpha.py", "2 * x", "2 * -x", "a"),
        ("ct2vq/beta.py", "leaf, numpy", "numpy, leaf", "b"),
        ("ct2vq/gamma.py", "0.5", "0.25", "abc"),
        ("ct2vq/gamma.py", "0.5", "'0.5'", "abc"),
        ("ct2vq/sub/leaf.py", "return RATE", "return -RATE", "bc"),
        ("ct2vq/sub/__init__.py", "import h", "import h as i", "bc"),
        ("ct2vq/__init__.py", "'1'", "'2'", "abcd"),
        ("ct2vq/delta.py", "pandas", "numpy", ""),
        ("ct2vq/errors.py", "pass", "'''why'''", ""),
        ("ct2vq/logs.py", "errors", "errors as e", ""),
        ("scripts/b.py", "return beta", "return None", "b"),
        ("scripts/b.py", "    return beta", "    return", "b"),
    ],
)
def test_a_changed_line_reaches_its_dependants(tree: Path, file: str, old: str, new: str, dependants: str) -> None:
    assert changed_by(tree, file, old, new) == dependants


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("ct2vq/alpha.py", "# twice", "# the double of it"),
        ("ct2vq/alpha.py", '"""Double."""', '"""Twice as much."""'),
        ("ct2vq/alpha.py", '    """Double."""\n', ""),
        ("ct2vq/alpha.py", '"""Alpha."""', "'''Another.'''"),
        ("ct2vq/alpha.py", "2 * x", "(2\n        * x)"),
        ("ct2vq/gamma.py", "0.5", "0.50"),
        ("ct2vq/__init__.py", "'1'", '"1"'),
        ("scripts/a.py", "from", "# a comment\nfrom"),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(tree: Path, file: str, old: str, new: str) -> None:
    assert changed_by(tree, file, old, new) == ""


def test_touching_changes_nothing_and_the_place_of_the_tree_neither(tree: Path, tmp_path_factory) -> None:
    before = digest_all(tree)
    for path in tree.rglob("*.py"):
        os.utime(path, (1, 1))
    assert digest_all(tree) == before
    moved = tmp_path_factory.mktemp("elsewhere") / "tree"
    tree.rename(moved)
    assert digest_all(moved) == before


@pytest.mark.parametrize(
    ("pin", "dependants"), [("numpy==1.0", "b"), ("scipy==2.0", "abc"), ("torch==4.0", "d"), ("pandas==3.0", "")]
)
def test_a_pinned_version_reaches_who_imports_it(tree: Path, pin: str, dependants: str) -> None:
    assert changed_by(tree, "requirements.lock", pin, pin + ".1") == dependants


def test_a_docstring_that_is_all_of_a_body_is_no_code(tree: Path) -> None:
    assert changed_by(tree, "ct2vq/alpha.py", "    return 2 * x", "    pass") == "a"


def test_the_same_text_in_another_place_is_another_program(tree: Path) -> None:
    (tree / "ct2vq/alpha.py").write_text("def f(x):\n    if x:\n        x += 1\n    return x\n")
    before = digest_all(tree)
    (tree / "ct2vq/alpha.py").write_text("def f(x):\n    if x:\n        x += 1\n        return x\n")
    assert digest_all(tree)["a"] != before["a"]


def project_scripts() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", project_scripts())
def test_every_library_that_the_project_imports_is_pinned(script: str) -> None:
    modules, libraries = digests._closure(ROOT / script, ROOT)
    assert len(modules) > 2, "a script without a module of the project"
    assert libraries - {"snakemake"} <= digests.pinned_versions(ROOT).keys()


def test_a_library_behind_another_one_counts_too() -> None:
    """MONAI's Swin UNETR computes with einops, which no module of ours names."""
    _, libraries = digests._closure(ROOT / "scripts/train.py", ROOT)
    assert {"monai", "einops", "torch", "lightning-fabric"} <= libraries
    assert "einops" in digests.pinned_versions(ROOT)


def test_nothing_is_imported_in_a_way_that_the_digest_cannot_see() -> None:
    for path in (ROOT / "ct2vq").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("__import__", "importlib.import_module", "import_module", "exec", "eval"), path


def test_the_digest_needs_no_heavy_import() -> None:
    import subprocess

    code = (
        "import sys; from ct2vq.digests import code_digest; code_digest('scripts/train.py');"
        "print([m for m in ('torch', 'ants', 'numpy', 'pandas', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    for name, content in {"1.dcm": b"one", "2.dcm": b"two", "inner/3.dcm": b"three"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_raw_folder_is_its_names_and_contents(raw: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = folder_digest(raw, cache)
    assert len(before) == 16
    os.utime(raw / "1.dcm", (1, 1))
    (raw / "2.dcm").write_bytes(b"two")
    assert folder_digest(raw, cache) == before, "touched or written again with the same content"
    (raw / "1.dcm").write_bytes(b"onE")
    other = folder_digest(raw, cache)
    assert other != before, "a replaced byte"
    (raw / "1.dcm").write_bytes(b"one")
    assert folder_digest(raw, cache) == before
    (raw / "1.dcm").rename(raw / "0.dcm")
    assert folder_digest(raw, cache) not in (before, other), "a renamed file"
    (raw / "0.dcm").rename(raw / "1.dcm")
    (raw / "inner/3.dcm").unlink()
    assert folder_digest(raw, cache) != before, "a missing file"


def test_the_cache_only_saves_time(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folder_digest(raw, tmp_path / "cache")
    hashed: list[Path] = []
    monkeypatch.setattr(digests, "sha256_file", lambda path: hashed.append(path) or sha256_file(path))
    assert folder_digest(raw, tmp_path / "cache") == first
    assert not hashed
    os.utime(raw / "2.dcm", (1, 1))
    assert folder_digest(raw, tmp_path / "cache") == first
    assert [path.name for path in hashed] == ["2.dcm"]
    assert folder_digest(raw, tmp_path / "another") == first
    for file in (tmp_path / "cache").iterdir():
        file.write_text("{ torn")
    assert folder_digest(raw, tmp_path / "cache") == first


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert folder_digest(tmp_path / "raw", tmp_path / "cache") == "missing"
    (tmp_path / "raw" / "inner").mkdir(parents=True)
    assert folder_digest(tmp_path / "raw", tmp_path / "cache") == "empty"
    (tmp_path / "raw" / "file").write_bytes(b"1")
    assert folder_digest(tmp_path / "raw", tmp_path / "cache") not in ("missing", "empty")
    assert len(folder_digest(tmp_path / "raw" / "file", tmp_path / "cache")) == 16


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "broken.dcm").symlink_to(tmp_path / "gone")
    with pytest.raises(DicomError, match=r"broken\.dcm"):
        folder_digest(folder, tmp_path / "cache")


def test_a_simulated_folder_is_as_simulated_until_somebody_changes_it(raw: Path, tmp_path: Path) -> None:
    manifest, cache = tmp_path / "manifest.json", tmp_path / "cache"
    assert simulated_digest(raw, manifest, cache) == AS_SIMULATED
    contents = {f"raw/{p.relative_to(raw).as_posix()}": sha256_file(p) for p in raw.rglob("*.dcm")}
    write_json(contents | {"perfusion/1.dcm": "other volume"}, manifest)
    assert simulated_digest(raw, manifest, cache) == AS_SIMULATED
    assert simulated_digest(tmp_path / "gone", manifest, cache) == AS_SIMULATED
    (raw / "1.dcm").write_bytes(b"onE")
    replaced = simulated_digest(raw, manifest, cache)
    assert replaced != AS_SIMULATED
    assert replaced == folder_digest(raw, cache)
    (raw / "1.dcm").write_bytes(b"one")
    assert simulated_digest(raw, manifest, cache) == AS_SIMULATED
    (raw / "additional.dcm").write_bytes(b"4")
    assert simulated_digest(raw, manifest, cache) != AS_SIMULATED
    assert json.loads(manifest.read_text())["perfusion/1.dcm"] == "other volume"


def test_what_is_known_of_code_is_kept_by_its_content(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept" / "code.json"
    before = digest_all(tree)
    assert {name: code_digest(f"scripts/{name}.py", tree, KnownCode(kept)) for name in SCRIPTS} == before
    parsed: list[str] = []
    monkeypatch.setattr(digests.ast, "parse", lambda content, filename: parsed.append(filename) or parse(content))
    parse = compile_to_tree
    assert {name: code_digest(f"scripts/{name}.py", tree, KnownCode(kept)) for name in SCRIPTS} == before
    assert parsed == [], "another start finds everything"
    (tree / "ct2vq" / "gamma.py").write_text("RATE = 1\n")
    again = {name: code_digest(f"scripts/{name}.py", tree, KnownCode(kept)) for name in "a"}
    assert [Path(name).name for name in parsed] == ["gamma.py"]
    assert again["a"] != before["a"]
    kept.write_text("{ broken")
    assert code_digest("scripts/b.py", tree, KnownCode(kept)) == digest_all(tree)["b"]


def compile_to_tree(content: str) -> digests.ast.Module:
    return compile(content, "code", "exec", digests.ast.PyCF_ONLY_AST)

"""The container's recipes: no engine builds them in these tests, but what they say is read and compared."""

from __future__ import annotations

import fnmatch
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from ct2vq.digests import PIN_FILES

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("Containerfile", "ct2vq.def")
#: what a run reads of a checkout
NEEDED = {"Snakefile", "ct2vq", "config", "envs", "profiles", "resources", "scripts", "workflow", *PIN_FILES}


def _instructions() -> list[tuple[str, str]]:
    """Instructions of the Containerfile in order, continued lines joined."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


def _sections() -> dict[str, list[str]]:
    """Lines of each section of the Apptainer definition; `` holds the head."""
    sections: dict[str, list[str]] = {"": []}
    name = ""
    for line in (ROOT / "ct2vq.def").read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            sections[name] = []
        elif line.strip() and not line.strip().startswith("#"):
            sections[name].append(line.strip())
    return sections


def _copied() -> dict[str, list[tuple[str, str]]]:
    """Source and place of everything that each recipe copies."""
    copies = [shlex.split(said) for name, said in _instructions() if name == "COPY"]
    copied = [(source, copy[-1]) for copy in copies for source in copy[:-1]]
    files = [tuple(line.split()) for line in _sections()["files"]]
    return {"Containerfile": copied, "ct2vq.def": files}


def _base(recipe: str) -> str:
    if recipe == "Containerfile":
        said = dict(_instructions())
        assert said["FROM"] == "${BASE}"
        return next(said.removeprefix("BASE=") for name, said in _instructions() if said.startswith("BASE="))
    head = dict(line.split(": ", 1) for line in _sections()[""])
    assert head["Bootstrap"] == "docker"
    return head["From"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_base_is_one_python_that_the_environments_have(recipe):
    tag = re.search(r"python:(\d+\.\d+)\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?$", _base(recipe))
    assert tag, f"{_base(recipe)}: a version of three numbers and a distribution, never `latest`"
    environments = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "envs").glob("*.yaml")]
    assert {f"python={tag[1]}" in one["dependencies"] for one in environments} == {True}
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert required == f">={tag[1]}"
    assert "@sha256:" in (ROOT / recipe).read_text(encoding="utf-8"), "how to pin the digest is explained"


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_run_needs_is_copied_and_is_there(recipe):
    sources = {source for source, _ in _copied()[recipe]}
    assert {source for source in sources if not (ROOT / source).exists()} == set()
    assert sources >= NEEDED, "a missing file of pins would change the digests of the code"


def test_both_recipes_copy_the_same():
    names = {recipe: {source for source, _ in copied} for recipe, copied in _copied().items()}
    assert names["Containerfile"] == names["ct2vq.def"]
    assert all(place == f"/opt/ct2vq/{source}" for source, place in _copied()["ct2vq.def"])


def test_nothing_is_sent_to_the_build_but_what_is_copied():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {line.removeprefix("!") for line in rules if line.startswith("!")}
    assert allowed == {source for source, _ in _copied()["Containerfile"]}
    kept_back = [line for line in rules[1:] if not line.startswith("!")]
    for table in ("config/cases.tsv", "config/exclusions.tsv", "config/readers.tsv"):
        assert any(fnmatch.fnmatch(table, pattern) for pattern in kept_back), table


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_installed_is_the_lock(recipe):
    text = (ROOT / recipe).read_text(encoding="utf-8")
    installs = re.findall(r"pip install (?!-t )(.*?)(?: &&|\\|$)", text, flags=re.MULTILINE)
    wanted = [line.strip() for line in installs]
    assert "-r requirements.lock" in wanted
    assert "--no-deps --no-build-isolation --editable ." in wanted
    others = set(wanted) - {"-r requirements.lock", "--no-deps --no-build-isolation --editable ."}
    assert all("-r torch.txt" in line and "--no-deps" in line for line in others), others


def test_the_container_runs_as_a_user_with_nothing_installed_later():
    said = _instructions()
    assert said[-1][0] == "CMD"
    users = [value for name, value in said if name == "USER"]
    assert users == ["ct2vq"]
    after = said[said.index(("USER", "ct2vq")) :]
    assert {name for name, _ in after} <= {"USER", "ENV", "WORKDIR", "ENTRYPOINT", "CMD"}
    created = [value for name, value in said if name == "RUN" and "useradd" in value]
    assert "--uid 1000" in created[0]


def test_package_lists_are_read_and_dropped_in_one_layer():
    for name, value in _instructions():
        if "apt-get install" in value:
            assert name == "RUN" and value.startswith("apt-get update")
            assert "--no-install-recommends" in value and value.endswith("rm -rf /var/lib/apt/lists/*")


def test_the_definition_has_what_apptainer_runs():
    sections = _sections()
    assert sections.keys() == {"", "files", "post", "environment", "runscript", "test"}
    assert sections["post"][0] == "set -e"
    assert sections["runscript"] == ['exec snakemake --snakefile /opt/ct2vq/Snakefile "$@"']

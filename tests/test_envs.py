"""The conda environments and requirements.lock pin one and the same version of every library."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from ct2vq.digests import DISTRIBUTIONS, _closure

ROOT = Path(__file__).resolve().parents[1]
#: imported only in the functions that register; other stages use a neighbour in the same module
ONLY_TO_REGISTER = {"antspyx"}
#: what an option imports, which has requirements and an environment of its own: a fidelity of the simulation, and
#: backends of the segmentation
OPTIONS = {
    "osem": {"torch", "pytomography"},
    "lungmask": {"torch", "lungmask"},
    "totalsegmentator": {"torch", "totalsegmentator"},
}
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))


def _pins(lines: list[str]) -> dict[str, str]:
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line.strip()) for line in lines]
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


def _pins_of(file: str) -> dict[str, str]:
    return _pins((ROOT / file).read_text(encoding="utf-8").splitlines())


LOCK = _pins_of("requirements.lock")
OPTIONAL = {option: _pins_of(f"requirements-{option}.txt") for option in OPTIONS}
ALL = {name: version for pins in (*OPTIONAL.values(), LOCK) for name, version in pins.items()}


def _pip_lines(environment: Path) -> list[str]:
    listed = yaml.safe_load(environment.read_text(encoding="utf-8"))["dependencies"]
    return next(entry["pip"] for entry in listed if isinstance(entry, dict))


def test_the_lock_pins_everything_exactly():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "--"))]
    assert len(LOCK) == len(wanted) > 50


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environments_pins_equal_the_lock(environment):
    lines = _pip_lines(environment)
    pins = _pins(lines)
    assert len(pins) == len(lines), "every library has an exact version"
    assert {name: ALL.get(name) for name in pins} == pins
    own = OPTIONAL.get(environment.stem, {})
    assert pins.keys() - LOCK.keys() == own.keys(), "all that an option needs, or nothing of it"


@pytest.mark.parametrize("option", OPTIONS)
def test_optional_libraries_are_no_others_of_the_lock(option):
    assert OPTIONAL[option].keys() & LOCK.keys() == set()
    assert {name: ALL[name] for name in OPTIONAL[option]} == OPTIONAL[option], "another option pins another version"


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_has_what_its_scripts_import(environment):
    """What a rule's script imports, through all modules of the project, is in the rule's conda environment."""
    pins = set(_pins(_pip_lines(environment)))
    others = [imports for option, imports in OPTIONS.items() if option != environment.stem]
    elsewhere = ONLY_TO_REGISTER.union(*others) - OPTIONS.get(environment.stem, set())
    missing = {}
    for script in _scripts_of(environment.name):
        _, libraries = _closure(ROOT / "scripts" / script, ROOT)
        lacking = {name for name in libraries if name in ALL} - pins - elsewhere
        if lacking:
            missing[script] = lacking
    assert missing == {}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environments_python_is_one_that_the_project_supports(environment):
    listed = yaml.safe_load(environment.read_text(encoding="utf-8"))["dependencies"]
    version = next(entry for entry in listed if isinstance(entry, str) and entry.startswith("python="))
    assert tuple(int(part) for part in version.removeprefix("python=").split(".")) >= (3, 11)


def test_the_environment_that_registers_has_ants():
    imaging = ROOT / "envs" / "imaging.yaml"
    assert "register.py" in _scripts_of(imaging.name)
    assert _pins(_pip_lines(imaging)).keys() >= ONLY_TO_REGISTER


@pytest.mark.parametrize(
    ("option", "script"),
    [("osem", "simulate.py"), ("lungmask", "segment_backend.py"), ("totalsegmentator", "segment_backend.py")],
)
def test_an_options_environment_serves_one_script(option, script):
    assert _scripts_of(f"{option}.yaml") == [script]
    assert _pins(_pip_lines(ROOT / "envs" / f"{option}.yaml")).keys() >= OPTIONAL[option].keys() | OPTIONS[option]


def test_every_library_that_the_project_imports_is_pinned():
    imported = set()
    for path in [*(ROOT / "ct2vq").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"ct2vq"}
    names = {DISTRIBUTIONS.get(name, name).lower().replace("_", "-") for name in foreign}
    assert names - ALL.keys() == set()


def _scripts_of(environment: str) -> list[str]:
    scripts = []
    backend = environment in ("lungmask.yaml", "totalsegmentator.yaml")
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for rule in re.split(r"^ *rule ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            if f"envs/{environment}" in rule:
                found = re.findall(r"scripts/(\w+\.py)\"\n", rule)
                scripts += [script for script in found if script.endswith("_backend.py") == backend]
    assert scripts
    return scripts

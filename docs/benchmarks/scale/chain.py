"""A plain Snakemake chain of the shape of a DAG: the same rules, wildcards and files, and none of our functions.

Made from the shape of a small study (`scale.dag`), for any number of cases: what a job of a case reads of its own case
becomes a pattern, what it reads of all cases an `expand` over them, what a training reads those of the other folds,
what a job of a portion of the cases reads those of the portion.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.portions import portions

CASE = re.compile(r"case\d{5}")
#: folders of portions of the cases
PORTION = re.compile(r"(results/report/(?:figures/[a-z]+|volumes))/[0-9]+")
HEAD = """import hashlib

CASES = open("cases.txt").read().split()
FOLDS = {{case: str(number % {folds} + 1) for number, case in enumerate(CASES)}}
NUMBER = 1
while NUMBER * 8 < len(CASES):
    NUMBER *= 2
PORTIONS = {{}}
for case in CASES:
    portion = int(hashlib.sha256(case.encode()).hexdigest()[:8], 16) % NUMBER
    PORTIONS.setdefault(str(portion), []).append(case)

wildcard_constraints:
    case="[a-z0-9]+", model="[a-z_]+", fold="[0-9]+", target="perfusion|ventilation", alternative="[a-z_]+",
    volume="[a-z_]+", portion="[0-9]+",

rule all:
    default_target: True
    input:
        {inputs}
"""
RULE = """
rule {name}:
    input:
        {inputs}
    output:
        {outputs},
    log:
        {logs},
    benchmark:
        {benchmark}
    wildcard_constraints:
        {constraints}
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "true"
"""


#: wildcards that have other values in a larger study
ANY = ("case", "portion")


def folds_of(shape: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Fold of each case of a DAG: the one whose trainings do not read it."""
    trainings = [
        (int(job["wildcards"]["fold"]), {found[0] for file in job["input"] if (found := CASE.search(file))})
        for job in shape["train"]["jobs"]
    ]
    cases = set().union(*(read for _, read in trainings))
    return {case: next(fold for fold, read in trainings if case not in read) for case in sorted(cases)}


def write_chain(shape: Mapping[str, Mapping[str, Any]], folds: Mapping[str, int], folder: Path) -> None:
    """Write `Snakefile` of the chain; `write_chain_cases` says for how many cases.

    Args:
        shape: rules of the DAG of a small study.
        folds: fold of each case of that study.
        folder: the chain's directory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = set(folds)
    number = max(folds.values())
    text = HEAD.format(folds=number, inputs="\n        ".join(_inputs(shape["all"], folds, cases)))
    for name, rule in shape.items():
        if name != "all":
            text += _rule(name, rule, folds, cases)
    (folder / "Snakefile").write_text(text, encoding="utf-8")


def write_chain_cases(folder: Path, names: list[str]) -> None:
    """Write the chain's list of cases."""
    (folder / "cases.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _rule(name: str, rule: Mapping[str, Any], folds: Mapping[str, int], cases: set[str]) -> str:
    outputs = [
        f"directory({json.dumps(file)})" if is_directory else json.dumps(file)
        for file, is_directory in zip(rule["output"], rule["directories"], strict=True)
    ]
    values: dict[str, set[str]] = defaultdict(set)
    for job in rule["jobs"]:
        for wildcard, value in job["wildcards"].items():
            values[wildcard].add(value)
    constraints = [f'{name}="{"|".join(sorted(found))}",' for name, found in values.items() if name not in ANY]
    text = RULE.format(
        name=name,
        inputs="\n        ".join(_inputs(rule, folds, cases)),
        outputs=",\n        ".join(outputs),
        logs=",\n        ".join(map(json.dumps, rule["log"])),
        benchmark=json.dumps(rule["benchmark"]),
        constraints="\n        ".join(constraints),
    )
    return text if constraints else text.replace("    wildcard_constraints:\n        \n", "")


def _inputs(rule: Mapping[str, Any], folds: Mapping[str, int], cases: set[str]) -> list[str]:
    """Lines of a rule's input; where jobs differ in more than their wildcards, a look-up by the other wildcards."""
    by_others: dict[tuple[str, ...], list[str]] = {}
    for job in rule["jobs"]:
        others = {key: value for key, value in job["wildcards"].items() if key not in ANY}
        made = _templates(job, folds, cases)
        key = tuple(others.values())
        if by_others.setdefault(key, made) != made:
            raise ValueError(f"jobs differ beyond case, fold and {list(others)}: {by_others[key]} {made}")
    different = list(by_others.values())
    if all(one == different[0] for one in different):
        return different[0]
    names = [key for key in rule["jobs"][0]["wildcards"] if key != "case"]
    asked = ", ".join(f"w.{name}" for name in names)
    table = "{" + ", ".join(f"{key!r}: lambda w: {_list(lines)}" for key, lines in by_others.items()) + "}"
    return [f"lambda w: {table}[({asked},)](w),"]


def _list(lines: list[str]) -> str:
    """Lines of an input as the list that a function returns; the function fills in what a pattern would."""
    parts = []
    for line in lines:
        line = line.removesuffix(",")
        if line.startswith("expand("):
            parts.append(f"*{line}")
        elif line.startswith("lambda w: "):
            parts.append(f"*({line.removeprefix('lambda w: ')})")
        else:
            parts.append(f"{line}.format(**w)")
    return "[" + ", ".join(parts) + "]"


def _templates(job: Mapping[str, Any], folds: Mapping[str, int], cases: set[str]) -> list[str]:
    own = job["wildcards"].get("case")
    lines: list[str] = []
    others: dict[str, set[str]] = defaultdict(set)
    for folder in dict.fromkeys(found[1] for file in job["input"] if (found := PORTION.fullmatch(file))):
        lines.append(f'expand("{folder}/{{portion}}", portion=PORTIONS),')
    for file in job["input"]:
        found = CASE.search(file)
        if PORTION.fullmatch(file):
            continue
        if found and found[0] != own:
            others[CASE.sub("{case}", file)].add(found[0])
        elif own and f"/fold{folds[own]}/" in file and "fold" not in job["wildcards"]:
            lines.append(f"lambda w: [{_quoted(file, folds[own])}.format(FOLDS[w.case])],")
        else:
            lines.append(json.dumps(_generic(file.replace(own, "{case}") if own else file, job)) + ",")
    for pattern, named in others.items():
        lines.append(_aggregate(pattern, named, job, folds, cases))
    return lines


def _generic(file: str, job: Mapping[str, Any]) -> str:
    """A file with the names of the job's wildcards in place of their values."""
    for name, value in job["wildcards"].items():
        if name != "case":
            file = re.sub(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9_]*ct/)", f"{{{name}}}", file)
    return file


def _quoted(file: str, fold: int) -> str:
    return json.dumps(file.replace(f"/fold{fold}/", "/fold{}/"))


def _aggregate(pattern: str, named: set[str], job: Mapping[str, Any], folds: Mapping[str, int], cases: set[str]) -> str:
    portion = job["wildcards"].get("portion")
    if portion and named == set(portions(sorted(cases), 8)[portion]):
        return f"lambda w: [{json.dumps(pattern)}.format(case=c) for c in PORTIONS[w.portion]],"
    if named == cases:
        return f"expand({json.dumps(pattern)}, case=CASES),"
    fold = job["wildcards"].get("fold")
    if fold and named == {case for case in cases if folds[case] != int(fold)}:
        return f"lambda w: [{json.dumps(pattern)}.format(case=c) for c in CASES if FOLDS[c] != w.fold],"
    raise ValueError(f"{pattern}: of {len(named)} of {len(cases)} cases")

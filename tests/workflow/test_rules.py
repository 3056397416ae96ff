"""House rules that the text of every rule keeps, and what its jobs were given."""

import ast
import base64
import json
import re

import pytest
from studies import ROOT

RULES = {
    match[1]: (path.stem, match[2])
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    for match in re.finditer(r"^rule (\w+):\n((?:(?:    .*)?\n)+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}
#: rules that say something at every call, and make nothing
WITHOUT_OUTPUT = {"check"}
#: rules that the embedded cohort does not need
ELSEWHERE = {"segment_backend", "sensitivity_case", "sensitivity_register"}
#: rules whose files stand beside another stage's: thresholds that classify are a part of the comparison, and figures of
#: readers a part of the report
BESIDE = {"detect": ("compare",), "read_report": ("read", "report/figures")}
DIRECTIVES = ("output", "log", "benchmark", "conda", "threads", "resources", "params", "script")


def _directive(text: str, name: str) -> str:
    found = re.search(rf"^    {name}:(.*\n(?:(?:        .*)?\n)*)", text, re.MULTILINE)
    return found[1] if found else ""


def test_every_rule_is_found():
    assert len(RULES) >= 15
    assert {stage for stage, _ in RULES.values()} == {path.stem for path in (ROOT / "workflow/rules").glob("*.smk")}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_all_it_needs(rule):
    stage, text = RULES[rule]
    missing = [name for name in DIRECTIVES if not _directive(text, name).strip()]
    assert missing == (["output", "benchmark"] if rule in WITHOUT_OUTPUT else [])
    resources = _directive(text, "resources")
    assert re.search(r"\bmem_mb=(lambda wildcards, attempt: )?memory\(\s*(\d+|model_training)", resources)
    assert re.search(r"\bruntime=(minutes\()?\d+", resources)
    assert rule.split("_")[0] == stage
    environment = re.search(r'"\.\./\.\./(envs/\w+\.yaml)"', _directive(text, "conda"))[1]
    assert (ROOT / environment).is_file()


@pytest.mark.parametrize("rule", RULES)
def test_files_of_a_rule_lie_where_its_stage_says(rule):
    stage, text = RULES[rule]
    assert f'"logs/{stage}/' in _directive(text, "log")
    if rule in WITHOUT_OUTPUT:
        return
    assert f'"benchmarks/{stage}/' in _directive(text, "benchmark")
    log, benchmark = (re.search(r'"(.*?)"', _directive(text, name))[1] for name in ("log", "benchmark"))
    assert log.removeprefix("logs/").removesuffix(".log") == benchmark.removeprefix("benchmarks/").removesuffix(".tsv")
    outputs = re.findall(r'"(results/.*?)"', _directive(text, "output"))
    assert outputs
    folders = tuple(f"results/{folder}/" for folder in BESIDE.get(rule, (stage,)))
    assert [path for path in outputs if not path.startswith(folders)] == []


@pytest.mark.parametrize("rule", RULES)
def test_inputs_and_outputs_have_names(rule):
    for name in ("input", "output"):
        items = [line for line in _directive(RULES[rule][1], name).splitlines() if re.match(r"        \S", line)]
        unnamed = [line for line in items if not re.match(r"        (\w+=|unpack\(|\*\*|[\])])", line)]
        assert unnamed == []


@pytest.mark.parametrize("rule", RULES)
def test_a_script_is_the_rules_own_and_its_code_is_a_param(rule):
    text = RULES[rule][1]
    script = re.search(r'"\.\./\.\./(scripts/\w+\.py)"', _directive(text, "script"))[1]
    assert script == f"scripts/{rule}.py"
    assert f'code=code_digest("{script}")' in _directive(text, "params")


def test_no_script_reads_the_whole_configuration():
    guilty = [path.name for path in (ROOT / "scripts").glob("*.py") if "snakemake.config" in path.read_text()]
    assert guilty == []


@pytest.mark.workflow
def test_params_are_plain_values(finished):
    """What Snakemake compares between runs must be the same text in every process: no paths, sets or objects."""
    records = [json.loads(path.read_text()) for path in finished.path(".snakemake/metadata").iterdir()]
    used = {rule for rule, (stage, _) in RULES.items() if stage != "check"} - ELSEWHERE
    assert {record["rule"] for record in records} == used
    for record in records:
        for param in record["params"]:
            value = ast.literal_eval(param)
            assert json.loads(json.dumps(value)) == value, f"{record['rule']}: {param}"


@pytest.mark.workflow
def test_every_output_has_a_record(finished):
    recorded = {
        base64.b64decode(path.name.removeprefix("@")).decode()
        for path in finished.path(".snakemake/metadata").iterdir()
    }
    assert "results/evaluate/metrics.tsv" in recorded
    assert len(recorded) > 150

"""The documentation of the configuration says what the schemas say, and config/config.yaml shows the defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ct2vq.codes import CODES
from ct2vq.cohort import EXCLUSION_COLUMNS, load_cohort
from ct2vq.config import complete_config
from ct2vq.errors import ConfigError
from ct2vq.reference import EXCLUSION_DESCRIPTIONS, config_keys, config_reference, errors_reference

#: keys that hold a frequency for some of a list of names
FREQUENCIES = {"simulate.diagnoses", "simulate.disease.comorbidity", "simulate.habits", "simulate.ct.kernels"}
CONFIG = Path(__file__).resolve().parents[1] / "config"


def test_the_page_is_what_the_schemas_give() -> None:
    found = (CONFIG / "README.md").read_text(encoding="utf-8")
    assert found == config_reference(), "config/README.md is behind the schemas: run `make docs`"


def test_the_page_of_errors_is_what_the_codes_give() -> None:
    found = (CONFIG.parent / "docs" / "errors.md").read_text(encoding="utf-8")
    assert found == errors_reference(), "docs/errors.md is behind ct2vq/codes.py: run `make docs`"
    assert all(f"| `{code}` |" in found for code in CODES)


def test_every_code_is_explained_and_used() -> None:
    files = [path for path in (CONFIG.parent / "ct2vq").rglob("*.py") if path.name != "codes.py"]
    raised = {code for path in files for code in re.findall(r"\"([DW]\d{3})[\" ]", path.read_text(encoding="utf-8"))}
    assert raised - CODES.keys() == set(), "a code that ct2vq/codes.py does not explain"
    assert CODES.keys() - raised == set(), "a code that nothing raises"
    for code, entry in CODES.items():
        assert re.fullmatch(r"[DW][1-9]\d\d", code)
        assert entry.meaning.endswith(".") and entry.remedy.endswith(".")


def test_every_key_and_column_is_described() -> None:
    keys = config_keys()
    assert {"study", "crop.spacing_mm", "models.<name>.kind", "evaluate.function_thresholds[].low"} <= {
        key.path for key in keys
    }
    assert [key.path for key in keys if not key.description] == []
    assert tuple(EXCLUSION_DESCRIPTIONS) == EXCLUSION_COLUMNS


def test_every_key_of_a_completed_configuration_is_documented() -> None:
    documented = {key.path for key in config_keys()}
    completed = complete_config({"study": "my-study"})
    models = completed.pop("models")
    # an alternative takes the keys of the blocks that it overrides
    for override in completed["sensitivity"].pop("spect").values():
        assert set(paths(override)) - documented == set()
    # a simulated reader's levels, and patterns by choice, are the study's own names
    named = [f"read.simulated.{name}." for name in ("skill", "patterns")]
    known = {path for path in paths(completed) if not path.startswith(tuple(named))}
    assert {name.removesuffix(".") for name in named} <= documented
    assert known - documented == set()
    assert set(paths(models["ddran"], "models.<name>")) - documented == set()


def test_the_shipped_configuration_shows_every_default() -> None:
    shipped = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))
    defaults = complete_config({"study": shipped["study"]})
    assert complete_config(shipped) == defaults
    assert {name: value for name, value in shipped.items() if name != "models"} == {
        name: value for name, value in defaults.items() if name != "models"
    }, "a key is missing in config/config.yaml"


@pytest.mark.parametrize("name", ["demo.yaml", "tiny.yaml"])
def test_the_other_configurations_are_valid(name) -> None:
    complete_config(yaml.safe_load((CONFIG / name).read_text(encoding="utf-8")), name)


def test_the_shipped_cohort_table_asks_for_rows(monkeypatch) -> None:
    monkeypatch.chdir(CONFIG.parent)
    with pytest.raises(ConfigError, match="the cohort table has no rows"):
        load_cohort(complete_config({"study": "my-study"}))


def test_the_examples_of_the_shipped_cohort_table_are_right(tmp_path, monkeypatch) -> None:
    lines = (CONFIG / "cases.tsv").read_text(encoding="utf-8").splitlines()
    examples = [line.removeprefix("# ") for line in lines if line.startswith("# case")]
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "cases.tsv").write_text("\n".join([lines[0], *examples]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    cohort = load_cohort(complete_config({"study": "my-study"}))
    assert cohort.case_ids == ["case001", "case002", "case003"]
    assert cohort["case003"].targets == ("ventilation",)
    assert cohort["case003"].lung_masks["ct"] == "data/dicom/patient03/lungs.nii.gz"


def paths(value, prefix: str = "") -> list[str]:
    """Dotted paths of the leaves of a configuration; of frequencies the user names some out of a list."""
    if not isinstance(value, dict) or not value or prefix in FREQUENCIES:
        return [prefix]
    return [path for key, inner in value.items() for path in paths(inner, f"{prefix}.{key}" if prefix else key)]

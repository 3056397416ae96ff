"""Pages that document configuration and errors, made from what the code reads: they cannot say anything else."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ct2vq.codes import CODES
from ct2vq.config import SCHEMAS, cases_schema

#: what the columns of the exclusion table hold; the table is checked by code, not by a schema
EXCLUSION_DESCRIPTIONS = {
    "case_id": "The case that is left out, as in the cohort table.",
    "stage": "The stage at which the decision fell, in your words: `convert`, `register`, `consent`.",
    "reason": "Why. It stands in the report's cohort flow.",
}

HOW_FILES_COMBINE = """\
## How the files combine

| you run | what is read |
|---|---|
| `snakemake --cores all` | `config/config.yaml` |
| `snakemake --cores all --configfile mine.yaml` | `mine.yaml`; `config/config.yaml` is **not** read |
| `snakemake --cores all --configfile a.yaml b.yaml` | both, merged key by key; the later file wins |
| `snakemake --cores all --config seed=7` | `config/config.yaml`, with this value over it |
| `snakemake --cores all --directory studies/b` | `studies/b/config/config.yaml`: all paths start from that folder |

Keys that no file names have the default of the tables below. Only `study` has none. `models` is taken whole: a study
that names a model of its own names all that it wants. An unknown key or a wrong value stops the run before any job; a
misspelt key is answered with the nearest one. What held in the end stands in `results/report/effective_config.yaml`.
"""

COHORT_INTRODUCTION = """\
## The cohort table

{description}

Lines that begin with `#` are not read. A case has `perfusion`, `ventilation`, or both; a model learns from the cases
that have all of its targets.
"""

EXCLUSIONS_INTRODUCTION = """\
## The exclusion table

`config/exclusions.tsv`: one row for each case that a person decided to leave out. All columns are filled in. The file
may be missing.
"""

LAYOUT = """\
## How the DICOM folders may lie

Below `cohort.dicom_root` (`data/dicom`) any layout will do, because the table names the path of every image. One that
reads well:

    data/dicom/
      patient01/
        ct/             one CT series, one file a slice, any file names
        perfusion/      the reconstructed SPECT: one multi-frame NM object, or one PT series (a file will do too)
        ventilation/
        spect_ct/       the camera's own CT, column `attenuation_ct`

One folder holds one series. Planar images, raw projections and gated studies are refused with the reason.
"""

FOLDS = """\
## Folds

Folds are dealt by patient and stratum from `seed`, and then kept under `work/split/`: a case that is added later gets a
fold, and nobody else changes theirs. Another `seed`, `split.folds` or `split.stratify_by` is another assignment.
`split.folds_file` names your own table (`case_id`, `fold`, tab-separated), which goes before all this.
"""

GPU = """\
## GPU

`train.device: cuda` (the default) trains and synthesises on an NVIDIA GPU; such jobs ask for one `gpu`. On a
workstation as many run side by side as there are GPUs, each on its own (docs/workstation.md); on a cluster
`workflow/profiles/slurm/config.yaml` passes it on. `cpu` needs none: trainings then run side by side, one on each core.
A device is part of the study: results are equal to the last bit only on the same kind of device.
"""


@dataclass(frozen=True)
class Key:
    """One key of the configuration.

    Attributes:
        path: dotted path, such as `crop.spacing_mm`; `<name>` stands for a name of the user's, `[]` for list items.
        schema: its part of the schema.
        required: whether it has to be given.
    """

    path: str
    schema: Mapping[str, Any]
    required: bool

    @property
    def description(self) -> str:
        """What it means; empty if the schema does not say."""
        return " ".join(str(self.schema.get("description", "")).split())


def config_reference() -> str:
    """The text of `config/README.md` (Markdown): every key, the columns of the tables, how files combine."""
    schema = _raw_config_schema()
    cases = cases_schema()
    parts = [
        "# Configuration\n\n<!-- Made by `make docs` from workflow/schemas/: change it there. -->\n",
        f"{_wrapped(schema['description'])}\n",
        HOW_FILES_COMBINE,
        COHORT_INTRODUCTION.format(description=_wrapped("`config/cases.tsv`: " + cases["description"]))
        + "\n"
        + _columns_table(cases),
        EXCLUSIONS_INTRODUCTION + "\n" + _table(("column", "description"), EXCLUSION_DESCRIPTIONS.items()),
        LAYOUT,
        FOLDS,
        GPU,
        "## Keys\n",
        _keys_table(key for key in config_keys() if "." not in key.path),
        *(_section(name, section) for name, section in schema["properties"].items() if _has_keys(section)),
    ]
    return "\n".join(parts)


ERRORS_INTRODUCTION = """\
# Problems of images

<!-- Made by `make docs` from ct2vq/codes.py: change it there. -->

Whatever is wrong with an image has a code that never changes its meaning. `D` stops the case, and the others go on;
`W` is said in the case's record (`warnings`, `flags`) and in the log. `snakemake check` lists the problems of all raw
images at once, before anything is written.
"""
#: what the hundreds of the codes are about
ERROR_GROUPS = {
    "1": "Files",
    "2": "Choice of images",
    "3": "Geometry",
    "4": "Values",
    "5": "Acquisition and cohort",
    "6": "Identity",
    "7": "Lungs",
    "8": "Registration",
    "9": "Crop",
}


def errors_reference() -> str:
    """The text of `docs/errors.md` (Markdown): every code, what it means and what to do."""
    parts = [ERRORS_INTRODUCTION]
    for digit, title in ERROR_GROUPS.items():
        rows = [(f"`{code}`", *entry) for code, entry in sorted(CODES.items()) if code[1] == digit]
        if rows:
            parts.append(f"## {title}\n\n" + _table(("code", "meaning", "what to do"), rows))
    return "\n".join(parts)


def config_keys() -> list[Key]:
    """Every key that holds a value, in the order of the schema."""
    return list(_walk(_raw_config_schema(), ""))


def _raw_config_schema() -> dict[str, Any]:
    """As it stands in the file: the keys of `train` are not repeated under every model."""
    return yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text(encoding="utf-8"))


def _has_keys(schema: Mapping[str, Any]) -> bool:
    """Whether a mapping's keys are documented one by one: named by the schema, or by the user."""
    extra = schema.get("additionalProperties")
    return bool(schema.get("properties")) or (isinstance(extra, dict) and bool(extra.get("properties")))


def _walk(schema: Mapping[str, Any], prefix: str) -> Iterator[Key]:
    for name, inner in schema.get("properties", {}).items():
        path = f"{prefix}.{name}" if prefix else name
        if _has_keys(inner):
            if prefix and inner.get("default"):  # names of the user's with a default; a section shows its own below
                yield Key(path, inner, required=False)
            yield from _walk(inner, path)
            continue
        yield Key(path, inner, name in schema.get("required", ()))
        yield from _walk(inner.get("items", {}), f"{path}[]")
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        yield from _walk(extra, f"{prefix}.<name>")


def _section(name: str, schema: Mapping[str, Any]) -> str:
    keys = [key for key in config_keys() if key.path.startswith(f"{name}.")]
    text = f"### {name}\n\n{' '.join(schema['description'].split())}\n\n{_keys_table(keys)}"
    return f"{text}\nDefault:\n\n{_yaml_block({name: schema['default']})}" if schema.get("default") else text


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120)


def _yaml_block(value: Any) -> str:
    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=110)
    return "".join(f"    {line}\n" for line in text.splitlines())


def _keys_table(keys: Iterator[Key] | list[Key]) -> str:
    rows = ((f"`{key.path}`", _type(key.schema), _default(key), key.description) for key in keys)
    return _table(("key", "type", "default", "description"), rows)


def _columns_table(cases: Mapping[str, Any]) -> str:
    rows = (
        (name, "yes" if name in cases["required"] else "", schema["description"])
        for name, schema in cases["properties"].items()
    )
    return _table(("column", "required", "description"), rows)


def _table(header: tuple[str, ...], rows: Any) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _default(key: Key) -> str:
    if "default" not in key.schema:
        return "**required**" if key.required else ""
    return f"`{json.dumps(key.schema['default'], ensure_ascii=False)}`"


def _type(schema: Mapping[str, Any]) -> str:
    """Type, choices and bounds in words, such as `integer ≥ 1` or `` `cpu`, `cuda`, `mps` ``."""
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_count(schema)}{_type(schema.get('items', {})) or 'values'}"
    if kind == "object":
        extra = schema.get("additionalProperties")
        names = ", ".join(f"`{name}`" for name in schema.get("propertyNames", {}).get("enum", [])) or "names"
        return f"mapping of {names} to {_type(extra)}" if isinstance(extra, dict) else "mapping"
    return f"{' or '.join(kind) if isinstance(kind, list) else kind}{_bounds(schema)}"


def _count(schema: Mapping[str, Any]) -> str:
    if "maxItems" in schema and schema.get("minItems") == schema["maxItems"]:
        return f"{schema['maxItems']}: "
    return ""


def _bounds(schema: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return " " + ", ".join(bounds) if bounds else ""

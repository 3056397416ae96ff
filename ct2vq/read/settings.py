"""Who reads which cases: the choices that stand before a design.

Imported while Snakemake builds the DAG: only light imports here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ct2vq.cohort import Cohort
from ct2vq.config import TARGETS
from ct2vq.errors import ConfigError

#: parts of the study in the order in which they are read: who has seen a case's CT has learnt about it
PARTS = ("diagnosis", "diagnosis_ct", "acceptability")
SOURCES = ("real", "synthesised")


def choice_of(diagnosis: str | None, choices: Sequence[Mapping[str, Any]]) -> str | None:
    """The choice of `read.diagnosis.choices` that is right for a reference diagnosis; None if there is none."""
    told = (diagnosis or "").strip().casefold()
    for choice in choices:
        if told and told in (name.strip().casefold() for name in choice["diagnoses"]):
            return choice["name"]
    return None


def reading_cases(config: Mapping[str, Any], cohort: Cohort) -> dict[str, dict[str, str | None]]:
    """The cases that are read, in the order of the cohort.

    Args:
        config: a complete configuration.
        cohort: the study's cases.

    Returns:
        By case: `patient_id`, `diagnosis` (the reference's word) and `reference` (the choice that it is); the last two
        are None for a case that the diagnosis parts leave out.

    Raises:
        ConfigError: nothing to read, an unknown case, or reference diagnoses that no choice stands for.
    """
    settings = config["read"]
    eligible = [case for case in cohort.cases if set(case.targets) == set(TARGETS)]
    if not eligible:
        raise ConfigError("no case has both perfusion and ventilation", key="read.enabled")
    chosen = _chosen([case.case_id for case in eligible], settings["cases"], cohort, config["seed"])
    choices = settings["diagnosis"]["choices"]
    cases = {
        case.case_id: {
            "patient_id": case.patient_id,
            "diagnosis": case.attributes.get("diagnosis"),
            "reference": choice_of(case.attributes.get("diagnosis"), choices),
        }
        for case in eligible
        if case.case_id in chosen
    }
    if set(settings["parts"]) & {"diagnosis", "diagnosis_ct"}:
        _require_references(cases)
    return cases


def _chosen(eligible: Sequence[str], wanted: int | list[str] | None, cohort: Cohort, seed: int) -> set[str]:
    if wanted is None:
        return set(eligible)
    if isinstance(wanted, list):
        wrong = [case for case in wanted if case not in eligible]
        if wrong:
            known = "has not both SPECT images" if wrong[0] in cohort.case_ids else "is not in the cohort"
            raise ConfigError(f"case `{wrong[0]}` {known}", key="read.cases")
        return set(wanted)
    if wanted > len(eligible):
        raise ConfigError(f"{wanted} cases are wanted, {len(eligible)} have both SPECT images", key="read.cases")
    return set(drawn(eligible, {case: cohort[case].attributes.get("diagnosis") for case in eligible}, wanted, seed))


def drawn(cases: Sequence[str], strata: Mapping[str, str | None], number: int, seed: int) -> list[str]:
    """`number` of the cases in proportion to their strata: every n-th of a list with one stratum after the other."""
    generator = random.Random(f"{seed}:read:cases")
    ordered = sorted(cases, key=lambda case: (strata[case] or "", generator.random()))
    step, start = len(ordered) / number, generator.random()
    return [ordered[int((index + start) * step)] for index in range(number)]


def _require_references(cases: Mapping[str, Mapping[str, str | None]]) -> None:
    stray = sorted({case["diagnosis"] for case in cases.values() if case["diagnosis"] and not case["reference"]})
    if stray:
        raise ConfigError(
            f"no choice stands for the reference diagnosis {', '.join(f'`{name}`' for name in stray)}",
            key="read.diagnosis.choices",
            hint="name each diagnosis of the cohort table in the `diagnoses` of one choice",
        )
    if not any(case["reference"] for case in cases.values()):
        raise ConfigError(
            "no case has a reference diagnosis",
            key="read.parts",
            hint="fill the column `diagnosis` of the cohort table, or leave the diagnosis parts out",
        )

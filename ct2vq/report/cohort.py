"""Who was studied: Table 1 and the results of subgroups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.config import TARGETS
from ct2vq.figures import METRIC_NAMES, TARGET_NAMES
from ct2vq.findings import mean_and_sd
from ct2vq.report.study import Study
from ct2vq.values import patient_values

#: columns by which the patients are divided, with their headings
SUBGROUPS = {"diagnosis": "Diagnosis", "sex": "Sex", "age_group": "Age", "site": "Site", "scanner": "SPECT scanner"}
#: older and younger patients of lung studies are commonly divided at the age of retirement (United Nations: 65)
OLD_YEARS = 65
SEXES = {"F": "female", "M": "male", "O": "other"}


def describe_cases(
    cases: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Facts of each case: the cohort table's columns; what it leaves out comes from the converted images.

    Args:
        cases: attributes of each case (`diagnosis`, `site`, `age`, `sex`, `fold`, `targets`).
        facts: sidecars of the stage `convert`, by case and volume.
    """
    return {case: {**_from_images(facts.get(case, {})), **attributes} for case, attributes in cases.items()}


def _from_images(volumes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    patient = {key: value for facts in volumes.values() for key, value in facts.get("patient", {}).items() if value}
    spect = [volumes[target] for target in TARGETS if target in volumes]
    age = patient.get("age_years")
    found = {
        "age": age,
        "sex": patient.get("sex"),
        "weight": patient.get("weight_kg"),
        "height": patient.get("size_m"),
        "ct_scanner": _device(volumes.get("ct", {})),
        "scanner": _device(spect[0]) if spect else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _device(facts: Mapping[str, Any]) -> str | None:
    words = [str(facts[key]) for key in ("manufacturer", "model") if facts.get(key)]
    return " ".join(words) or None


def table_one(study: Study) -> dict[str, Any]:
    """Characteristics of the cases, of all and of each test fold.

    Returns:
        `columns`: headings; `rows`: each with `name`, `cells` and whether it is a `heading`.
    """
    folds = sorted({facts["fold"] for facts in study.cases.values()})
    groups = [list(study.cases), *([case for case, facts in study.cases.items() if facts["fold"] == k] for k in folds)]
    intervals = _intervals(study.acquisitions)
    rows = [
        _counts("Patients", groups, lambda group: len({study.patients.get(case, case) for case in group})),
        _counts("Cases", groups, len),
        _numbers("Age (years)", groups, lambda case: study.cases[case].get("age")),
        *_categories("Sex", groups, lambda case: SEXES.get(str(study.cases[case].get("sex")), "unknown")),
        _numbers("Weight (kg)", groups, lambda case: study.cases[case].get("weight")),
        _numbers("Height (m)", groups, lambda case: study.cases[case].get("height"), digits=2),
        *_categories("Diagnosis", groups, lambda case: study.cases[case].get("diagnosis", "unknown")),
        *_categories("Site", groups, lambda case: study.cases[case].get("site", "unknown")),
        *_categories("CT scanner", groups, lambda case: study.cases[case].get("ct_scanner", "unknown")),
        *_categories("SPECT scanner", groups, lambda case: study.cases[case].get("scanner", "unknown")),
    ]
    for target in study.targets:
        letter = TARGET_NAMES[target]
        rows += [
            _numbers(f"{letter}: days from CT", groups, lambda case, t=target: intervals.get((case, t))),
            _numbers(f"{letter}: injected activity (MBq)", groups, _acquired(study, target, "injected_activity_mbq")),
            _numbers(f"{letter}: counts (millions)", groups, _acquired(study, target, "counts_total", 1e6), digits=2),
            _numbers(f"{letter}: acquisition (min)", groups, _acquired(study, target, "acquisition_duration_s", 60)),
        ]
    return {"columns": ["All", *(f"Fold {k}" for k in folds)], "rows": [row for row in rows if row]}


def _intervals(acquisitions: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Days between CT and each SPECT, without sign."""
    days = pd.to_numeric(acquisitions["days_from_ct"], errors="coerce").abs()
    return dict(zip(zip(acquisitions["case_id"], acquisitions["volume"], strict=True), days, strict=True))


def _acquired(study: Study, target: str, key: str, unit: float = 1.0) -> Callable[[str], float | None]:
    def value(case: str) -> float | None:
        found = study.facts.get(case, {}).get(target, {}).get("acquisition", {}).get(key)
        return None if found is None else found / unit

    return value


def _counts(name: str, groups: Sequence[Sequence[str]], count: Callable[[Sequence[str]], int]) -> dict[str, Any]:
    return {"name": name, "cells": [str(count(group)) for group in groups], "heading": False, "indent": False}


def _numbers(
    name: str, groups: Sequence[Sequence[str]], value: Callable[[str], Any], digits: int = 1
) -> dict[str, Any] | None:
    """Median, quartiles and range; a cell tells how many cases do not say. None if no case says."""
    cells = []
    for group in groups:
        values = pd.to_numeric(pd.Series([value(case) for case in group], dtype=object), errors="coerce")
        known = values.dropna().to_numpy(float)
        if not len(known):
            cells.append("n/a")
            continue
        low, middle, high = np.percentile(known, [25, 50, 75])
        spread = f"[{low:.{digits}f}–{high:.{digits}f}; {known.min():.{digits}f}–{known.max():.{digits}f}]"
        missing = len(group) - len(known)
        cells.append(f"{middle:.{digits}f} {spread}" + (f", {missing} unknown" if missing else ""))
    if set(cells) == {"n/a"}:
        return None
    return {"name": name, "cells": cells, "heading": False, "indent": False}


def _categories(name: str, groups: Sequence[Sequence[str]], value: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """A heading and a row for each category with number and share, the most frequent first."""
    counts = [Counter(value(case) for case in group) for group in groups]
    if set(counts[0]) == {"unknown"}:
        return
    yield {"name": name, "cells": [""] * len(groups), "heading": True, "indent": False}
    for category in sorted(counts[0], key=lambda item: (-counts[0][item], item)):
        cells = [_share(count[category], sum(count.values())) for count in counts]
        yield {"name": category, "cells": cells, "heading": False, "indent": True}


def _share(number: int, total: int) -> str:
    return f"{number} ({number / total:.0%})" if total else "0"


def subgroups(study: Study) -> list[dict[str, Any]]:
    """For every metric of the page and every way to divide the patients: mean ± SD of each network and target.

    A division with one group only is left out.
    """
    values = patient_values(study.metrics, study.patients, study.definition)
    columns = [(target, model) for target in study.targets for model in study.networks]
    columns = [c for c in columns if ((values["target"] == c[0]) & (values["model"] == c[1])).any()]
    members = {key: _members(study, key) for key in SUBGROUPS}
    tables = []
    for metric, title in METRIC_NAMES.items():
        of_metric = values[values["metric"] == metric]
        rows = [
            row
            for key, heading in SUBGROUPS.items()
            if len(set(members[key].values())) > 1
            for row in _subgroup_rows(of_metric, members[key], columns, heading)
        ]
        headings = [f"{study.labels[model]}, {target}" for target, model in columns]
        tables.append({"metric": title, "columns": headings, "rows": rows})
    return tables


def _members(study: Study, key: str) -> dict[str, str]:
    """The group of each patient."""
    if key != "age_group":
        found = study.of_patient(key)
        return {patient: SEXES.get(group, group) for patient, group in found.items()} if key == "sex" else found
    return {patient: _age_group(age) for patient, age in study.of_patient("age").items()}


def _age_group(age: str) -> str:
    try:
        return f"{OLD_YEARS} and older" if float(age) >= OLD_YEARS else f"younger than {OLD_YEARS}"
    except ValueError:
        return "unknown"


def _subgroup_rows(
    values: pd.DataFrame, members: Mapping[str, str], columns: Sequence[tuple[str, str]], heading: str
) -> Iterator[dict[str, Any]]:
    sizes = Counter(members.values())
    groups = values["patient_id"].map(members)
    statistics = values.groupby([groups, "target", "model"])["value"].agg(["mean", "std", "count"])
    for group in sorted(sizes, key=lambda item: (-sizes[item], item)):
        cells = []
        for target, model in columns:
            if (group, target, model) not in statistics.index:
                cells.append("n/a")
                continue
            row = statistics.loc[(group, target, model)]
            cells.append(mean_and_sd(row["mean"], row["std"], 2))
        yield {"division": heading, "group": group, "n": sizes[group], "cells": cells}

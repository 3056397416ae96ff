"""The page: reads the study's tables, renders the templates, and puts beside it all that it links to.

The page needs no network and nothing outside its folder. The same results give the same bytes; times, which differ from
run to run, lie in a script of their own (`times.js`), except those that the trainings wrote down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ct2vq.figures import METRIC_NAMES
from ct2vq.files import copy_file, read_json, read_tsv, write_text, write_tsv
from ct2vq.findings import PUBLISHED_PATIENTS, number, p_value
from ct2vq.noticed import noticed_rows, read_records, summarise_noticed
from ct2vq.pages import RESOURCES, link, png_size, script, style, template
from ct2vq.read.names import REPORTED
from ct2vq.registrations import registration_name, summarise
from ct2vq.report.cases import (
    browser_data,
    case_columns,
    cases_table,
    failure_reasons,
    failures,
    flagged_registrations,
)
from ct2vq.report.checklist import checklist
from ct2vq.report.classification import classification
from ct2vq.report.cohort import describe_cases, subgroups, table_one
from ct2vq.report.methods import methods
from ct2vq.report.provenance import (
    config_digest,
    inputs_table,
    runs_table,
    trainings,
    versions,
    write_times,
)
from ct2vq.report.published import neighbours, published_beside_ours
from ct2vq.report.readers import readers_section
from ct2vq.report.regions import regions_table
from ct2vq.report.results import (
    baselines_table,
    describe_models,
    findings,
    pairs_table,
    threshold_words,
)
from ct2vq.report.scores import score_tables
from ct2vq.report.settings import assumptions, config_text, plain
from ct2vq.report.study import EXTRA, Study

VIEWER_FILES = ("niivue.umd.js", "LICENSE.txt", "SOURCE.md")
PRINTED = (".pdf", ".svg", ".tsv")

#: what the names of the reader study's tables begin with on the page
READING = "reading_"


def write_report(
    tables: Mapping[str, str | Path],
    *,
    qc: Sequence[str | Path],
    noticed: Sequence[str | Path],
    runs: Sequence[str | Path],
    sidecars: Sequence[str | Path],
    panels: Sequence[str | Path],
    normalised: Sequence[str | Path],
    volumes: Sequence[str | Path],
    registrations: str | Path,
    figures: Sequence[str | Path],
    benchmarks: str | Path,
    outputs: Mapping[str, str | Path],
    config: Mapping[str, Any],
    labels: Mapping[str, str],
    cases: Mapping[str, Mapping[str, Any]],
    flow: Mapping[str, Any],
    simulated: bool,
) -> None:
    """Write the page, the configuration that the study ran with, the tables, the viewer and the times.

    Args:
        tables: paths of the tables `summary`, `pairs`, `baselines`, `metrics`, `folds` and `acquisitions`, of those
            of `ct2vq.report.study.EXTRA` that the study has, and with readers `reading_<name>` for each name of
            `ct2vq.read.names.REPORTED`.
        qc: `results/register/<case>/qc.json`, or `<target>_qc.json` of a SPECT that is registered alone.
        noticed: records of the stages `segment` and `crop` (`ct2vq.noticed.read_records`).
        runs: `results/train/<model>/fold<k>/run.json`.
        sidecars: `results/convert/<case>/<volume>.json`.
        panels: `<case>.png` with the case's images.
        normalised: `<case>.png` with the case's normalised SPECT.
        volumes: folders `<case>` with the scripts of the viewer's volumes.
        registrations: the page of all registrations.
        figures: the study's figures, each `<name>.png`, and its `.pdf`, `.svg` and `.tsv` where there are any.
        benchmarks: folder of Snakemake's benchmark files.
        outputs: `page` (`*.html`), `config` (`*.yaml`), `times` (`*.js`), and the folders `tables` and `viewer`.
        config: the complete configuration.
        labels: name of each model, in order.
        cases: facts of each case.
        flow: numbers of the cohort flow.
        simulated: whether the patients are simulated.
    """
    facts = read_facts(sidecars)
    study = Study(
        config=plain(config),
        labels=labels,
        cases=describe_cases(cases, facts),
        flow=flow,
        simulated=simulated,
        **{name: read_tsv(tables[name]) for name in ("summary", "pairs", "baselines", "acquisitions")},
        metrics=read_tsv(tables["metrics"]),
        patients=dict(read_tsv(tables["folds"], dtype=str)[["case_id", "patient_id"]].itertuples(index=False)),
        quality={registration_name(path): read_json(path) for path in qc},
        noticed=noticed_rows(read_records(noticed)),
        runs=[read_json(path) | {"model": Path(path).parts[-3]} for path in runs],
        facts=facts,
        extra={name: read_tsv(tables[name]) for name in EXTRA if name in tables},
        reading={name: read_tsv(tables[f"{READING}{name}"]) for name in REPORTED if f"{READING}{name}" in tables},
    )
    page = outputs["page"]
    copied = copy_tables(tables, study, outputs["tables"])
    copy_viewer(outputs["viewer"])
    links = {
        "panels": linked(panels, page),
        "normalised": linked(normalised, page),
        "registrations": link(registrations, page),
        "figures": linked_figures(figures, page),
        "config": link(outputs["config"], page),
        "tables": linked(copied, page),
        "times": link(outputs["times"], page),
        "viewer": link(Path(outputs["viewer"], VIEWER_FILES[0]), page),
        "volumes": {Path(folder).name: link(folder, page) for folder in volumes},
    }
    write_text(config_text(study.config), outputs["config"])
    write_text(render(study, links), page)
    write_times(benchmarks, outputs["times"])


def read_facts(sidecars: Sequence[str | Path]) -> dict[str, dict[str, Any]]:
    """Sidecars of the stage `convert`, by case and volume."""
    facts: dict[str, dict[str, Any]] = {}
    for path in map(Path, sidecars):
        facts.setdefault(path.parent.name, {})[path.stem] = read_json(path)
    return facts


def copy_tables(tables: Mapping[str, str | Path], study: Study, folder: str | Path) -> list[Path]:
    """Copy the tables into the report's folder, so that it is whole on its own; returns the copies."""
    folder = Path(folder)
    copies = []
    for name, table in tables.items():
        copies.append(folder / f"{name}.tsv")
        copy_file(table, copies[-1])
    copies.append(folder / "inputs.tsv")
    write_tsv(inputs_table(study), copies[-1])
    return copies


def copy_viewer(folder: str | Path) -> None:
    """Copy the viewer with its licence and source into the report's folder."""
    for name in VIEWER_FILES:
        copy_file(RESOURCES / "report" / "viewer" / name, Path(folder, name))


def linked(paths: Sequence[str | Path], page: str | Path) -> dict[str, str]:
    """Links to files relative to the page, by the files' names without suffix."""
    return {Path(path).stem: link(path, page) for path in paths}


def linked_figures(paths: Sequence[str | Path], page: str | Path) -> dict[str, dict[str, Any]]:
    """Links of each figure by its name: `image` with its `width` and `height`, `others` as pairs of format and link.

    A page that knows the sizes of images that load late does not move under the reader.
    """
    figures: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        if path.suffix == ".png":
            width, height = png_size(path)
            figures[path.stem] = {"image": link(path, page), "width": width, "height": height, "others": []}
    for path in sorted(map(Path, paths), key=lambda path: path.suffix):
        if path.suffix in PRINTED and path.stem in figures:
            figures[path.stem]["others"].append((path.suffix[1:].upper(), link(path, page)))
    return figures


def render(study: Study, links: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        study: what the page is made from.
        links: `panels` and `normalised` by case, `figures` by name, `tables` by name, `registrations`, `config`,
            `times`, `viewer` and `volumes`.
    """
    published = read_tsv(RESOURCES / "published.tsv", dtype={"note": str})
    worst = failures(study)
    thresholds = study.config["evaluate"]["function_thresholds"]
    return template("page.html.j2", number=number, p_value=p_value).render(
        title=study.config["report"]["title"],
        name=study.config["study"],
        style=style(),
        page_script=script("page.js"),
        viewer_script=script("viewer.js"),
        simulated=study.simulated,
        findings=findings(study),
        models=describe_models(study),
        metric_names=METRIC_NAMES,
        confidence=f"{study.confidence:.0%}",
        thresholds={item["name"]: threshold_words(item) for item in thresholds},
        definition=study.definition,
        scores=score_tables(study),
        regions=regions_table(study),
        core_mm=study.config["evaluate"]["core_mm"],
        pairs=pairs_table(study),
        baselines=baselines_table(study),
        **classification(study),
        readers=readers_section(study),
        published=published_beside_ours(study, published),
        published_n=PUBLISHED_PATIENTS,
        neighbours=neighbours(published),
        flow=study.flow,
        table_one=table_one(study),
        subgroups=subgroups(study),
        cases=cases_table(study),
        columns=case_columns(study),
        diagnoses=sorted({str(facts.get("diagnosis", "unknown")) for facts in study.cases.values()}),
        failures=worst,
        found_overlap=study.config["evaluate"]["defects"]["found_overlap"],
        validated=bool(study.config["train"]["validation_patients"]),
        failure_reasons=failure_reasons(worst),
        registration=summarise(study.quality),
        flagged=flagged_registrations(study),
        noticed=study.noticed,
        noticed_summary=summarise_noticed(study.noticed),
        methods=methods(study),
        checklist=checklist(study),
        runs=runs_table(study),
        trainings=trainings(study),
        versions=versions(study),
        config_digest=config_digest(study),
        assumptions=list(assumptions(study.config)),
        data=browser_data(study, links),
        links=links,
        seed=study.config["seed"],
    )

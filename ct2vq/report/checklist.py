"""The checklist CLAIM 2024 (Tejani et al., Radiol Artif Intell 2024;6:e240300, doi 10.1148/ryai.240300).

The items, in our own words, stand in `resources/claim2024.tsv`. What the workflow knows is answered from the study;
the rest only its author can tell, and the page says so. Items that a reader study answers stand there twice: `when`
says for which studies a row is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from ct2vq.files import read_tsv
from ct2vq.pages import RESOURCES
from ct2vq.report.readers import METRICS, PARTS, SIMULATED_READERS, is_simulated
from ct2vq.report.results import loss_words
from ct2vq.report.sensitivity import sensitivity_words
from ct2vq.report.study import Study

TABLE = RESOURCES / "claim2024.tsv"
#: in the column `when`: studies with and without readers
READERS, NO_READERS = "readers", "no readers"


def checklist(study: Study) -> list[dict[str, str]]:
    """A row for each item.

    Returns:
        `item`, `section`, `asks`, `status` (`filled`, `partly`: the author must add, or `author`), `answer`, and
        `anchor`, the section of the page that answers at length.
    """
    rows, answers = [], ANSWERS | (READER_ANSWERS if study.reading else {})
    table = read_tsv(TABLE, dtype=str)
    for item in table[table["when"] != (NO_READERS if study.reading else READERS)].itertuples():
        answer = answers.get(int(item.item))
        rows.append(
            {
                "item": item.item,
                "section": item.section,
                "asks": item.asks,
                "status": item.filled_by,
                "answer": answer(study) if answer else "",
                "author": item.author_adds if isinstance(item.author_adds, str) else "",
                "anchor": item.anchor if isinstance(item.anchor, str) else "",
            }
        )
    return rows


def _networks(study: Study) -> str:
    return ", ".join(study.labels[model] for model in study.networks) or "no network"


def _folds(study: Study) -> str:
    settings = study.config["split"]
    given = "from a table of the author's" if settings["folds_file"] else f"stratified by {settings['stratify_by']}"
    return f"Cross-validation in {len(study.flow['folds'])} folds {given}, seed {study.config['seed']}."


def _sources(study: Study) -> str:
    if study.simulated:
        return f"{study.flow['listed']} simulated patients of the embedded cohort; no image of a real patient."
    return f"{study.flow['listed']} cases of the cohort's table, {study.flow['patients']} patients analysed."


def _exclusions(study: Study) -> str:
    excluded = len({row["case_id"] for row in study.flow["exclusions"]})
    return f"Excluded: {excluded}, each with stage and reason; nothing is dropped silently."


def _missing(study: Study) -> str:
    table = study.extra.get("excluded")
    missing = "not counted" if table is None else str(len(table))
    return f"A missing metric has a reason and is never a zero; missing values in the statistics: {missing}."


def _metrics(study: Study) -> str:
    names = ", ".join(study.config["compare"]["metrics"])
    return f"Confirmatory: {names}, in both lungs against SPECT; all others are exploratory."


def _tests(study: Study) -> str:
    settings = study.config["compare"]
    return (
        f"Wilcoxon's signed-rank test on patients, Holm's correction over {len(settings['pairs'])} declared pairs × "
        f"{len(settings['metrics'])} metrics; {study.confidence:.0%} intervals, {settings['bootstrap']} bootstrap "
        "samples."
    )


def _training(study: Study) -> str:
    settings = study.config["train"]
    return (
        f"{settings['epochs']} epochs of AdamW, peak learning rate {settings['learning_rate']:g}, batch of "
        f"{settings['batch_size']}; loss {loss_words(settings['loss'])}."
    )


def _limitations(study: Study) -> str:
    return "The patients are simulated." if study.simulated else f"{study.flow['patients']} patients."


def _readers(study: Study) -> str:
    """Who judged the images; simulated readers are nobody, and the answer says so."""
    levels = study.reading["completeness"].groupby("level", sort=False)["reader"].nunique()
    listed = ", ".join(f"{count} {level}" for level, count in levels.items())
    if is_simulated(study):
        return f"{SIMULATED_READERS}: {levels.sum()}, a noise model on the known diagnoses ({listed}); no person."
    return f"{levels.sum()} readers, by level of experience: {listed}."


def _reference_makers(study: Study) -> str:
    reference = study.config["read"]["reference"]
    said = [f"{name}: {reference[name]}" for name in ("source", "adjudication") if reference[name]]
    if study.simulated:
        said = ["the simulated disease"]
    return f"SPECT cameras. Reference diagnosis of the readers' part: {'; '.join(said)}. {_readers(study)}"


def _annotation(study: Study) -> str:
    counts = study.reading["completeness"]
    done, settings = f"{counts['answered'].sum()} of {counts['items'].sum()} items answered", study.config["read"]
    parts = ", ".join(PARTS[part] for part in settings["parts"])
    return (
        f"{_readers(study)} Each read blinded packs in random order ({parts}): cases as real and as synthesised "
        f"images, {settings['washout_days']:g} days between both; {done}. Readers' answers are no reference: they are "
        "compared with it."
    )


def _variation(study: Study) -> str:
    whose = "of simulated readers " if is_simulated(study) else ""
    return (
        f"Agreement {whose}between readers and within each of them ({study.config['read']['repeats']:.0%} of items "
        "shown twice): kappa, Gwet's AC, ICC(2,1) with intervals by patients."
    )


def _sample_size(study: Study) -> str:
    row = study.reading["endpoint"].iloc[0]
    asked = "no number suffices" if pd.isna(row["patients_asked"]) else f"{row['patients_asked']:.0f} patients"
    return (
        f"Of the readers' primary endpoint ({METRICS[row['metric']]}, margin {row['margin']:g}, one-sided alpha "
        f"{row['alpha']:g}, power {study.config['read']['endpoint']['power']:.0%}): {asked}; the design has "
        f"{row['patients_planned']:.0f}."
    )


def _constant(words: str) -> Callable[[Study], str]:
    def answer(study: Study) -> str:
        return words

    return answer


ANSWERS: dict[int, Callable[[Study], Any]] = {
    1: lambda study: f"Deep learning (convolutional networks): {_networks(study)}.",
    2: _constant("The summary at the top of this page, from the study's tables."),
    6: _constant("Development and internal validation of image synthesis; comparison of declared models."),
    7: _sources,
    8: _exclusions,
    9: _constant("Conversion, lung segmentation, registration, crop and normalisation with every parameter."),
    10: lambda study: f"Networks see the lungs' box with a margin of {study.config['crop']['margin_mm']:g} mm.",
    11: _constant("Headers are not copied; identifiers are replaced and dates shifted when DICOM is converted."),
    12: _missing,
    13: _constant(
        "Scanners, activities, counts and intervals from the headers; kernels and collimators in the tables."
    ),
    14: _constant(
        "The registered SPECT of the same patient, normalised in the lungs; also the known truth if simulated."
    ),
    19: _folds,
    20: _constant("Patients: no patient is in two folds."),
    22: _constant("Layers and options of each network in the configuration; parameters counted."),
    23: _constant("Versions as the trainings wrote them down, exact pins in requirements.lock."),
    24: _constant("Random, from a seed for each model and fold; no pretrained weights."),
    25: _training,
    26: _constant("The averaged weights of the last epoch; no choice by any score."),
    27: _constant("None: each image comes from one network, averaged over epochs (and over mirror images if set so)."),
    28: _metrics,
    29: _tests,
    30: sensitivity_words,
    31: _constant("Images of every case beside CT and SPECT, difference images, worst cases with reasons."),
    32: _constant("Out-of-fold images of every patient; all results of this page."),
    33: _constant("None in this study."),
    35: _exclusions,
    36: _constant("Table 1, with a column for each fold."),
    37: _constant("Tables and figures with intervals; baselines and, if simulated, ceilings beside the networks."),
    38: _constant("Detection at voxel, region and case level with intervals by patients."),
    39: _constant("The worst cases first, with what is known of each."),
    40: _limitations,
    42: _constant("The effective configuration and the methods on this page; the workflow's documentation."),
    43: _constant("The workflow is free software (Apache 2.0)."),
}
#: what a study with readers knows besides
READER_ANSWERS: dict[int, Callable[[Study], str]] = {
    16: _reference_makers,
    17: _annotation,
    18: _variation,
    21: _sample_size,
}

"""Part II: sensitivity, specificity, accuracy and AUC by reader and level, confusion, McNemar, MRMC, the endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.compare.paired import holm
from ct2vq.compare.passes import mcnemar
from ct2vq.intervals import LEAST_EVENTS, LEAST_PATIENTS
from ct2vq.read.answers import Group, Reading
from ct2vq.read.mrmc import Merits, analyse, delong, jackknife_auc, jackknife_share
from ct2vq.read.settings import SOURCES
from ct2vq.read.shares import share

METRICS = ("accuracy", "sensitivity", "specificity", "auc")
REAL, SYNTHESISED = SOURCES
RANDOM, FIXED = "random", "fixed"
#: the endpoint's interval reaches as far as the wider of both
BOTH = f"{RANDOM} and {FIXED}"
#: conclusions about the primary endpoint
NON_INFERIOR, NOT_SHOWN, INFERIOR = "non-inferior", "non-inferiority not shown", "inferior"
NOT_COMPUTED = "not computed"
#: before a conclusion that is made while answers to the endpoint's part are missing
INTERIM = "interim, "
MRMC_COLUMNS = (
    *("part", "metric", "kind", "group", "readers_are", "n_readers", "cases", "patients", "positive", "left_out"),
    *(f"{source}{end}" for source in SOURCES for end in ("", "_low", "_high")),
    *("difference", "se", "df", "low", "high", "statistic", "p", "ms_source", "ms_reader", "ms_interaction", "error"),
    *("cov1", "cov2", "cov3", "variance_reader", "variance_interaction", "covariances", "reason"),
)


def hits_of(answers: pd.DataFrame, metric: str, positive: str = "") -> pd.Series:
    """1 where an answer is right, of the cases that a metric counts; the others are missing.

    Args:
        answers: rows of the answers.
        metric: `accuracy` (the reference's choice), `sensitivity` or `specificity` (called positive or not).
        positive: a choice that alone is positive; else those of the endpoint.
    """
    ill = (answers["reference"] == positive).astype(float) if positive else answers["positive"]
    called = (answers["diagnosis"] == positive).astype(float) if positive else answers["called_positive"]
    ill = ill.where(answers["reference"].notna())
    if metric == "accuracy":
        return answers["correct"]
    return called.where(ill == 1) if metric == "sensitivity" else (1 - called).where(ill == 0)


def diagnosis_table(reading: Reading) -> pd.DataFrame:
    """A row for each part, group, source and metric: shares with Wilson's interval; AUC of each reader.

    `positive` says which choices are ill: those of the endpoint together, and every choice by itself.
    """
    rows = []
    endpoint = "+".join(reading.endpoint["positive"])
    for part, group, source in reading.each(reading.diagnosis_parts):
        answers = reading.of(part, group, source)
        shared = {"part": part, "kind": group.kind, "group": group.name, "source": source}
        told = [("accuracy", ""), ("sensitivity", endpoint), ("specificity", endpoint)]
        told += [(metric, choice) for choice in reading.choices for metric in ("sensitivity", "specificity")]
        for metric, positive in told:
            hits = hits_of(answers, metric, positive if positive in reading.choices else "")
            row = shared | {"metric": metric, "positive": positive}
            rows.append(row | share(hits, answers["patient_id"], reading.confidence))
        rows.append(shared | {"metric": "auc", "positive": endpoint} | _auc(reading, part, group, source))
    table = reading.table(rows, ["part", "kind", "group", "source", "metric", "positive", *share(*_empty(), 0.95)])
    return table.rename(columns={"share": "value"}).drop_duplicates(ignore_index=True)


def _empty() -> tuple[pd.Series, pd.Series]:
    return pd.Series(dtype=float), pd.Series(dtype=object)


def _auc(reading: Reading, part: str, group: Group, source: str) -> dict[str, Any]:
    """The readers' mean area under the ROC curve of one source, about these readers and cases like these."""
    answers = reading.of(part, group, source)
    table = whole_cases(answers.assign(source=REAL), group, (REAL,))
    told = {"n": len(answers), "patients": table.patients.nunique(), "count": int(table.positive.sum())}
    nothing = told | {"share": np.nan, "low": np.nan, "high": np.nan}
    merits, reason = table.merits("auc")
    if merits is None:
        return nothing | {"reason": reason}
    doubled = Merits(np.repeat(merits.values, 2, axis=0), np.tile(merits.covariance, (2, 1, 2, 1)))
    found = analyse(doubled, reading.confidence, random_readers=False)
    if not reason and np.isnan(found["low_of"][0]):
        reason = "no variance: no interval"
    bounds = {} if reason else {"low": found["low_of"][0], "high": found["high_of"][0]}
    return nothing | {"share": found["values"][0]} | bounds | {"reason": reason}


class WholeCases:
    """Answers on the cases that every reader of a group read from every source.

    Attributes:
        hits: answers that are right, `(sources, readers, cases)`.
        called: answers that are positive.
        suspicion: signed confidence.
        positive: `(cases,)`, whether the reference is positive.
        patients: `(cases,)`.
        left_out: cases that somebody did not read from some source.
    """

    def __init__(
        self,
        hits: np.ndarray,
        called: np.ndarray,
        suspicion: np.ndarray,
        positive: np.ndarray,
        patients: pd.Series,
        left_out: int = 0,
    ) -> None:
        """Take the arrays as they are; `of_answers` picks them from a table."""
        self.hits, self.called, self.suspicion = hits, called, suspicion
        self.positive, self.patients, self.left_out = positive, patients, left_out

    @classmethod
    def of_answers(cls, answers: pd.DataFrame, readers: tuple[str, ...], sources: tuple[str, ...]) -> WholeCases:
        """Pick the cases.

        Args:
            answers: first answers of a part.
            readers: who must have read a case.
            sources: from which sources.
        """
        rows = answers[answers["positive"].notna() & answers["source"].isin(sources)]
        facts = rows.groupby("case_id", sort=True)[["positive", "patient_id"]].first()
        place = [
            pd.Index(names).get_indexer(rows[column]) for names, column in ((sources, "source"), (readers, "reader"))
        ]
        place.append(facts.index.get_indexer(rows["case_id"]))

        def spread_out(column: str) -> np.ndarray:
            array = np.full((len(sources), len(readers), len(facts)), np.nan)
            array[tuple(place)] = rows[column].to_numpy(dtype=float)
            return array

        hits, called, suspicion = map(spread_out, ("correct", "called_positive", "suspicion"))
        known = ~np.isnan(suspicion).any(axis=(0, 1)) & bool(readers)
        positive = facts.loc[known, "positive"].to_numpy(dtype=float) > 0
        images = (array[..., known] for array in (hits, called, suspicion))
        return cls(*images, positive, facts.loc[known, "patient_id"], int((~known).sum()))

    def merits(self, metric: str) -> tuple[Merits | None, str]:
        """Figures of merit with covariances, and why they are missing or have no interval (empty if they have)."""
        ids, positive = self.patients.to_numpy(), self.positive
        counted, sizes = self._counted(metric), self.sizes(metric)
        if not min(sizes, default=0):
            return None, f"no {'' if metric == 'accuracy' else self._lacking(metric) + ' '}case that all read"
        if metric == "auc":
            alone = np.unique(ids).size == ids.size
            merits = delong(self.suspicion, positive) if alone else jackknife_auc(self.suspicion, positive, ids)
        else:
            right = {"accuracy": self.hits, "sensitivity": self.called, "specificity": 1 - self.called}[metric]
            merits = jackknife_share(right[..., counted[0]], ids[counted[0]])
        least, what = (LEAST_PATIENTS, "") if metric == "accuracy" else (LEAST_EVENTS, f" {self._lacking(metric)}")
        return merits, f"{min(sizes)}{what} patients, at least {least} needed for an interval" if min(
            sizes
        ) < least else ""

    def sizes(self, metric: str) -> list[int]:
        """Patients that count for a metric: one number, for the AUC those of the positives and of the negatives."""
        return [self.patients[one].nunique() for one in self._counted(metric)]

    def _counted(self, metric: str) -> list[np.ndarray]:
        classes = {"sensitivity": [self.positive], "specificity": [~self.positive]}
        classes["auc"] = [self.positive, ~self.positive]
        return classes.get(metric, [np.ones(self.positive.size, dtype=bool)])

    def _lacking(self, metric: str) -> str:
        fewer = "positive" if self.positive.sum() <= (~self.positive).sum() else "negative"
        return {"sensitivity": "positive", "specificity": "negative"}.get(metric, fewer)


def whole_cases(answers: pd.DataFrame, group: Group, sources: tuple[str, ...] = SOURCES) -> WholeCases:
    """The cases that all readers of a group read from all sources; readers without any answer are left out."""
    present = tuple(reader for reader in group.readers if (answers["reader"] == reader).any())
    return WholeCases.of_answers(answers, present, sources)


def mrmc_table(reading: Reading) -> pd.DataFrame:
    """Obuchowski and Rockette's analysis of each metric: all readers and each level, readers random and fixed."""
    rows = []
    for part, group in ((part, group) for part in reading.diagnosis_parts for group in reading.groups):
        shared = {"part": part, "kind": group.kind, "group": group.name}
        cases = whole_cases(reading.of(part, group), group)
        analyses = (FIXED,) if group.kind == "reader" else (RANDOM, FIXED)
        rows += [
            shared | mrmc_row(cases, metric, analysis, reading.confidence)
            for metric in METRICS
            for analysis in analyses
        ]
    return reading.table(rows, MRMC_COLUMNS)


def mrmc_row(cases: WholeCases, metric: str, analysis: str, confidence: float) -> dict[str, Any]:
    """What a row of the table says: synthesised minus real, or the reason why there is none.

    Args:
        cases: that all readers of a group read from both sources.
        metric: one of `METRICS`.
        analysis: `RANDOM` or `FIXED` readers.
        confidence: level of the intervals.
    """
    readers = cases.hits.shape[1]
    row = {
        "metric": metric,
        "readers_are": analysis,
        "n_readers": readers,
        "cases": cases.positive.size,
        "patients": cases.patients.nunique(),
        "positive": int(cases.positive.sum()),
        "left_out": cases.left_out,
    }
    merits, reason = cases.merits(metric)
    if merits is None:
        return row | {"reason": reason}
    if analysis == RANDOM and readers < 2:
        return row | {"reason": "one reader only: nothing is known about how readers differ"}
    found = analyse(merits, confidence, random_readers=analysis == RANDOM)
    if not reason and np.isnan(found["low"]):
        reason = "the answers leave no variance: no interval"
    return row | _told(found, reason) | {"covariances": _method(metric, cases)}


def _method(metric: str, cases: WholeCases) -> str:
    alone = cases.patients.nunique() == cases.patients.size
    return "DeLong" if metric == "auc" and alone else "jackknife over patients"


def _told(found: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The analysis as columns; without intervals and tests where a reason speaks against them."""
    columns: dict[str, Any] = {"reason": reason, "difference": found["difference"]}
    for place, source in enumerate(SOURCES):
        ends = {"": "values"} | ({} if reason else {"_low": "low_of", "_high": "high_of"})
        columns |= {f"{source}{end}": float(found[name][place]) for end, name in ends.items()}
    uncertain = {"se", "df", "low", "high", "statistic", "p"} if reason else set()
    scalars = {name: value for name, value in found.items() if np.isscalar(value) and name not in uncertain}
    return columns | scalars


def confusion_table(reading: Reading) -> pd.DataFrame:
    """How often each reference was called what, by part, group and source; `share` is of the reference's answers."""
    rows = []
    for part, group, source in reading.each(reading.diagnosis_parts):
        answers = reading.of(part, group, source)
        counts = pd.crosstab(answers["reference"], answers["diagnosis"])
        counts = counts.reindex(index=list(reading.choices), columns=list(reading.choices), fill_value=0)
        for reference, called in counts.stack().index:
            n, whole = int(counts.loc[reference, called]), int(counts.loc[reference].sum())
            row = {"part": part, "kind": group.kind, "group": group.name, "source": source, "reference": reference}
            told = {"called": called, "n": n, "share": n / whole if whole else np.nan}
            rows.append(row | told | {"reason": "" if whole else "no case of this reference"})
    columns = ["part", "kind", "group", "source", "reference", "called", "n", "share", "reason"]
    return reading.table(rows, columns)


def mcnemar_table(reading: Reading) -> pd.DataFrame:
    """Real against synthesised for each reader: exact McNemar tests, Holm's correction over the readers of a metric.

    A patient with several cases counts as right if all of them are.
    """
    rows = [_mcnemar(reading, *where) for where in _mcnemar_rows(reading)]
    nothing = mcnemar(pd.Series(dtype=float), pd.Series(dtype=float), reading.settings)
    table = reading.table(rows, ["part", "metric", "group", *nothing])
    adjusted = table.groupby(["part", "metric"], sort=False)["p"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    table.insert(table.columns.get_loc("p") + 1, "p_holm", adjusted)
    names = {"only_first": "only_synthesised", "only_second": "only_real"}
    names |= {"share_first": "share_synthesised", "share_second": "share_real", "group": "reader"}
    return table.rename(columns=names)


def _mcnemar_rows(reading: Reading) -> Iterator[tuple[str, str, Group]]:
    single = [group for group in reading.groups if group.kind == "reader"]
    metrics = ("accuracy", "sensitivity", "specificity")
    yield from ((part, metric, group) for part in reading.diagnosis_parts for metric in metrics for group in single)


def _mcnemar(reading: Reading, part: str, metric: str, group: Group) -> dict[str, Any]:
    answers = reading.of(part, group)
    answers = answers.assign(hit=hits_of(answers, metric)).dropna(subset=["hit"])
    # cases read from both sources only, so that a patient's two sides rest on the same cases
    both = answers.groupby("case_id")["source"].transform("nunique") == len(SOURCES)
    right = answers[both].pivot_table(index="patient_id", columns="source", values="hit", aggfunc="min")
    right = right.reindex(columns=list(SOURCES))
    told = mcnemar(right[SYNTHESISED], right[REAL], reading.settings)
    alike = told["n"] and not told["only_first"] + told["only_second"]
    notes = {"note": "no patient is judged right from one source only"} if alike else {}
    return {"part": part, "metric": metric, "group": group.name} | told | notes


def endpoint_table(reading: Reading) -> pd.DataFrame:
    """The primary endpoint, one row: whether synthesised images are not inferior, by the margin fixed before."""
    endpoint, size = reading.endpoint, reading.sample_size
    parts = [part for part in ("diagnosis", "diagnosis_ct") if part in reading.diagnosis_parts]
    row = {
        "part": parts[0] if parts else "",
        "metric": endpoint["metric"],
        "positive": "" if endpoint["metric"] == "accuracy" else "+".join(endpoint["positive"]),
        "margin": endpoint["margin"],
        "alpha": endpoint["alpha"],
        "patients_asked": size["asked"],
        "patients_planned": size["present"],
        "unit": size["unit"],
    }
    if parts:
        # `positive` is here what counts as positive, not how many are
        row |= {**_endpoint(reading, parts[0]), "positive": row["positive"]}
    else:
        row |= {"conclusion": NOT_COMPUTED, "reason": "no diagnosis part was read"}
    columns = [
        *("part", "metric", "positive", "margin", "alpha", "n_readers", "readers_are", "cases", "patients", "left_out"),
        *("real", "synthesised", "difference", "low", "high", "df"),
        *("patients_asked", "patients_planned", "patients_counted", "unit"),
        *("conclusion", "reason"),
    ]
    return reading.table([row], columns)


def _endpoint(reading: Reading, part: str) -> dict[str, Any]:
    """Difference with the two-sided interval whose lower end is the one-sided bound of level alpha."""
    group, metric = reading.groups[0], reading.endpoint["metric"]
    cases = whole_cases(reading.of(part, group), group)
    row = conclude(cases, metric, reading.endpoint["margin"], reading.endpoint["alpha"])
    conclusion, reasons = row["conclusion"], [row["reason"]]
    open_ = _still_open(reading, part)
    if open_:
        conclusion = conclusion if conclusion == NOT_COMPUTED else INTERIM + conclusion
        reasons.append(f"answers are missing of {len(open_)} of {len(reading.levels)} readers: {', '.join(open_)}")
    told = {"conclusion": conclusion, "reason": "; ".join(filter(None, reasons))}
    return row | told | {"patients_counted": min(cases.sizes(metric)) if metric != "auc" else row["patients"]}


def conclude(cases: WholeCases, metric: str, margin: float, alpha: float) -> dict[str, Any]:
    """The endpoint's row of the multi-reader analysis, its `conclusion` by the margin, and the `reason` of doubt.

    Args:
        cases: that all readers read from both sources.
        metric: one of `METRICS`.
        margin: how much worse may still count as not inferior.
        alpha: one-sided error; the interval has level 1 - 2 alpha.
    """
    confidence, several = 1 - 2 * alpha, cases.hits.shape[1] > 1
    row = _farther(cases, metric, confidence) if several else mrmc_row(cases, metric, FIXED, confidence)
    low, high = row.get("low", np.nan), row.get("high", np.nan)
    if np.isnan(low):
        conclusion = NOT_COMPUTED
    else:
        conclusion = NON_INFERIOR if low > -margin else INFERIOR if high < -margin else NOT_SHOWN
    return row | {"conclusion": conclusion, "reason": row["reason"] or ("" if several else "one reader only")}


def _farther(cases: WholeCases, metric: str, confidence: float) -> dict[str, Any]:
    """The analysis, with readers random or fixed, whose interval is wider; missing if either has none.

    The mean square that the analysis with random readers rests on has as few degrees of freedom as there are readers
    less one. It often is by chance smaller than the cases alone would make it, and the interval then narrower than that
    of fixed readers. Both lie evenly about one difference, so that the ends of the wider are the farther ones.
    """
    random, fixed = (mrmc_row(cases, metric, analysis, confidence) for analysis in (RANDOM, FIXED))
    of_random, of_fixed = (row.get("low", np.nan) for row in (random, fixed))
    return (fixed if np.isnan(of_fixed) or of_fixed < of_random else random) | {"readers_are": BOTH}


def _still_open(reading: Reading, part: str) -> list[str]:
    """Readers who have not answered all of a part: a conclusion without them is not the one that was planned."""
    shown = reading.answers[(reading.answers["part"] == part) & reading.answers["repeat_of"].isna()]
    answered = shown.groupby("reader")["answered"].all()
    return [reader for reader in reading.levels if not answered.get(reader, False)]

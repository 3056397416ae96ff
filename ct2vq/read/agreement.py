"""Agreement between readers, of readers with themselves, and of a reader's answers on real and synthesised images.

Every coefficient is a function of sums over patients, so that a bootstrap draws whole patients and costs little.
The intraclass correlation comes from pingouin.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ct2vq.detect.figures_of_merit import ratio
from ct2vq.detect.resampling import Resamples, Support, told_bounds
from ct2vq.intervals import LEAST_PATIENTS
from ct2vq.read.answers import RATING, Group, Reading
from ct2vq.read.exports import ACCEPTABILITY
from ct2vq.read.settings import SOURCES

BETWEEN, WITHIN, ACROSS = "between readers", "within a reader", "real and synthesised"
COLUMNS = (
    *("kind", "part", "question", "source", "group", "readers_compared", "statistic", "weights", "value", "low"),
    *("high", "interval", "n", "patients", "reason"),
)
#: level of the interval that pingouin knows
PINGOUIN_CONFIDENCE = 0.95
#: answers that it needs
PINGOUIN_LEAST = 5
#: chance agreement that leaves nothing to agree beyond
ALL_CHANCE = 1 - 1e-12
SAME_CATEGORY = "all answers are of one category: not defined"
NO_VARIANCE = "the answers do not vary: not defined"
ONE_READER = "one reader only"
ALIKE = "no interval: the resamples do not differ, or there are none"


@dataclass(frozen=True)
class Ratings:
    """Answers of several raters on the same items.

    Attributes:
        codes: `(items, raters)`, number of the category from 0, -1 where missing.
        patients: `(items,)`, patient of each item.
        values: categories in order; numbers of an ordinal scale, or names.
        ordinal: whether the categories have an order.
    """

    codes: np.ndarray
    patients: np.ndarray
    values: Sequence[Any]
    ordinal: bool

    @property
    def weights(self) -> np.ndarray:
        """Agreement weights `(q, q)`: quadratic for ordinal categories, else 1 on the diagonal."""
        q = len(self.values)
        if not self.ordinal:
            return np.eye(q)
        steps = np.arange(q)
        return 1 - np.square((steps[:, None] - steps[None, :]) / max(q - 1, 1))

    @property
    def compared(self) -> np.ndarray:
        """Items with at least two answers."""
        return (self.codes >= 0).sum(axis=1) >= 2

    def by_patient(self, of_items: np.ndarray) -> np.ndarray:
        """Sums over the items of each patient who has an answered one, `(patients, ...)`."""
        answered = (self.codes >= 0).any(axis=1)
        of_items, patients = of_items[answered], self.patients[answered]
        return np.array([of_items[patients == patient].sum(axis=0) for patient in np.unique(patients)])


def kappa(tables: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cohen's weighted kappa of contingency tables `(..., q, q)` (Psychol Bull 1968;70:213).

    Missing where the margins leave no disagreement to expect.
    """
    share = ratio(tables, tables.sum(axis=(-2, -1), keepdims=True))
    expected = share.sum(axis=-1)[..., :, None] * share.sum(axis=-2)[..., None, :]
    observed, chance = (np.sum(part * weights, axis=(-2, -1)) for part in (share, expected))
    return _beyond(observed, chance)


def _beyond(observed: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Agreement beyond chance as a share of what is left for it."""
    return ratio(observed - chance, np.where(chance < ALL_CHANCE, 1 - chance, 0.0))


def pair_tables(ratings: Ratings) -> np.ndarray:
    """Contingency tables of every pair of raters for each patient, `(patients, pairs, q, q)`."""
    q, pairs = len(ratings.values), list(combinations(range(ratings.codes.shape[1]), 2))
    tables = np.zeros((len(ratings.codes), len(pairs), q, q))
    for number, pair in enumerate(pairs):
        first, second = ratings.codes[:, pair].T
        both = np.flatnonzero((first >= 0) & (second >= 0))
        tables[both, number, first[both], second[both]] = 1
    return ratings.by_patient(tables)


def mean_kappa(tables: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of the pairs' kappas, `(..., pairs, q, q)` to `(...)` (Light, Psychol Bull 1971;76:365).

    Pairs whose kappa is not defined are left out; missing if none is.
    """
    of_pairs = kappa(tables, weights)
    return ratio(np.nansum(of_pairs, axis=-1), (~np.isnan(of_pairs)).sum(axis=-1))


def item_sums(ratings: Ratings, weights: np.ndarray) -> np.ndarray:
    """For each patient: weighted agreement, items with two answers, items, and shares of the categories.

    Items with fewer answers than raters count by the answers that they have; one with a single answer tells how often
    the categories are used (Gwet, Handbook of Inter-Rater Reliability, 4th ed. 2014, 2.4 and 5.4).

    Returns:
        `(patients, 3 + q)`.
    """
    counts = np.stack([(ratings.codes == code).sum(axis=1) for code in range(len(ratings.values))], axis=1)
    number = counts.sum(axis=1)
    agreeing = np.nan_to_num(ratio((counts * (counts @ weights - 1)).sum(axis=1), number * (number - 1)))
    shares = np.nan_to_num(ratio(counts, number[:, None]))
    return ratings.by_patient(np.column_stack([agreeing, number > 1, number > 0, shares]))


def fleiss(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fleiss' kappa from `item_sums` `(..., 3 + q)` (Psychol Bull 1971;76:378)."""
    observed, shares = _observed(sums)
    return _beyond(observed, np.einsum("...k,...l,kl->...", shares, shares, weights))


def gwet(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Gwet's AC1 (AC2 with weights other than identity) from `item_sums` (Br J Math Stat Psychol 2008;61:29).

    Unlike kappa it is defined, and near 1, where nearly all answers are of one category.
    """
    observed, shares = _observed(sums)
    q = weights.shape[0]
    return _beyond(observed, weights.sum() / (q * (q - 1)) * (shares * (1 - shares)).sum(axis=-1))


def percent(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of pairs of answers that agree exactly, from `item_sums` with identity weights."""
    return _observed(sums)[0]


def _observed(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ratio(sums[..., 0], sums[..., 1]), ratio(sums[..., 3:], sums[..., 2:3])


#: statistic by name: from what, how, whether with the scale's weights
FROM_ITEMS = {"Fleiss' kappa": (fleiss, False), "Gwet's AC": (gwet, True), "exact agreement": (percent, False)}


def coefficients(ratings: Ratings, resamples: Callable[[int], Resamples]) -> Iterator[dict[str, Any]]:
    """Kappa (mean of the pairs), Fleiss' kappa, Gwet's AC1 or AC2, exact agreement and, of ordinal scales, ICC(2,1).

    Args:
        ratings: of two or more raters.
        resamples: bootstrap for a number of patients.
    """
    weights, plain = ratings.weights, np.eye(len(ratings.values))
    patients = np.unique(ratings.patients[ratings.compared]).size
    shared = {"n": int(ratings.compared.sum()), "patients": patients}
    named = "quadratic" if ratings.ordinal else "none"
    if not shared["n"]:
        statistics = ["Cohen's kappa", *FROM_ITEMS, *(["ICC(2,1)"] if ratings.ordinal else [])]
        reason = {"value": np.nan, "low": np.nan, "high": np.nan, "interval": "", "reason": "no item has two answers"}
        yield from (shared | reason | {"statistic": name, "weights": "none"} for name in statistics)
        return
    told = _told(pair_tables(ratings), lambda sums: mean_kappa(sums, weights), resamples)
    yield shared | {"statistic": "Cohen's kappa", "weights": named} | told
    for name, (function, weighted) in FROM_ITEMS.items():
        used = weights if weighted else plain
        told = _told(item_sums(ratings, used), lambda sums, of=function, by=used: of(sums, by), resamples)
        yield shared | {"statistic": name, "weights": named if weighted else "none"} | told
    if ratings.ordinal:
        yield shared | {"statistic": "ICC(2,1)", "weights": "none"} | intraclass(ratings, resamples)


def _told(
    of_patients: np.ndarray, figure: Callable[[np.ndarray], np.ndarray], resamples: Callable[[int], Resamples]
) -> dict[str, Any]:
    """A coefficient with its bootstrap interval over patients."""
    draws = resamples(len(of_patients))
    value = float(figure(of_patients.sum(axis=0)))
    if np.isnan(value):
        return {"value": np.nan, "low": np.nan, "high": np.nan, "interval": "", "reason": SAME_CATEGORY}
    bounds = draws.intervals(lambda sums: {"figure": figure(sums)}, of_patients)["figure"]
    low, high = told_bounds(value, bounds, Support(len(of_patients)), draws.confidence)
    known = not np.isnan(low)
    few = len(of_patients) < LEAST_PATIENTS
    why = f"{len(of_patients)} patients, at least {LEAST_PATIENTS} needed for an interval" if few else ALIKE
    told = {"interval": "bootstrap", "reason": ""} if known else {"interval": "", "reason": why}
    return {"value": value, "low": low, "high": high} | told


def intraclass(ratings: Ratings, resamples: Callable[[int], Resamples]) -> dict[str, Any]:
    """ICC(2,1): single answers, absolute agreement, raters as a sample (Shrout & Fleiss, Psychol Bull 1979;86:420).

    Of items that every rater answered, by pingouin; its interval (from F distributions) if every patient has one item
    and 95 % is wanted, else the bootstrap over patients of the same coefficient.
    """
    whole = (ratings.codes >= 0).all(axis=1)
    values = np.asarray(ratings.values, dtype=float)[ratings.codes[whole]]
    patients = ratings.patients[whole]
    nothing = {"value": np.nan, "low": np.nan, "high": np.nan, "interval": ""}
    if np.unique(patients).size < 2:
        return nothing | {"reason": "fewer than two patients with all answers"}
    if values.size < PINGOUIN_LEAST:
        return nothing | {"reason": f"{values.size} answers, at least {PINGOUIN_LEAST} needed"}
    if np.ptp(values) == 0:
        return nothing | {"reason": NO_VARIANCE}
    value, low, high = _pingouin(values)
    if np.isnan(value):
        return nothing | {"reason": NO_VARIANCE}
    if np.unique(patients).size == patients.size and abs(resamples(2).confidence - PINGOUIN_CONFIDENCE) < 1e-9:
        reason = "" if np.isfinite([low, high]).all() else "no interval: the items do not differ"
        known = {"low": low, "high": high, "interval": "F"} if not reason else {}
        return nothing | known | {"value": value, "reason": reason}
    told = _told(_icc_sums(values, patients), lambda sums: icc_2_1(sums, values.shape[1]), resamples)
    return told | {"value": value}


def _pingouin(values: np.ndarray) -> tuple[float, float, float]:
    """ICC(2,1) of `(items, raters)` and its 95 % interval."""
    # it takes seconds
    import pingouin

    items, raters = np.indices(values.shape)
    long = pd.DataFrame({"item": items.ravel(), "rater": raters.ravel(), "value": values.ravel()})
    decimals, pingouin.options["round.column.CI95"] = pingouin.options["round.column.CI95"], None
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            table = pingouin.intraclass_corr(long, targets="item", raters="rater", ratings="value")
    finally:
        pingouin.options["round.column.CI95"] = decimals
    # called ICC2 before version 0.6
    row = table[table["Type"].isin(["ICC(A,1)", "ICC2"])].iloc[0]
    low, high = row["CI95"] if "CI95" in row.index else row["CI95%"]
    return float(row["ICC"]), float(low), float(high)


def _icc_sums(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """For each patient what ICC(2,1) follows from: items, their totals, squared totals, squares, raters' totals."""
    total = values.sum(axis=1)
    of_items = np.column_stack([np.ones(len(values)), total, total**2, np.square(values).sum(axis=1), values])
    return np.array([of_items[patients == patient].sum(axis=0) for patient in np.unique(patients)])


def icc_2_1(sums: np.ndarray, raters: int) -> np.ndarray:
    """ICC(2,1) from `_icc_sums` `(..., 4 + raters)`."""
    n, total, squares_of_totals, squares = (sums[..., index] for index in range(4))
    middle = ratio(total**2, n * raters)
    of_items = squares_of_totals / raters - middle
    of_raters = ratio(np.square(sums[..., 4:]).sum(axis=-1), n) - middle
    item, rater = ratio(of_items, n - 1), of_raters / (raters - 1)
    rest = ratio(squares - middle - of_items - of_raters, (n - 1) * (raters - 1))
    return ratio(item - rest, item + (raters - 1) * rest + raters * ratio(rater - rest, n))


def agreement_table(reading: Reading) -> pd.DataFrame:
    """All coefficients: between readers, within a reader (repeats), and between a reader's two sources."""
    rows = [
        row
        for part in reading.parts
        for question, column, values, ordinal in questions(reading, part)
        for row in _question(reading, part, question, column, values, ordinal)
    ]
    return reading.table(rows, COLUMNS)


def questions(reading: Reading, part: str) -> list[tuple[str, str, Sequence[Any], bool]]:
    """What a part asks: name, column, categories, whether they have an order."""
    if part == ACCEPTABILITY:
        return [(name, f"{RATING}{name}", reading.scale, True) for name in reading.questions]
    asked: list[tuple[str, str, Sequence[Any], bool]] = [("diagnosis", "diagnosis", list(reading.choices), False)]
    return asked + ([("pattern", "pattern", reading.patterns, False)] if reading.patterns else [])


def _question(
    reading: Reading, part: str, question: str, column: str, values: Sequence[Any], ordinal: bool
) -> Iterator[dict[str, Any]]:
    def rows(kind: str, group: Group, source: str, raters: str, wide: pd.DataFrame) -> Iterator[dict[str, Any]]:
        shared = {"kind": kind, "part": part, "question": question, "source": source, "group": group.name}
        shared["readers_compared"] = raters
        if wide.shape[1] < 2:
            yield shared | {"statistic": "all", "weights": "none", "n": 0, "patients": 0, "reason": ONE_READER}
            return
        found = coefficients(_ratings(wide, values, ordinal), resamples)
        yield from (shared | row for row in found)

    def resamples(patients: int) -> Resamples:
        return Resamples.of(patients, reading.settings, reading.seed)

    answered = reading.first[reading.first["part"] == part]
    for group in (group for group in reading.groups if group.kind != "reader"):
        for source in SOURCES:
            wide = between(answered, group, source, column)
            yield from rows(BETWEEN, group, source, f"{wide.shape[1]} readers", wide)
    for first, second in combinations(reading.levels, 2):
        for source in SOURCES:
            wide = between(answered, Group("pair", "pair", (first, second)), source, column)
            if wide.shape[1] == 2:
                yield next(rows(BETWEEN, Group("pair", "pair", ()), source, f"{first} and {second}", wide))
    for group in reading.groups:
        yield from rows(WITHIN, group, "both", group.name, within(reading.answers, part, group, column))
        yield from rows(ACROSS, group, "both", group.name, across(answered, group, column))


def _ratings(wide: pd.DataFrame, values: Sequence[Any], ordinal: bool) -> Ratings:
    """Codes of a table with one row an item (index: patient, ...) and one column a rater."""
    places = {value: place for place, value in enumerate(values)}
    codes = wide.map(lambda value: places.get(value, -1)).to_numpy(dtype=int)
    return Ratings(codes, wide.index.get_level_values("patient_id").to_numpy(), values, ordinal)


def between(answered: pd.DataFrame, group: Group, source: str, column: str) -> pd.DataFrame:
    """Answers on the cases of a source, one column a reader."""
    rows = answered[answered["reader"].isin(group.readers) & (answered["source"] == source)]
    return rows.set_index(["patient_id", "case_id", "reader"])[column].unstack()


def across(answered: pd.DataFrame, group: Group, column: str) -> pd.DataFrame:
    """Answers of the readers on their cases, one column real and one synthesised."""
    rows = answered[answered["reader"].isin(group.readers)]
    wide = rows.set_index(["patient_id", "case_id", "reader", "source"])[column].unstack()
    return wide.reindex(columns=list(SOURCES))


def within(answers: pd.DataFrame, part: str, group: Group, column: str) -> pd.DataFrame:
    """Answers on items shown twice in a session, one column the first showing and one the second."""
    rows = answers[answers["answered"] & (answers["part"] == part) & answers["reader"].isin(group.readers)]
    again = rows[rows["repeat_of"].notna()]
    keys = ["patient_id", "case_id", "reader", "session"]
    merged = again.merge(rows, left_on=[*keys, "repeat_of"], right_on=[*keys, "item"], suffixes=("_again", ""))
    wide = merged.set_index(keys)[[column, f"{column}_again"]]
    return wide.set_axis(["first", "second"], axis=1)

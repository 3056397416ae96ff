"""Error and power of the reader study's primary endpoint: `make bench-reading` writes reading_endpoint.tsv and .json.

Studies are drawn, without images, and judged by the workflow's own `ct2vq.read.accuracy.conclude`: accuracy, margin
0.1, alpha 0.025. *Error*: the share of studies called non-inferior where the truth lies at the margin (each reader is
right in 0.85 of real and in 0.75 of synthesised images; 0.025 is nominal). A reader is right where a standard normal
evidence stays below a threshold; of its variance the case has 0.3, the case in its source 0.2, the case with its reader
0.2, the single viewing 0.3. `alike`: readers differ in nothing else. `unlike`: readers differ in skill (SD 0.3 of the
evidence) and in what the source does to it (SD 0.15), with the same average. *Power*: the same share where both sources
are equally good, each reader being right in 0.85 of each and on one side only in 0.15, at the number of patients that
the workflow asks for 80 % (`ct2vq.read.sample_size`); in so large a share of patients as `correlation` says all readers
answer alike, in the others independently. `random readers only` is what the analysis with random readers alone would
have called so; the endpoint takes the wider of both intervals.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from machine import describe_machine  # noqa: E402
from scipy.stats import norm  # noqa: E402

from ct2vq.files import write_json, write_tsv  # noqa: E402
from ct2vq.read.accuracy import NON_INFERIOR, RANDOM, WholeCases, conclude, mrmc_row  # noqa: E402
from ct2vq.read.sample_size import pairs_needed, with_readers  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
MARGIN, ALPHA, POWER, DISCORDANCE, RIGHT = 0.1, 0.025, 0.8, 0.15, 0.85
SEED = 8
ERRORS, POWERS = "error", "power"
ENDPOINT, RANDOM_ONLY = "endpoint", "random readers only"
#: shares of the evidence's variance: case, case and source, case and reader, viewing
CASE, SOURCE, READER, VIEWING = 0.3, 0.2, 0.2, 0.3
#: SD of readers' skill, and of what the source does to it
READERS_DIFFER = {"alike": (0.0, 0.0), "unlike": (0.3, 0.15)}
ERROR_STUDIES = [(patients, readers) for patients in (60, 118) for readers in (2, 3, 5)]
POWER_STUDIES = [(readers, correlation) for readers in (2, 3, 5) for correlation in (0.3, 0.5)]
Draw = Callable[[np.random.Generator], np.ndarray]


def main() -> None:
    """Simulate and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="studies drawn for each row")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the table")
    options = parser.parse_args()
    table = simulated(options.studies)
    write_tsv(table, options.output / "reading_endpoint.tsv")
    command = "python docs/benchmarks/run_reading_endpoint.py"
    header = describe_machine("The reader study's endpoint, simulated", __doc__ or "", command, 1)
    write_json(header | {"studies": options.studies}, options.output / "reading_endpoint.json")
    print(table.drop(columns="target").to_string(index=False))


def simulated(studies: int) -> pd.DataFrame:
    """The long table: `arm` is `error` or `power`, `case` the scenario, `reference` who decides."""
    return pd.DataFrame(list(chain(_error_rows(studies), _power_rows(studies))), columns=COLUMNS)


def _error_rows(studies: int) -> Iterator[list[Any]]:
    for index, (patients, readers) in enumerate(ERROR_STUDIES):
        for kind, (skill, effect) in READERS_DIFFER.items():

            def draw(generator: np.random.Generator, n: int = patients, r: int = readers) -> np.ndarray:
                return at_the_margin(generator, n, r, skill, effect)  # noqa: B023 (called before the next round)

            found = shares(draw, studies, np.random.default_rng([SEED, 0, index, kind == "alike"]))
            case = f"{patients} patients, {readers} readers, {kind}"
            yield from ([ERRORS, case, "", who, NON_INFERIOR, share, "1"] for who, share in found.items())


def _power_rows(studies: int) -> Iterator[list[Any]]:
    alone = pairs_needed(MARGIN, 0.0, DISCORDANCE, ALPHA, POWER)
    for index, (readers, correlation) in enumerate(POWER_STUDIES):
        patients = with_readers(alone or 0, readers, correlation)

        def draw(
            generator: np.random.Generator, n: int = patients, r: int = readers, same: float = correlation
        ) -> np.ndarray:
            return equally_good(generator, n, r, same)

        found = shares(draw, studies, np.random.default_rng([SEED, 1, index]))
        case = f"{patients} patients, {readers} readers, correlation {correlation:g}"
        yield from ([POWERS, case, "", who, NON_INFERIOR, share, "1"] for who, share in found.items())


def shares(draw: Draw, studies: int, generator: np.random.Generator) -> dict[str, float]:
    """Share of studies called non-inferior by the endpoint, and by random readers only.

    Args:
        draw: hits `(sources, readers, patients)` of a study, 1 or 0.
        studies: how many are drawn.
        generator: where the studies come from.
    """
    counts = {ENDPOINT: 0, RANDOM_ONLY: 0}
    for _ in range(studies):
        cases = as_cases(draw(generator))
        counts[ENDPOINT] += conclude(cases, "accuracy", MARGIN, ALPHA)["conclusion"] == NON_INFERIOR
        counts[RANDOM_ONLY] += mrmc_row(cases, "accuracy", RANDOM, 1 - 2 * ALPHA).get("low", np.nan) > -MARGIN
    return {who: round(count / studies, 4) for who, count in counts.items()}


def as_cases(hits: np.ndarray) -> WholeCases:
    """A study of which only the hits `(sources, readers, patients)` are known, one case a patient."""
    patients = hits.shape[-1]
    return WholeCases(hits, hits, hits, np.ones(patients, bool), pd.Series(np.arange(patients)))


def at_the_margin(
    generator: np.random.Generator, patients: int, readers: int, skill: float, effect: float
) -> np.ndarray:
    """Hits `(2, readers, patients)` where synthesised images are as much worse as the margin allows."""
    normal = generator.standard_normal
    evidence = np.sqrt(CASE) * normal(patients) + np.sqrt(SOURCE) * normal((2, 1, patients))
    evidence = (
        evidence + np.sqrt(READER) * normal((readers, patients)) + np.sqrt(VIEWING) * normal((2, readers, patients))
    )
    evidence = evidence + skill * normal((readers, 1)) + effect * normal((2, readers, 1))
    # thresholds of the whole spread: the average reader is right so often
    limits = norm.ppf([RIGHT, RIGHT - MARGIN]) * np.sqrt(1 + skill**2 + effect**2)
    return (evidence < limits[:, None, None]).astype(float)


def equally_good(generator: np.random.Generator, patients: int, readers: int, correlation: float) -> np.ndarray:
    """Hits `(2, readers, patients)`: in a share of patients all readers answer alike, in the others independently."""

    def drawn(rows: int) -> np.ndarray:
        place, half = generator.random((rows, patients)), DISCORDANCE / 2
        both = place < RIGHT - half
        real = both | (place >= 1 - half)
        synthesised = both | ((place >= RIGHT) & (place < 1 - half))
        return np.stack([real, synthesised])

    alike = generator.random(patients) < correlation
    return np.where(alike, np.repeat(drawn(1), readers, axis=1), drawn(readers)).astype(float)


if __name__ == "__main__":
    main()

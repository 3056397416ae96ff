"""Which words of a header may pass: known ones, never a number that could be a date or an id."""

from __future__ import annotations

import pytest

from ct2vq.identity.vocabulary import UNITS, is_known


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("SOMATOM Definition AS+", True),
        ("Symbia T16", True),
        ("Discovery NM/CT 670 Pro", True),
        ("Infinia Hawkeye 4", True),
        ("Brilliance 64", True),
        ("1950 0102 4711", False),
        ("4711", False),
        ("S 1950", False),
        ("Symbia 1950 0102", False),
        ("Symbia Meier", False),
    ],
)
def test_a_model_is_a_name_with_at_most_one_number(model, known) -> None:
    assert is_known("model", model) is known


def test_units_that_readers_give_may_be_said() -> None:
    assert {"HU", "Bq/mL", "counts", "counts/s", "proportional to counts", "proportional to counts/s"} <= UNITS

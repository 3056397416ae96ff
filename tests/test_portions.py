"""Portions: everybody once, none changes when another comes, and they stay small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.portions import portions

NAMES = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=60)


@given(NAMES, st.integers(1, 9))
def test_everybody_is_dealt_once_and_in_order(names: list[str], size: int) -> None:
    dealt = portions(names, size)
    assert sorted(name for portion in dealt.values() for name in portion) == sorted(names)
    for portion in dealt.values():
        assert portion and portion == [name for name in names if name in portion]


@pytest.mark.parametrize("number", [10, 97, 100, 1000])
def test_another_name_joins_one_portion(number: int) -> None:
    names = [f"case{n:04d}" for n in range(number)]
    before, after = portions(names, 8), portions([*names, "new"], 8)
    changed = [portion for portion in after if before.get(portion) != after[portion]]
    assert len(changed) == 1 and "new" in after[changed[0]]


def test_portions_are_of_about_the_size() -> None:
    dealt = portions([f"sim{n:03d}" for n in range(1, 99)], 8)
    assert len(dealt) == 16
    assert max(map(len, dealt.values())) <= 16
    assert portions([], 8) == {}
    assert list(portions(["a", "b"], 8)) == ["0"]

"""Two lungs come apart, one lung stays one, and what cannot be known is said."""

from __future__ import annotations

import numpy as np
import pytest

from ct2vq.segment.sides import split

SPACING = np.full(3, 4.0)
X_MM = (np.arange(80) - 39.5)[None, None] * 4.0


def ellipsoid(centre_mm: float, radius_mm: float) -> np.ndarray:
    z, y = (np.arange(n)[:, None, None] - n / 2 for n in (60, 50))
    y = np.moveaxis(y, 0, 1)
    return ((X_MM - centre_mm) / radius_mm) ** 2 + (y * 4 / 90) ** 2 + (z * 4 / 110) ** 2 < 1


def test_two_lungs_apart_are_right_and_left() -> None:
    labels, notes = split(ellipsoid(-75, 60) | ellipsoid(75, 60), X_MM, SPACING, 0.0)
    assert notes == []
    assert np.array_equal(labels > 0, ellipsoid(-75, 60) | ellipsoid(75, 60))
    assert (labels[..., :40] != 2).all()
    assert (labels[..., 40:] != 1).all()


@pytest.mark.parametrize(("centre", "side", "name"), [(-30.0, 1, "right"), (30.0, 2, "left")])
def test_one_lung_that_reaches_over_the_midline_is_not_cut(centre, side, name) -> None:
    lung = ellipsoid(centre, 90)
    labels, notes = split(lung, X_MM, SPACING, 0.0)
    assert np.array_equal(labels, side * lung)
    assert len(notes) == 1
    assert "W706 one lung" in notes[0]
    assert f"the {name} lung" in notes[0]


def test_lungs_joined_by_a_wide_bridge_are_cut_at_the_midline() -> None:
    z = np.abs(np.arange(60)[:, None, None] - 30) * 4
    y = np.abs(np.arange(50)[None, :, None] - 25) * 4
    bridge = (np.abs(X_MM) < 60) & (z < 50) & (y < 46)
    lungs = ellipsoid(-75, 60) | ellipsoid(75, 60) | bridge
    labels, notes = split(lungs, X_MM, SPACING, 0.0)
    assert notes == ["W706 the lungs are joined by a wide bridge: cut at the midline"]
    assert np.array_equal(labels, np.where(lungs, np.where(X_MM < 0, 1, 2), 0))

"""Whether activity lies in the lungs is seen in the images, whatever the headers say."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from chest_phantom import CT, SPECT, activity_at, labels_at, points, volume
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ct2vq.register.content import SEARCH_MM, compare_content
from ct2vq.volume import to_array

LUNGS = volume(labels_at(points(CT)), CT)


def spect(shift: tuple[float, float, float] = (0, 0, 0), perfused: float = 1.0) -> sitk.Image:
    """The lungs' activity displaced by a shift in mm; the left lung has a share of the right one's."""
    p = points(SPECT) - np.asarray(shift)
    counts = activity_at(p) * np.where(labels_at(p) == 2, perfused, 1.0)
    return volume(ndimage.gaussian_filter(counts, 5.0 / 8.0), SPECT)


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.floats(-30, 30)] * 3))
def test_the_shift_is_found(shift: tuple[float, float, float]) -> None:
    found = compare_content([spect(shift)], LUNGS)
    assert np.linalg.norm(np.subtract(found.shift_mm, shift)) < 4
    assert found.agreement <= found.agreement_shifted <= 1
    assert found.agreement_shifted > 0.85


def test_what_lies_right_has_no_distance() -> None:
    found = compare_content([spect(), spect()], LUNGS)
    assert found.distance_mm == 0 and found.agreement > 0.9


@pytest.mark.parametrize("perfused", [0.5, 0.1])
def test_a_missing_lung_is_no_displacement(perfused: float) -> None:
    """A shift limit must not be reached by disease."""
    found = compare_content([spect(perfused=perfused)], LUNGS)
    assert found.distance_mm < 10
    assert found.agreement > 0.5


def test_a_transform_takes_the_shift_away() -> None:
    shift = (10.0, -14.0, 20.0)
    found = compare_content([spect(shift)], LUNGS, sitk.TranslationTransform(3, shift))
    assert found.distance_mm == 0
    assert compare_content([spect(shift)], LUNGS).distance_mm == pytest.approx(np.linalg.norm(shift), abs=4)


def test_scale_of_counts_does_not_matter() -> None:
    one, other = (compare_content([image], LUNGS) for image in (spect((12, 0, 0)), spect((12, 0, 0)) * 1e-4))
    assert one.shift_mm == pytest.approx(other.shift_mm, abs=0.1)


def test_an_image_without_counts_agrees_with_nothing() -> None:
    found = compare_content([volume(np.zeros_like(to_array(spect())), SPECT)], LUNGS)
    assert found.agreement == 0 and found.distance_mm == 0
    elsewhere = spect((0, 0, 0))
    elsewhere.SetOrigin([x + 10 * SEARCH_MM for x in elsewhere.GetOrigin()])
    assert compare_content([elsewhere], LUNGS).agreement < 0.2

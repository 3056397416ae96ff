"""What a network reads: only the lungs, only the CT, in a fixed order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from factories import NETWORK, SHAPE, SPACING_MM, TARGETS, case_in_memory, cropped_arrays, write_cropped_case

from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.inputs import case_folders, ct_channels, network_channels, read_cropped_case
from ct2vq.inputs import channels as number_of_channels
from ct2vq.lungs import normalised_position
from ct2vq.volume import from_array, make_grid, write_volume

WINDOW = (-1000, 0)


def test_a_cropped_case_comes_back(cropped_case: Path) -> None:
    case = read_cropped_case(cropped_case, TARGETS)
    arrays = cropped_arrays(7)
    np.testing.assert_array_equal(case.hu, arrays["ct"])
    np.testing.assert_array_equal(case.enhanced, arrays["ct_enhanced"])
    np.testing.assert_array_equal(case.texture, arrays["ct_texture"])
    np.testing.assert_array_equal(case.lungs, arrays["lungs"])
    assert case.case_id == cropped_case.name
    assert case.spacing_mm == SPACING_MM
    assert case.targets.keys() == set(TARGETS)
    assert read_cropped_case(cropped_case, ()).targets == {}
    np.testing.assert_array_equal(case.inside, arrays["lungs"] > 0)


def test_a_missing_target_and_a_wrong_grid(tmp_path: Path) -> None:
    arrays = cropped_arrays(0)
    write_cropped_case(tmp_path / "c1", 0, ())
    with pytest.raises(Ct2vqError, match=r"perfusion\.nii\.gz.*does not exist"):
        read_cropped_case(tmp_path / "c1", ("perfusion",))
    other = make_grid(SHAPE[::-1], [SPACING_MM] * 3, (1, 0, 0))
    write_volume(from_array(arrays["perfusion"], other), tmp_path / "c1" / "perfusion.nii.gz")
    with pytest.raises(GeometryError, match="c1 lungs and c1 perfusion"):
        read_cropped_case(tmp_path / "c1", ("perfusion",))


@pytest.mark.parametrize("coordinates", [True, False])
def test_the_channels(coordinates: bool) -> None:
    case = case_in_memory(0)
    channels = network_channels(case, NETWORK | {"coordinates": coordinates}, WINDOW)
    assert channels.shape == (8 if coordinates else 5, *SHAPE)
    assert len(channels) == number_of_channels(NETWORK | {"coordinates": coordinates})
    assert channels.dtype == np.float32
    assert (channels[:, ~case.inside] == 0).all()
    np.testing.assert_allclose(channels[0][case.inside], np.clip(case.hu[case.inside] / 1000 + 1, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(channels[1], case.enhanced)
    low, high, spread = case.texture
    np.testing.assert_allclose(channels[2:5], [low, np.sqrt(high), spread / 200], rtol=1e-6)
    if coordinates:
        np.testing.assert_array_equal(channels[5:], normalised_position(case.lungs))


def test_the_enhanced_ct_can_be_left_out() -> None:
    case = case_in_memory(0)
    full, without = (network_channels(case, NETWORK | {"enhanced": enhanced}, WINDOW) for enhanced in (True, False))
    np.testing.assert_array_equal(without, np.delete(full, 1, axis=0))
    assert [ct_channels(NETWORK | {"enhanced": enhanced}) for enhanced in (True, False)] == [5, 4]


def test_the_texture_can_be_left_out() -> None:
    case = case_in_memory(0)
    full, without = (network_channels(case, NETWORK | {"texture": texture}, WINDOW) for texture in (True, False))
    np.testing.assert_array_equal(without, np.delete(full, [2, 3, 4], axis=0))
    assert [ct_channels(NETWORK | {"texture": texture}) for texture in (True, False)] == [5, 2]


def test_the_targets_are_no_input_and_the_chest_wall_neither() -> None:
    case = case_in_memory(0)
    channels = network_channels(case, NETWORK, WINDOW)
    changed = case_in_memory(
        0,
        perfusion=np.zeros(SHAPE, np.float32),
        ventilation=np.ones(SHAPE, np.float32),
        ct=np.where(case.inside, case.hu, 3000).astype(np.float32),
    )
    np.testing.assert_array_equal(network_channels(changed, NETWORK, WINDOW), channels)


def test_folders_come_once_and_in_order() -> None:
    images = ["r/b/ct.nii.gz", "r/b/lungs.nii.gz", "r/a/ct.nii.gz", "r/b/ct_enhanced.nii.gz"]
    assert case_folders(images) == [Path("r/b"), Path("r/a")]

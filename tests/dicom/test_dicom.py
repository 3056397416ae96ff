"""Reading DICOM: what counts as an image, order, geometry, stored values, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_factory import rotation, series, thorax_like, write, write_series
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from ct2vq.dicom.files import Instance, Source, collect, read_file, read_header
from ct2vq.dicom.geometry import Plane, read_plane, stack
from ct2vq.dicom.pixels import padding, rescale, stored_values
from ct2vq.errors import DicomError

SETTINGS = {"slice_tolerance_mm": 0.05, "tilt_tolerance_deg": 0.1}


def plane(position: np.ndarray, axes: np.ndarray, name: str = "a") -> Plane:
    return Plane(Path(name), axes[:, 0], axes[:, 1], np.asarray(position, float), (1.5, 2.5), (4, 5))


def planes(depths: list[float], axes: np.ndarray | None = None, shift: np.ndarray | None = None) -> list[Plane]:
    axes = np.eye(3) if axes is None else axes
    direction = axes[:, 2] if shift is None else axes[:, 2] + shift
    return [plane(np.array([1.0, 2.0, 3.0]) + d * direction, axes, f"slice{i}") for i, d in enumerate(depths)]


@given(seed=st.integers(0, 10_000), step=st.floats(0.3, 12), shuffle=st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=60, deadline=None)
def test_stack_finds_order_and_grid_in_any_orientation(seed, step, shuffle) -> None:
    axes = rotation(seed)
    given_order = list(range(7))
    shuffle.shuffle(given_order)
    given = [planes([k * step for k in range(7)], axes)[i] for i in given_order]
    stacked = stack(given, SETTINGS)
    order, grid = stacked.order, stacked.grid
    assert [given_order[i] for i in order] == list(range(7))
    assert np.isclose(grid.GetSpacing()[2], step)
    assert np.allclose(np.reshape(grid.GetDirection(), (3, 3)), axes, atol=1e-9)
    assert np.allclose(grid.TransformIndexToPhysicalPoint([0, 0, 6]), given[order[6]].position, atol=1e-6)
    assert stacked.notes == []
    assert not stacked.offsets.any()


@pytest.mark.parametrize(
    ("depths", "reason", "names"),
    [
        ([0, 3, 3, 6], "one position", ("slice1", "slice2")),
        ([0, 3, 9, 12], r"1 missing slice\(s\)", ("slice1", "slice2")),
        ([0, 3, 12, 15], r"2 missing slice\(s\)", ("slice1", "slice2")),
        ([0, 3, 6.2, 9.2], "irregular", ("slice1", "slice2")),
        ([5, 5], "one position", ("slice0", "slice1")),
        ([0, 3], None, ()),
        ([0, 3.0004, 5.9996, 9], None, ()),
        ([0], "one slice is not a volume", ("slice0",)),
    ],
)
def test_stack_refuses_gaps_and_duplicates_by_name(depths, reason, names) -> None:
    if reason is None:
        stack(planes(depths), SETTINGS)
        return
    with pytest.raises(DicomError, match=reason) as caught:
        stack(planes(depths), SETTINGS)
    assert all(name in str(caught.value) for name in names)


def test_stack_refuses_a_slow_drift_that_no_single_gap_shows() -> None:
    steps = np.cumsum([0] + [3.04] * 20 + [2.97] * 20)
    with pytest.raises(DicomError, match="evenly spaced"):
        stack(planes(steps.tolist()), SETTINGS)


def test_stack_refuses_gantry_tilt() -> None:
    tilted = planes([0, 3, 6, 9], shift=np.array([0, np.tan(np.radians(12)), 0]))
    with pytest.raises(DicomError, match=r"12\.00 degrees .*gantry tilt"):
        stack(tilted, SETTINGS)


def test_stack_refuses_a_second_orientation_or_matrix() -> None:
    given = planes([0, 3, 6])
    turned = Plane(Path("turned"), *np.eye(3)[[0, 2]], given[0].position, (1.5, 2.5), (4, 5))
    with pytest.raises(DicomError, match=r"D306 .*3 slice\(s\) with orientation .*but 1 with another.*turned"):
        stack([*given, turned], SETTINGS)
    small = Plane(Path("small"), *np.eye(3)[:2], given[0].position, (1.5, 2.5), (3, 5))
    with pytest.raises(DicomError, match=r"D304 .*3 slice\(s\) with matrix .*but 1 with another.*small"):
        stack([*given, small], SETTINGS)


def test_collect_ignores_other_files_and_says_so(tmp_path) -> None:
    write_series(series(thorax_like((3, 4, 5))), tmp_path / "deep" / "er")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").write_bytes(b"")
    found = collect(tmp_path)
    assert len(found.instances) == 3
    assert found.ignored_summary() == [
        "1 file(s) ignored: hidden file",
        "1 file(s) ignored: not DICOM (no signature)",
    ]


def test_collect_names_what_is_missing_or_empty(tmp_path) -> None:
    with pytest.raises(DicomError, match="nowhere: the DICOM file or folder does not exist"):
        collect(tmp_path / "nowhere")
    with pytest.raises(DicomError, match="no DICOM image found"):
        collect(tmp_path)
    (tmp_path / "empty.dcm").write_bytes(b"")
    with pytest.raises(DicomError, match=r"empty\.dcm: the file is empty"):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 2, 0]),
        ("ImagePositionPatient", [1, 2]),
        ("ImagePositionPatient", None),
        ("PixelSpacing", [0, 1]),
        ("PixelSpacing", None),
        ("Rows", None),
    ],
)
def test_read_plane_names_file_and_attribute(tmp_path, keyword, value) -> None:
    data = series(thorax_like((1, 4, 5)))[0]
    if value is None:
        delattr(data, keyword)
    else:
        setattr(data, keyword, value)
    path = tmp_path / "bad.dcm"
    instance = Instance(path, data, data.SOPClassUID)
    with pytest.raises(DicomError, match=rf"bad\.dcm, key {keyword}"):
        read_plane(instance)


def test_unparsable_number_is_a_dicom_error(tmp_path) -> None:
    path = write(series(thorax_like((1, 4, 5)))[0], tmp_path / "a.dcm")
    content = path.read_bytes().replace(b"1.5000000000", b"one and half")
    path.write_bytes(content)
    instance = read_header(path)
    with pytest.raises(DicomError, match=r"a\.dcm, key PixelSpacing"):
        read_plane(instance)


@given(keep=st.floats(0.02, 0.98))
@hypothesis_settings(max_examples=40, deadline=None)
def test_a_truncated_file_is_never_read_as_whole(tmp_path_factory, keep) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = write(series(thorax_like((1, 8, 9)))[0], folder / "cut.dcm")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    try:
        instance = read_header(path)
    except DicomError as error:
        assert "cut.dcm" in str(error)
        return
    if instance is None:
        assert len(content) * keep < 133  # the signature itself is gone
        return
    with pytest.raises(DicomError, match=r"cut\.dcm"):
        read_plane(instance)
        data, _ = read_file(path)
        rescale(data, path)
        stored_values(data, path)


def test_padding_range_and_wrong_sign(tmp_path) -> None:
    data = Dataset()
    assert padding(data, tmp_path) is None
    data.PixelPaddingValue, data.PixelRepresentation, data.BitsAllocated = 63536, 1, 16
    assert padding(data, tmp_path) == (-2000, -2000)
    data.PixelPaddingRangeLimit = 63600
    assert padding(data, tmp_path) == (-2000, -1936)


@pytest.mark.parametrize("name", ["DONE", "transfer.ok", "log-2024.txt", "sub/COMPLETE"])
def test_an_empty_marker_is_ignored_and_said(tmp_path, name) -> None:
    write_series(series(thorax_like((3, 4, 5))), tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / name).touch()
    found = collect(tmp_path)
    assert len(found.instances) == 3
    assert found.ignored_summary() == ["1 file(s) ignored: empty file"]


@pytest.mark.parametrize("name", ["a.dcm", "SCAN.IMA", "IM0007", "1.2.840.113.7", "slice.v2"])
def test_an_empty_image_is_not_ignored(tmp_path, name) -> None:
    write_series(series(thorax_like((3, 4, 5))), tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(DicomError, match="D102"):
        collect(tmp_path)


def test_a_named_empty_file_is_an_error_whatever_its_name(tmp_path) -> None:
    write_series(series(thorax_like((3, 4, 5))), tmp_path)
    (tmp_path / "DONE").touch()
    for source in (tmp_path / "DONE", Source(tmp_path, tuple(tmp_path.iterdir()))):
        with pytest.raises(DicomError, match="D102"):
            collect(source)

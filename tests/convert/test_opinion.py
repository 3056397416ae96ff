"""The second opinion: SimpleITK's reading of the same files, and what is written, lie where DICOM puts them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_factory import ds_text, nm, rotation, series, thorax_like, write, write_series
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ct2vq.config import complete_config
from ct2vq.convert import convert_ct, convert_spect, read_ct
from ct2vq.convert.opinion import RULES, SECOND_OPINION_MM, opinion_of_slices, second_opinion
from ct2vq.dicom.files import read_header
from ct2vq.dicom.geometry import read_plane, stack
from ct2vq.errors import DicomError
from ct2vq.files import read_json
from ct2vq.volume import affine, corners, make_grid, read_volume

SETTINGS = complete_config({"study": "test"})["convert"]
SHAPE = (4, 5, 6)
INDEX = np.array([(i, j, k, 1) for k in (0, 3) for j in (0, 4) for i in (0, 5)], dtype=float)


@given(
    modality=st.sampled_from(["CT", "NM", "PT"]),
    seed=st.integers(0, 10_000),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
    spacing=st.tuples(st.floats(0.3, 8), st.floats(0.3, 8), st.floats(0.5, 12)),
    against=st.booleans(),
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_what_is_written_lies_where_dicom_puts_it(tmp_path_factory, modality, seed, origin, spacing, against) -> None:
    """Oblique grids, files in any order, stacks against the normal: the volume read again has DICOM's corners."""
    folder = tmp_path_factory.mktemp("grid")
    axes, step = rotation(seed), -spacing[2] if against else spacing[2]
    expected = np.eye(4)
    expected[:3, :3], expected[:3, 3] = axes * [*spacing[:2], step], origin
    if modality == "NM":
        data = nm(np.full(SHAPE, 9), axes=axes, origin=origin, spacing=(*spacing[:2], step))
        convert_spect(
            write(data, folder / "in"), folder / "v.nii.gz", folder / "v.json", SETTINGS, "case-1", "perfusion"
        )
    else:
        places = [np.array(origin) + k * step * axes[:, 2] for k in range(SHAPE[0])]
        slices = series(thorax_like(SHAPE) if modality == "CT" else np.full(SHAPE, 9, np.int16), modality=modality)
        for data, place in zip(slices, places, strict=True):
            data.ImagePositionPatient, data.ImageOrientationPatient = ds_text(place), ds_text(axes[:, :2].T)
            data.PixelSpacing, data.SliceThickness = ds_text(np.array([spacing[1], spacing[0]])), f"{spacing[2]:.6f}"
        write_series(slices, folder / "in")
        run = convert_ct if modality == "CT" else convert_spect
        more = () if modality == "CT" else ("ventilation",)
        run(folder / "in", folder / "v.nii.gz", folder / "v.json", SETTINGS, "case-1", *more)
    image, sidecar = read_volume(folder / "v.nii.gz"), read_json(folder / "v.json")
    wanted = (expected @ INDEX.T).T[:, :3]
    assert _as_sets_equal(corners(image), wanted, 1e-3)
    assert np.linalg.det(affine(image)[:3, :3]) > 0
    written = make_grid(*(sidecar["grid"][key] for key in ("size", "spacing_mm", "origin_mm", "direction")))
    assert np.allclose(affine(image), affine(written), atol=1e-3)
    assert sidecar["second_opinion"]["reader"] == "SimpleITK"
    assert sidecar["second_opinion"]["largest_distance_mm"] < 1e-3
    assert sidecar["second_opinion"]["rule"] is None


def _as_sets_equal(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    """The same eight places, whichever corner comes first."""
    distances = np.linalg.norm(found[:, None] - wanted[None], axis=2)
    return bool((distances.min(axis=1) < tolerance).all() and (distances.min(axis=0) < tolerance).all())


@pytest.mark.parametrize(
    ("change", "reader", "rule"),
    [
        ({}, "SimpleITK", None),
        ({"geometry": "top"}, "none", "gdcm_ignores_top_level_geometry"),
        ({"geometry": "both"}, "SimpleITK", None),
        ({"spacing": (4.5, 5.5, -6.5)}, "SimpleITK", None),
    ],
)
def test_rules_of_nm(tmp_path, change, reader, rule) -> None:
    path = write(nm(np.full(SHAPE, 9), **change), tmp_path / "q.dcm")
    convert_spect(path, tmp_path / "q.nii.gz", tmp_path / "q.json", SETTINGS, "case-1", "perfusion")
    opinion = read_json(tmp_path / "q.json")["second_opinion"]
    assert (opinion["reader"], opinion["rule"]) == (reader, rule)


def test_nm_without_spacing_between_slices_is_explained(tmp_path) -> None:
    data = nm(np.full(SHAPE, 9))
    del data.SpacingBetweenSlices
    path = write(data, tmp_path / "q.dcm")
    convert_spect(path, tmp_path / "q.nii.gz", tmp_path / "q.json", SETTINGS, "case-1", "perfusion")
    opinion = read_json(tmp_path / "q.json")["second_opinion"]
    assert opinion["rule"] == "gdcm_guesses_spacing_without_positions"
    assert opinion["largest_distance_mm"] == pytest.approx(3 * 5.5)


def test_a_disagreement_without_a_rule_stops_the_case(tmp_path) -> None:
    path = write(nm(np.full(SHAPE, 9), spacing=(4.5, 5.5, 6.5)), tmp_path / "q.dcm")
    right = make_grid(SHAPE[::-1], (4.5, 5.5, 6.5), (-80, -90, 200))
    assert second_opinion(path, right)["largest_distance_mm"] == 0
    elsewhere = make_grid(SHAPE[::-1], (4.5, 5.5, 6.5), (-80, -90, 201))
    with pytest.raises(DicomError, match=r"D315 .*by up to 1\.00 mm"):
        second_opinion(path, elsewhere)
    assert second_opinion(path, elsewhere, ["enhanced_multiframe"])["rule"] == "enhanced_multiframe"
    with pytest.raises(DicomError, match=r"D315 .*voxels"):
        second_opinion(path, make_grid((6, 5, 3), (4.5, 5.5, 6.5), (-80, -90, 200)))


def test_every_slice_of_a_series_is_compared(tmp_path) -> None:
    folder = write_series(series(thorax_like(SHAPE)), tmp_path / "in")
    headers = [read_header(path) for path in sorted(folder.iterdir())]
    planes = [read_plane(header) for header in headers]
    stacked = stack(planes, SETTINGS)
    assert opinion_of_slices(planes, stacked) == {"reader": "SimpleITK", "largest_distance_mm": 0, "rule": None}
    moved = stacked.order[2]
    data = pydicom.dcmread(planes[moved].path)
    data.ImagePositionPatient[0] += 2
    data.save_as(planes[moved].path)
    with pytest.raises(DicomError, match=rf"{planes[moved].path.name}.*D?.*2\.00 mm"):
        opinion_of_slices(planes, stacked)


def test_a_straightened_gantry_is_explained_or_agrees(tmp_path) -> None:
    """Slices of a tilted gantry are compared where they were put, each with its own file."""
    tilt = np.radians(12)
    axes = np.column_stack([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    slices = series(thorax_like((6, 9, 8)), axes=axes)
    for k, data in enumerate(slices):
        data.ImagePositionPatient = ds_text(np.array([-50, -60, 100 + 3.0 * k]))
    write_series(slices, tmp_path / "in")
    converted, _ = read_ct(tmp_path / "in", SETTINGS)
    opinion = converted.facts["second_opinion"]
    assert opinion["reader"] == "SimpleITK"
    assert opinion["rule"] in (None, "tilt_corrected")
    assert opinion["largest_distance_mm"] < 0.5 * 2.5 + SECOND_OPINION_MM


def test_the_rules_say_why() -> None:
    assert all(len(why) > 20 for why in RULES.values())


def test_a_second_opinion_is_cheap(tmp_path: Path) -> None:
    """134 slices in under half a second."""
    folder = write_series(series(np.zeros((134, 64, 64), np.int16)), tmp_path / "in")
    planes = [read_plane(read_header(path)) for path in sorted(folder.iterdir())]
    stacked = stack(planes, SETTINGS)
    start = time.process_time()
    opinion_of_slices(planes, stacked)
    assert time.process_time() - start < 0.5


def test_a_file_that_simpleitk_cannot_read_gets_no_opinion(tmp_path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")
    opinion = second_opinion(tmp_path / "a.dcm", sitk.Image([2, 2, 2], sitk.sitkUInt8))
    assert opinion == {"reader": "none", "largest_distance_mm": None, "rule": "gdcm_cannot_read"}

"""CT: tilted gantries, enhanced multi-frame objects, copies, claims, and how values are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_factory import enhanced, lean, rotation, series, thorax_like, uid, write, write_series
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from scipy import ndimage

from ct2vq.convert import read_ct
from ct2vq.convert.converted import Converted
from ct2vq.dicom.geometry import shifted
from ct2vq.errors import DicomError
from ct2vq.volume import affine, corners, same_grid

SETTINGS = {
    "slice_tolerance_mm": 0.05,
    "tilt_tolerance_deg": 0.1,
    "gantry_tilt": "correct",
    "hu_plausibility": False,
    "hu_min_fraction": 0.001,
}
SHAPE = (6, 5, 4)


def read(source: Path, **changes: object) -> Converted:
    return read_ct(source, SETTINGS | changes)[0]


def ball(shape: tuple[int, int, int], centre: np.ndarray, radius: float, places: np.ndarray) -> np.ndarray:
    """HU of a soft ball in air at positions `(z, y, x, 3)` in mm: 0 inside, -1000 outside, an edge of 4 mm."""
    distance = np.linalg.norm(places - centre, axis=-1)
    return (-1000 * np.clip((distance - radius) / 4 + 0.5, 0, 1)).reshape(shape)


def places_of(slices: list[Dataset]) -> np.ndarray:
    """DICOM's own position `(z, y, x, 3)` of each pixel (PS3.3 C.7.6.2.1.1)."""
    found = []
    for data in slices:
        row, column = np.reshape(np.array(data.ImageOrientationPatient, float), (2, 3))
        y, x = np.mgrid[: data.Rows, : data.Columns]
        dy, dx = (float(v) for v in data.PixelSpacing)
        start = np.array(data.ImagePositionPatient, float)
        found.append(start + x[..., None] * dx * row + y[..., None] * dy * column)
    return np.stack(found)


# --- tilted gantry -----------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), degrees=st.floats(-30, 30), direction=st.floats(0, 360))
@hypothesis_settings(max_examples=15, deadline=None)
def test_a_tilted_stack_becomes_straight_and_stays_in_its_place(tmp_path_factory, seed, degrees, direction) -> None:
    """All corners of all slices lie on the new grid, which is a box, and a ball's centre stays where it was."""
    folder = tmp_path_factory.mktemp("tilt")
    axes, spacing, shape = rotation(seed), (2.0, 2.5, 3.0), (24, 34, 36)
    slices = series(np.zeros(shape, np.int16), axes=axes, spacing=spacing)
    angle = np.radians(direction)
    lean(slices, degrees, np.cos(angle) * axes[:, 0] + np.sin(angle) * axes[:, 1])
    places = places_of(slices)
    centre = places.reshape(-1, 3).mean(axis=0)
    for data, hu in zip(slices, ball(shape, centre, 16, places), strict=True):
        data.PixelData = np.rint(hu).astype(np.int16).tobytes()
    converted = read(write_series(slices, folder / "in"))
    image = converted.image
    array = sitk.GetArrayFromImage(image)
    index = (places.reshape(-1, 3) - image.GetOrigin()) @ np.linalg.inv(affine(image)[:3, :3]).T
    box = places[[0, 0, 0, 0, -1, -1, -1, -1], [0, 0, -1, -1] * 2, [0, -1] * 4]
    corner_index = (box - image.GetOrigin()) @ np.linalg.inv(affine(image)[:3, :3]).T
    assert corner_index.min() > -0.01
    assert (corner_index < np.array(image.GetSize()) - 0.99).all()
    assert np.allclose(corner_index[:, 2], [0] * 4 + [23] * 4, atol=1e-4)
    assert index[:, :2].min() > -0.01
    assert np.allclose(np.reshape(image.GetDirection(), (3, 3)), axes, atol=1e-6)
    mass = np.clip(array + 1000, 0, None)  # without the seam between air and the -1024 HU around
    z, y, x = ndimage.center_of_mass(mass)
    found = affine(image) @ [x, y, z, 1]
    assert (np.abs(axes.T @ (found[:3] - centre)) < 0.1 * np.array(spacing)).all()
    if abs(degrees) > 0.2:
        assert any(f"W306 gantry tilt of {abs(degrees):.2f} degrees" in note for note in converted.notes)


def test_an_untilted_stack_is_not_touched_by_the_correction(tmp_path) -> None:
    hu = thorax_like(SHAPE)
    folder = write_series(series(hu), tmp_path / "in")
    a, b = (read(folder, gantry_tilt=value) for value in ("correct", "refuse"))
    assert np.array_equal(sitk.GetArrayFromImage(a.image), hu)
    assert np.array_equal(sitk.GetArrayFromImage(b.image), hu)
    assert corners(a.image).tolist() == corners(b.image).tolist()


def test_a_tilt_of_whole_pixels_moves_values_without_changing_one(tmp_path) -> None:
    hu = thorax_like(SHAPE)
    slices = series(hu, spacing=(1.5, 3.0, 6.0))
    for k, data in enumerate(slices):
        data.ImagePositionPatient = [-50, -60 + 3 * k, 100 + 6 * k]
    image = read(write_series(slices, tmp_path / "in")).image
    array = sitk.GetArrayFromImage(image)
    assert image.GetSize() == (4, 10, 6)
    for k in range(6):
        assert np.array_equal(array[k, k : k + 5], hu[k])
        assert (np.delete(array[k], range(k, k + 5), axis=0) == -1024).all()


def test_values_between_pixels_are_linear() -> None:
    ramp = np.add.outer(10.0 * np.arange(5), np.arange(4)).astype(np.float32)
    moved = shifted(ramp, np.array([1.25, 2.5]), (8, 6), -7.0)
    y, x = np.mgrid[3:7, 2:5]
    assert np.allclose(moved[3:7, 2:5], 10 * (y - 2.5) + (x - 1.25))
    assert (moved[:2] == -7).all()
    assert moved.dtype == np.float32


def test_gantry_tilt_can_be_refused(tmp_path) -> None:
    slices = lean(series(thorax_like(SHAPE)), 12, np.array([0, 1, 0]))
    with pytest.raises(DicomError, match=r"D310 .*12\.00 degrees"):
        read(write_series(slices, tmp_path / "in"), gantry_tilt="refuse")


@pytest.mark.parametrize("degrees", [33, 60])
def test_a_lean_that_no_gantry_has_is_refused(tmp_path, degrees) -> None:
    slices = lean(series(thorax_like(SHAPE)), degrees, np.array([0, 1, 0]))
    with pytest.raises(DicomError, match="D310"):
        read(write_series(slices, tmp_path / "in"))


def test_a_tilt_that_varies_is_refused(tmp_path) -> None:
    slices = series(thorax_like((8, 5, 4)))
    lean(slices[4:], 20, np.array([0, 1, 0]))
    with pytest.raises(DicomError, match="D311"):
        read(write_series(slices, tmp_path / "in"))


# --- enhanced multi-frame ----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), shared=st.booleans(), legacy=st.booleans(), tilt=st.sampled_from([0, 14]))
@hypothesis_settings(max_examples=20, deadline=None)
def test_enhanced_ct_reads_as_its_single_frames(tmp_path_factory, seed, shared, legacy, tilt) -> None:
    folder = tmp_path_factory.mktemp("enhanced")
    axes, random = rotation(seed), np.random.default_rng(seed)
    slopes = random.choice([0.5, 1.0, 2.0], size=SHAPE[0])
    slices = lean(series(thorax_like(SHAPE, seed), axes=axes, slopes=slopes, intercept=-24), tilt, axes[:, 1])
    single = read(write_series(slices, folder / "single"))
    sop = pydicom.uid.LegacyConvertedEnhancedCTImageStorage if legacy else pydicom.uid.EnhancedCTImageStorage
    frames = [slices[i] for i in random.permutation(len(slices))]
    multi = read(write(enhanced(frames, shared=shared, sop_class=sop), folder / "e.dcm"))
    assert same_grid(single.image, multi.image)
    assert np.array_equal(sitk.GetArrayFromImage(single.image), sitk.GetArrayFromImage(multi.image))
    assert multi.notes == single.notes
    assert multi.first.dataset.ConvolutionKernel == "B30f"
    assert float(multi.first.dataset.SliceThickness) == 3.0


def _stacks(data: Dataset) -> None:
    data.PerFrameFunctionalGroupsSequence[3].FrameContentSequence[0].StackID = "2"


def _times(data: Dataset) -> None:
    data.PerFrameFunctionalGroupsSequence[3].FrameContentSequence[0].TemporalPositionIndex = 2


def _one_group_less(data: Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[3]


def _no_position(data: Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence


def _no_measures(data: Dataset) -> None:
    del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def _no_rescale(data: Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence


def _same_place(data: Dataset) -> None:
    groups = data.PerFrameFunctionalGroupsSequence
    groups[3].PlanePositionSequence = groups[2].PlanePositionSequence


def _too_many(data: Dataset) -> None:
    data.NumberOfFrames = 10_000_000


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_stacks, "D210 .*several stacks"),
        (_times, "D210 .*several times"),
        (_one_group_less, "D107"),
        (_no_position, "D107 .*ImagePositionPatient"),
        (_no_measures, "D107 .*PixelSpacing"),
        (_no_rescale, "D406"),
        (_same_place, "D307 .*frame 3 of .*frame 4 of"),
        (_too_many, "D108"),
    ],
)
def test_enhanced_ct_refuses_what_cannot_be_trusted(tmp_path, damage, code) -> None:
    data = enhanced(series(thorax_like(SHAPE)))
    damage(data)
    with pytest.raises(DicomError, match=code):
        read(write(data, tmp_path / "e.dcm"))


def test_enhanced_ct_beside_another_ct_is_refused(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    write_series(slices, tmp_path / "in")
    write(enhanced(slices), tmp_path / "in" / "e.dcm")
    with pytest.raises(DicomError, match=r"D204 .*7 CT objects, 1 of them multi-frame"):
        read(tmp_path / "in")


# --- copies, strays, claims --------------------------------------------------------------------------------------


def test_an_exact_copy_of_a_slice_is_dropped_and_said(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    folder = write_series(slices, tmp_path / "in")
    write(slices[2], folder / "sub" / "copy")
    converted = read(folder)
    assert converted.image.GetSize() == (4, 5, 6)
    assert "W101 1 file(s) ignored: exact copy of another file" in converted.notes


@pytest.mark.parametrize("same_uid", [True, False])
def test_another_image_at_a_slices_place_is_refused(tmp_path, same_uid) -> None:
    slices = series(thorax_like(SHAPE))
    folder = write_series(slices, tmp_path / "in")
    other = slices[2]
    if same_uid:
        other.PixelData = bytes(reversed(other.PixelData))
    else:
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = uid("other")
    write(other, folder / "other")
    with pytest.raises(DicomError, match="D307"):
        read(folder)


def test_strays_of_another_orientation_are_counted(tmp_path) -> None:
    slices = series(thorax_like((9, 5, 4)))
    strays = series(thorax_like((2, 5, 4)), axes=np.eye(3)[:, [0, 2, 1]] * [1, -1, 1])
    with pytest.raises(DicomError, match=r"D306 .*(9 slice.*2 with another|2 slice.*9 with another)"):
        read(write_series([*slices, *strays], tmp_path / "in"))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("Rows", 65535), ("Columns", 60000), ("NumberOfFrames", 2_000_000_000), ("BitsAllocated", 65528)],
)
def test_a_claim_beyond_the_file_is_refused_before_memory_is_asked_for(tmp_path, keyword, value) -> None:
    slices = series(thorax_like(SHAPE))
    for data in slices:
        setattr(data, keyword, value)
    with pytest.raises(DicomError, match=r"D108 .*claims"):
        read(write_series(slices, tmp_path / "in"))


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("PixelSpacing", [1e-9, 1e-9], "D301"),
        ("PixelSpacing", [1e9, 1], "D301"),
        ("PixelSpacing", [-1, 1], "D301"),
        ("ImagePositionPatient", [1e200, 0, 0], "D301"),
        ("RescaleSlope", "1e300", "D408"),
        ("RescaleSlope", "0", "D405"),
    ],
)
def test_implausible_numbers_are_refused(tmp_path, keyword, value, code) -> None:
    slices = series(thorax_like(SHAPE))
    setattr(slices[0], keyword, value)
    with pytest.raises(DicomError, match=code):
        read(write_series(slices, tmp_path / "in"))


def test_slices_beyond_the_largest_spacing_are_refused(tmp_path) -> None:
    with pytest.raises(DicomError, match="D301"):
        read(write_series(series(thorax_like(SHAPE), spacing=(1, 1, 1500)), tmp_path / "in"))


# --- stored values -----------------------------------------------------------------------------------------------

LOSSLESS = [
    pydicom.uid.ImplicitVRLittleEndian,
    pydicom.uid.ExplicitVRLittleEndian,
    pydicom.uid.ExplicitVRBigEndian,
    pydicom.uid.DeflatedExplicitVRLittleEndian,
    pydicom.uid.RLELossless,
    pydicom.uid.JPEGLSLossless,
    pydicom.uid.JPEG2000Lossless,
]


def _encode(data: Dataset, syntax: pydicom.uid.UID) -> None:
    if syntax.is_encapsulated:
        data.compress(syntax, generate_instance_uid=False)
        return
    if syntax == pydicom.uid.ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data["PixelData"].VR = "OW"
    data.file_meta.TransferSyntaxUID = syntax


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("multi", [True, False])
def test_every_lossless_encoding_gives_the_same_values(tmp_path, syntax, signed, multi) -> None:
    hu = thorax_like((4, 64, 72))
    stored = hu if signed else (hu + 1024).astype(np.uint16)
    slices = series(stored, intercept=0 if signed else -1024)
    objects = [enhanced(slices)] if multi else slices
    for data in objects:
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, int(signed)
        if not syntax.is_encapsulated:  # rubbish (an overlay of old) in the bits above
            bits = np.frombuffer(data.PixelData, np.uint16) & 0xFFF
            data.PixelData = (bits | 0x5000).astype("<u2").tobytes()
        _encode(data, syntax)
    image = read(write_series(objects, tmp_path / "in")).image
    assert np.array_equal(sitk.GetArrayFromImage(image), hu)


def test_a_deflated_file_that_swells_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ct2vq.dicom.files.DEFLATED_LIMIT", 1 << 20)
    data = series(thorax_like((1, 4, 5)))[0]
    data.add_new(0x00091001, "OB", bytes(3 << 20))
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    path = write(data, tmp_path / "in" / "a")
    assert path.stat().st_size < 1 << 15
    with pytest.raises(DicomError, match="D108"):
        read(tmp_path / "in")


def test_a_sequence_where_a_value_belongs_is_an_error(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    slices[1].add_new(0x00080008, "SQ", Sequence([Dataset()]))
    with pytest.raises(DicomError, match=r"D106 .*ImageType"):
        read(write_series(slices, tmp_path / "in"))


def test_a_header_that_tells_fewer_rows_than_stored_is_refused(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    for data in slices:
        data.Rows -= 1
    with pytest.raises(DicomError, match="D410"):
        read(write_series(slices, tmp_path / "in"))

"""CT: tilted gantries, enhanced multi-frame objects, copies, claims, and how values are stored."""

from __future__ import annotations

import subprocess
import sys
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

from ct2vq.convert import convert_ct, read_ct
from ct2vq.convert.converted import Converted
from ct2vq.dicom.files import Source
from ct2vq.dicom.geometry import shifted
from ct2vq.errors import DicomError
from ct2vq.files import read_json
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


def _acquisitions(data: Dataset) -> None:
    for k, groups in enumerate(data.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence[0].FrameAcquisitionNumber = 1 + k % 2


LOCALIZER_FRAME = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]


def _localizer_frames(data: Dataset) -> None:
    data.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0].FrameType = LOCALIZER_FRAME


def _one_localizer_frame(data: Dataset) -> None:
    item = Dataset()
    item.FrameType = LOCALIZER_FRAME
    data.PerFrameFunctionalGroupsSequence[2].CTImageFrameTypeSequence = Sequence([item])


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
        (_acquisitions, "D210 .*several acquisitions"),
        (_localizer_frames, "D210 .*localizer frames"),
        (_one_localizer_frame, "D210 .*several kinds of frames"),
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


def test_a_slice_whose_header_is_cut_off_is_named(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    del slices[2].SeriesInstanceUID
    write_series(slices, tmp_path)
    with pytest.raises(
        DicomError, match=r"D107 file .*key SeriesInstanceUID: .* in 1 of 6 images \(is the file cut off"
    ):
        read(tmp_path)


def test_a_file_that_vanished_is_said_to_have_vanished(tmp_path) -> None:
    folder = write_series(series(thorax_like(SHAPE)), tmp_path / "ct")
    files = (*sorted(folder.iterdir()), folder / "gone.dcm")
    with pytest.raises(DicomError, match=r"D101 file .*gone\.dcm: the file does not exist \(.*ct2vq discover"):
        read(Source(folder, files))


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


@pytest.mark.parametrize("frame", [0, 4])
def test_the_thickest_frame_of_an_enhanced_object_counts(tmp_path, frame) -> None:
    data = enhanced(series(thorax_like(SHAPE)), shared=False)
    thick = Dataset()
    thick.PixelSpacing, thick.SliceThickness = ["2.5", "1.5"], "7"
    data.PerFrameFunctionalGroupsSequence[frame].PixelMeasuresSequence = Sequence([thick])
    converted = read(write(data, tmp_path / "e.dcm"))
    assert converted.facts["acquisition"]["slice_thickness_mm"] == 7


# --- images under one series UID that are no one volume ----------------------------------------------------------


def _patients(data: Dataset) -> None:
    data.PatientID = "OTHER-ID"


def _studies(data: Dataset) -> None:
    data.StudyInstanceUID = uid("other study")


def _frames_of_reference(data: Dataset) -> None:
    data.FrameOfReferenceUID = uid("other frame")


def _kernels(data: Dataset) -> None:
    data.ConvolutionKernel = "B70f"


def _kinds(data: Dataset) -> None:
    data.ImageType = ["DERIVED", "SECONDARY", "MPR"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (_patients, "PatientID"),
        (_studies, "StudyInstanceUID"),
        (_frames_of_reference, "FrameOfReferenceUID"),
        (_kernels, "ConvolutionKernel"),
        (_kinds, "ImageType"),
    ],
)
def test_interleaved_images_of_two_volumes_are_refused_without_their_names(tmp_path, change, key) -> None:
    slices = series(thorax_like(SHAPE))
    for data in slices[::3]:
        change(data)
    with pytest.raises(DicomError, match=rf"D211 .*2 values of {key}, in 4, 2 image") as caught:
        read(write_series(slices, tmp_path / "in"))
    assert not any(word in str(caught.value) for word in ("OTHER-ID", "SECRET-ID", "B70f", "MPR", "1.2.826"))


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_case_order_and_emptiness_make_no_second_volume(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    slices[0].ImageType = ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 SPI"]
    for data in slices[1:]:
        data.ImageType = ["ORIGINAL", "PRIMARY", "Ct_som5 spi", "AXIAL"]
        data.ConvolutionKernel = ""
    assert read(write_series(slices, tmp_path / "in")).image.GetSize() == (4, 5, 6)


def test_the_thickest_slice_counts_but_no_localizer(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    slices[4].SliceThickness = "5"
    (scout,) = series(np.zeros((1, 5, 4), np.int16))
    scout.ImageType, scout.SliceThickness = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "400"
    scout.SOPInstanceUID = scout.file_meta.MediaStorageSOPInstanceUID = uid("scout")
    converted = read(write_series([*slices, scout], tmp_path / "in"))
    assert converted.facts["acquisition"]["slice_thickness_mm"] == 5


@pytest.mark.parametrize("keyword", ["SliceThickness", "SpacingBetweenSlices"])
def test_a_damaged_fact_stops_no_volume(tmp_path, keyword) -> None:
    slices = series(thorax_like(SHAPE))
    for data in slices:
        setattr(data, keyword, "1234.5")
    folder = write_series(slices, tmp_path / "in")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1234.5", b"a.b.c "))
    settings = SETTINGS | {"limits": {}}
    convert_ct(folder, tmp_path / "ct.nii.gz", tmp_path / "ct.json", settings, "case-1")
    sidecar = read_json(tmp_path / "ct.json")
    assert f"W307 {keyword} cannot be understood: positions used" in sidecar["warnings"]
    assert sidecar["slice_thickness_mm"] == (None if keyword == "SliceThickness" else 3.0)


# --- missing ends ------------------------------------------------------------------------------------------------


def _numbered(first: int, total: int) -> list[Dataset]:
    slices = series(thorax_like((10, 5, 4)))
    for k, data in enumerate(slices):
        data.InstanceNumber, data.ImagesInAcquisition = first + k, total
    return slices


@pytest.mark.parametrize(
    ("slices", "warned"),
    [
        (_numbered(1, 10), False),
        (_numbered(1, 10)[:7], True),
        (_numbered(1, 10)[3:], True),
        (_numbered(1, 10)[::2], True),
        (_numbered(2, 11), False),  # the first image was a localizer
        (_numbered(3, 12), False),
        (_numbered(1, 8), False),
    ],
)
def test_missing_end_slices_are_said(tmp_path, slices, warned) -> None:
    notes = read(write_series(slices, tmp_path / "in")).notes
    assert any(note.startswith(f"W202 {len(slices)} slices") for note in notes) == warned


def test_localizers_are_no_missing_slices(tmp_path) -> None:
    slices = _numbered(1, 10)
    for data in (slices[0], slices[9]):
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    notes = read(write_series(slices, tmp_path / "in")).notes
    assert notes == ["W101 2 file(s) ignored: CT localizer"]


def test_a_reformatted_series_has_fewer_images_than_its_acquisition(tmp_path) -> None:
    slices = _numbered(1, 400)
    for data in slices:
        data.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]
    assert read(write_series(slices, tmp_path / "in")).notes == []


# --- values outside the patient ----------------------------------------------------------------------------------

FILLED = """
from pathlib import Path
import numpy as np
import SimpleITK as sitk
from ct2vq.convert.converted import Converted
from ct2vq.convert.ct import finish_ct
array = np.full((134, 512, 512), -2000, np.float32)
array[:60], array[60:70] = 0, -900
image = sitk.GetImageFromArray(array)
converted = Converted(image, None, [], {}, [])
del image, array
finish_ct(converted, {"hu_min_fraction": 0.001, "hu_plausibility": True}, Path())
assert sitk.GetArrayViewFromImage(converted.image).min() == -1024
print(converted.notes)
"""


def test_no_view_outlives_its_volume() -> None:
    """A volume of 140 MB, whose memory goes back to the system: reading it later ends the process."""
    done = subprocess.run([sys.executable, "-c", FILLED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "W402 47.76% of the voxels" in done.stdout


def _filled(stored_fill: int, *, padding: int | None) -> tuple[list[Dataset], np.ndarray]:
    hu = thorax_like((4, 12, 16))
    stored = (hu.astype(np.int32) + 1024).astype(np.uint16)
    stored[:, :3] = stored_fill
    slices = series(stored, intercept=-1024)
    for data in slices:
        if padding is not None:
            data.add_new("PixelPaddingValue", "US", padding)
    hu[:, :3] = -1024
    return slices, hu


@pytest.mark.parametrize("value", [63536, 4200])
def test_padding_far_above_tissue_is_air(tmp_path, value) -> None:
    slices, expected = _filled(value, padding=value)
    converted = read(write_series(slices, tmp_path / "in"), hu_plausibility=True)
    assert np.array_equal(sitk.GetArrayFromImage(converted.image), expected)
    assert converted.notes == []


def test_padding_that_means_dense_bone_is_not_erased(tmp_path) -> None:
    slices, _ = _filled(2800, padding=2800)
    converted = read(write_series(slices, tmp_path / "in"))
    assert sitk.GetArrayFromImage(converted.image).max() == 1776
    assert any(note.startswith("W401 ") for note in converted.notes)


def test_a_filled_field_of_view_is_no_patient(tmp_path) -> None:
    folder = write_series(_filled(63536, padding=None)[0], tmp_path / "in")
    with pytest.raises(DicomError, match=r"D408 .*25\.00% above 3100"):
        read(folder, hu_plausibility=True)
    assert any(note.startswith("W403 ") for note in read(folder).notes)


def test_metal_on_an_extended_scale_is_a_patient(tmp_path) -> None:
    hu = thorax_like((8, 12, 16))
    hu[3, 8, 5:9] = 30_000
    converted = read(write_series(series(hu), tmp_path / "in"), hu_plausibility=True)
    assert sitk.GetArrayFromImage(converted.image).max() == 30_000


def test_values_shifted_within_their_bits_are_refused(tmp_path) -> None:
    slices = series(((thorax_like(SHAPE).astype(np.int32) + 1024) << 4).astype(np.uint16), intercept=-1024)
    for data in slices:
        data.BitsStored, data.HighBit = 12, 15
    with pytest.raises(DicomError, match=r"D412 .*HighBit"):
        read(write_series(slices, tmp_path / "in"))

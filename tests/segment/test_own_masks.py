"""The user's own mask: NIfTI, RTSTRUCT and SEG, on any grid that belongs to the CT, or an error that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from chests import chest, dice
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ct2vq.config import complete_config
from ct2vq.errors import GeometryError, SegmentationError
from ct2vq.files import read_json, write_json
from ct2vq.identity.store import Store
from ct2vq.segment import segment_case
from ct2vq.segment.own import known_frame, read_own_mask
from ct2vq.segment.structures import draw_contours, fill_polygon
from ct2vq.volume import affine, from_array, make_grid, read_volume, to_array, write_volume

SETTINGS = complete_config({"study": "segment"})["segment"]
FRAME = "1.2.3.4"


def user_case(tmp_path: Path, mask: sitk.Image) -> tuple[np.ndarray, dict]:
    image, _ = chest()
    write_volume(image, tmp_path / "ct.nii.gz")
    write_volume(mask, tmp_path / "mask.nii.gz")
    segment_case(
        tmp_path / "ct.nii.gz", tmp_path / "out.nii.gz", tmp_path / "out.json", SETTINGS, tmp_path / "mask.nii.gz"
    )
    return sitk.GetArrayFromImage(read_volume(tmp_path / "out.nii.gz")), read_json(tmp_path / "out.json")


def test_a_mask_with_both_labels_is_kept(tmp_path) -> None:
    image, truth = chest()
    found, record = user_case(tmp_path, from_array(truth, image))
    assert np.array_equal(found, truth)
    assert record["method"] == "user"


def test_a_mask_of_one_label_is_split(tmp_path) -> None:
    image, truth = chest()
    found, _ = user_case(tmp_path, from_array((truth > 0).astype(np.uint8), image))
    assert np.array_equal(found, truth)


def test_a_mask_on_another_grid_or_with_other_labels_is_refused(tmp_path) -> None:
    image, truth = chest()
    moved = from_array(truth, image)
    moved.SetOrigin([value + 4 for value in image.GetOrigin()])
    with pytest.raises(GeometryError, match="do not share a grid"):
        user_case(tmp_path, moved)
    with pytest.raises(SegmentationError, match=r"D704 .*mask\.nii\.gz, key lung_mask: labels \[3, 6\]"):
        user_case(tmp_path, from_array(truth * 3, image))
    with pytest.raises(SegmentationError, match=r"D704 .*labels \[\]"):
        user_case(tmp_path, from_array(truth * 0, image))


# --- RTSTRUCT ----------------------------------------------------------------------------------------------------


def save(dataset: Dataset, path: Path, modality: str) -> Path:
    dataset.Modality = modality
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3" if modality == "RTSTRUCT" else "1.2.840.10008.5.1.4.1.1.66.4"
    dataset.SOPInstanceUID = generate_uid()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**values) -> Dataset:
    made = Dataset()
    for key, value in values.items():
        setattr(made, key, value)
    return made


def outlines(mask: np.ndarray, image: sitk.Image, step: int = 1) -> list[Dataset]:
    """Contours round the pixels of every `step`-th slice, in mm."""
    from skimage.measure import find_contours

    made = []
    for z in np.flatnonzero(mask.any(axis=(1, 2)))[::step]:
        for line in find_contours(np.pad(mask[z], 1).astype(float), 0.5):
            index = np.c_[line[:, ::-1] - 1, np.full(len(line), z), np.ones(len(line))]
            points = (affine(image) @ index.T).T[:, :3]
            made.append(
                item(
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{value:.4f}" for value in points.ravel()],
                )
            )
    return made


def rtstruct(path: Path, image: sitk.Image, masks: dict[str, np.ndarray], step: int = 1) -> Path:
    data = Dataset()
    data.FrameOfReferenceUID = FRAME
    data.StructureSetROISequence = [item(ROINumber=n, ROIName=name) for n, name in enumerate(masks, 1)]
    data.ROIContourSequence = [
        item(ReferencedROINumber=n, ContourSequence=outlines(mask, image, step))
        for n, mask in enumerate(masks.values(), 1)
    ]
    return save(data, path, "RTSTRUCT")


def own(image: sitk.Image, path: Path, **keys) -> tuple[np.ndarray, list[str]]:
    labels, warnings = read_own_mask(image, path, SETTINGS | keys, lambda uid: uid == FRAME)
    return to_array(labels), warnings


OBLIQUE = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.2, 1.0, 0.3], [0.0, -0.3, 1.0]]))[0]


@pytest.mark.parametrize("axes", ["axial", "sagittal", "oblique"])
def test_contours_are_drawn_on_a_ct_of_any_direction(axes, tmp_path) -> None:
    turned = {"axial": np.eye(3), "sagittal": np.eye(3)[:, [1, 2, 0]], "oblique": OBLIQUE}[axes]
    image, truth = chest(axes=turned)
    names = {"Body": truth > 5, "Lung_R": truth == 1, "lung left": truth == 2}
    found, warnings = own(image, rtstruct(tmp_path / "rs.dcm", image, names))
    assert np.array_equal(found, truth)
    assert warnings == []


def test_slices_between_contours_are_interpolated(tmp_path) -> None:
    image, truth = chest()
    path = rtstruct(tmp_path / "some" / "rs.dcm", image, {"RIGHT LUNG": truth == 1, "L-LUNG": truth == 2}, step=3)
    found, _ = own(image, path.parent)
    for label in (1, 2):
        assert dice(found == label, truth == label) > 0.985


def test_one_structure_for_both_lungs_is_split(tmp_path) -> None:
    image, truth = chest()
    found, _ = own(image, rtstruct(tmp_path / "rs.dcm", image, {"Lungs": truth > 0}))
    assert np.array_equal(found, truth)


def test_a_structure_can_be_named_by_its_number(tmp_path) -> None:
    image, truth = chest()
    path = rtstruct(tmp_path / "rs.dcm", image, {"a": truth == 2, "b": truth == 1})
    patterns = SETTINGS["own_mask"] | {"right": "^#2$", "left": "^#1$"}
    assert np.array_equal(own(image, path, own_mask=patterns)[0], truth)


def test_structures_that_cannot_be_used_are_refused_without_their_names(tmp_path) -> None:
    image, truth = chest()
    secret = rtstruct(tmp_path / "a.dcm", image, {"Mueller lung thing": truth > 0})
    with pytest.raises(SegmentationError, match=r"D706 .*none of the 1 structures") as said:
        own(image, secret)
    assert "Mueller" not in str(said.value)
    two = rtstruct(tmp_path / "b.dcm", image, {"Lung R": truth == 1, "Right lung": truth == 1})
    with pytest.raises(SegmentationError, match=r"D706 .*the structures #1, #2 all fit the pattern of `right`"):
        own(image, two)
    with pytest.raises(SegmentationError, match=r"D707 .*2 RTSTRUCT or SEG objects among 2 files"):
        own(image, tmp_path)
    with pytest.raises(SegmentationError, match=r"D705 .*another frame of reference"):
        read_own_mask(image, two, SETTINGS, lambda uid: False)
    other, _ = chest(axes=OBLIQUE)
    with pytest.raises(SegmentationError, match=r"D709 .*lie in no slice of the CT"):
        own(other, rtstruct(tmp_path / "c.dcm", image, {"Lung R": truth == 1}))
    with pytest.raises(SegmentationError, match=r"D704 .*empty on the CT's grid"):
        own(image, rtstruct(tmp_path / "d.dcm", image, {"Lung R": truth > 5}))


def test_a_contour_within_a_contour_is_a_hole() -> None:
    square = np.array([[2.0, 2.0], [2.0, 12.0], [12.0, 12.0], [12.0, 2.0]])
    inner = (square - 7) / 2 + 7
    polygons = [np.c_[np.full(4, 3.0), points] for points in (square + 0.5, inner + 0.5)]
    mask = draw_contours(polygons, (6, 20, 20), 1, Path("rs.dcm"), [])
    assert mask[3].sum() == 100 - 25
    assert not mask[[0, 1, 5]].any()


@given(
    corners=st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 25)), min_size=3, max_size=9),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_filling_agrees_with_the_even_odd_rule(corners) -> None:
    points = np.array(corners)
    filled = fill_polygon(points, (20, 20))
    rng = np.random.default_rng(0)
    for row, column in rng.integers(0, 20, (25, 2)):
        crossings = 0
        for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
            if (a[0] <= row) != (b[0] <= row):
                crossings += a[1] + (row - a[0]) / (b[0] - a[0]) * (b[1] - a[1]) <= column
        assert filled[row, column] == (crossings % 2 == 1)


def test_a_number_is_not_part_of_another(tmp_path) -> None:
    image, truth = chest()
    path = rtstruct(tmp_path / "rs.dcm", image, {str(n): truth == (1 if n == 1 else 5) for n in range(1, 13)})
    patterns = {"right": "#1", "left": "^$", "both": "^$"}
    assert np.array_equal(own(image, path, own_mask=patterns)[0], truth == 1)


def test_one_lung_for_both_stays_one_and_two_are_split_where_one_is_allowed(tmp_path) -> None:
    image, truth = chest()
    for name, mask in (("two", truth > 0), ("one", truth == 2)):
        write_volume(from_array(mask.astype(np.uint8), image), tmp_path / f"{name}.nii.gz")
        found, _ = own(image, tmp_path / f"{name}.nii.gz", allow_one_lung=True)
        assert np.array_equal(found, np.where(mask, truth, 0))


@pytest.mark.parametrize(
    ("modality", "keyword", "code"),
    [
        ("RTSTRUCT", "StructureSetROISequence", "D707"),
        ("SEG", "SegmentSequence", "D707"),
        ("SEG", "PerFrameFunctionalGroupsSequence", "D709"),
    ],
)
def test_objects_without_their_sequences_are_refused(modality, keyword, code, tmp_path) -> None:
    image, truth = chest()
    make = rtstruct if modality == "RTSTRUCT" else seg
    path = make(tmp_path / "mask.dcm", image, {"Lung R": truth == 1, "Lung L": truth == 2})
    data = pydicom.dcmread(path)
    del data[keyword]
    data.save_as(path)
    with pytest.raises(SegmentationError, match=rf"{code} .*key {keyword}"):
        own(image, path)


@given(first=st.integers(0, 12), gap=st.sampled_from([1.0, 1.5, 2.0, 3.0]), count=st.integers(1, 5), half=st.booleans())
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_mirrored_grid_gives_the_mirrored_mask(first, gap, count, half) -> None:
    square = np.array([[2.0, 2.0], [2.0, 7.0], [7.0, 7.0], [7.0, 2.0]])
    places = first / 2 + gap * np.arange(count) + 0.25 * half
    slices = 24

    def drawn(at: np.ndarray) -> np.ndarray:
        return draw_contours([np.c_[np.full(4, z), square + 0.3] for z in at], (slices, 10, 10), 1, Path("rs.dcm"), [])

    rounding = np.random.default_rng(count).uniform(-1e-9, 1e-9, count)
    assert np.array_equal(drawn(places)[::-1], drawn(slices - 1 - places + rounding))


# --- lobes and lungs that the cohort table tells ------------------------------------------------------------------


def test_a_backend_tells_the_lobes_within_the_users_lungs(tmp_path) -> None:
    image, truth = chest()
    write_volume(image, tmp_path / "ct.nii.gz")
    write_volume(from_array(truth, image), tmp_path / "mask.nii.gz")
    lobes = from_array(np.where(truth == 1, 3, 0).astype(np.uint8) + np.where(truth == 2, 5, 0).astype(np.uint8), image)
    segment_case(
        tmp_path / "ct.nii.gz",
        tmp_path / "out.nii.gz",
        tmp_path / "out.json",
        SETTINGS | {"backend": "totalsegmentator"},
        tmp_path / "mask.nii.gz",
        lobes=tmp_path / "lobes.nii.gz",
        backend=lambda ct, settings: (image, lobes),
    )
    assert np.array_equal(to_array(read_volume(tmp_path / "lobes.nii.gz")), to_array(lobes))
    record = read_json(tmp_path / "out.json")
    assert (record["method"], record["lobes_source"]) == ("user", "totalsegmentator")


@pytest.mark.parametrize(("lungs", "accepted"), [("left", True), ("right", False), ("both", False)])
def test_the_cohort_tells_which_lung_a_patient_has(lungs, accepted, tmp_path) -> None:
    image, truth = chest()
    write_volume(image, tmp_path / "ct.nii.gz")
    write_volume(from_array(np.where(truth == 2, 2, 0).astype(np.uint8), image), tmp_path / "mask.nii.gz")
    files = [tmp_path / name for name in ("ct.nii.gz", "out.nii.gz", "out.json")]
    settings = SETTINGS | {"lungs": lungs, "allow_one_lung": True}
    if accepted:
        segment_case(*files, settings, tmp_path / "mask.nii.gz")
    else:
        with pytest.raises(SegmentationError, match=r"D703 .*the right lung is missing"):
            segment_case(*files, settings, tmp_path / "mask.nii.gz")


# --- SEG ---------------------------------------------------------------------------------------------------------


def seg(path: Path, image: sitk.Image, masks: dict[str, np.ndarray], kind: str = "BINARY") -> Path:
    """A SEG with the slices that hold something."""
    data, frames, pixels = Dataset(), [], []
    direction = np.reshape(image.GetDirection(), (3, 3))
    for number, mask in enumerate(masks.values(), 1):
        for z in np.flatnonzero(mask.any(axis=(1, 2))):
            position = [f"{v:.6f}" for v in image.TransformIndexToPhysicalPoint((0, 0, int(z)))]
            frames.append(
                item(
                    PlanePositionSequence=[item(ImagePositionPatient=position)],
                    SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
                )
            )
            pixels.append(mask[z])
    spacing = image.GetSpacing()
    data.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[
                item(ImageOrientationPatient=[f"{v:.10f}" for v in (*direction[:, 0], *direction[:, 1])])
            ],
            PixelMeasuresSequence=[
                item(PixelSpacing=[f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"], SpacingBetweenSlices=f"{spacing[2]:.6f}")
            ],
        )
    ]
    data.PerFrameFunctionalGroupsSequence = frames
    data.SegmentSequence = [item(SegmentNumber=n, SegmentLabel=name) for n, name in enumerate(masks, 1)]
    data.FrameOfReferenceUID = FRAME
    data.SegmentationType = kind
    data.Rows, data.Columns, data.NumberOfFrames = *pixels[0].shape, len(pixels)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    values = np.stack(pixels)
    if kind == "BINARY":
        data.BitsAllocated = data.BitsStored = 1
        data.HighBit = 0
        packed = np.packbits(values.ravel(), bitorder="little").tobytes()
        data.PixelData = packed + b"\0" * (len(packed) % 2)
    else:
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.MaximumFractionalValue = 7, 200
        data.PixelData = (values * 150).astype(np.uint8).tobytes()
    data["PixelData"].VR = "OB"
    return save(data, path, "SEG")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("axes", [np.eye(3), OBLIQUE], ids=["axial", "oblique"])
def test_segments_come_onto_the_ct(kind, axes, tmp_path) -> None:
    if np.linalg.det(axes) < 0:
        axes = axes @ np.diag([1.0, 1.0, -1.0])
    image, truth = chest(axes=axes)
    path = seg(tmp_path / "seg.dcm", image, {"Right Lung": truth == 1, "Lung_L": truth == 2}, kind)
    found, warnings = own(image, path)
    assert np.array_equal(found, truth)
    assert warnings == []


def test_a_seg_on_another_grid_is_brought_onto_the_ct_and_said(tmp_path) -> None:
    fine, truth = chest()
    coarse = make_grid([n // 2 for n in fine.GetSize()], [8.0] * 3, fine.GetOrigin())
    image = sitk.Resample(fine, coarse)
    path = seg(tmp_path / "seg.dcm", fine, {"Right Lung": truth == 1, "Lung_L": truth == 2})
    found, warnings = own(image, path)
    assert len(warnings) == 2
    assert all(text.startswith("W705") for text in warnings)
    assert dice(found == 1, truth[::2, ::2, ::2][tuple(slice(n) for n in found.shape)] == 1) > 0.97


def test_the_frame_of_reference_is_known_by_its_pseudonym(tmp_path) -> None:
    store = Store(tmp_path / "private", b"0" * 32)
    write_json({"frame_of_reference": store.pseudonym("uid", FRAME, 16)}, tmp_path / "ct.json")
    same = known_frame(tmp_path / "ct.json", store)
    assert same(FRAME)
    assert not same("1.2.3.5")
    write_json({"frame_of_reference": None}, tmp_path / "ct.json")
    assert known_frame(tmp_path / "ct.json", store) is None


def test_what_is_no_mask_is_refused(tmp_path) -> None:
    image, _ = chest()
    (tmp_path / "note.txt").write_text("no DICOM")
    with pytest.raises(SegmentationError, match=r"D707 .*0 RTSTRUCT or SEG objects among 1 files"):
        own(image, tmp_path)
    plain = pydicom.Dataset()
    save(plain, tmp_path / "ct.dcm", "CT")
    with pytest.raises(SegmentationError, match="D707"):
        own(image, tmp_path / "ct.dcm")

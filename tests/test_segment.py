"""Stage `segment`: both lungs and nothing else, in any orientation, or an error that says why not."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from skimage.draw import polygon

from ct2vq.config import complete_config
from ct2vq.convert import convert_ct
from ct2vq.errors import GeometryError, SegmentationError
from ct2vq.files import read_json
from ct2vq.segment import segment_case, segment_lungs
from ct2vq.volume import from_array, make_grid, read_volume, same_grid, write_volume

SETTINGS = {"threshold_hu": -400, "closing_mm": 10.0, "min_lung_ml": 300, "working_spacing_mm": 2.0}
CONVERT = complete_config({"study": "segment"})["convert"]
REALDATA = Path(os.environ.get("CT2VQ_REALDATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
needs_realdata = pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real images at {REALDATA}")
AIR, LUNG, TISSUE = -1000.0, -820.0, 40.0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def ellipsoid(points: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    return (((points - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) < 1


def chest(spacing: tuple = (4.0, 4.0, 4.0), axes: np.ndarray | None = None) -> tuple[sitk.Image, np.ndarray]:
    """A chest in patient coordinates on a grid of any axes: HU with noise, and the true labels `(z, y, x)`.

    The right lung is the larger one; a trachea, main bronchi, a vessel, stomach gas under the left lung and a table
    with hollow inside are there to be told from lung.
    """
    axes = np.eye(3) if axes is None else axes
    size = [int(340 / spacing[0]), int(300 / spacing[1]), int(300 / spacing[2])]
    half = (np.array(size) - 1) / 2 * spacing
    grid = make_grid(size, spacing, (axes @ -half).tolist(), axes.ravel())
    z, y, x = np.meshgrid(*(np.arange(n) for n in size[::-1]), indexing="ij")
    points = (np.stack([x, y, z], axis=-1) * np.array(spacing) - half) @ axes.T
    px, py, pz = np.moveaxis(points, -1, 0)
    hu = np.full(px.shape, AIR)
    hu[(px / 150) ** 2 + (py / 105) ** 2 < 1] = TISSUE
    hu[(np.abs(py - 124) < 10) & (np.abs(px) < 140)] = -100
    hu[(np.abs(py - 124) < 5) & (np.abs(px) < 135)] = -900
    right = ellipsoid(points, (-72, 0, 0), (56, 76, 110))
    left = ellipsoid(points, (72, 0, 5), (50, 70, 105))
    labels = np.where(right, 1, np.where(left, 2, 0)).astype(np.uint8)
    hu[labels > 0] = LUNG
    hu[ellipsoid(points, (60, 0, -130), (35, 35, 18))] = AIR  # stomach gas under the left lung
    hu[(np.hypot(px, py) < 9) & (pz > 20)] = AIR  # trachea
    hu[(np.abs(pz - 22) < 7) & (np.abs(py) < 7) & (np.abs(px) < 22)] = AIR  # main bronchi
    hu[(np.hypot(py - 10, pz + 10) < 5) & (np.abs(px + 50) < 40)] = TISSUE  # a vessel in the right lung
    hu += np.random.default_rng(1).normal(0, 15, size=hu.shape)
    return from_array(hu.astype(np.float32), grid), labels


def check(image: sitk.Image, truth: np.ndarray, least: float) -> dict:
    labels, record = segment_lungs(image, SETTINGS)
    assert same_grid(labels, image)
    assert labels.GetPixelID() == sitk.sitkUInt8
    found = sitk.GetArrayFromImage(labels)
    for label in (1, 2):
        assert dice(found == label, truth == label) > least
    return record


def test_lungs_without_airway_stomach_and_table() -> None:
    image, truth = chest()
    record = check(image, truth, 0.97)
    assert record["warnings"] == []
    assert record["volume_ml"]["right"] > record["volume_ml"]["left"] > 1000
    assert -830 < record["mean_hu"]["left"] < -780
    labels, _ = segment_lungs(image, SETTINGS)
    z, y, x = (n // 2 for n in truth.shape)
    assert labels[x, y, z + 15] == 0  # trachea
    assert labels[x + 15, y, z - 32] == 0  # stomach gas


@pytest.mark.parametrize("axes", ["flipped in z", "sagittal", "feet first, prone", "oblique"])
def test_right_is_the_patients_right_in_any_orientation(axes) -> None:
    angle = np.radians(20)
    matrix = {
        "flipped in z": np.diag([1.0, 1.0, -1.0]),
        "sagittal": np.eye(3)[:, [1, 2, 0]],
        "feet first, prone": np.diag([-1.0, -1.0, 1.0]),
        "oblique": np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]),
    }[axes]
    check(*chest(axes=matrix), 0.96)


def test_fine_and_uneven_voxels() -> None:
    check(*chest(spacing=(1.5, 1.5, 5.0)), 0.96)


def test_lungs_that_touch_are_separated() -> None:
    image, truth = chest()
    hu = sitk.GetArrayFromImage(image)
    z, y, x = (n // 2 for n in truth.shape)
    bridge = np.zeros(truth.shape, bool)
    bridge[z - 15 : z - 5, y + 2 : y + 4, x - 8 : x + 8] = True
    hu[bridge] = LUNG
    labels, _ = segment_lungs(from_array(hu, image), SETTINGS)
    found = sitk.GetArrayFromImage(labels)
    for label in (1, 2):
        assert dice(found == label, truth == label) > 0.95


def test_tumour_at_the_wall_is_part_of_the_lung() -> None:
    image, truth = chest(spacing=(3.0, 3.0, 3.0))
    hu = sitk.GetArrayFromImage(image)
    z, y, x = np.array(truth.shape) // 2
    # A nodule of 12 mm that sits on the right lung's outer wall.
    nodule = np.zeros(truth.shape, bool)
    nodule[z - 2 : z + 2, y - 2 : y + 2, x - 43 : x - 39] = True
    nodule &= truth == 1
    hu[nodule] = TISSUE
    labels, _ = segment_lungs(from_array(hu, image), SETTINGS)
    # A simple closing leaves the layer of voxels next to the wall.
    assert (sitk.GetArrayFromImage(labels)[nodule] == 1).mean() > 0.6


def test_a_cut_field_of_view_is_noticed() -> None:
    image, _ = chest()
    size = image.GetSize()
    low = sitk.RegionOfInterest(image, [size[0], size[1], size[2] // 2], [0, 0, size[2] // 2])
    _, record = segment_lungs(low, SETTINGS)
    assert [text for text in record["warnings"] if "feet side" in text and "truncated field of view" in text]
    side = sitk.RegionOfInterest(image, [size[0] // 2 + 22, size[1], size[2]], [0, 0, 0])
    _, record = segment_lungs(side, SETTINGS)
    assert [text for text in record["warnings"] if "left side" in text]


def test_one_lung_is_labelled_by_its_side_and_reported() -> None:
    image, truth = chest()
    hu = sitk.GetArrayFromImage(image)
    hu[truth == 2] = TISSUE
    labels, record = segment_lungs(from_array(hu, image), SETTINGS)
    assert dice(sitk.GetArrayFromImage(labels) == 1, truth == 1) > 0.96
    assert any("left lung has only" in text for text in record["warnings"])


@pytest.mark.parametrize("what", ["no lungs", "air only", "not HU"])
def test_no_plausible_lungs(what) -> None:
    image, truth = chest()
    hu = sitk.GetArrayFromImage(image)
    hu = {"no lungs": np.where(truth > 0, TISSUE, hu), "air only": hu * 0 + AIR, "not HU": hu + 1024}[what]
    with pytest.raises(SegmentationError, match=r"no plausible lungs|no body"):
        segment_lungs(from_array(hu.astype(np.float32), image), SETTINGS)


def test_same_input_same_bytes(tmp_path) -> None:
    image, _ = chest()
    write_volume(image, tmp_path / "ct.nii.gz")
    for name in ("a", "b"):
        segment_case(tmp_path / "ct.nii.gz", tmp_path / f"{name}.nii.gz", tmp_path / f"{name}.json", SETTINGS, None)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


# --- the user's mask ---------------------------------------------------------------------------------------------


def user_case(tmp_path: Path, mask: sitk.Image) -> tuple[np.ndarray, dict]:
    image, _ = chest()
    write_volume(image, tmp_path / "ct.nii.gz")
    write_volume(mask, tmp_path / "mask.nii.gz")
    segment_case(
        tmp_path / "ct.nii.gz", tmp_path / "out.nii.gz", tmp_path / "out.json", SETTINGS, tmp_path / "mask.nii.gz"
    )
    return sitk.GetArrayFromImage(read_volume(tmp_path / "out.nii.gz")), read_json(tmp_path / "out.json")


def test_user_mask_with_both_labels_is_kept(tmp_path) -> None:
    image, truth = chest()
    found, record = user_case(tmp_path, from_array(truth, image))
    assert np.array_equal(found, truth)
    assert record["method"] == "user"


def test_user_mask_of_one_label_is_split(tmp_path) -> None:
    image, truth = chest()
    found, _ = user_case(tmp_path, from_array((truth > 0).astype(np.uint8), image))
    assert np.array_equal(found, truth)


def test_user_mask_on_another_grid_or_with_other_labels_is_refused(tmp_path) -> None:
    image, truth = chest()
    moved = from_array(truth, image)
    moved.SetOrigin([value + 4 for value in image.GetOrigin()])
    with pytest.raises(GeometryError, match="do not share a grid"):
        user_case(tmp_path, moved)
    with pytest.raises(SegmentationError, match=r"mask\.nii\.gz, key lung_mask: labels \[3, 6\]"):
        user_case(tmp_path, from_array(truth * 3, image))
    with pytest.raises(SegmentationError, match="labels"):
        user_case(tmp_path, from_array(truth * 0, image))


# --- real images -------------------------------------------------------------------------------------------------


def rasterise(rtstruct: Path, ct: sitk.Image) -> dict[str, np.ndarray]:
    """Structures of an RTSTRUCT on an axial CT's grid `(z, y, x)`; contours within contours are holes."""
    data = pydicom.dcmread(rtstruct)
    names = {item.ROINumber: item.ROIName for item in data.StructureSetROISequence}
    size = ct.GetSize()
    masks = {}
    for roi in data.ROIContourSequence:
        mask = np.zeros(size[::-1], bool)
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            index = (points - ct.GetOrigin()) / ct.GetSpacing()
            mask[(round(index[0, 2]), *polygon(index[:, 1], index[:, 0], size[1::-1]))] ^= True
        masks[names[roi.ReferencedROINumber]] = mask
    return masks


@pytest.mark.realdata
@needs_realdata
def test_full_size_ct_against_human_contours(tmp_path) -> None:
    folder = REALDATA / "mirp_LUNG1-001_ct"
    with tarfile.open(folder / "LUNG1-001_image.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    convert_ct(tmp_path / "image", tmp_path / "ct.nii.gz", tmp_path / "ct.json", CONVERT, "case-1")
    segment_case(tmp_path / "ct.nii.gz", tmp_path / "lungs.nii.gz", tmp_path / "lungs.json", SETTINGS, None)
    found = sitk.GetArrayFromImage(read_volume(tmp_path / "lungs.nii.gz"))
    human = rasterise(folder / "LUNG1-001_rtstruct.dcm", read_volume(tmp_path / "ct.nii.gz"))
    outside_tumour = ~human["GTV-1"]
    assert dice((found == 1) & outside_tumour, human["Lung-Right"] & outside_tumour) > 0.955
    assert dice((found == 2) & outside_tumour, human["Lung-Left"] & outside_tumour) > 0.95
    assert read_json(tmp_path / "lungs.json")["warnings"] == []


@pytest.mark.realdata
@needs_realdata
@pytest.mark.parametrize("name", ["ct-64.nrrd", "ct-64-transformed.nrrd"])
def test_coarse_and_oblique_ct_against_published_mask(name) -> None:
    image = sitk.ReadImage(str(REALDATA / "cip_chest_ct64" / name), sitk.sitkFloat32)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(REALDATA / "cip_chest_ct64" / "wholeLung-64.nrrd"))) > 0
    labels, record = segment_lungs(image, SETTINGS)
    assert dice(sitk.GetArrayFromImage(labels) > 0, truth) > 0.975
    assert record["volume_ml"]["right"] > record["volume_ml"]["left"] > 2000
    assert record["warnings"] == []


@pytest.mark.realdata
@needs_realdata
def test_cropped_ct_is_noticed(tmp_path) -> None:
    with tarfile.open(REALDATA / "cerr_nsclc_cropped" / "radiomics_phantom_dicom.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folders = sorted({p.parent for p in tmp_path.rglob("*") if p.is_file()})
    checked = 0
    for folder in folders:
        if len(list(folder.iterdir())) < 10:
            continue
        convert_ct(folder, tmp_path / "ct.nii.gz", tmp_path / "ct.json", CONVERT, "case-1")
        try:
            _, record = segment_lungs(read_volume(tmp_path / "ct.nii.gz"), SETTINGS)
        except SegmentationError:
            continue
        checked += 1
        assert any("truncated field of view" in text for text in record["warnings"])
    assert checked >= 1

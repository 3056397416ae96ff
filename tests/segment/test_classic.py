"""Both lungs and nothing else by the method without weights, in any orientation, or an error that says why not."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from chests import AIR, LUNG, TISSUE, chest, dice

from ct2vq.config import complete_config
from ct2vq.convert import convert_ct
from ct2vq.errors import SegmentationError
from ct2vq.files import read_json
from ct2vq.segment import segment_case, segment_lungs
from ct2vq.segment.own import frame_of_folder, read_own_mask
from ct2vq.volume import from_array, read_volume, same_grid, write_volume

CONFIG = complete_config({"study": "segment"})
SETTINGS, CONVERT = CONFIG["segment"], CONFIG["convert"]
ONE_LUNG = SETTINGS | {"allow_one_lung": True}
REALDATA = Path(os.environ.get("CT2VQ_REALDATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
needs_realdata = pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real images at {REALDATA}")


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


def test_one_lung_is_an_error_unless_it_is_expected() -> None:
    image, truth = chest()
    hu = sitk.GetArrayFromImage(image)
    hu[truth == 2] = TISSUE
    with pytest.raises(SegmentationError, match=r"D703 .*the left lung is missing: right \d+ mL, left 0 mL"):
        segment_lungs(from_array(hu, image), SETTINGS)
    labels, record = segment_lungs(from_array(hu, image), ONE_LUNG)
    assert dice(sitk.GetArrayFromImage(labels) == 1, truth == 1) > 0.96
    assert any("left lung has only" in text for text in record["warnings"])


@pytest.mark.parametrize("what", ["no lungs", "air only", "not HU"])
def test_no_plausible_lungs(what) -> None:
    image, truth = chest()
    hu = sitk.GetArrayFromImage(image)
    hu = {"no lungs": np.where(truth > 0, TISSUE, hu), "air only": hu * 0 + AIR, "not HU": hu + 1024}[what]
    with pytest.raises(SegmentationError, match=r"D702 .*no plausible lungs|D701 no body"):
        segment_lungs(from_array(hu.astype(np.float32), image), SETTINGS)


def test_same_input_same_bytes(tmp_path) -> None:
    image, _ = chest()
    write_volume(image, tmp_path / "ct.nii.gz")
    for name in ("a", "b"):
        segment_case(tmp_path / "ct.nii.gz", tmp_path / f"{name}.nii.gz", tmp_path / f"{name}.json", SETTINGS, None)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


# --- real images -------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@needs_realdata
def test_full_size_ct_against_human_contours(tmp_path) -> None:
    folder = REALDATA / "mirp_LUNG1-001_ct"
    with tarfile.open(folder / "LUNG1-001_image.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    convert_ct(tmp_path / "image", tmp_path / "ct.nii.gz", tmp_path / "ct.json", CONVERT, "case-1")
    segment_case(tmp_path / "ct.nii.gz", tmp_path / "lungs.nii.gz", tmp_path / "lungs.json", SETTINGS, None)
    found = sitk.GetArrayFromImage(read_volume(tmp_path / "lungs.nii.gz"))
    ct, contours = read_volume(tmp_path / "ct.nii.gz"), folder / "LUNG1-001_rtstruct.dcm"
    same_frame = frame_of_folder(tmp_path / "image")
    human = sitk.GetArrayFromImage(read_own_mask(ct, contours, SETTINGS, same_frame)[0])
    tumour = ONE_LUNG | {"own_mask": SETTINGS["own_mask"] | {"right": "^GTV-1$", "left": "^$"}}
    outside_tumour = sitk.GetArrayFromImage(read_own_mask(ct, contours, tumour, same_frame)[0]) == 0
    for side in (1, 2):
        assert dice((found == side) & outside_tumour, (human == side) & outside_tumour) > 0.955
    assert found[~outside_tumour].astype(bool).mean() > 0.8, "the tumour at the wall is inside"
    assert read_json(tmp_path / "lungs.json")["warnings"] == []


@pytest.mark.realdata
@needs_realdata
@pytest.mark.parametrize("name", ["ct-64.nrrd", "ct-64-transformed.nrrd"])
def test_coarse_and_oblique_ct_against_published_mask(name) -> None:
    image = sitk.ReadImage(str(REALDATA / "cip_chest_ct64" / name), sitk.sitkFloat32)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(REALDATA / "cip_chest_ct64" / "wholeLung-64.nrrd"))) > 0
    labels, record = segment_lungs(image, SETTINGS)
    assert dice(sitk.GetArrayFromImage(labels) > 0, truth) > 0.978
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
            _, record = segment_lungs(read_volume(tmp_path / "ct.nii.gz"), ONE_LUNG)
        except SegmentationError as error:
            assert error.code in ("D702", "D703")
            continue
        checked += 1
        assert any("truncated field of view" in text for text in record["warnings"])
    assert checked >= 1

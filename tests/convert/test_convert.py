"""Stage `convert`: every voxel at its place with its value, or an error that says why not."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_factory import nm, rotation, series, thorax_like, uid, write, write_series
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ct2vq.convert import convert_ct, convert_spect
from ct2vq.dicom.files import read_file, read_header
from ct2vq.dicom.pixels import rescale, stored_values
from ct2vq.errors import Ct2vqError, DicomError
from ct2vq.files import read_json
from ct2vq.volume import read_volume

SETTINGS = {
    "slice_tolerance_mm": 0.05,
    "tilt_tolerance_deg": 0.1,
    "gantry_tilt": "correct",
    "hu_plausibility": True,
    "hu_min_fraction": 0.001,
    "limits": {},
}
REALDATA = Path(os.environ.get("CT2VQ_REALDATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
needs_realdata = pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real images at {REALDATA}")
SHAPE = (6, 5, 4)


def run_ct(source: Path, out: Path, **changes) -> tuple[sitk.Image, dict]:
    convert_ct(source, out / "ct.nii.gz", out / "ct.json", SETTINGS | changes, "case-1")
    return read_volume(out / "ct.nii.gz"), read_json(out / "ct.json")


def run_spect(source: Path, out: Path) -> tuple[sitk.Image, dict]:
    convert_spect(source, out / "q.nii.gz", out / "q.json", SETTINGS, "case-1", "perfusion")
    return read_volume(out / "q.nii.gz"), read_json(out / "q.json")


def values_at(image: sitk.Image, places: np.ndarray) -> np.ndarray:
    """Values at positions in mm; each must be a voxel's centre to 1e-3 mm."""
    found = []
    for place in places:
        index = image.TransformPhysicalPointToIndex(place.tolist())
        assert np.allclose(image.TransformIndexToPhysicalPoint(index), place, atol=1e-3)
        found.append(image[index])
    return np.array(found)


def places_of(shape, axes, origin, spacing) -> np.ndarray:
    """DICOM's own position of each voxel in array order `(z, y, x)`."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    index = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    return np.array(origin) + (index * np.array(spacing)) @ axes.T


geometries = given(
    seed=st.integers(0, 10_000),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
    spacing=st.tuples(st.floats(0.3, 8), st.floats(0.3, 8), st.floats(0.3, 12)),
    against=st.booleans(),
)
examples = hypothesis_settings(max_examples=25, deadline=None)


# --- CT ----------------------------------------------------------------------------------------------------------


@geometries
@examples
def test_ct_voxels_lie_where_dicom_puts_them(tmp_path_factory, seed, origin, spacing, against) -> None:
    folder = tmp_path_factory.mktemp("ct")
    axes, hu = rotation(seed), thorax_like(SHAPE, seed)
    slices = series(hu, axes=axes, origin=origin, spacing=spacing)
    write_series(slices[::-1] if against else slices, folder / "in")
    image, _ = run_ct(folder / "in", folder)
    assert np.array_equal(values_at(image, places_of(SHAPE, axes, origin, spacing)), hu.ravel())
    assert np.isclose(np.linalg.det(np.reshape(image.GetDirection(), (3, 3))), 1, atol=1e-5)


def test_ct_rescale_is_applied_slice_by_slice_and_padding_is_air(tmp_path) -> None:
    hu = thorax_like(SHAPE)
    slices = series(np.zeros(SHAPE, np.int16))
    for k, data in enumerate(slices):
        stored = ((hu[k] + 1024) * (k % 2 + 1)).astype(np.int16)
        stored[0, 0] = -2000
        data.RescaleSlope, data.RescaleIntercept = str(1 / (k % 2 + 1)), "-1024"
        data.PixelPaddingValue = -2000
        data.PixelData = stored.tobytes()
    image, sidecar = run_ct(write_series(slices, tmp_path / "in"), tmp_path)
    hu[:, 0, 0] = -1024
    assert np.array_equal(sitk.GetArrayFromImage(image), hu)
    assert image.GetPixelID() == sitk.sitkFloat32
    assert sidecar["warnings"] == []


def test_ct_padding_value_that_means_water_is_not_erased(tmp_path) -> None:
    hu = thorax_like(SHAPE)
    slices = series(hu)
    for data in slices:
        data.PixelPaddingValue = 0
    image, sidecar = run_ct(write_series(slices, tmp_path / "in"), tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(image), hu)
    assert "padding value ignored" in sidecar["warnings"][0]


def test_ct_fill_values_below_air_are_cut_and_counted(tmp_path) -> None:
    hu = thorax_like(SHAPE)
    hu[:, 0, 0] = -3024
    image, sidecar = run_ct(write_series(series(hu), tmp_path / "in"), tmp_path)
    assert sitk.GetArrayFromImage(image).min() == -1024
    assert sidecar["warnings"] == ["W402 5.00% of the voxels lay below -1024 HU and were set to it"]


def test_ct_positions_win_over_slice_thickness(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    for data in slices:
        data.SliceThickness = "5"
    image, sidecar = run_ct(write_series(slices, tmp_path / "in"), tmp_path)
    assert np.isclose(image.GetSpacing()[2], 3.0)
    assert sidecar["warnings"] == ["W304 SliceThickness is 5 mm, but the positions lie 3 mm apart: positions used"]
    assert sidecar["slice_thickness_mm"] == 5.0


def test_ct_sidecar_identifies_nobody_and_tells_the_source(tmp_path) -> None:
    write_series(series(thorax_like(SHAPE)), tmp_path / "in")
    (tmp_path / "in" / "Secret^Person.txt").write_text("x")
    image, sidecar = run_ct(tmp_path / "in", tmp_path)
    text = json.dumps(sidecar)
    for secret in ("Secret", "SECRET", "1950", "20240304", str(uid("series", "1")), str(uid("frame", "1"))):
        assert secret not in text
    assert sidecar["files"] == 6
    assert sidecar["units"] == "HU"
    assert sidecar["manufacturer"].startswith("other:"), "a maker that nobody knows may be anybody"
    assert len(sidecar["frame_of_reference"]) == len(sidecar["series"]) == 16
    assert len(sidecar["input_sha256"]) == 64
    assert sidecar["grid"]["size"] == list(image.GetSize())
    assert sidecar["warnings"] == ["W101 1 file(s) ignored: not DICOM (no signature)"]


def test_ct_same_input_gives_same_bytes_whatever_the_names(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_series(slices if name == "a" else slices[::-1], tmp_path / name / "in")
        run_ct(tmp_path / name / "in", tmp_path / name)
    for file in ("ct.nii.gz", "ct.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def _second_series(slices: list[Dataset]) -> None:
    slices += series(thorax_like(SHAPE), number="2", origin=(0, 0, 500))


def _localizer_only(slices: list[Dataset]) -> None:
    for data in slices:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def _no_series(slices: list[Dataset]) -> None:
    del slices[2].SeriesInstanceUID


def _no_rescale(slices: list[Dataset]) -> None:
    del slices[2].RescaleSlope, slices[2].RescaleIntercept


def _not_hu(slices: list[Dataset]) -> None:
    for data in slices:
        data.RescaleIntercept = "1024"


def _other_units(slices: list[Dataset]) -> None:
    slices[0].RescaleType = "MGML"


def _short_pixels(slices: list[Dataset]) -> None:
    slices[3].PixelData = slices[3].PixelData[:-8]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda slices: slices.pop(2), r"1 missing slice"),
        (lambda slices: slices.append(series(thorax_like(SHAPE), origin=(-50, -60, 103))[0]), "one position"),
        (_second_series, r"2 series .*series 1 with 6 .*series 2 with 6 "),
        (_localizer_only, "no CT slices found.*localizer"),
        (_no_series, r"key SeriesInstanceUID: the attribute is missing in 1 of 6 images"),
        (_no_rescale, "no rescale to HU"),
        (_not_hu, "cannot be HU"),
        (_other_units, "values in MGML"),
        (_short_pixels, "truncated"),
    ],
)
def test_ct_refuses_what_cannot_be_trusted(tmp_path, damage, reason) -> None:
    slices = series(thorax_like(SHAPE))
    damage(slices)
    write_series(slices, tmp_path / "in")
    with pytest.raises(DicomError, match=reason):
        run_ct(tmp_path / "in", tmp_path)
    assert not (tmp_path / "ct.nii.gz").exists()
    assert not (tmp_path / "ct.json").exists()


def test_ct_leaves_out_a_localizer_beside_the_series(tmp_path) -> None:
    slices = series(thorax_like(SHAPE))
    extra = series(thorax_like((1, 9, 9)), number="2")
    _localizer_only(extra)
    _, sidecar = run_ct(write_series(slices + extra, tmp_path / "in"), tmp_path)
    assert sidecar["files"] == 6
    assert sidecar["warnings"] == ["W101 1 file(s) ignored: CT localizer"]


# --- SPECT -------------------------------------------------------------------------------------------------------


@geometries
@examples
def test_nm_voxels_lie_where_dicom_puts_them(tmp_path_factory, seed, origin, spacing, against) -> None:
    folder = tmp_path_factory.mktemp("nm")
    axes = rotation(seed)
    counts = np.random.default_rng(seed).integers(1, 5000, size=SHAPE)
    spacing = (*spacing[:2], -spacing[2] if against else spacing[2])
    path = write(nm(counts, axes=axes, origin=origin, spacing=spacing), folder / "q.dcm")
    image, sidecar = run_spect(path, folder)
    assert np.array_equal(values_at(image, places_of(SHAPE, axes, origin, spacing)), counts.ravel())
    assert np.isclose(np.linalg.det(np.reshape(image.GetDirection(), (3, 3))), 1, atol=1e-5)
    assert sidecar["second_opinion"]["reader"] == "SimpleITK"


@pytest.mark.parametrize("geometry", ["detector", "top", "both"])
def test_nm_geometry_from_either_place(tmp_path, geometry) -> None:
    counts = np.random.default_rng(0).integers(1, 5000, size=SHAPE)
    path = write(nm(counts, geometry=geometry, spacing=(4.5, 5.5, -6.5)), tmp_path / "q.dcm")
    image, sidecar = run_spect(path, tmp_path)
    places = places_of(SHAPE, np.eye(3), (-80, -90, 200), (4.5, 5.5, -6.5))
    assert np.array_equal(values_at(image, places), counts.ravel())
    assert sidecar["units"] == "counts"
    assert sidecar["radiopharmaceutical"] == "MAA"
    assert sidecar["corrected_image"] == ["ATTN", "SCAT"]
    assert sidecar["attenuation_corrected"] is True


def test_nm_frames_follow_the_slice_vector(tmp_path) -> None:
    counts = np.random.default_rng(0).integers(1, 5000, size=SHAPE)
    order = np.array([1, 4, 2, 6, 5, 3])
    data = nm(counts[order - 1])
    data.SliceVector = order.tolist()
    image, _ = run_spect(write(data, tmp_path / "q.dcm"), tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(image), counts)


@pytest.mark.parametrize(("ucum", "units"), [("Bq/ml", "Bq/mL"), ("{counts}", "counts"), ("g/ml", "g/ml")])
def test_nm_real_world_values_are_applied(tmp_path, ucum, units) -> None:
    data = nm(np.full(SHAPE, 10))
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = ucum, "UCUM", "Meaning"
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 2.5, 1.0
    item.MeasurementUnitsCodeSequence = Sequence([code])
    data.RealWorldValueMappingSequence = Sequence([item])
    image, sidecar = run_spect(write(data, tmp_path / "q.dcm"), tmp_path)
    assert sitk.GetArrayFromImage(image).max() == 26
    assert sidecar["units"] == units


def test_nm_without_spacing_uses_thickness_and_says_so(tmp_path) -> None:
    data = nm(np.full(SHAPE, 10))
    del data.SpacingBetweenSlices
    image, sidecar = run_spect(write(data, tmp_path / "q.dcm"), tmp_path)
    assert np.isclose(image.GetSpacing()[2], 6.5)
    assert "slice thickness used" in sidecar["warnings"][0]
    assert sidecar["second_opinion"]["rule"] == "gdcm_guesses_spacing_without_positions"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("TOMO", "raw projections"),
        ("STATIC", "planar"),
        ("WHOLE BODY", "whole-body"),
        ("DYNAMIC", "dynamic"),
        ("GATED", "gated"),
        ("RECON GATED TOMO", "gated reconstruction"),
    ],
)
def test_nm_other_kinds_are_refused_with_the_reason(tmp_path, kind, reason) -> None:
    path = write(nm(np.full(SHAPE, 10), kind=kind), tmp_path / "q.dcm")
    with pytest.raises(DicomError, match=reason):
        run_spect(path, tmp_path)


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("EnergyWindowVector", [1, 1, 1, 2, 2, 2], "several energy windows"),
        ("DetectorVector", [1, 1, 1, 2, 2, 2], "several detectors"),
        ("SliceVector", [1, 2, 3, 1, 2, 3], "slice vector"),
        ("SliceVector", [6, 5, 4, 3, 2, 1], "first frame is slice 6"),
        ("SliceVector", [1, 2, 3], "slice vector"),
        ("SpacingBetweenSlices", "0", "neither spacing"),
        ("PixelSpacing", None, "PixelSpacing"),
        ("DetectorInformationSequence", None, "ImagePositionPatient"),
        ("PixelData", b"\0" * 240, "no counts"),
        ("PixelData", b"\0" * 100, "truncated"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "RECON TOMO", "TRANSMISSION"], "transmission"),
    ],
)
def test_nm_refuses_what_cannot_be_trusted(tmp_path, keyword, value, reason) -> None:
    data = nm(np.full(SHAPE, 10))
    if value is None:
        delattr(data, keyword)
    else:
        setattr(data, keyword, value)
    with pytest.raises(DicomError, match=reason):
        run_spect(write(data, tmp_path / "q.dcm"), tmp_path)


def test_nm_detectors_at_two_places_are_refused(tmp_path) -> None:
    data = nm(np.full(SHAPE, 10))
    other = Dataset()
    other.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    other.ImagePositionPatient = [0, 0, 0]
    data.DetectorInformationSequence.append(other)
    with pytest.raises(DicomError, match="several detectors or a wrong header"):
        run_spect(write(data, tmp_path / "q.dcm"), tmp_path)


def test_several_nm_objects_are_listed(tmp_path) -> None:
    write(nm(np.full(SHAPE, 10)), tmp_path / "in" / "a.dcm")
    other = nm(np.full(SHAPE, 11))
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = uid("other")
    write(other, tmp_path / "in" / "b.dcm")
    with pytest.raises(DicomError, match=r"a\.dcm .*RECON TOMO.*b\.dcm .*RECON TOMO"):
        run_spect(tmp_path / "in", tmp_path)


def test_pt_series_with_a_slope_for_each_slice(tmp_path) -> None:
    stored = np.random.default_rng(0).integers(1, 5000, size=SHAPE).astype(np.uint16)
    slopes = np.array([1, 2.5, 3, 0.5, 100, 7])
    folder = write_series(series(stored, modality="PT", slopes=slopes), tmp_path / "in")
    image, sidecar = run_spect(folder, tmp_path)
    assert np.allclose(sitk.GetArrayFromImage(image), stored * slopes[:, None, None])
    assert (sidecar["units"], sidecar["modality"], sidecar["attenuation_corrected"]) == ("Bq/mL", "PT", True)


def test_ct_is_not_taken_for_spect(tmp_path) -> None:
    write_series(series(thorax_like(SHAPE)), tmp_path / "in")
    with pytest.raises(DicomError, match=r"no SPECT found; found instead: 6 file.*CT Image Storage"):
        run_spect(tmp_path / "in", tmp_path)


# --- real images -------------------------------------------------------------------------------------------------


#: the one file that is a volume by itself
ENHANCED_CT = "pydicom_data/eCT_Supplemental.dcm"


def _awkward() -> list[str]:
    root = REALDATA / "awkward_dicom"
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()) if root.is_dir() else []


@pytest.mark.realdata
@needs_realdata
@pytest.mark.parametrize("name", _awkward() or ["none"])
def test_awkward_file_is_read_right_or_refused(name, tmp_path) -> None:
    path = REALDATA / "awkward_dicom" / name
    for run in (run_ct, run_spect):
        if (name, run) == (ENHANCED_CT, run_ct):
            continue
        with pytest.raises(Ct2vqError) as caught:
            run(path, tmp_path)
        assert path.name in str(caught.value)


@pytest.mark.realdata
@needs_realdata
def test_real_enhanced_ct_has_the_values_and_places_that_simpleitk_reads(tmp_path) -> None:
    path = REALDATA / "awkward_dicom" / ENHANCED_CT
    image, _ = run_ct(path, tmp_path)
    other = sitk.Clamp(sitk.ReadImage(str(path), sitk.sitkFloat32), sitk.sitkFloat32, -1024)
    assert image.GetSize() == other.GetSize() == (512, 512, 2)
    for corner in ([0, 0, 0], [511, 0, 1], [0, 511, 0], [511, 511, 1]):
        place = image.TransformIndexToPhysicalPoint(corner)
        index = other.TransformPhysicalPointToIndex(place)
        assert np.allclose(other.TransformIndexToPhysicalPoint(index), place, atol=1e-3)
    # GDCM stacks against the normal, where this program makes a rotation.
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(other)[::-1])


@pytest.mark.realdata
@needs_realdata
def test_compressed_slices_have_the_values_that_simpleitk_reads() -> None:
    """Lossless codecs must agree exactly; files that cannot be read must be refused."""
    read = refused = 0
    for name in _awkward():
        path = REALDATA / "awkward_dicom" / name
        try:
            instance = read_header(path)
            if instance is None or instance.sop_class != pydicom.uid.CTImageStorage:
                continue
            data, _ = read_file(path)
            slope, intercept = rescale(data, path) or (1.0, 0.0)
            values = stored_values(data, path) * slope + intercept
        except Ct2vqError as error:
            refused += "no pixel data" not in str(error)
            continue
        read += 1
        other = sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat64))[0]
        lossy = data.file_meta.TransferSyntaxUID in (pydicom.uid.JPEG2000, pydicom.uid.JPEGLSNearLossless)
        assert np.abs(values - other).max() <= (2 if lossy else 1e-6), name
    assert read >= 40
    assert refused <= 1  # one of big-endian values under a little-endian name


@pytest.mark.realdata
@needs_realdata
def test_jpeg2000_series_with_wrong_thickness(tmp_path) -> None:
    image, sidecar = run_ct(REALDATA / "awkward_dicom" / "totalsegmentator_j2k_series", tmp_path)
    assert image.GetSize() == (512, 512, 20)
    assert np.isclose(image.GetSpacing()[2], 2.0)
    assert any("SliceThickness is 3 mm" in text for text in sidecar["warnings"])


@pytest.mark.realdata
@needs_realdata
def test_real_ct_equals_its_published_volume(tmp_path) -> None:
    image, _ = run_ct(REALDATA / "cip_chest_ct64" / "ct-64Dicom", tmp_path)
    published = sitk.ReadImage(str(REALDATA / "cip_chest_ct64" / "ct-64.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(published))
    assert np.allclose(image.GetOrigin(), published.GetOrigin(), atol=1e-3)
    assert np.allclose(image.GetSpacing(), published.GetSpacing(), atol=1e-4)


@pytest.mark.realdata
@needs_realdata
def test_real_spect_stored_as_pt(tmp_path) -> None:
    with tarfile.open(REALDATA / "mirp_spect_as_pt" / "SCAN_001.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    image, sidecar = run_spect(tmp_path / "SCAN_001" / "image", tmp_path)
    assert image.GetSize() == (256, 256, 199)
    assert np.allclose(image.GetSpacing(), 1.95313, atol=1e-3)
    assert sitk.GetArrayFromImage(image).max() == 2281200
    assert (sidecar["units"], sidecar["attenuation_corrected"]) == ("Bq/mL", True)
    assert "Lutetium" in sidecar["radionuclide"]

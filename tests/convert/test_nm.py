"""NM objects: which of several is the volume, vectors, slices, and claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_factory import nm, series, uid, write, write_series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from ct2vq.config import complete_config
from ct2vq.convert import convert_spect, read_spect
from ct2vq.convert.converted import Converted
from ct2vq.errors import DicomError
from ct2vq.files import read_json
from ct2vq.volume import same_grid

SETTINGS = complete_config({"study": "test"})["convert"]
SHAPE = (6, 5, 4)


def _write(folder: Path, **kinds: str) -> Path:
    for name, kind in kinds.items():
        data = nm(np.full(SHAPE, 10), kind=kind)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid(name)
        write(data, folder / f"{name}.dcm")
    return folder


def test_the_only_reconstruction_among_nm_objects_is_taken(tmp_path) -> None:
    folder = _write(tmp_path, raw="TOMO", planar="STATIC", recon="RECON TOMO", gated="RECON GATED TOMO")
    converted, found = read_spect(folder, SETTINGS)
    assert converted.first.path.name == "recon.dcm"
    assert len(found.ignored) == 3
    assert "W101 3 file(s) ignored: NM object that is no emission reconstruction" in converted.notes


def test_two_reconstructions_are_not_chosen_between(tmp_path) -> None:
    with pytest.raises(DicomError, match=r"D204 .*a\.dcm.*b\.dcm"):
        read_spect(_write(tmp_path, a="RECON TOMO", b="RECON TOMO"), SETTINGS)


def test_an_exact_copy_is_no_second_reconstruction(tmp_path) -> None:
    data = nm(np.full(SHAPE, 10))
    write(data, tmp_path / "a.dcm")
    write(data, tmp_path / "b.dcm")
    converted, _ = read_spect(tmp_path, SETTINGS)
    assert "W101 1 file(s) ignored: exact copy of another file" in converted.notes


def test_vectors_that_do_not_change_are_no_reason_to_refuse(tmp_path) -> None:
    data = nm(np.full(SHAPE, 10))
    for name in ("EnergyWindowVector", "DetectorVector", "RotationVector", "TimeSlotVector", "AngularViewVector"):
        setattr(data, name, [1] * SHAPE[0])
    data.NumberOfSlices = SHAPE[0]
    converted, _ = read_spect(write(data, tmp_path / "q.dcm"), SETTINGS)
    assert converted.image.GetSize() == (4, 5, 6)


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("NumberOfSlices", 3, "D312 .*6 frames, but 3 slices"),
        ("NumberOfFrames", 5, "D312"),
        ("NumberOfFrames", 2_000_000_000, "D108"),
        ("NumberOfFrames", 1, "D303"),
        ("SpacingBetweenSlices", "1e5", "D301"),
        ("PixelSpacing", None, "D107 .*PixelSpacing"),
    ],
)
def test_nm_claims_that_do_not_fit_are_refused(tmp_path, keyword, value, code) -> None:
    data = nm(np.full(SHAPE, 10))
    if value is None:
        delattr(data, keyword)
    else:
        setattr(data, keyword, value)
    with pytest.raises(DicomError, match=code):
        read_spect(write(data, tmp_path / "q.dcm"), SETTINGS)


def test_the_sign_of_a_thickness_means_nothing(tmp_path) -> None:
    images = []
    for name, thickness in (("a", "6.5"), ("b", "-6.5")):
        data = nm(np.arange(120).reshape(SHAPE))
        del data.SpacingBetweenSlices
        data.SliceThickness = thickness
        images.append(read_spect(write(data, tmp_path / name / "q.dcm"), SETTINGS)[0].image)
    assert same_grid(*images)
    assert np.array_equal(*map(sitk.GetArrayFromImage, images))


# --- units and real-world values ---------------------------------------------------------------------------------

STORED = np.arange(120).reshape(SHAPE)


def _mapping(slope: float, unit: str, first: int | None = None, last: int | None = None) -> Dataset:
    item, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, 1.0
    item.MeasurementUnitsCodeSequence = Sequence([code])
    if first is not None:
        item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = first, last
    return item


def _mapped(path: Path, *mappings: Dataset, implicit: bool = False) -> Converted:
    data = nm(STORED)
    data.RealWorldValueMappingSequence = Sequence(mappings)
    if implicit:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return read_spect(write(data, path / "q.dcm"), SETTINGS)[0]


@pytest.mark.parametrize("implicit", [True, False])
def test_each_stored_value_goes_through_the_map_of_its_range(tmp_path, implicit) -> None:
    maps = (_mapping(2.0, "Bq/ml", 0, 50), _mapping(4.0, "Bq/ml", 51, 65535))
    converted = _mapped(tmp_path, *maps, implicit=implicit)
    assert np.array_equal(sitk.GetArrayFromImage(converted.image), np.where(STORED <= 50, 2, 4) * STORED + 1)
    assert converted.facts["units"] == "Bq/mL"
    assert "W404 2 real-world value mappings to 1 unit(s)" in converted.notes


@pytest.mark.parametrize(
    ("units", "chosen"),
    [
        (("{SUVbw}g/ml", "{counts}", "Bq/ml"), "Bq/mL"),
        (("{SUVbw}g/ml", "{counts}"), "counts"),
        (("{SUVbw}g/ml", "%"), "%"),
        (("{SUVbw}g/ml",), "{SUVbw}g/ml"),
    ],
)
def test_activity_before_counts_and_never_suv(tmp_path, units, chosen) -> None:
    maps = [_mapping(k + 2.0, unit, 0, 65535) for k, unit in enumerate(units)]
    converted = _mapped(tmp_path, *maps)
    assert converted.facts["units"] == chosen
    assert np.array_equal(sitk.GetArrayFromImage(converted.image), (len(units) + 1) * STORED + 1)


def test_a_preferred_map_that_leaves_values_out_gives_way(tmp_path) -> None:
    converted = _mapped(tmp_path, _mapping(2.0, "Bq/ml", 0, 50), _mapping(4.0, "{counts}", 0, 65535))
    assert converted.facts["units"] == "counts"


@pytest.mark.parametrize(
    ("maps", "problem"),
    [
        ([_mapping(2.0, "Bq/ml", 0, 118)], "leave stored values out"),
        ([_mapping(2.0, "Bq/ml", 0, 50), _mapping(4.0, "Bq/ml", 60, 65535)], "leave stored values out"),
        ([_mapping(2.0, "Bq/ml", 0, 65535), _mapping(4.0, "Bq/ml", 60, 65535)], "contradict"),
        ([_mapping(2.0, "{SUVbw}g/ml"), _mapping(2.0, "{SUVlbm}g/ml")], "SUV"),
    ],
)
def test_maps_that_leave_a_doubt_are_refused(tmp_path, maps, problem) -> None:
    with pytest.raises(DicomError, match=f"D411 .*{problem}"):
        _mapped(tmp_path, *maps)


@pytest.mark.parametrize(
    ("stored", "units", "total"),
    [
        ("CNTS", "counts", True),
        ("PROPCNTS", "proportional to counts", False),
        ("PROPCPS", "proportional to counts/s", False),
    ],
)
def test_what_is_only_proportional_to_counts_is_not_called_counts(tmp_path, stored, units, total) -> None:
    slices = series(STORED.astype(np.int16), modality="PT")
    for data in slices:
        data.Units = stored
    convert_spect(
        write_series(slices, tmp_path / "in"), tmp_path / "q.nii.gz", tmp_path / "q.json", SETTINGS, "c", "perfusion"
    )
    sidecar = read_json(tmp_path / "q.json")
    assert sidecar["units"] == units
    assert sidecar["acquisition"]["counts_total"] == (STORED.sum() if total else None)


def test_pt_slices_of_two_units_are_refused(tmp_path) -> None:
    slices = series(STORED.astype(np.int16), modality="PT")
    slices[3].Units = "CNTS"
    with pytest.raises(DicomError, match=r"D211 .*Units"):
        read_spect(write_series(slices, tmp_path / "in"), SETTINGS)

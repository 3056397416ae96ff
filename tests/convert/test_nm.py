"""NM objects: which of several is the volume, vectors, slices, and claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_factory import nm, uid, write

from ct2vq.config import complete_config
from ct2vq.convert import read_spect
from ct2vq.errors import DicomError

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

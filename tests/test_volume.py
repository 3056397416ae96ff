"""Geometry survives NIfTI, the same image gives the same bytes, and two grids that differ are never taken for one."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from factories import random_direction
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.files import sha256_file
from ct2vq.volume import (
    affine,
    corners,
    from_array,
    make_grid,
    read_volume,
    require_same_grid,
    resample,
    same_grid,
    to_array,
    voxel_volume_ml,
    write_volume,
)


def random_volume(seed: int, dtype: type = np.float32, mirrored: bool = False) -> sitk.Image:
    generator = np.random.default_rng(seed)
    size = generator.integers(2, 9, 3)
    direction = random_direction(seed)
    if mirrored:
        direction[:, 2] *= -1
    grid = make_grid(size, generator.uniform(0.3, 9, 3), generator.uniform(-500, 500, 3), direction.ravel())
    return from_array(generator.uniform(0, 200, size[::-1]).astype(dtype), grid)


@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.uint8, np.int16]), st.booleans())
def test_a_volume_comes_back_from_nifti(tmp_path: Path, seed: int, dtype: type, mirrored: bool) -> None:
    image = random_volume(seed, dtype, mirrored)
    path = tmp_path / "image.nii.gz"
    write_volume(image, path)
    back = read_volume(path)
    np.testing.assert_array_equal(to_array(back), to_array(image))
    assert back.GetPixelID() == image.GetPixelID()
    assert same_grid(back, image)
    np.testing.assert_allclose(corners(back), corners(image), atol=1e-2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_voxels_that_are_no_numbers_stay_so(tmp_path: Path, dtype: type) -> None:
    image = random_volume(3, dtype)
    values = to_array(image)
    values[0, 0, 0], values[1, 0, 0], values[0, 1, 1] = np.nan, np.inf, -np.inf
    write_volume(from_array(values, image), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(to_array(read_volume(tmp_path / "a.nii.gz")), values)


@pytest.mark.parametrize("change", ["two members", "scaled", "big-endian"])
def test_unusual_files_of_others_are_read_too(tmp_path: Path, change: str) -> None:
    image = random_volume(4, np.float32)
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    if change == "scaled":
        content[112:120] = np.array([2.0, 1.0], "<f4").tobytes()
    if change == "big-endian":
        content = bytearray(big_endian(bytes(content)))
    halves = [content[:500], content[500:]] if change == "two members" else [content]
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(bytes(half)) for half in halves))
    expected = to_array(image) * (2 if change == "scaled" else 1) + (1 if change == "scaled" else 0)
    back = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(to_array(back), expected, rtol=1e-6)
    assert same_grid(back, image)


def big_endian(content: bytes) -> bytes:
    """A NIfTI-1 file of float32 in the other byte order, by the sizes of the header's fields (nifti1.h)."""
    fields = [4, -10, -18, 4, 2, -1, -1, *[2] * 8, *[4] * 3, *[2] * 4, *[4] * 8, *[4] * 3, 2, -1, -1, *[4] * 4, 4, 4]
    fields += [-80, -24, 2, 2, *[4] * 18, -16, -4]  # text has a minus
    swapped, place = b"", 0
    for size in fields:
        part = content[place : place + abs(size)]
        swapped, place = swapped + (part if size < 0 else part[::-1]), place + abs(size)
    assert place == 348
    return swapped + content[348:352] + np.frombuffer(content[352:], "<f4").astype(">f4").tobytes()


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    image = random_volume(1)
    write_volume(image, tmp_path / "a.nii.gz", "SYNTHETIC")
    write_volume(image, tmp_path / "other" / "b.nii.gz", "SYNTHETIC")
    assert sha256_file(tmp_path / "a.nii.gz") == sha256_file(tmp_path / "other" / "b.nii.gz")
    write_volume(image, tmp_path / "c.nii.gz")
    assert sha256_file(tmp_path / "a.nii.gz") != sha256_file(tmp_path / "c.nii.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "c.nii.gz", "other"]


def test_the_description_stands_in_the_header_and_not_in_the_image(tmp_path: Path) -> None:
    image = random_volume(2)
    write_volume(image, tmp_path / "a.nii.gz", "x" * 100)
    assert read_volume(tmp_path / "a.nii.gz").GetMetaData("descrip") == "x" * 79
    assert not image.GetMetaDataKeys()


def test_axes_are_lps_and_nifti_is_ras(tmp_path: Path) -> None:
    image = make_grid((4, 5, 6), (1, 2, 3), (10, 20, 30))
    write_volume(image, tmp_path / "a.nii.gz")
    header = read_volume(tmp_path / "a.nii.gz")
    assert [float(header.GetMetaData(key)) for key in ("qoffset_x", "qoffset_y", "qoffset_z")] == [-10, -20, 30]
    assert to_array(image).shape == (6, 5, 4)


@given(st.integers(0, 10**6))
def test_the_affine_is_itks(seed: int) -> None:
    image = random_volume(seed, mirrored=bool(seed % 2))
    for index in ((0, 0, 0), (1, 0, 0), (1, 1, 1)):
        expected = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((affine(image) @ [*index, 1])[:3], expected, atol=1e-9)
    last = [n - 1 for n in image.GetSize()]
    np.testing.assert_allclose(corners(image)[-1], image.TransformIndexToPhysicalPoint(last), atol=1e-9)
    assert voxel_volume_ml(image) == pytest.approx(abs(np.linalg.det(affine(image))) / 1000)


@pytest.mark.parametrize("change", ["size", "spacing", "origin", "direction", "flip", "nan"])
def test_grids_that_differ(change: str) -> None:
    a = make_grid((8, 8, 8), (2, 2, 2), (0, 0, 0))
    changed = {
        "size": make_grid((8, 8, 9), (2, 2, 2), (0, 0, 0)),
        "spacing": make_grid((8, 8, 8), (2, 2, 2.01), (0, 0, 0)),
        "origin": make_grid((8, 8, 8), (2, 2, 2), (0, 0.02, 0)),
        "direction": make_grid((8, 8, 8), (2, 2, 2), (0, 0, 0), (0, 1, 0, 1, 0, 0, 0, 0, -1)),
        "flip": make_grid((8, 8, 8), (2, 2, 2), (0, 0, 14), (1, 0, 0, 0, 1, 0, 0, 0, -1)),
        "nan": make_grid((8, 8, 8), (2, 2, 2), (0, 0, float("nan"))),
    }[change]
    assert same_grid(a, a)
    assert not same_grid(a, changed)
    with pytest.raises(GeometryError, match=r"ct and lungs do not share a grid.*size.*spacing.*origin.*direction"):
        require_same_grid(a, changed, "ct", "lungs")


def test_an_array_of_another_shape() -> None:
    with pytest.raises(GeometryError, match=r"\(4, 5, 6\).*\(6, 5, 4\)"):
        from_array(np.zeros((4, 5, 6)), make_grid((4, 5, 6), (1, 1, 1), (0, 0, 0)))


@pytest.mark.parametrize("content", [b"", b"no nifti", b"\x1f\x8b\x08\x00torn"])
def test_what_is_no_volume(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(Ct2vqError, match=r"a\.nii\.gz"):
        read_volume(tmp_path / "a.nii.gz")
    with pytest.raises(Ct2vqError, match="does not exist"):
        read_volume(tmp_path / "gone.nii.gz")


def test_a_volume_cut_off_in_the_middle(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)
    write_volume(from_array(noise, make_grid((40, 40, 40), (1, 1, 1), (0, 0, 0))), tmp_path / "a.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Ct2vqError, match=r"a\.nii\.gz"):
        read_volume(tmp_path / "a.nii.gz")


@given(st.integers(0, 10**6))
def test_resampling_onto_itself_changes_nothing(seed: int) -> None:
    image = random_volume(seed)
    np.testing.assert_allclose(to_array(resample(image, image)), to_array(image), rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(to_array(resample(image, image, linear=False)), to_array(image))


def test_resampling_goes_from_grid_to_image_and_fills_outside() -> None:
    image = from_array(np.arange(4, dtype=np.float32).reshape(1, 1, 4), make_grid((4, 1, 1), (1, 1, 1), (0, 0, 0)))
    shifted = resample(image, image, sitk.TranslationTransform(3, (1.0, 0, 0)), outside=-7)
    assert to_array(shifted).ravel().tolist() == [1, 2, 3, -7]
    halved = resample(image, make_grid((2, 1, 1), (1, 1, 1), (0.5, 0, 0)))
    assert to_array(halved).ravel().tolist() == [0.5, 1.5]

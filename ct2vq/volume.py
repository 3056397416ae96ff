"""Volumes in patient space: one place for geometry.

A volume is a `SimpleITK.Image`; its array has axes `(z, y, x)`, its geometry is in mm in DICOM's patient system
(LPS: +x to the patient's left, +y to the back, +z to the head), as in DICOM PS3.3 C.7.6.2.1.1. Files are NIfTI
(ITK turns LPS into NIfTI's RAS and back), float32 for CT (HU) and SPECT (counts or Bq/mL), uint8 for labels.
"""

from __future__ import annotations

import gzip
import mmap
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import deflate
import numpy as np
import SimpleITK as sitk

from ct2vq.errors import Ct2vqError, GeometryError
from ct2vq.files import replacing

#: largest difference of origin and of voxel position, in mm, and of a direction cosine that still counts as equal
POSITION_TOLERANCE_MM = 1e-2
DIRECTION_TOLERANCE = 1e-4
#: of libdeflate, 0 to 12: 2 takes nearly twice as long for a file 3 % smaller
GZIP_LEVEL = 1
#: the first four bytes of a NIfTI-1 header, its size, tell the order of bytes
BYTE_ORDERS = {(348).to_bytes(4, "little"): "<", (348).to_bytes(4, "big"): ">"}
#: slope and intercept of a header whose values are what they are
UNSCALED = {(0.0, 0.0), (1.0, 0.0)}


def read_volume(path: str | Path) -> sitk.Image:
    """Read a NIfTI volume; voxels that are no numbers (NaN, infinite) stay what they are.

    Raises:
        Ct2vqError: the file is missing or unreadable.
    """
    path = Path(path)
    if not path.is_file():
        raise Ct2vqError("the volume does not exist", path=path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        image = _read_floats(path, reader) or reader.Execute()
    except RuntimeError as error:
        raise Ct2vqError(f"not a readable volume: {str(error).strip().splitlines()[-1]}", path=path) from error
    if not _is_whole(path, image):
        raise Ct2vqError("the compressed file is cut off or damaged", path=path, hint="make or copy it again")
    return image


def _read_floats(path: Path, reader: sitk.ImageFileReader) -> sitk.Image | None:
    """A packed scalar volume of unscaled floats, read without ITK, which takes NaN and infinite voxels for 0.

    ITK also forgets to turn the bytes of floats in the other order. Returns None for any other file, which ITK reads:
    other types hold no such values, and what has a scale was made from them.
    """
    kind = {sitk.sitkFloat32: "f4", sitk.sitkFloat64: "f8"}.get(reader.GetPixelID())
    if path.suffix != ".gz" or kind is None or reader.GetNumberOfComponents() != 1:
        return None
    try:
        content = deflate.gzip_decompress(path.read_bytes())
    except deflate.DeflateError:
        return None
    offset, shape = int(float(reader.GetMetaData("vox_offset"))), reader.GetSize()[::-1]
    order = BYTE_ORDERS.get(bytes(content[:4]))
    scaled = (float(reader.GetMetaData("scl_slope")), float(reader.GetMetaData("scl_inter"))) not in UNSCALED
    if scaled or order is None or len(content) != offset + int(np.prod(shape)) * np.dtype(kind).itemsize:
        return None
    voxels = np.frombuffer(content, order + kind, offset=offset).reshape(shape)
    image = sitk.GetImageFromArray(voxels.astype(kind, copy=False))
    image.SetSpacing(reader.GetSpacing())
    image.SetOrigin(reader.GetOrigin())
    image.SetDirection(reader.GetDirection())
    for key in reader.GetMetaDataKeys():
        image.SetMetaData(key, reader.GetMetaData(key))
    return image


def _is_whole(path: Path, image: sitk.Image) -> bool:
    """Whether a compressed file holds all voxels: ITK reads one that was cut off without a word.

    The last four bytes of a gzip file are its unpacked size (RFC 1952); only if they are not what the header lets
    expect is the file unpacked to see.
    """
    if path.suffix != ".gz":
        return True
    voxels = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
    offset = float(image.GetMetaData("vox_offset")) if image.HasMetaDataKey("vox_offset") else 0.0
    with open(path, "rb") as stream:
        stream.seek(-4, os.SEEK_END)
        if int.from_bytes(stream.read(4), "little") == int(offset + voxels) % 2**32:
            return True
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 24):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True


def write_volume(image: sitk.Image, path: str | Path, description: str | None = None) -> None:
    """Write a volume as compressed NIfTI, atomically. The same image gives the same bytes.

    Args:
        image: the volume.
        path: `*.nii.gz`.
        description: at most 79 ASCII characters for the header's `descrip` field.
    """
    image = sitk.Image(image)
    if description is not None:
        image.SetMetaData("ITK_FileNotes", description[:79])
    with replacing(path) as temporary:
        plain = temporary.with_name(temporary.name.removesuffix(".gz"))
        try:
            sitk.WriteImage(image, str(plain))
            _compress(plain, temporary)
        finally:
            plain.unlink(missing_ok=True)


def _compress(plain: Path, packed: Path) -> None:
    """Write `plain` as gzip, without name and time of day in its header.

    libdeflate gives the same bytes on every machine, and takes a tenth of the time of ITK's own compression for a file
    11 % larger (docs/benchmarks.md, Conversion). ISA-L is a little faster but was seen to pack the same bytes in two
    ways.
    """
    with open(plain, "rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
        packed.write_bytes(deflate.gzip_compress(content, GZIP_LEVEL))


def to_array(image: sitk.Image) -> np.ndarray:
    """The voxels as a new array `(z, y, x)`."""
    return sitk.GetArrayFromImage(image)


def from_array(array: np.ndarray, like: sitk.Image) -> sitk.Image:
    """A volume with the values of `array` `(z, y, x)` on the grid of `like`.

    Raises:
        GeometryError: the shapes differ.
    """
    if tuple(array.shape) != tuple(reversed(like.GetSize())):
        raise GeometryError(f"array of shape {array.shape} does not fit a grid of {tuple(reversed(like.GetSize()))}")
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.CopyInformation(like)
    return image


def from_components(array: np.ndarray, like: sitk.Image) -> sitk.Image:
    """A volume with a vector in each voxel, from an array `(component, z, y, x)`; `to_components` is its inverse."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(array, 0, -1)), isVector=True)
    image.CopyInformation(like)
    return image


def to_components(image: sitk.Image) -> np.ndarray:
    """The components of a volume of vectors as a new array `(component, z, y, x)`."""
    return np.ascontiguousarray(np.moveaxis(sitk.GetArrayViewFromImage(image), -1, 0))


def make_grid(
    size: Sequence[int],
    spacing: Sequence[float],
    origin: Sequence[float],
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> sitk.Image:
    """An empty uint8 volume that stands for a grid; `size`, `spacing` (mm) and `origin` (mm) in order x, y, z."""
    image = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in origin])
    image.SetDirection([float(v) for v in direction])
    return image


def affine(image: sitk.Image) -> np.ndarray:
    """The 4x4 matrix from voxel index `(x, y, z, 1)` to patient position in mm (LPS)."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return matrix


def corners(image: sitk.Image) -> np.ndarray:
    """Positions (8, 3) in mm (LPS) of the centres of the eight corner voxels."""
    last = np.asarray(image.GetSize()) - 1
    index = np.array([(i, j, k, 1) for k in (0, last[2]) for j in (0, last[1]) for i in (0, last[0])], dtype=float)
    return (affine(image) @ index.T).T[:, :3]


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two volumes have the same size and their corners meet within `POSITION_TOLERANCE_MM`."""
    return (
        a.GetSize() == b.GetSize()
        and np.allclose(a.GetDirection(), b.GetDirection(), atol=DIRECTION_TOLERANCE)
        and np.allclose(corners(a), corners(b), atol=POSITION_TOLERANCE_MM)
    )


def describe_grid(image: sitk.Image) -> str:
    """Size, spacing, origin and direction in one line."""
    values = {
        "size": image.GetSize(),
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
    }
    return ", ".join(f"{name} {tuple(round(float(v), 4) for v in value)}" for name, value in values.items())


def require_same_grid(a: sitk.Image, b: sitk.Image, name_a: str, name_b: str) -> None:
    """Stop unless two volumes share a grid; nothing is ever resampled silently.

    Raises:
        GeometryError: with both grids in the message.
    """
    if not same_grid(a, b):
        raise GeometryError(
            f"{name_a} and {name_b} do not share a grid: {name_a} has {describe_grid(a)}; "
            f"{name_b} has {describe_grid(b)}"
        )


def voxel_volume_ml(image: sitk.Image) -> float:
    """Volume of a voxel in mL."""
    return float(np.prod(image.GetSpacing())) / 1000.0


def resample(
    image: sitk.Image,
    grid: sitk.Image,
    transform: sitk.Transform | None = None,
    *,
    linear: bool = True,
    outside: float = 0.0,
) -> sitk.Image:
    """Resample `image` onto `grid` in one interpolation.

    Args:
        image: the moving volume.
        grid: a volume whose geometry the result takes.
        transform: maps points of `grid` to points of `image` (mm, LPS); identity if None.
        linear: linear interpolation, else nearest neighbour (labels).
        outside: value outside `image`.
    """
    interpolator = sitk.sitkLinear if linear else sitk.sitkNearestNeighbor
    transform = transform or sitk.Transform(3, sitk.sitkIdentity)
    return sitk.Resample(image, grid, transform, interpolator, float(outside), image.GetPixelID())

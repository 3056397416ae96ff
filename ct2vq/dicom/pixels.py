"""What is stored in an image: the decoded values, their padding and their scale."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGExtended12Bit

from ct2vq.dicom.attributes import attribute, first_line, items, number, required_numbers
from ct2vq.dicom.files import NATIVE_SYNTAXES, transfer_syntax
from ct2vq.errors import DicomError


def stored_values(dataset: Dataset, path: Path) -> np.ndarray:
    """The stored values `(rows, columns)` or `(frames, rows, columns)` before any rescale.

    Signed as the header says; bits above `BitsStored` (overlays, rubbish) are dropped and the sign extended
    (PS3.5 8.1.1), which pydicom does. JPEG with 12 bits has no plugin in pydicom: GDCM decodes it through SimpleITK.

    Raises:
        DicomError: colour image, no pixel data, values shifted within their bits,
            fewer pixels than announced, or a codec that nobody here knows.
    """
    if (number(dataset, "SamplesPerPixel", path) or 1) != 1:
        raise DicomError(
            "D401", "a colour image (screenshot?) holds no measured values", path=path, key="SamplesPerPixel"
        )
    if "PixelData" not in dataset:
        raise DicomError("D402", "the file holds no pixel data", path=path, key="PixelData", hint="is it complete?")
    _require_low_bits(dataset, path)
    syntax = transfer_syntax(dataset, path)
    if syntax in (*NATIVE_SYNTAXES, DeflatedExplicitVRLittleEndian):
        _require_no_more(dataset, path)
    if syntax == JPEGExtended12Bit and number(dataset, "BitsStored", path) == 12:
        return _decode_with_gdcm(dataset, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not `dataset.pixel_array`, which keeps a second copy.
            return pixel_array(dataset)
    except Exception as error:  # every codec raises its own kinds
        problem = f"the pixel data ({syntax.name or 'unknown encoding'}) cannot be decoded: {first_line(error)}"
        hint = "is the file truncated? else decompress it, for example with `gdcmconv --raw`"
        raise DicomError("D403", problem, path=path, key="PixelData", hint=hint) from error


def _require_low_bits(dataset: Dataset, path: Path) -> None:
    """Refuse values that do not fill the low bits: the high bit is one less than the bits stored (PS3.5 8.1.1)."""
    stored, high = number(dataset, "BitsStored", path), number(dataset, "HighBit", path)
    if stored is not None and high is not None and high != stored - 1:
        problem = f"{stored:g} bits stored up to bit {high:g}, where bit {stored - 1:g} is the highest allowed"
        raise DicomError("D412", problem, path=path, key="HighBit", hint="export the images again from their source")


def _require_no_more(dataset: Dataset, path: Path) -> None:
    """Refuse uncompressed pixel data that hold a row or column more than the header tells: one of them is wrong."""
    names = ("Rows", "Columns", "BitsAllocated")
    rows, columns, bits = (required_numbers(dataset, name, 1, path)[0] for name in names)
    expected = rows * columns * bits / 8 * (number(dataset, "NumberOfFrames", path) or 1)
    found = len(attribute(dataset, "PixelData", path) or b"")
    if found - expected >= max(2, min(rows, columns) * bits / 8):
        problem = f"{found} bytes of pixels, {expected:g} expected for {rows:g} x {columns:g} pixels"
        raise DicomError("D410", problem, path=path, key="PixelData", hint="the header or the pixels are wrong")


def _decode_with_gdcm(dataset: Dataset, path: Path) -> np.ndarray:
    """Decode with GDCM, which applies the rescale: it is taken back to get the stored integers."""
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat64))
    except RuntimeError as error:
        raise DicomError(
            "D403",
            "the pixel data (JPEG with 12 bits) cannot be decoded",
            path=path,
            key="PixelData",
            hint="is the file truncated?",
        ) from error
    slope, intercept = rescale(dataset, path) or (1.0, 0.0)
    values = np.rint((values - intercept) / slope).astype(np.int32)
    return values[0] if len(values) == 1 else values


def padding(dataset: Dataset, path: Path) -> tuple[float, float] | None:
    """The range of stored values that mean 'no measurement' (PS3.3 C.7.5.1.1.2), None without the attribute."""
    low = number(dataset, "PixelPaddingValue", path)
    if low is None:
        return None
    high = number(dataset, "PixelPaddingRangeLimit", path)
    bounds = [low, low if high is None else high]
    if attribute(dataset, "PixelRepresentation", path) == 1:
        bits = int(number(dataset, "BitsAllocated", path) or 16)
        # Some vendors write a signed padding value as unsigned.
        bounds = [value - 2**bits if value >= 2 ** (bits - 1) else value for value in bounds]
    return min(bounds), max(bounds)


def rescale(dataset: Dataset, path: Path) -> tuple[float, float] | None:
    """Slope and intercept of an image, None where it has none.

    Raises:
        DicomError: a lookup table, or a slope of zero.
    """
    if items(dataset, "ModalityLUTSequence", path):
        raise DicomError("D404", "values behind a lookup table are not supported", path=path, key="ModalityLUTSequence")
    slope, intercept = number(dataset, "RescaleSlope", path), number(dataset, "RescaleIntercept", path)
    if slope is None and intercept is None:
        return None
    if slope == 0:
        raise DicomError("D405", "the slope is 0", path=path, key="RescaleSlope")
    return 1.0 if slope is None else slope, intercept or 0.0

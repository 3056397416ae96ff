"""What is stored in an image: the decoded values, their padding and their scale."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import UID

from ct2vq.dicom.attributes import attribute, first_line, number
from ct2vq.errors import DicomError


def stored_values(dataset: Dataset, path: Path) -> np.ndarray:
    """The stored values `(rows, columns)` or `(frames, rows, columns)` before any rescale.

    Compressed data that pydicom has no plugin for (JPEG lossless, JPEG-LS) is decoded by GDCM through SimpleITK.

    Raises:
        DicomError: colour image, no pixel data, fewer pixels than announced, or a codec that nobody here knows.
    """
    if (attribute(dataset, "SamplesPerPixel", path) or 1) != 1:
        raise DicomError(
            "D401", "a colour image (screenshot?) holds no measured values", path=path, key="SamplesPerPixel"
        )
    if "PixelData" not in dataset:
        raise DicomError("D402", "the file holds no pixel data", path=path, key="PixelData", hint="is it complete?")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset.pixel_array
    except Exception as error:  # every codec raises its own kinds
        syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
        if not syntax.is_compressed:
            problem = f"the pixel data cannot be read: {first_line(error)}"
            raise DicomError("D403", problem, path=path, key="PixelData", hint="is the file truncated?") from error
        return _decode_with_gdcm(dataset, path, syntax)


def _decode_with_gdcm(dataset: Dataset, path: Path, syntax: UID) -> np.ndarray:
    """Decode with GDCM, which applies the rescale: it is taken back to get the stored integers."""
    try:
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat64))
    except RuntimeError as error:
        raise DicomError(
            "D403",
            f"the pixel data ({syntax.name}) cannot be decoded",
            path=path,
            key="PixelData",
            hint="is the file truncated? else decompress it, for example with `gdcmconv --raw`",
        ) from error
    slope = number(dataset, "RescaleSlope", path)
    intercept = number(dataset, "RescaleIntercept", path)
    values = np.rint((values - (intercept or 0.0)) / (slope or 1.0)).astype(np.int32)
    frames = int(attribute(dataset, "NumberOfFrames", path) or 1)
    return values[0] if frames == 1 and values.ndim == 3 else values


def padding(dataset: Dataset, path: Path) -> tuple[float, float] | None:
    """The range of stored values that mean 'no measurement' (PS3.3 C.7.5.1.1.2), None without the attribute."""
    low = number(dataset, "PixelPaddingValue", path)
    if low is None:
        return None
    high = number(dataset, "PixelPaddingRangeLimit", path)
    bounds = [low, low if high is None else high]
    if attribute(dataset, "PixelRepresentation", path) == 1:
        bits = int(attribute(dataset, "BitsAllocated", path) or 16)
        # Some vendors write a signed padding value as unsigned.
        bounds = [value - 2**bits if value >= 2 ** (bits - 1) else value for value in bounds]
    return min(bounds), max(bounds)


def rescale(dataset: Dataset, path: Path) -> tuple[float, float] | None:
    """Slope and intercept of an image, None where it has none.

    Raises:
        DicomError: a lookup table, or a slope of zero.
    """
    if attribute(dataset, "ModalityLUTSequence", path) is not None:
        raise DicomError("D404", "values behind a lookup table are not supported", path=path, key="ModalityLUTSequence")
    slope, intercept = number(dataset, "RescaleSlope", path), number(dataset, "RescaleIntercept", path)
    if slope is None and intercept is None:
        return None
    if slope == 0:
        raise DicomError("D405", "the slope is 0", path=path, key="RescaleSlope")
    return 1.0 if slope is None else slope, intercept or 0.0

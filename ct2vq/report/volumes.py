"""Volumes for the page's viewer: scripts that a page opened from disk may load, which `fetch` may not.

A volume is a NIfTI-1 file of small integers with a slope (Cox et al., OHBM 2004; `scl_slope` at byte 112 and
`scl_inter` at byte 116 of the header), gzipped without a time stamp, in base64, as the argument of a function call.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ct2vq.files import replacing
from ct2vq.volume import from_array, read_volume, to_array

#: function is 0..1; 255 steps are finer than a screen shows
STEPS = 255
#: what 12 bits hold, the range of scanners
HU_RANGE = (-1024, 3071)
SCALE_OFFSET = 112


def write_viewer_volumes(ct: str | Path, images: Mapping[str, str | Path], folder: str | Path, *, case: str) -> None:
    """Write `<folder>/ct.js` and `<folder>/<name>.js` for every image.

    Args:
        ct: the cropped CT in HU.
        images: paths of images of function (0..1), by name.
        folder: where the scripts go; made if it is not there.
        case: its identifier, which the viewer asks for.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    hu = read_volume(ct)
    rounded = np.clip(np.rint(to_array(hu)), *HU_RANGE).astype(np.int16)
    _write_script(from_array(rounded, hu), 1.0, Path(folder, "ct.js"), f"{case}/ct")
    for name, path in images.items():
        image = read_volume(path)
        steps = np.rint(np.clip(np.nan_to_num(to_array(image)), 0, 1) * STEPS).astype(np.uint8)
        _write_script(from_array(steps, image), 1.0 / STEPS, Path(folder, f"{name}.js"), f"{case}/{name}")


def _write_script(image: sitk.Image, slope: float, script: Path, key: str) -> None:
    packed = gzip.compress(nifti_bytes(image, slope), compresslevel=9, mtime=0)
    text = f"ct2vqVolume({json.dumps(key)}, {json.dumps(base64.b64encode(packed).decode('ascii'))});\n"
    with replacing(script) as temporary:
        temporary.write_text(text, encoding="ascii")


def nifti_bytes(image: sitk.Image, slope: float) -> bytes:
    """A volume as an uncompressed NIfTI-1 file whose values are to be multiplied by `slope`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "volume.nii")
        sitk.WriteImage(image, str(path), useCompression=False)
        content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, SCALE_OFFSET, slope, 0.0)
    return bytes(content)

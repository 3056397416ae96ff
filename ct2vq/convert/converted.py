"""A volume on its way from DICOM to NIfTI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk

from ct2vq.dicom.files import Instance


@dataclass
class Converted:
    """A volume with what its sidecar says."""

    image: sitk.Image
    first: Instance
    digests: list[str]
    facts: dict[str, Any]
    notes: list[str]

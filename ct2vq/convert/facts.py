"""Facts of an acquisition that later analyses depend on."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from ct2vq.dicom.attributes import attribute, text
from ct2vq.dicom.files import Instance


def attenuation_corrected(corrected: list[str], method: str | None) -> bool | None:
    """Whether attenuation was corrected for; None where the header says nothing about corrections."""
    if "ATTN" in corrected or (method or "NONE").upper() != "NONE":
        return True
    return False if corrected or method else None


def radiopharmaceutical(instance: Instance) -> tuple[str | None, str | None]:
    """Name of the radiopharmaceutical and of its nuclide, where stated."""
    items = attribute(instance.dataset, "RadiopharmaceuticalInformationSequence", instance.path) or []
    if not items:
        return None, None
    drug = text(items[0], "Radiopharmaceutical", instance.path)
    drug = drug or _meaning(items[0], "RadiopharmaceuticalCodeSequence", instance.path)
    return drug, _meaning(items[0], "RadionuclideCodeSequence", instance.path)


def _meaning(item: Dataset, keyword: str, path: Path) -> str | None:
    codes = attribute(item, keyword, path) or []
    return text(codes[0], "CodeMeaning", path) if codes else None

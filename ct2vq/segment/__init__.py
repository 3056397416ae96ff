"""Stage `segment`: the right and the left lung on a CT, and their parts.

Labels follow lungmask's R231: 1 right lung, 2 left lung. By default consolidation and tumour are inside, pleural fluid
and central airways outside (config block `segment.inside`). Modules: `classic` (the method without weights: `working`,
`body`, `airway`, `choose`, `sides`, `closing`, `wall`, `dense`, `refine`), `backends` (lungmask, TotalSegmentator),
`own` (the user's mask: NIfTI, or DICOM through `structures` and `segments`), `regions` (thirds, lobes), `record`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ct2vq.files import write_json
from ct2vq.segment.classic import segment_classic
from ct2vq.segment.record import lungs_record, regions_record
from ct2vq.segment.regions import lobes_in_lungs, thirds
from ct2vq.volume import read_volume, write_volume

logger = logging.getLogger(__name__)

NO_LOBES = "left out: the method tells no lobes"
#: lungs, and lobes or None, of a CT by the config block `segment`; `ct2vq.segment.backends.run_backend` is one. It is
#: given and not imported, so that the method without weights depends on none of it.
Backend = Callable[[sitk.Image, Mapping[str, Any]], tuple[sitk.Image, sitk.Image | None]]


def segment_case(
    ct: Path,
    labels: Path,
    record: Path,
    settings: Mapping[str, Any],
    lung_mask: Path | None,
    *,
    regions: Path | None = None,
    lobes: Path | None = None,
    same_frame: Callable[[str], bool] | None = None,
    backend: Backend | None = None,
    image: sitk.Image | None = None,
) -> None:
    """Segment one case, or check the user's own mask.

    Args:
        ct: the converted CT.
        labels: `*.nii.gz` to write, uint8: 1 right lung, 2 left lung, on the CT's grid.
        record: `*.json` to write: volumes of lungs, thirds and lobes, mean HU, warnings.
        settings: config block `segment`, with `lungs` of the cohort table if it tells any.
        lung_mask: the user's mask (NIfTI on the CT's grid, RTSTRUCT or SEG, or a folder with one of these), or None.
        regions: `*.nii.gz` to write with the thirds (`ct2vq.lungs.THIRDS`), if wanted.
        lobes: `*.nii.gz` to write with the lobes (`ct2vq.lungs.LOBES`) that the backend tells; within the user's own
            mask, too.
        same_frame: tells whether a frame of reference UID is the CT's; None: not known, and not asked.
        backend: the network of others, unless `settings` name the method without weights.
        image: what `ct` holds, where it was read before.

    Raises:
        SegmentationError: see `segment_lungs` and `read_own_mask`.
        GeometryError: the mask does not share the CT's grid.
    """
    image = read_volume(ct) if image is None else image
    if lung_mask is None:
        found, facts, lobe_labels = _found(image, settings, backend)
    else:
        from ct2vq.segment.own import read_own_mask  # reads DICOM, which few cases need

        found, warnings = read_own_mask(image, Path(lung_mask), settings, same_frame)
        facts = lungs_record(image, found, settings, "user", warnings)
        lobe_labels = _lobes_within(image, found, settings, backend) if lobes is not None else None
    parts = thirds(found)
    source = NO_LOBES if lobe_labels is None else str(settings["backend"])
    facts |= regions_record(parts, lobe_labels, source)
    for warning in facts["warnings"]:
        logger.warning("%s", warning)
    write_json(facts, record)
    if regions is not None:
        write_volume(parts, regions, "ct2vq thirds of the lungs")
    if lobes is not None and lobe_labels is not None:
        write_volume(lobe_labels, lobes, "ct2vq lobes")
    write_volume(found, labels, "ct2vq lungs: 1 right, 2 left")
    logger.info("lungs: right %.0f mL, left %.0f mL", facts["volume_ml"]["right"], facts["volume_ml"]["left"])


def segment_lungs(
    ct: sitk.Image, settings: Mapping[str, Any], backend: Backend | None = None
) -> tuple[sitk.Image, dict[str, Any]]:
    """Find both lungs by the config's backend.

    Args:
        ct: HU, any grid and direction.
        settings: config block `segment`.
        backend: as for `segment_case`.

    Returns:
        labels uint8 on the CT's grid (1 right, 2 left), and the record.

    Raises:
        SegmentationError: no body (D701), no plausible lungs (D702), one lung (D703), a backend without its library or
            weights (D708).
    """
    labels, record, _ = _found(ct, settings, backend)
    return labels, record


def _found(
    ct: sitk.Image, settings: Mapping[str, Any], backend: Backend | None
) -> tuple[sitk.Image, dict[str, Any], sitk.Image | None]:
    """Labels, record, and lobes where the backend tells them."""
    if backend is None:
        labels, facts = segment_classic(ct, settings)
        record = lungs_record(ct, labels, settings, "classic", facts["warnings"])
        return labels, record | {"dense_ml": facts["dense_ml"]}, None
    labels, lobes = backend(ct, settings)
    record = lungs_record(ct, labels, settings, settings["backend"], [])
    return labels, record, None if lobes is None else lobes_in_lungs(lobes, labels)


def _lobes_within(
    ct: sitk.Image, lungs: sitk.Image, settings: Mapping[str, Any], backend: Backend | None
) -> sitk.Image | None:
    """The backend's lobes within the user's own lungs."""
    lobes = backend(ct, settings)[1] if backend is not None else None
    return None if lobes is None else lobes_in_lungs(lobes, lungs)


def lobes_from_truth(lungs: Path, truth: Path, lobes: Path, record: Path) -> None:
    """The lobes of a simulated case, as far as the lungs that were found go.

    Args:
        lungs: lung labels on the CT's grid.
        truth: the simulation's `lobes.nii.gz`.
        lobes: `*.nii.gz` to write.
        record: `*.json` to write: volumes and source.

    Raises:
        GeometryError: another grid.
    """
    found = read_volume(lungs)
    labels = lobes_in_lungs(read_volume(truth), found)
    write_json(regions_record(thirds(found), labels, "simulated truth"), record)
    write_volume(labels, lobes, "ct2vq lobes")

"""The figures of a portion of the cases: one process draws them, because its start costs as much as a figure."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ct2vq.crop.figure import draw_normalisation
from ct2vq.fields import read_transform
from ct2vq.overlay import draw_registration
from ct2vq.panels import draw_case
from ct2vq.report.volumes import write_viewer_volumes

logger = logging.getLogger(__name__)

#: files of a case that are no images of function
KNOWN = ("ct", "ct_lungs", "lungs", "network_ct")
#: files of a registration that are no images of the camera
OF_REGISTRATION = ("ct", "lungs", "ct_to_spect", "qc")


def draw_registrations(cases: Mapping[str, Mapping[str, Mapping[str, str]]], folder: Path, figure: Any) -> None:
    """Draw each case's registrations: `<folder>/<case>.png`, and those of one target as `<folder>/<case>/<target>.png`.

    Args:
        cases: by case the files of each registration by the target that it carries alone (`""`: several), named
            `OF_REGISTRATION` and by the camera's images.
        folder: for the figures.
        figure: the `report.figure` block of the configuration.
    """
    for case, registrations in cases.items():
        logger.info("%s", case)
        for target, files in registrations.items():
            draw_registration(
                {name: path for name, path in files.items() if name not in OF_REGISTRATION},
                files["ct"],
                files["lungs"],
                read_transform(Path(files["ct_to_spect"])),
                files["qc"],
                _picture(folder / case / target),
                case=f"{case} {target}".strip(),
                figure=figure,
            )


def draw_normalisations(cases: Mapping[str, Mapping[str, str]], folder: Path, figure: Any) -> None:
    """Draw each case's normalised SPECT as `<folder>/<case>.png`.

    Args:
        cases: by case the files of `ct2vq.crop.figure.draw_normalisation`.
        folder: for the figures.
        figure: the `report.figure` block of the configuration.
    """
    for case, files in cases.items():
        logger.info("%s", case)
        draw_normalisation(files, _picture(folder / case), case=case, figure=figure)


def draw_cases(
    cases: Mapping[str, Mapping[str, str]],
    folders: Mapping[str, Path],
    diagnoses: Mapping[str, str],
    **settings: Any,
) -> None:
    """Draw each case's images, and write the volumes of its viewer.

    Args:
        cases: by case the files of `ct2vq.panels.draw_case`, `network_ct` (the CT on the network's grid), and images.
        folders: `cases`, for `<case>.png`, and `volumes`, for `<case>/<name>.js`.
        diagnoses: by case.
        settings: of `ct2vq.panels.draw_images`.
    """
    for case, files in cases.items():
        logger.info("%s", case)
        images = {name: path for name, path in files.items() if name not in KNOWN}
        draw_case(images, files, _picture(folders["cases"] / case), case=case, diagnosis=diagnoses[case], **settings)
        write_viewer_volumes(files["network_ct"], images, folders["volumes"] / case, case=case)


def _picture(stem: Path) -> Path:
    """A case's name may hold a dot, so that it is no suffix."""
    return stem.with_name(f"{stem.name}.png")

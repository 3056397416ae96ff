"""The figure of one registration: before beside after, in three planes through the CT's lungs.

With an attenuation CT, squares of both CTs in turn: vessels and diaphragm must run on from square to square. On each
SPECT the contour of the CT's lungs: activity must fill it, and defects stay inside. Geometry and convention are those
of `ct2vq.panels`. The SPECT's colours (inferno) rise evenly in lightness, so that colour-blind readers tell them apart;
the study's own colour map is for reading function, which nobody does here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.lines import Line2D

from ct2vq.config import TARGETS
from ct2vq.figures import TARGET_NAMES, colour_map, new_figure
from ct2vq.files import read_json
from ct2vq.panels import AIR_HU, PIXEL_MM, PLANES, Plane, planes_through, windowed
from ct2vq.registrations import TARGET_LETTERS, change
from ct2vq.sheet import colour_bar, new_sheet, outline, show
from ct2vq.volume import read_volume

#: SPECT is shown relative to this percentile in the lungs, as it is normalised for the networks
PERCENTILE = 99.0
SCALE_LABEL = "relative to the 99th percentile in the lungs"
LUNG_COLOUR = "#56e0ff"
ACTIVITY_COLOUR = "#ffb000"
FLAG_COLOUR = "#a33c00"
SQUARE_MM = 30.0
#: the SPECT's outline on the CT, as a share of its percentile in the lungs: about half of what lung shows on average
OUTLINE = 0.3
COLUMN_IN = 1.78
GAP_IN = 0.04
#: between groups of before and after
GROUP_GAP_IN = 0.2
LEFT_IN = 0.34
TITLE_IN = 0.62
FLAG_LINE_IN = 0.155
HEADING_IN = 0.42
FOOT_IN = 0.56
CHARACTERS_PER_INCH = 15


@dataclass(frozen=True)
class Group:
    """Two columns, before and after.

    Attributes:
        heading: what they show.
        images: RGB image of each plane, before and after.
        outlines: share of a structure in each pixel of each plane, before and after; its outline is drawn.
        colour: of the outline.
    """

    heading: str
    images: tuple[list[np.ndarray], list[np.ndarray]]
    outlines: tuple[list[np.ndarray], list[np.ndarray]] | None = None
    colour: str = LUNG_COLOUR


def draw_registration(
    images: Mapping[str, str | Path],
    ct: str | Path,
    lungs: str | Path,
    transform: sitk.Transform,
    qc: str | Path,
    output: str | Path,
    *,
    case: str,
    figure: Mapping[str, Any],
) -> None:
    """Draw the camera's images on the CT before and after the registration.

    Args:
        images: paths of volumes on their own grids: `attenuation_ct` (HU) if there is one, and the SPECT images.
        ct: the CT in HU.
        lungs: labels on the CT's grid.
        transform: maps points of the CT to points of the SPECT (mm, LPS).
        qc: `qc.json` of the registration.
        output: `*.png`.
        case: its identifier, in the title.
        figure: the `report.figure` block of the configuration.

    Raises:
        Ct2vqError: no lung voxel.
    """
    ct_image, lung_image = read_volume(ct), read_volume(lungs)
    planes = planes_through(lung_image, tuple(PLANES))
    transforms = (None, transform)
    fixed = [windowed(plane.cut(ct_image, outside=AIR_HU), figure["lung_window"]) for plane in planes]
    inside = [plane.turned(plane.share(lung_image)) for plane in planes]
    spects = {
        name: _relative(read_volume(images[name]), transforms, planes, inside) for name in TARGETS if name in images
    }
    if "attenuation_ct" in images:
        moving = read_volume(images["attenuation_ct"])
        groups = [_squares(fixed, moving, transforms, planes, figure["lung_window"])]
    else:
        groups = [_outlined(fixed, *next(iter(spects.items())))]
    colours = colour_map(figure["colour_map"])
    groups += [_coloured(target, cuts, inside, colours) for target, cuts in spects.items()]
    _draw(output, groups, planes, f"{case} · registration", read_json(qc), figure)


def _relative(
    spect: sitk.Image,
    transforms: Sequence[sitk.Transform | None],
    planes: Sequence[Plane],
    inside: Sequence[np.ndarray],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The SPECT before and after on one scale: its percentile in the lungs of the registered planes."""
    before, after = ([plane.cut(spect, transform) for plane in planes] for transform in transforms)
    in_lung = np.concatenate([cut[share >= 0.5] for cut, share in zip(after, inside, strict=True)])
    scale = float(np.percentile(in_lung, PERCENTILE)) if len(in_lung) else 0.0
    scale = scale if scale > 0 else 1.0
    return [cut / scale for cut in before], [cut / scale for cut in after]


def _squares(
    fixed: Sequence[np.ndarray],
    moving: sitk.Image,
    transforms: Sequence[sitk.Transform | None],
    planes: Sequence[Plane],
    window: Sequence[float],
) -> Group:
    mixed = (
        [
            checkerboard(image, windowed(plane.cut(moving, transform, AIR_HU), window), SQUARE_MM / PIXEL_MM)
            for image, plane in zip(fixed, planes, strict=True)
        ]
        for transform in transforms
    )
    return Group("CT and attenuation CT, squares in turn", tuple(mixed))


def _outlined(fixed: list[np.ndarray], target: str, cuts: tuple[list[np.ndarray], list[np.ndarray]]) -> Group:
    """The CT with the SPECT's outline: without an attenuation CT this is all that can be compared with it."""
    outlines = tuple([np.clip(cut / (2 * OUTLINE), 0, 1) for cut in both] for both in cuts)
    return Group(f"CT with the outline of {TARGET_NAMES[target]}", (fixed, fixed), outlines, ACTIVITY_COLOUR)


def _coloured(
    target: str, cuts: tuple[list[np.ndarray], list[np.ndarray]], inside: list[np.ndarray], colours: Colormap
) -> Group:
    images = tuple([colours(np.clip(cut, 0, 1))[..., :3] for cut in both] for both in cuts)
    return Group(f"{TARGET_NAMES[target]}, lungs of the CT", images, (inside, inside))


def checkerboard(a: np.ndarray, b: np.ndarray, square: float) -> np.ndarray:
    """Squares of `square` pixels taken in turn from two RGB images `(row, column, 3)`."""
    row, column = np.indices(a.shape[:2])
    take_a = (row // square + column // square) % 2 == 0
    return np.where(take_a[..., None], a, b)


def describe_registration(qc: Mapping[str, Any]) -> str:
    """Method and the main figures, before and after, in one line."""
    parts = [str(qc["method"])]
    for label, name, digits, unit in (
        ("lung Dice", "dice", 2, ""),
        ("lung detail", "lung_detail", 2, ""),
        ("landmarks", "tre_mean", 1, "_mm"),
    ):
        words = change(qc, name, digits, unit)
        parts += [] if words == "n/a" else [f"{label} {words}{' mm' if unit else ''}"]
    counts = [f"{TARGET_LETTERS[target]} {change(spect, 'counts_inside')}" for target, spect in qc["spect"].items()]
    parts += [f"counts in the lungs {', '.join(counts)}"] if counts else []
    return " · ".join(parts)


def _draw(
    output: str | Path,
    groups: Sequence[Group],
    planes: Sequence[Plane],
    title: str,
    qc: Mapping[str, Any],
    figure: Mapping[str, Any],
) -> None:
    width = LEFT_IN + len(groups) * (2 * COLUMN_IN + GAP_IN) + (len(groups) - 1) * GROUP_GAP_IN + 0.1
    scale = COLUMN_IN / max(plane.size_mm[0] for plane in planes)
    lines = _head_lines(qc, width)
    head = TITLE_IN + FLAG_LINE_IN * max(0, len(lines) - 2) + HEADING_IN
    height = head + sum(plane.size_mm[1] * scale + GAP_IN for plane in planes) + FOOT_IN
    with new_figure(output, (width, height), figure) as drawing:
        sheet = new_sheet(drawing)
        _write_head(sheet, width, title, lines)
        for number, group in enumerate(groups):
            _draw_group(sheet, group, planes, LEFT_IN + number * (2 * COLUMN_IN + GAP_IN + GROUP_GAP_IN), head, scale)
        _row_names(sheet, planes, head, scale)
        _foot(sheet, (width, height), groups, colour_map(figure["colour_map"]))


def _head_lines(qc: Mapping[str, Any], width: float) -> list[tuple[str, str]]:
    """Lines below the title with their colours: the figures, then every flag."""
    columns = int(width * CHARACTERS_PER_INCH)
    lines = [(line, "#333333") for line in textwrap.wrap(describe_registration(qc), columns)]
    for flag in qc["flags"] or ["no flags"]:
        colour = FLAG_COLOUR if qc["flags"] else "#333333"
        lines += [(line, colour) for line in textwrap.wrap(flag, columns)]
    return lines


def _write_head(sheet: Axes, width: float, title: str, lines: Sequence[tuple[str, str]]) -> None:
    centred = {"ha": "center", "va": "top"}
    sheet.text(width / 2, 0.09, title, fontsize=11.5, weight="bold", **centred)
    for number, (line, colour) in enumerate(lines):
        sheet.text(width / 2, 0.32 + number * FLAG_LINE_IN, line, fontsize=7.6, color=colour, **centred)


def _draw_group(sheet: Axes, group: Group, planes: Sequence[Plane], left: float, top: float, scale: float) -> None:
    middle = left + COLUMN_IN + GAP_IN / 2
    sheet.text(middle, top - 0.24, group.heading, ha="center", va="bottom", fontsize=8.6, weight="bold")
    for column, when in enumerate(("before", "after")):
        start, y = left + column * (COLUMN_IN + GAP_IN), top + GAP_IN
        for number, plane in enumerate(planes):
            wide, tall = (side * scale for side in plane.size_mm)
            box = (start + (COLUMN_IN - wide) / 2, y, wide, tall)
            show(sheet, group.images[column][number], box, "" if number else when, plane.letters)
            if group.outlines is not None:
                outline(sheet, group.outlines[column][number], box, group.colour, 0.9)
            y += tall + GAP_IN


def _row_names(sheet: Axes, planes: Sequence[Plane], top: float, scale: float) -> None:
    for plane in planes:
        tall = plane.size_mm[1] * scale
        middle = top + GAP_IN + tall / 2
        sheet.text(0.17, middle, plane.name, rotation=90, ha="center", va="center", fontsize=8.6, weight="bold")
        top += tall + GAP_IN


def _foot(sheet: Axes, size: tuple[float, float], groups: Sequence[Group], colours: Colormap) -> None:
    """Colour bar of the SPECT and what the lines are."""
    width, height = size
    ticks = {share: f"{share:.1f}" for share in np.linspace(0, 1, 6)}
    colour_bar(sheet, colours, (0.4, height - 0.46, 3.0, 0.1), ticks, f"SPECT, {SCALE_LABEL}")
    names = {LUNG_COLOUR: "lungs of the CT", ACTIVITY_COLOUR: f"{OUTLINE:.0%} of the SPECT's scale"}
    used = [colour for colour in names if any(group.outlines and group.colour == colour for group in groups)]
    lines = [Line2D([], [], color=colour, linewidth=1.6, label=names[colour]) for colour in used]
    box = sheet.figure.legend(
        handles=lines, loc="lower right", bbox_to_anchor=(1 - 0.1 / width, 0.1 / height), fontsize=7, ncols=2,
        facecolor="#444444", labelcolor="white", frameon=True, borderaxespad=0,
    )  # fmt: skip
    box.get_frame().set_linewidth(0)

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
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ct2vq.config import TARGETS
from ct2vq.figures import TARGET_NAMES, colour_map, new_figure
from ct2vq.files import read_json
from ct2vq.panels import (
    AIR_HU,
    PERCENTILE,
    PIXEL_MM,
    PLANES,
    SCALE_LABEL,
    Plane,
    contour,
    planes_through,
    show_plane,
    windowed,
)
from ct2vq.registrations import TARGET_LETTERS, change
from ct2vq.volume import read_volume

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
    inside = [plane.cut(sitk.Cast(lung_image > 0, sitk.sitkFloat64)) for plane in planes]
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
        _write_head(drawing, title, lines)
        left = LEFT_IN
        for group in groups:
            _draw_group(drawing, group, planes, left, height - head, scale)
            left += 2 * COLUMN_IN + GAP_IN + GROUP_GAP_IN
        _row_names(drawing, planes, height - head, scale)
        _foot(drawing, groups, colour_map(figure["colour_map"]))


def _head_lines(qc: Mapping[str, Any], width: float) -> list[tuple[str, str]]:
    """Lines below the title with their colours: the figures, then every flag."""
    columns = int(width * CHARACTERS_PER_INCH)
    lines = [(line, "#333333") for line in textwrap.wrap(describe_registration(qc), columns)]
    for flag in qc["flags"] or ["no flags"]:
        colour = FLAG_COLOUR if qc["flags"] else "#333333"
        lines += [(line, colour) for line in textwrap.wrap(flag, columns)]
    return lines


def _write_head(drawing: Figure, title: str, lines: Sequence[tuple[str, str]]) -> None:
    height = drawing.get_size_inches()[1]
    drawing.text(0.5, 1 - 0.09 / height, title, ha="center", va="top", fontsize=11.5, weight="bold")
    for number, (line, colour) in enumerate(lines):
        y = 1 - (0.32 + number * FLAG_LINE_IN) / height
        drawing.text(0.5, y, line, ha="center", va="top", fontsize=7.6, color=colour)


def _draw_group(drawing: Figure, group: Group, planes: Sequence[Plane], left: float, top: float, scale: float) -> None:
    width, height = drawing.get_size_inches()
    middle = left + COLUMN_IN + GAP_IN / 2
    drawing.text(
        middle / width, (top + 0.24) / height, group.heading, ha="center", va="bottom", fontsize=8.6, weight="bold"
    )
    for column, when in enumerate(("before", "after")):
        start, y = left + column * (COLUMN_IN + GAP_IN), top
        for number, plane in enumerate(planes):
            wide, tall = (side * scale for side in plane.size_mm)
            y -= tall + GAP_IN
            box = (start + (COLUMN_IN - wide) / 2, y, wide, tall)
            axes = drawing.add_axes([value / size for value, size in zip(box, (width, height) * 2, strict=True)])
            _show(axes, group, column, number, plane, when if number == 0 else "")


def _show(axes: Axes, group: Group, column: int, number: int, plane: Plane, title: str) -> None:
    show_plane(axes, group.images[column][number], plane, title)
    if group.outlines is not None:
        contour(axes, group.outlines[column][number], plane, group.colour, 0.9)


def _row_names(drawing: Figure, planes: Sequence[Plane], top: float, scale: float) -> None:
    width, height = drawing.get_size_inches()
    for plane in planes:
        tall = plane.size_mm[1] * scale
        middle = (top - GAP_IN - tall / 2) / height
        drawing.text(
            0.17 / width, middle, plane.name, rotation=90, ha="center", va="center", fontsize=8.6, weight="bold"
        )
        top -= tall + GAP_IN


def _foot(drawing: Figure, groups: Sequence[Group], colours: Colormap) -> None:
    """Colour bar of the SPECT and what the lines are."""
    width, height = drawing.get_size_inches()
    axes = drawing.add_axes((0.4 / width, 0.36 / height, 3.0 / width, 0.1 / height))
    bar = drawing.colorbar(ScalarMappable(Normalize(0, 1), colours), cax=axes, orientation="horizontal")
    bar.set_label(f"SPECT, {SCALE_LABEL}", fontsize=7)
    bar.ax.tick_params(labelsize=6.5, pad=1.5, length=2)
    names = {LUNG_COLOUR: "lungs of the CT", ACTIVITY_COLOUR: f"{OUTLINE:.0%} of the SPECT's scale"}
    used = [colour for colour in names if any(group.outlines and group.colour == colour for group in groups)]
    lines = [Line2D([], [], color=colour, linewidth=1.6, label=names[colour]) for colour in used]
    box = drawing.legend(
        handles=lines, loc="lower right", bbox_to_anchor=(1 - 0.1 / width, 0.1 / height), fontsize=7, ncols=2,
        facecolor="#444444", labelcolor="white", frameon=True, borderaxespad=0,
    )  # fmt: skip
    box.get_frame().set_linewidth(0)

"""The figure of a case's normalised SPECT: before beside after the handling of hot spots, and the histograms.

Planes run through the hottest of the hot spots, or through the lungs' centre where there is none. Geometry and
convention are those of `ct2vq.panels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from ct2vq.config import TARGETS
from ct2vq.crop.spect import carry_spect
from ct2vq.figures import TARGET_NAMES, colour_map, new_figure
from ct2vq.files import read_json
from ct2vq.panels import AIR_HU, Plane, in_lungs, planes_through, windowed
from ct2vq.sheet import colour_bar, new_sheet, outline, show
from ct2vq.volume import from_array, make_grid, read_volume, to_array

PLANE_NAMES = ("coronal", "axial")
SPOT_COLOUR = "#56e0ff"
#: the histogram ends here, in references; what lies higher is counted in its last bin
HISTOGRAM_END = 2.5
#: powers of ten that the histogram leaves free above its highest bin, and below one voxel
DECADES_ROOM, DECADES_BELOW = 0.15, 0.15
WIDTH_IN, TITLE_IN, HEADING_IN, LEFT_IN, GAP_IN, FOOT_IN = 10.4, 0.34, 0.44, 0.34, 0.05, 0.7
#: of the four images; the histogram takes the rest
IMAGES_IN = 7.0


@dataclass(frozen=True)
class Normalised:
    """A target before and after.

    Attributes:
        target: `perfusion` or `ventilation`.
        before: the carried SPECT divided by the reference, hot spots included, not limited; 0 outside the lungs.
        after: what the networks learn from.
        changed: 1 where hot-spot handling left another value.
        facts: the record of `crop_spect`.
    """

    target: str
    before: sitk.Image
    after: sitk.Image
    changed: sitk.Image
    facts: Mapping[str, Any]


def draw_normalisation(
    files: Mapping[str, str | Path], output: str | Path, *, case: str, figure: Mapping[str, Any]
) -> None:
    """Draw all targets of a case, a row for each.

    Args:
        files: `ct` and `lungs` on the network's grid, and for each target `<target>` (normalised), `<target>_facts`
            (its record), `<target>_spect` (as converted) and `<target>_field` (the registration's displacement).
        output: `*.png`.
        case: its identifier, in the title.
        figure: the `report.figure` block of the configuration.
    """
    ct, lungs = read_volume(files["ct"]), read_volume(files["lungs"])
    rows = [_read(files, target, lungs) for target in TARGETS if target in files]
    colours = colour_map(figure["colour_map"])
    planes = [_planes(lungs, row.facts) for row in rows]
    widths = [plane.size_mm[0] for plane in planes[0]]
    scale = (IMAGES_IN - 3 * GAP_IN) / (2 * sum(widths))
    height = max(plane.size_mm[1] for plane in planes[0]) * scale + HEADING_IN
    with new_figure(output, (WIDTH_IN, TITLE_IN + len(rows) * height + FOOT_IN), figure) as drawing:
        sheet = new_sheet(drawing)
        sheet.text(WIDTH_IN / 2, 0.1, f"{case} · normalised SPECT", ha="center", va="top", weight="bold")
        for number, (row, cuts) in enumerate(zip(rows, planes, strict=True)):
            top = TITLE_IN + number * height
            _draw_images(sheet, row, cuts, ct, lungs, colours, figure["lung_window"], top, scale)
            _draw_histogram(drawing, row, lungs, top, height)
        bar = (LEFT_IN + 1.6, drawing.get_size_inches()[1] - 0.5, 3.8, 0.11)
        words = "relative to the reference in the lungs; line: what hot-spot handling changed"
        colour_bar(sheet, colours, bar, {share: f"{share:.1f}" for share in np.linspace(0, 1, 6)}, words)


def _read(files: Mapping[str, str | Path], target: str, lungs: sitk.Image) -> Normalised:
    facts = read_json(files[f"{target}_facts"])
    spect = sitk.Cast(read_volume(files[f"{target}_spect"]), sitk.sitkFloat32)
    carried = carry_spect(spect, lungs, read_volume(files[f"{target}_field"]), facts["modulated"])
    after = read_volume(files[target])
    before = np.where(to_array(lungs) > 0, carried / facts["reference"], 0).astype(np.float32)
    # what was not handled differs by rounding only
    changed = (np.abs(np.clip(before, 0, 1) - to_array(after)) > 1e-3).astype(np.uint8)
    return Normalised(target, from_array(before, lungs), after, from_array(changed, lungs), facts)


def _planes(lungs: sitk.Image, facts: Mapping[str, Any]) -> list[Plane]:
    """Planes of one size for all targets, through the hottest hot spot if there is one."""
    planes = planes_through(lungs, PLANE_NAMES)
    spots = facts["hot_spots"]["spots"]
    if not spots:
        return planes
    hottest = max(spots, key=lambda spot: spot["peak"])["position_mm"]
    moved = []
    for plane, axis in zip(planes, (1, 2), strict=True):
        origin = list(plane.grid.GetOrigin())
        origin[axis] = hottest[axis]
        moved.append(Plane(plane.name, make_grid(plane.grid.GetSize(), plane.grid.GetSpacing(), origin)))
    return moved


def _draw_images(
    sheet: Axes,
    row: Normalised,
    planes: Sequence[Plane],
    ct: sitk.Image,
    lungs: sitk.Image,
    colours: Colormap,
    window: Sequence[float],
    top: float,
    scale: float,
) -> None:
    left = LEFT_IN
    for plane in planes:
        grey, inside = windowed(plane.cut(ct, outside=AIR_HU), window), plane.turned(plane.share(lungs))
        changed = plane.cut(row.changed)
        width, tall = (length * scale for length in plane.size_mm)
        for title, image in (("before", row.before), ("after", row.after)):
            box = (left, top + HEADING_IN, width, tall)
            rgb = in_lungs(grey, plane.cut(image), inside, colours)
            show(sheet, rgb, box, f"{plane.name}, {title}", plane.letters)
            outline(sheet, inside, box)
            outline(sheet, changed, box, SPOT_COLOUR, 0.9)
            left += width + GAP_IN
    middle = top + HEADING_IN + planes[0].size_mm[1] * scale / 2
    name = {"rotation": 90, "ha": "center", "va": "center", "weight": "bold", "fontsize": 9}
    sheet.text(0.12, middle, TARGET_NAMES[row.target], **name)


def _draw_histogram(drawing: Figure, row: Normalised, lungs: sitk.Image, top: float, height: float) -> None:
    left = LEFT_IN + IMAGES_IN + 0.62
    axes = _axes(drawing, left, top + HEADING_IN + 0.42, WIDTH_IN - left - 0.15, height - HEADING_IN - 0.86)
    inside = to_array(lungs) > 0
    edges = np.linspace(0, HISTOGRAM_END, 51)
    highest = 1
    for image, colour, label in ((row.before, "#D55E00", "before"), (row.after, "#0072B2", "after")):
        counts, _ = np.histogram(np.clip(to_array(image)[inside], 0, HISTOGRAM_END), edges)
        highest = max(highest, counts.max())
        # decades on plain axes: the labels of logarithmic ones cost as much as all the rest
        decades = np.log10(np.maximum(counts, 10 ** (-2 * DECADES_BELOW)))
        axes.stairs(decades, edges, color=colour, label=label, linewidth=1.2, baseline=-2 * DECADES_BELOW)
    _name_histogram(axes, highest)
    axes.set_title(describe(row.facts), fontsize=7, loc="left", linespacing=1.25, pad=4, x=-0.12)


def _name_histogram(axes: Axes, highest: int) -> None:
    """Limits, ticks and labels; `highest` is the largest number of voxels."""
    top = np.log10(highest) + DECADES_ROOM
    decades = range(int(top) + 1)
    axes.set(xlim=(-0.08, HISTOGRAM_END + 0.08), ylim=(-DECADES_BELOW, top))
    axes.set_yticks(decades, [f"{10**decade}" for decade in decades])
    axes.grid(True)
    axes.set_xticks(np.arange(0, HISTOGRAM_END + 0.1, 0.5))
    axes.axvline(1, color="#555555", linewidth=0.8, linestyle="--")
    axes.set_xlabel("relative to the reference", fontsize=7.5)
    axes.set_ylabel("lung voxels", fontsize=7.5)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, loc="upper right")


def describe(facts: Mapping[str, Any]) -> str:
    """What was done, in three lines."""
    spots = facts["hot_spots"]
    handled = {"none": "left in", "cap": "capped", "inpaint": "filled"}[spots["method"]]
    if spots["method"] == "none":
        first = "hot spots left in"
    elif not spots["number"]:
        first = "no hot spots found"
    else:
        many = "s" if spots["number"] > 1 else ""
        volume, share = f"{spots['volume_ml']:.1f} mL", f"{spots['count_fraction']:.1%}"
        first = f"{spots['number']} hot spot{many}, {volume} {handled}, {share} of counts"
    change = facts["reference"] / facts["reference_before"] - 1
    return (
        f"{first}\nreference {facts['reference']:.4g} ({change:+.1%})\n"
        f"clipped {facts['clipped_fraction_before']:.2%} before, {facts['clipped_fraction']:.2%} after"
    )


def _axes(drawing: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes by their place in inches from the figure's top left corner."""
    whole_width, whole_height = drawing.get_size_inches()
    return drawing.add_axes(
        (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    )

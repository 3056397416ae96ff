"""The figure of one case: its images side by side.

Every plane is resampled for display onto a grid parallel to the patient's axes (LPS), so the figures are right for any
direction matrix. Radiological convention: the patient's right is on the left of axial and coronal images, the front is
up on axial and left on sagittal images, the head is up on coronal and sagittal images.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from ct2vq.config import TARGETS
from ct2vq.errors import Ct2vqError
from ct2vq.figures import TARGET_NAMES, colour_map, hide_axes, new_figure
from ct2vq.metrics.defects import read_rule, relative_to_normal
from ct2vq.volume import corners, from_array, make_grid, read_volume, require_same_grid, resample, to_array

#: finer than the pixels of a figure (350 mm on some 250 pixels)
PIXEL_MM = 1.0
MARGIN_MM = 22.0
#: the coronal plane lies behind the lungs' centre by this share of their depth: hila and heart leave more lung there
POSTERIOR_SHARE = 0.08
#: SPECT is shown relative to this percentile in the lungs, as it is normalised for the networks
PERCENTILE = 99.0
SCALE_LABEL = "relative to the 99th percentile in the lungs"
#: readable with every common colour blindness: blue below, red above (ColorBrewer, Harrower & Brewer 2003)
DIFFERENCE_COLOURS = "RdBu_r"
#: half of the scale of function; in V - Q half of the mean of normal lung, below which a voxel is low
LARGEST_DIFFERENCE = 0.5
DIFFERENCES = Normalize(-LARGEST_DIFFERENCE, LARGEST_DIFFERENCE)
DIFFERENCE_LABEL = "difference: synthesised − SPECT; V − Q relative to normal lung"
AIR_HU = -1024.0
#: axes x, y, z of the patient (LPS) that a plane shows as columns and rows, and the letters at its left and right
PLANES = {
    "axial": (0, 1, "R", "L"),
    "coronal": (0, 2, "R", "L"),
    "sagittal": (1, 2, "A", "P"),
}
HALO = [patheffects.withStroke(linewidth=1.6, foreground="black")]
TITLE_IN = 0.38
HEADER_IN = 0.27
GAP_IN = 0.05


@dataclass(frozen=True)
class Plane:
    """One plane through the patient.

    Attributes:
        name: `axial`, `coronal` or `sagittal`.
        grid: volume of one voxel's thickness, parallel to the patient's axes.
    """

    name: str
    grid: sitk.Image

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the plane as it is shown."""
        column, row, *_ = PLANES[self.name]
        size, spacing = self.grid.GetSize(), self.grid.GetSpacing()
        return size[column] * spacing[column], size[row] * spacing[row]

    def cut(self, image: sitk.Image, transform: sitk.Transform | None = None, outside: float = 0.0) -> np.ndarray:
        """The image in this plane, rows from top to bottom as it is shown.

        Args:
            image: volume on any grid.
            transform: maps points of the plane to points of `image` (mm, LPS); identity if None.
            outside: value outside `image`.
        """
        # float64, so that labels and counts of any type are interpolated
        near = image if transform is not None else _slab(image, self.grid)
        cut = to_array(resample(sitk.Cast(near, sitk.sitkFloat64), self.grid, transform, outside=outside))
        shown = cut.squeeze(axis=2 - ({0, 1, 2} - set(PLANES[self.name][:2])).pop())
        return shown if self.name == "axial" else shown[::-1]


def _slab(image: sitk.Image, plane: sitk.Image) -> sitk.Image:
    """The part of a volume that a plane is interpolated from; the volume itself where they do not meet."""
    index = np.array([image.TransformPhysicalPointToContinuousIndex(corner) for corner in corners(plane).tolist()])
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 2, image.GetSize())
    if (low >= high).any():
        return image
    return image[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]


def planes_through(lungs: sitk.Image, names: Sequence[str]) -> list[Plane]:
    """Planes through the lungs' centre of volume, with a margin round the lungs.

    The coronal plane lies a little behind the centre, the sagittal one in the right lung (label 1) if there is one.

    Args:
        lungs: labels, 1 right and 2 left, any direction matrix.
        names: of `PLANES`.

    Raises:
        Ct2vqError: no lung voxel.
    """
    low, high, centre, right = _lung_box(lungs)
    centre[1] += POSTERIOR_SHARE * (high[1] - low[1])
    through = {"axial": (2, centre[2]), "coronal": (1, centre[1]), "sagittal": (0, right[0])}
    planes = []
    for name in names:
        axis, position = through[name]
        origin, size = low - MARGIN_MM, np.ceil((high - low + 2 * MARGIN_MM) / PIXEL_MM)
        origin[axis], size[axis] = position, 1
        planes.append(Plane(name, make_grid(size, [PIXEL_MM] * 3, origin)))
    return planes


def _lung_box(lungs: sitk.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Corners of the box round the lungs, their centre, and the centre of the right lung (mm, LPS)."""
    array = to_array(lungs)
    index = np.argwhere(array > 0)[:, ::-1]
    if not len(index):
        raise Ct2vqError("the lung mask is empty")
    matrix = np.reshape(lungs.GetDirection(), (3, 3)) * np.asarray(lungs.GetSpacing())
    points = index @ matrix.T + np.asarray(lungs.GetOrigin())
    right = points[array[array > 0] == 1]
    return points.min(axis=0), points.max(axis=0), points.mean(axis=0), (right if len(right) else points).mean(axis=0)


@dataclass(frozen=True)
class Shown:
    """One image of a row.

    Attributes:
        title: stands above it.
        volume: values on the CT's grid.
        kind: `function` (0..1) or `difference` (about 0, shown up to ± `LARGEST_DIFFERENCE`).
        synthetic: whether a model made it, which is burnt in.
    """

    title: str
    volume: sitk.Image
    kind: str
    synthetic: bool


@dataclass(frozen=True)
class Row:
    """A row of images of one plane: the CT first, or nothing; a place may be empty."""

    label: str
    plane: Plane
    with_ct: bool
    images: Sequence[Shown | None]


def draw_case(
    images: Mapping[str, str | Path],
    ct: str | Path,
    lungs: str | Path,
    output: str | Path,
    *,
    case: str,
    diagnosis: str,
    labels: Mapping[str, str],
    networks: Sequence[str],
    arms: Mapping[str, Mapping[str, str]],
    defects: Mapping[str, Any],
    simulated: bool,
    figure: Mapping[str, Any],
) -> None:
    """CT, SPECT and the networks' images of a case, coronal and axial, with differences, and V - Q.

    Args:
        images: paths of volumes on the CT's grid, named `spect_<target>` (counts) and `<model>_<target>` (0..1).
        ct: the CT in HU.
        lungs: labels on the CT's grid.
        output: `*.png`.
        case: its identifier, in the title.
        diagnosis: in the title.
        labels: name of each model in titles.
        networks: models to show, in this order; the others are left out.
        arms: the models of each target that make V - Q together (`ct2vq.config.vq_arms`).
        defects: config `evaluate.defects`, on which normal lung V - Q is normalised.
        simulated: whether the patients are simulated.
        figure: the `report.figure` block of the configuration.

    Raises:
        GeometryError: an image does not lie on the CT's grid.
    """
    ct_image, lung_image = read_volume(ct), read_volume(lungs)
    require_same_grid(lung_image, ct_image, "the lung mask", "the CT")
    planes = planes_through(lung_image, ("coronal", "axial"))
    names = {"spect": "SPECT"} | {name: labels[name] for name in networks}
    volumes = {
        target: {
            name: _function(images[f"{name}_{target}"], ct_image, lung_image, name)
            for name in names
            if f"{name}_{target}" in images
        }
        for target in TARGETS
    }
    rows = [
        row for target in TARGETS if volumes[target] for row in _target_rows(target, planes, volumes[target], names)
    ]
    rows += _vq_rows(
        volumes, planes[0], {"spect": dict.fromkeys(TARGETS, "spect")} | dict(arms), lung_image, names, defects
    )
    columns = 1 + max(len(row.images) for row in rows)
    simulated_patient = simulated and any(name.startswith("spect_") for name in images)
    title = " · ".join(filter(None, [case, diagnosis, "simulated patient" if simulated_patient else ""]))
    heights = [row.plane.size_mm for row in rows]
    colours = {"function": colour_map(figure["colour_map"]), "difference": colour_map(DIFFERENCE_COLOURS)}
    with new_figure(output, _figure_size(heights, columns), figure) as drawing:
        _title(drawing, title)
        axes = _image_axes(drawing, heights, columns)
        for places, row in zip(axes, rows, strict=True):
            _draw_row(places, row, ct_image, lung_image, simulated, figure, colours)
        _colour_bars(drawing, colours)


def _target_rows(
    target: str, planes: Sequence[Plane], volumes: Mapping[str, sitk.Image], names: Mapping[str, str]
) -> list[Row]:
    """The images of a target in each plane, and what the models' images differ from SPECT by in the first."""
    rows = [
        Row(
            TARGET_NAMES[target],
            plane,
            True,
            [Shown(names[name], volume, "function", name != "spect") for name, volume in volumes.items()],
        )
        for plane in planes
    ]
    if "spect" not in volumes or len(volumes) < 2:
        return rows
    differences = [
        None if name == "spect" else Shown(f"{names[name]} − SPECT", volume - volumes["spect"], "difference", True)
        for name, volume in volumes.items()
    ]
    return [*rows, Row(f"{TARGET_NAMES[target]}, difference", planes[0], False, differences)]


def _vq_rows(
    volumes: Mapping[str, Mapping[str, sitk.Image]],
    plane: Plane,
    arms: Mapping[str, Mapping[str, str]],
    lungs: sitk.Image,
    names: Mapping[str, str],
    defects: Mapping[str, Any],
) -> list[Row]:
    """V - Q of SPECT and of every arm that has both; no row where nobody has."""
    inside = to_array(lungs) > 0
    shown = []
    for arm, parts in arms.items():
        pair = {target: volumes[target].get(model) for target, model in parts.items()}
        if len(pair) < len(TARGETS) or None in pair.values():
            continue
        relative = relative_to_normal({t: to_array(v) for t, v in pair.items()}, inside, read_rule(defects))
        if relative.reason:
            continue
        difference = from_array(np.nan_to_num(relative.difference), lungs)
        shown.append(Shown(f"{names.get(arm, arm.upper())}, V − Q", difference, "difference", arm != "spect"))
    return [Row("V − Q", plane, False, shown)] if shown else []


def _function(path: str | Path, ct: sitk.Image, lungs: sitk.Image, name: str) -> sitk.Image:
    """An image of function on the display scale: SPECT relative to its percentile in the lungs, others as they are."""
    image = sitk.Cast(read_volume(path), sitk.sitkFloat64)
    require_same_grid(image, ct, f"the image {Path(path).name} of {name}", "the CT")
    if name != "spect":
        return _on_grid(image, ct)
    scale = float(np.percentile(to_array(image)[to_array(lungs) > 0], PERCENTILE))
    return _on_grid(image / (scale if scale > 0 else 1.0), ct)


def _on_grid(image: sitk.Image, ct: sitk.Image) -> sitk.Image:
    """The image with exactly the CT's header: headers that are the same to a micrometre cannot be subtracted."""
    image.CopyInformation(ct)
    return image


def _draw_row(
    places: Sequence[Axes],
    row: Row,
    ct: sitk.Image,
    lungs: sitk.Image,
    simulated: bool,
    figure: Mapping[str, Any],
    colours: Mapping[str, Colormap],
) -> None:
    grey = windowed(row.plane.cut(ct, outside=AIR_HU), figure["lung_window"])
    inside = row.plane.cut(sitk.Cast(lungs > 0, sitk.sitkFloat64))
    beside = {"rotation": 90, "ha": "right", "va": "center"}
    if row.with_ct:
        show_plane(places[0], grey, row.plane, f"CT, {row.plane.name}")
    else:
        hide_axes(places[0])
    places[0].text(-0.04, 0.5, row.label, weight="bold", transform=places[0].transAxes, **beside)
    for axes, image in itertools.zip_longest(places[1:], row.images):
        if image is None:
            hide_axes(axes)
            continue
        values = row.plane.cut(image.volume)
        if image.kind == "difference":
            values = 0.5 + values / (2 * LARGEST_DIFFERENCE)
        show_plane(axes, in_lungs(grey, values, inside, colours[image.kind]), row.plane, image.title)
        contour(axes, inside, row.plane, "white" if image.kind == "function" else "black")
        if image.synthetic:
            _burn_in(axes, simulated)


def windowed(hu: np.ndarray, window: Sequence[float]) -> np.ndarray:
    """HU to RGB grey values 0..1 in a display window of (level, width)."""
    level, width = window
    grey = np.clip((hu - level) / width + 0.5, 0, 1)
    return np.repeat(grey[..., None], 3, axis=2)


def in_lungs(grey: np.ndarray, function: np.ndarray, inside: np.ndarray, colours: Colormap) -> np.ndarray:
    """CT outside the lungs and function in full colour within: blended colours would not fit the colour bar.

    Args:
        grey: RGB `(row, column, 3)`.
        function: values 0..1 `(row, column)`.
        inside: share of lung in each pixel.
        colours: the colour map.
    """
    return np.where((inside >= 0.5)[..., None], colours(np.clip(function, 0, 1))[..., :3], grey)


def show_plane(axes: Axes, rgb: np.ndarray, plane: Plane, title: str) -> None:
    """Show an RGB image of a plane in true proportions with the letters of its sides."""
    width, height = plane.size_mm
    axes.imshow(rgb, extent=(0, width, height, 0), interpolation="antialiased", aspect="equal")
    axes.set_title(title, fontsize=8.5, pad=3, y=1.0)  # a place of its own costs no search for one
    hide_axes(axes)
    left, right = PLANES[plane.name][2:]
    for x, letter, side in ((0.02, left, "left"), (0.98, right, "right")):
        axes.text(
            x, 0.97, letter, ha=side, va="top", transform=axes.transAxes, color="white", fontsize=8, path_effects=HALO
        )


def contour(axes: Axes, inside: np.ndarray, plane: Plane, colour: str = "white", width: float = 0.6) -> None:
    """Draw where the share of a structure `(row, column)` passes one half."""
    if not (inside.min() < 0.5 < inside.max()):
        return
    size = plane.size_mm
    x = (np.arange(inside.shape[1]) + 0.5) * size[0] / inside.shape[1]
    y = (np.arange(inside.shape[0]) + 0.5) * size[1] / inside.shape[0]
    axes.contour(x, y, inside, levels=[0.5], colors=[colour], linewidths=width)


def _burn_in(axes: Axes, simulated: bool) -> None:
    """Say on the image itself what it is, so that a copied image still says it."""
    text = "SYNTHETIC, RESEARCH ONLY" + ("\ntrained on simulated patients" if simulated else "")
    axes.text(
        0.5,
        0.015,
        text,
        ha="center",
        va="bottom",
        transform=axes.transAxes,
        color="white",
        fontsize=5.8,
        linespacing=1.15,
        bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.2},
    )


def _figure_size(sizes: Sequence[tuple[float, float]], columns: int) -> tuple[float, float]:
    """Width and height in inches of a figure of images, a row for each size (width, height in mm), below the title."""
    column = _column_inches(columns)
    scale = column / max(width for width, _ in sizes)
    height = TITLE_IN + sum(HEADER_IN + tall * scale for _, tall in sizes) + 0.62
    return 0.42 + columns * (column + GAP_IN), height


def _column_inches(columns: int) -> float:
    return min(2.6, 10.6 / columns)


def _image_axes(drawing: Figure, sizes: Sequence[tuple[float, float]], columns: int) -> list[list[Axes]]:
    """Axes for rows of images, all at one scale."""
    width, height = drawing.get_size_inches()
    column = _column_inches(columns)
    scale = column / max(size[0] for size in sizes)
    rows, top = [], height - TITLE_IN
    for wide, tall in sizes:
        top -= HEADER_IN + tall * scale
        offset = 0.37 + (column - wide * scale) / 2
        boxes = [(offset + number * (column + GAP_IN), top, wide * scale, tall * scale) for number in range(columns)]
        rows.append([drawing.add_axes((x / width, y / height, w / width, h / height)) for x, y, w, h in boxes])
    return rows


def _title(drawing: Figure, title: str) -> None:
    height = drawing.get_size_inches()[1]
    drawing.text(0.5, 1 - 0.12 / height, title, ha="center", va="top", fontsize=11.5, weight="bold")


def _colour_bars(drawing: Figure, colours: Mapping[str, Colormap]) -> None:
    width, height = drawing.get_size_inches()
    scales = {"function": (Normalize(0, 1), SCALE_LABEL), "difference": (DIFFERENCES, DIFFERENCE_LABEL)}
    bar_width = min(3.8, 0.42 * width)
    for (kind, (scale, label)), centre in zip(scales.items(), (0.27, 0.75), strict=True):
        place = ((centre * width - bar_width / 2) / width, 0.42 / height, bar_width / width, 0.11 / height)
        axes = drawing.add_axes(place)
        bar = drawing.colorbar(ScalarMappable(scale, colours[kind]), cax=axes, orientation="horizontal")
        bar.set_label(label, fontsize=7.5)
        bar.ax.tick_params(labelsize=7.5)

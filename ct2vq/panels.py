"""The figure of one case: its images side by side.

Every plane is resampled for display onto a grid parallel to the patient's axes (LPS), so the figures are right for any
direction matrix. Radiological convention: the patient's right is on the left of axial and coronal images, the front is
up on axial and left on sagittal images, the head is up on coronal and sagittal images. Images of function lie on the
network's grid and are carried to the planes alone as `ct2vq.crop.restore` carries them to the CT's grid.
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

from ct2vq.config import TARGETS
from ct2vq.crop.restore import WayBack
from ct2vq.errors import Ct2vqError
from ct2vq.figures import TARGET_NAMES, colour_map, new_figure
from ct2vq.metrics.defects import read_rule, relative_to_normal
from ct2vq.sheet import Box, colour_bar, new_sheet, outline, show
from ct2vq.volume import corners, from_array, make_grid, read_volume, require_same_grid, resample, to_array

#: finer than the pixels of a figure (350 mm on some 250 pixels)
PIXEL_MM = 1.0
MARGIN_MM = 22.0
#: voxels of the network's grid on both sides of a plane that have a say in it: the spline's and the continuation's
SLAB_VOXELS = 6
#: the coronal plane lies behind the lungs' centre by this share of their depth: hila and heart leave more lung there
POSTERIOR_SHARE = 0.08
#: readable with every common colour blindness: blue below, red above (ColorBrewer, Harrower & Brewer 2003)
DIFFERENCE_COLOURS = "RdBu_r"
#: half of the scale of function; in V - Q half of the mean of normal lung, below which a voxel is low
LARGEST_DIFFERENCE = 0.5
FUNCTION_LABEL = "function, relative to the reference of the normalisation"
DIFFERENCE_LABEL = "difference: synthesised − SPECT; V − Q relative to normal lung"
AIR_HU = -1024.0
#: axes x, y, z of the patient (LPS) that a plane shows as columns and rows, and the letters at its left and right
PLANES = {
    "axial": (0, 1, "R", "L"),
    "coronal": (0, 2, "R", "L"),
    "sagittal": (1, 2, "A", "P"),
}
TITLE_IN, HEADER_IN, GAP_IN, LEFT_IN, FOOT_IN = 0.38, 0.27, 0.05, 0.37, 0.74
#: of the words below the colour bars
CHARACTERS_PER_INCH = 17


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

    @property
    def letters(self) -> tuple[str, str]:
        """The patient's sides at its left and right."""
        return PLANES[self.name][2:]

    def cut(self, image: sitk.Image, transform: sitk.Transform | None = None, outside: float = 0.0) -> np.ndarray:
        """The image in this plane, rows from top to bottom as it is shown.

        Args:
            image: volume on any grid.
            transform: maps points of the plane to points of `image` (mm, LPS); identity if None.
            outside: value outside `image`.
        """
        # float64, so that labels and counts of any type are interpolated
        near = image if transform is not None else _slab(image, self.grid)
        return self.turned(to_array(resample(sitk.Cast(near, sitk.sitkFloat64), self.grid, transform, outside=outside)))

    def share(self, labels: sitk.Image) -> np.ndarray:
        """How much of each voxel of the plane's grid any label fills, interpolated, `(z, y, x)`."""
        near = sitk.Cast(_slab(labels, self.grid) > 0, sitk.sitkFloat64)
        return to_array(resample(near, self.grid))

    def turned(self, values: np.ndarray) -> np.ndarray:
        """Values `(z, y, x)` on the plane's grid as rows from top to bottom."""
        shown = values.squeeze(axis=2 - ({0, 1, 2} - set(PLANES[self.name][:2])).pop())
        return shown if self.name == "axial" else shown[::-1]


def _slab(image: sitk.Image, plane: sitk.Image, margin: int = 1) -> sitk.Image:
    """The part of a volume that a plane is interpolated from; the volume itself where they do not meet."""
    return image[_slab_index(image, plane, margin)]


def _slab_index(image: sitk.Image, plane: sitk.Image, margin: int) -> tuple[slice, slice, slice]:
    """Where in a volume, `(x, y, z)`, a plane lies, and so many voxels to both sides."""
    index = np.array([image.TransformPhysicalPointToContinuousIndex(corner) for corner in corners(plane).tolist()])
    low = np.maximum(np.floor(index.min(axis=0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + margin + 1, image.GetSize())
    if (low >= high).any():
        return (slice(None),) * 3
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def planes_through(lungs: sitk.Image, names: Sequence[str]) -> list[Plane]:
    """Planes through the lungs' centre of volume, with a margin round the lungs.

    The coronal plane lies a little behind the centre, the sagittal one in the right lung (label 1) if there is one.

    Args:
        lungs: labels, 1 right and 2 left, any direction matrix; on the network's grid this is quickest.
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
class View:
    """A plane with what every image in it has.

    Attributes:
        plane: the plane.
        grey: the CT as RGB.
        inside: share of lung in each pixel.
        part: the part of the network's grid `(z, y, x)` round the plane.
        way: carries that part to the plane; None where it has no lung.
    """

    plane: Plane
    grey: np.ndarray
    inside: np.ndarray
    part: tuple[slice, slice, slice]
    way: WayBack | None

    @classmethod
    def of(cls, plane: Plane, ct: sitk.Image, ct_lungs: sitk.Image, lungs: sitk.Image, window: Sequence[float]) -> View:
        """The view of a CT and its lungs in a plane; `lungs` are those of the network's grid."""
        share = plane.share(ct_lungs)
        labels = from_array((share >= 0.5).astype(np.uint8), plane.grid)
        part = _slab_index(lungs, plane.grid, SLAB_VOXELS)
        near = lungs[part]
        grey = windowed(plane.cut(ct, outside=AIR_HU), window)
        way = WayBack(near, labels) if to_array(near).any() else None
        return cls(plane, grey, plane.turned(share), part[::-1], way)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """An image `(z, y, x)` on the network's grid in this plane, rows from top to bottom; 0 outside the lungs."""
        if self.way is None:
            return np.zeros(self.inside.shape)
        return self.plane.turned(to_array(self.way(image[self.part])))


@dataclass(frozen=True)
class Shown:
    """One image of a row.

    Attributes:
        title: stands above it.
        image: values `(z, y, x)` on the network's grid.
        kind: `function` (0..1) or `difference` (about 0, shown up to ± `LARGEST_DIFFERENCE`).
        synthetic: whether a model made it, which is burnt in.
    """

    title: str
    image: np.ndarray
    kind: str
    synthetic: bool


@dataclass(frozen=True)
class Row:
    """A row of images of one view: the CT first, or nothing; a place may be empty."""

    label: str
    view: View
    with_ct: bool
    images: Sequence[Shown | None]


@dataclass(frozen=True)
class CaseStyle:
    """How the images of a case style.

    Attributes:
        figure: the `report.figure` block of the configuration.
        colours: colour map of each kind of image.
        simulated: whether the patients are simulated, which is burnt in.
    """

    figure: Mapping[str, Any]
    colours: Mapping[str, Colormap]
    simulated: bool


def draw_case(
    images: Mapping[str, str | Path],
    volumes: Mapping[str, str | Path],
    output: str | Path,
    **known: Any,
) -> None:
    """CT, SPECT and the networks' images of a case, from files.

    Args:
        images: paths of volumes on the network's grid, 0..1, named `spect_<target>` and `<model>_<target>`.
        volumes: paths of `ct` (HU), `ct_lungs` (labels on its grid) and `lungs` (labels on the network's grid).
        output: `*.png`.
        known: the other arguments of `draw_images`.

    Raises:
        GeometryError: an image does not lie on the network's grid, or the lungs not on the CT's.
    """
    ct, ct_lungs, lungs = (read_volume(volumes[name]) for name in ("ct", "ct_lungs", "lungs"))
    require_same_grid(ct_lungs, ct, "the lung mask", "the CT")
    arrays = {}
    for name, path in images.items():
        image = read_volume(path)
        require_same_grid(image, lungs, f"the image {name}", "the lungs")
        arrays[name] = to_array(image)
    draw_images(arrays, ct, ct_lungs, lungs, output, **known)


def draw_images(
    images: Mapping[str, np.ndarray],
    ct: sitk.Image,
    ct_lungs: sitk.Image,
    lungs: sitk.Image,
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
        images: `(z, y, x)` on the network's grid, 0..1, named `spect_<target>` and `<model>_<target>`.
        ct: the CT in HU.
        ct_lungs: labels on the CT's grid.
        lungs: labels on the network's grid.
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
        Ct2vqError: no lung voxel.
    """
    planes = planes_through(lungs, ("coronal", "axial"))
    views = [View.of(plane, ct, ct_lungs, lungs, figure["lung_window"]) for plane in planes]
    names = {"spect": "SPECT"} | {name: labels[name] for name in networks}
    shown = {
        target: {name: images[f"{name}_{target}"] for name in names if f"{name}_{target}" in images}
        for target in TARGETS
    }
    rows = [row for target in TARGETS if shown[target] for row in _target_rows(target, views, shown[target], names)]
    both = {"spect": dict.fromkeys(TARGETS, "spect")} | dict(arms)
    rows += _vq_rows(shown, views[0], both, to_array(lungs) > 0, names, defects)
    columns = 1 + max(len(row.images) for row in rows)
    simulated_patient = simulated and any(name.startswith("spect_") for name in images)
    title = " · ".join(filter(None, [case, diagnosis, "simulated patient" if simulated_patient else ""]))
    colours = {"function": colour_map(figure["colour_map"]), "difference": colour_map(DIFFERENCE_COLOURS)}
    _draw_rows(output, rows, columns, title, CaseStyle(figure, colours, simulated))


def _target_rows(
    target: str, views: Sequence[View], images: Mapping[str, np.ndarray], names: Mapping[str, str]
) -> list[Row]:
    """The images of a target in each view, and what the models' images differ from SPECT by in the first."""
    function = [Shown(names[name], image, "function", name != "spect") for name, image in images.items()]
    rows = [Row(TARGET_NAMES[target], view, True, function) for view in views]
    if "spect" not in images or len(images) < 2:
        return rows
    differences = [
        None if name == "spect" else Shown(f"{names[name]} − SPECT", image - images["spect"], "difference", True)
        for name, image in images.items()
    ]
    return [*rows, Row(f"{TARGET_NAMES[target]}, difference", views[0], False, differences)]


def _vq_rows(
    images: Mapping[str, Mapping[str, np.ndarray]],
    view: View,
    arms: Mapping[str, Mapping[str, str]],
    inside: np.ndarray,
    names: Mapping[str, str],
    defects: Mapping[str, Any],
) -> list[Row]:
    """V - Q of SPECT and of every arm that has both; no row where nobody has."""
    shown = []
    for arm, parts in arms.items():
        pair = {target: images[target][model] for target, model in parts.items() if model in images[target]}
        if len(pair) < len(TARGETS):
            continue
        relative = relative_to_normal(pair, inside, read_rule(defects))
        if relative.reason:
            continue
        difference = np.nan_to_num(relative.difference)
        shown.append(Shown(f"{names.get(arm, arm.upper())}, V − Q", difference, "difference", arm != "spect"))
    return [Row("V − Q", view, False, shown)] if shown else []


def _draw_rows(output: str | Path, rows: Sequence[Row], columns: int, title: str, style: CaseStyle) -> None:
    """All rows at one scale, below each other."""
    column = min(2.6, 10.6 / columns)
    scale = column / max(row.view.plane.size_mm[0] for row in rows)
    tall = [row.view.plane.size_mm[1] * scale for row in rows]
    size = (0.42 + columns * (column + GAP_IN), TITLE_IN + sum(HEADER_IN + height for height in tall) + FOOT_IN)
    with new_figure(output, size, style.figure) as drawing:
        sheet = new_sheet(drawing)
        sheet.text(size[0] / 2, 0.12, title, ha="center", va="top", fontsize=11.5, weight="bold")
        top = TITLE_IN
        for row, height in zip(rows, tall, strict=True):
            top += HEADER_IN
            width = row.view.plane.size_mm[0] * scale
            left = LEFT_IN + (column - width) / 2
            _draw_row(sheet, row, [(left + n * (column + GAP_IN), top, width, height) for n in range(columns)], style)
            top += height
        _colour_bars(sheet, size, rows, style)


def _draw_row(sheet: Axes, row: Row, boxes: Sequence[Box], style: CaseStyle) -> None:
    view, plane = row.view, row.view.plane
    left, top, _, height = boxes[0]
    beside = {"rotation": 90, "ha": "right", "va": "center", "weight": "bold"}
    sheet.text(left - 0.1, top + height / 2, row.label, **beside)
    if row.with_ct:
        show(sheet, view.grey, boxes[0], f"CT, {plane.name}", plane.letters)
    for box, image in zip(boxes[1:], row.images, strict=False):
        if image is None:
            continue
        values = view.cut(image.image)
        if image.kind == "difference":
            values = 0.5 + values / (2 * LARGEST_DIFFERENCE)
        rgb = in_lungs(view.grey, values, view.inside, style.colours[image.kind])
        show(sheet, rgb, box, image.title, plane.letters)
        outline(sheet, view.inside, box, "white" if image.kind == "function" else "black")
        if image.synthetic:
            _burn_in(sheet, box, style.simulated)


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


def _burn_in(sheet: Axes, box: Box, simulated: bool) -> None:
    """Say on the image itself what it is, so that a copied image still says it."""
    left, top, width, height = box
    text = "SYNTHETIC, RESEARCH ONLY" + ("\ntrained on simulated patients" if simulated else "")
    sheet.text(
        left + width / 2,
        top + 0.985 * height,
        text,
        ha="center",
        va="bottom",
        color="white",
        fontsize=5.8,
        linespacing=1.15,
        bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 1.2},
    )


def _colour_bars(sheet: Axes, size: tuple[float, float], rows: Sequence[Row], style: CaseStyle) -> None:
    """A bar for each kind of image that the rows have."""
    width, height = size
    kinds = {image.kind for row in rows for image in row.images if image is not None}
    signed = np.linspace(-LARGEST_DIFFERENCE, LARGEST_DIFFERENCE, 5)
    scales = {
        "function": ({share: f"{share:.1f}" for share in np.linspace(0, 1, 6)}, FUNCTION_LABEL),
        "difference": (
            {0.5 + value / (2 * LARGEST_DIFFERENCE): f"{value:g}".replace("-", "−") for value in signed},
            DIFFERENCE_LABEL,
        ),
    }
    shown = [kind for kind in scales if kind in kinds]
    bar = min(3.8, 0.84 * width / len(shown))
    for number, kind in enumerate(shown):
        ticks, words = scales[kind]
        left = width * (number + 0.5) / len(shown) - bar / 2
        words = textwrap.fill(words, int(CHARACTERS_PER_INCH * 0.95 * width / len(shown)))
        colour_bar(sheet, style.colours[kind], (left, height - FOOT_IN + 0.09, bar, 0.11), ticks, words)

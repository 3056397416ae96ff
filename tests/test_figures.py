"""Panels show the right side on the right place, and figures are the same bytes twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pydicom.data
import pytest
import SimpleITK as sitk
from factories import CROP
from PIL import Image

from ct2vq import panels
from ct2vq.config import complete_config
from ct2vq.crop.grid import network_grid
from ct2vq.crop.restore import WayBack
from ct2vq.errors import ConfigError, Ct2vqError, GeometryError
from ct2vq.figures import Look, colour_map, draw_missing, model_colours, new_figure, study_figure
from ct2vq.volume import from_array, make_grid, read_volume, to_array, write_volume

FIGURE = {"dpi": 60, "lung_window": [-600, 1500], "colour_map": "nuclear"}
LABELS = {"ddran": "DDRAN", "ran_perfusion": "RAN perfusion", "mean_map": "mean map"}
NETWORKS = ["ddran", "ran_perfusion"]
DEFECTS = complete_config({"study": "x"})["evaluate"]["defects"]
IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)
#: what scanners and tools write: LPS, RAS, slices from head to feet, coronal stacks, a tilted patient
DIRECTIONS = {
    "lps": IDENTITY,
    "ras": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "feet_last": (1, 0, 0, 0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, 1, 0, -1, 0),
    "tilted": tuple(np.round(np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]).ravel(), 6)),
}


def grid_with(direction: tuple[float, ...], size: int = 60, spacing: float = 4.0) -> sitk.Image:
    """A cube centred on the patient's origin."""
    centre = (size - 1) / 2 * spacing
    origin = -np.reshape(direction, (3, 3)) @ np.full(3, centre)
    return make_grid([size] * 3, [spacing] * 3, origin, direction)


def positions(grid: sitk.Image) -> np.ndarray:
    """Patient position (mm, LPS) of every voxel, `(z, y, x, 3)`."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.GetSize()), indexing="ij"), axis=-1)
    matrix = np.reshape(grid.GetDirection(), (3, 3)) * np.asarray(grid.GetSpacing())
    return (index @ matrix.T + np.asarray(grid.GetOrigin())).transpose(2, 1, 0, 3)


def ball(points: np.ndarray, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return np.linalg.norm(points - np.asarray(centre), axis=-1) <= radius


def phantom(direction: tuple[float, ...] = IDENTITY) -> dict[str, sitk.Image]:
    """Two balls for lungs, the right one larger; bone spots to the front and to the head of the centre."""
    grid = grid_with(direction)
    points = positions(grid)
    right, left = ball(points, (-45, 0, 0), 38), ball(points, (45, 0, 0), 30)
    hu = np.where(ball(points, (0, 0, 0), 110), 40.0, -1000.0)
    hu[right | left] = -800
    hu[ball(points, (0, -45, 0), 10)] = 1000
    hu[ball(points, (0, 5, 48), 10)] = 1000
    labels = np.where(right, 1, np.where(left, 2, 0)).astype(np.uint8)
    counts = np.where(right, 900.0, np.where(left, 300.0, 20.0))
    return {
        "ct": from_array(hu.astype(np.float32), grid),
        "lungs": from_array(labels, grid),
        "counts": from_array(counts.astype(np.float32), grid),
        "made": from_array((counts / 900 * (labels > 0)).astype(np.float32), grid),
    }


@pytest.mark.parametrize("name", DIRECTIONS)
def test_planes_are_radiological_for_any_direction(name: str) -> None:
    images = phantom(DIRECTIONS[name])
    axial, coronal, sagittal = panels.planes_through(images["lungs"], ("axial", "coronal", "sagittal"))
    for plane in (axial, coronal):
        lungs = np.rint(plane.cut(images["lungs"]))
        columns = np.indices(lungs.shape)[1]
        assert columns[lungs == 1].mean() < columns[lungs == 2].mean(), "the patient's right is on the left"
    bone = axial.cut(images["ct"]) > 500
    assert np.indices(bone.shape)[0][bone].mean() < bone.shape[0] / 2, "the front is up"
    bone = coronal.cut(images["ct"]) > 500
    assert np.indices(bone.shape)[0][bone].mean() < bone.shape[0] / 2, "the head is up"
    assert sagittal.grid.GetOrigin()[0] == pytest.approx(-45, abs=4), "the sagittal plane lies in the right lung"


def test_planes_have_true_proportions() -> None:
    images = phantom()
    axial, coronal = panels.planes_through(images["lungs"], ("axial", "coronal"))
    assert axial.size_mm[0] == coronal.size_mm[0] == pytest.approx(158 + 2 * panels.MARGIN_MM, abs=8)
    assert axial.size_mm[1] == pytest.approx(76 + 2 * panels.MARGIN_MM, abs=8)
    assert axial.cut(images["ct"]).shape == (axial.size_mm[1], axial.size_mm[0])


def test_empty_lungs_are_an_error() -> None:
    grid = grid_with(IDENTITY)
    with pytest.raises(Ct2vqError, match="empty"):
        panels.planes_through(from_array(np.zeros((60, 60, 60), np.uint8), grid), ("axial",))


def test_transform_moves_the_image_onto_the_plane() -> None:
    images = phantom()
    (axial,) = panels.planes_through(images["lungs"], ("axial",))
    moved = sitk.Image(images["counts"])
    moved.SetOrigin(np.asarray(moved.GetOrigin()) + (0, 30, 0))  # noqa: RUF005 - a sum of vectors
    forward = sitk.TranslationTransform(3, (0, 30, 0))
    assert np.allclose(axial.cut(moved, forward), axial.cut(images["counts"]))
    assert not np.allclose(axial.cut(moved), axial.cut(images["counts"]))


def test_window_and_colours() -> None:
    grey = panels.windowed(np.array([[-2000.0, -600.0, 500.0]]), (-600, 1500))
    assert np.allclose(grey[0, :, 0], [0, 0.5, 1])
    colours = colour_map("nuclear")
    assert colours(0.0)[:3] == (0, 0, 0) and colours(1.0)[:3] == (1, 1, 1)
    mixed = panels.in_lungs(grey, np.array([[0.0, 2.0, 1.0]]), np.array([[0.0, 1.0, 0.0]]), colours)
    assert np.allclose(mixed[0], [[0, 0, 0], [1, 1, 1], [1, 1, 1]])
    with pytest.raises(ConfigError, match="no colour map"):
        colour_map("nuclaer")


def test_hot_iron_is_dicoms_palette_and_more_is_always_brighter() -> None:
    folder = Path(pydicom.data.__file__).parent / "palettes"
    stored = pydicom.dcmread(folder / "hotiron.dcm")
    names = [f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
    palette = np.stack([np.frombuffer(stored[name].value, np.uint8) for name in names], axis=1)
    colours = colour_map("hot_iron")(np.arange(256))[:, :3]
    assert np.abs(255 * colours - palette).max() < 3
    luminance = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()
    rainbow = colour_map("nuclear")(np.arange(256))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(rainbow) < 0).any(), "why it is not the default"
    assert complete_config({"study": "x"})["report"]["figure"]["colour_map"] == "hot_iron"


def test_models_keep_their_colours() -> None:
    colours = model_colours(list(LABELS), NETWORKS)
    assert len(set(colours.values())) == 3
    assert colours["mean_map"].lower() in {"#8c8c8c"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("case")
    paths = {name: str(folder / f"{name}.nii.gz") for name in ("ct", "lungs", "counts", "made")}
    for name, image in phantom(DIRECTIONS["ras"]).items():
        write_volume(image, paths[name])
    return paths


def draw_case(files: dict[str, str], output: str, images: dict[str, str], **changes: object) -> np.ndarray:
    settings = {
        "labels": LABELS,
        "networks": NETWORKS,
        "arms": {},
        "defects": DEFECTS,
        "simulated": True,
        "figure": FIGURE,
    }
    settings |= changes
    volumes = {"ct": files["ct"], "ct_lungs": files["lungs"], "lungs": files["lungs"]}
    panels.draw_case(images, volumes, output, case="sim001", diagnosis="normal", **settings)
    return np.asarray(Image.open(output).convert("RGB"))


def test_case_panel_has_the_same_bytes_twice(files: dict[str, str], tmp_path) -> None:
    images = {f"{m}_perfusion": files["made"] for m in LABELS} | {"spect_perfusion": files["counts"]}
    draw_case(files, tmp_path / "a.png", images)
    draw_case(files, tmp_path / "b.png", images)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "Software" not in Image.open(tmp_path / "a.png").info
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.png", "b.png"]


def test_case_panel_has_rows_for_the_targets_it_has(files: dict[str, str], tmp_path) -> None:
    one = {"spect_ventilation": files["counts"], "ddran_ventilation": files["made"]}
    both = one | {"spect_perfusion": files["counts"], "ddran_perfusion": files["made"]}
    tall, short = (draw_case(files, tmp_path / "a.png", images).shape[0] for images in (both, one))
    assert tall > 1.6 * short


def test_synthetic_images_say_so(files: dict[str, str], tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bool] = []
    burn_in = panels._burn_in
    monkeypatch.setattr(panels, "_burn_in", lambda *given: (said.append(given[-1]), burn_in(*given)))
    images = {"spect_perfusion": files["counts"]} | {f"{m}_perfusion": files["made"] for m in NETWORKS}
    draw_case(files, tmp_path / "a.png", images)
    assert said == [True] * 6, "two networks in two planes and their differences, never the SPECT"


def test_case_panel_shows_differences_and_v_minus_q(files: dict[str, str], tmp_path) -> None:
    lungs = read_volume(files["lungs"])
    inside, height = to_array(lungs) > 0, np.linspace(0.2, 0.8, 60)[:, None, None]
    paths = {}
    for name, values in {"q": height, "v": height + 0.1, "more": height + 0.3}.items():
        paths[name] = str(tmp_path / f"{name}.nii.gz")
        write_volume(from_array(np.where(inside, values, 0).astype(np.float32), lungs), paths[name])
    spect = {"spect_perfusion": paths["q"], "spect_ventilation": paths["v"]}
    made = {"ddran_perfusion": paths["q"], "ddran_ventilation": paths["v"]}
    arms = {"ddran": {"perfusion": "ddran", "ventilation": "ddran"}}
    alone = draw_case(files, tmp_path / "alone.png", spect)
    compared = draw_case(files, tmp_path / "compared.png", spect | made, arms=arms).astype(int)
    without = draw_case(files, tmp_path / "without.png", spect | made).astype(int)
    assert alone.shape[0] < compared.shape[0], "a row of differences for each target"
    changed = np.nonzero((without != compared).any(axis=2))[0]
    assert len(changed) and changed.min() > 0.75 * len(compared), "V - Q of the arm stands in the last row"
    higher = draw_case(files, tmp_path / "higher.png", spect | made | {"ddran_perfusion": paths["more"]}).astype(int)
    rows = slice(int(0.25 * len(higher)), int(0.45 * len(higher)))
    red = [(image[rows, :, 0] - image[rows, :, 2] > 60).sum() for image in (without, higher)]
    assert red[1] > red[0] + 500, "what is too high is red"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("one_lung", [False, True])
def test_a_plane_shows_what_lies_there_on_the_cts_grid(direction: str, one_lung: bool) -> None:
    """The slab round a plane of a coarser network's grid gives what the whole way back gives."""
    images = phantom(DIRECTIONS[direction])
    labels = to_array(images["lungs"])
    lungs = (
        from_array(np.where(labels == 1, labels, 0).astype(np.uint8), images["lungs"]) if one_lung else images["lungs"]
    )
    grid = network_grid(lungs, CROP | {"spacing_mm": 7.0, "margin_mm": 14, "multiple": 2})
    shape = to_array(grid).shape
    image = 0.5 + 0.4 * np.sin(np.indices(shape).sum(axis=0) / 3)
    whole = WayBack(grid, lungs)(image)
    for plane in panels.planes_through(grid, ("axial", "coronal", "sagittal")):
        view = panels.View.of(plane, images["ct"], lungs, grid, FIGURE["lung_window"])
        deep = plane.turned(plane.share(lungs)) > 0.999
        # linear interpolation between the CT's voxels is what differs
        np.testing.assert_allclose(view.cut(image)[deep], plane.cut(whole)[deep], atol=0.05)
        assert not view.cut(image)[view.inside < 0.5].any()


def test_a_plane_without_lung_is_empty() -> None:
    images = phantom()
    (axial,) = panels.planes_through(images["lungs"], ("axial",))
    origin = list(axial.grid.GetOrigin())
    origin[2] += 500
    beyond = panels.Plane("axial", make_grid(axial.grid.GetSize(), axial.grid.GetSpacing(), origin))
    view = panels.View.of(beyond, images["ct"], images["lungs"], images["lungs"], FIGURE["lung_window"])
    assert not view.cut(np.ones(to_array(images["lungs"]).shape)).any()


@pytest.mark.parametrize("targets", [("perfusion",), ("perfusion", "ventilation")])
def test_words_below_the_colour_bars_stay_on_the_figure(files: dict[str, str], tmp_path, monkeypatch, targets) -> None:
    """Of one model without SPECT, the narrowest figure."""
    seen = []

    def measured(*args: object) -> None:
        colour_bar(*args)
        seen.append(args[0])

    colour_bar = panels.colour_bar
    monkeypatch.setattr(panels, "colour_bar", measured)
    images = {f"ddran_{target}": files["made"] for target in targets}
    arms = {"ddran": dict.fromkeys(targets, "ddran")}
    draw_case(files, tmp_path / "a.png", images, networks=["ddran"], arms=arms)
    sheet = seen[-1]
    boxes = [text.get_window_extent() for text in sheet.texts if "relative" in text.get_text()]
    width = sheet.figure.bbox.width
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 for box in boxes)
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[n + 1 :])


def test_case_panel_refuses_another_grid(files: dict[str, str], tmp_path) -> None:
    other = tmp_path / "other.nii.gz"
    write_volume(sitk.Cast(grid_with(IDENTITY, size=20), sitk.sitkFloat32), other)
    with pytest.raises(GeometryError, match="do not share a grid"):
        draw_case(files, tmp_path / "a.png", {"spect_perfusion": str(other)})


def test_a_failed_drawing_leaves_nothing(tmp_path) -> None:
    with pytest.raises(RuntimeError), new_figure(tmp_path / "x.png", (1, 1), FIGURE):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


# --- the note below a figure -----------------------------------------------------------------------------------------

LONG_NOTE = "; ".join(
    [
        "bars are 95 % intervals by patients",
        "MMMM WWWW MMMM WWWW MMMM WWWW MMMM WWWW MMMM WWWW MMMM WWWW MMMM WWWW are wide",
        "www_a_word_" * 20 + "without_a_space",
    ]
)


def look_of(width_mm: float) -> Look:
    settings = complete_config({"study": "x"})["report"]["figure"]
    return Look(
        {"ddran": "DDRAN"}, ["ddran"], True, settings | {"width_mm": width_mm, "print_dpi": 100, "vector_formats": []}
    )


def borders(path: Path) -> np.ndarray:
    """Grey values of the outermost columns of pixels."""
    values = np.asarray(Image.open(path).convert("L"))
    return np.concatenate([values[:, :4].ravel(), values[:, -4:].ravel()])


@pytest.mark.parametrize("width_mm", [85, 120, 180])
def test_a_long_note_stays_in_the_figure(tmp_path: Path, width_mm: float) -> None:
    path = tmp_path / "noted.png"
    with study_figure(path, 3.0, look_of(width_mm), pd.DataFrame({"a": [1]}), LONG_NOTE) as figure:
        figure.add_subplot().set_axis_off()
    assert borders(path).min() == 255
    label = figure._supxlabel
    assert "".join(label.get_text().split()) == "".join(f"{LONG_NOTE}; simulated patients".split())
    box = label.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert box.width > 0.7 * figure.bbox.width, "lines are filled"


def test_what_is_missing_is_said_inside_the_figure(tmp_path: Path) -> None:
    draw_missing(tmp_path / "none.png", look_of(85), ["a"], "agreement of readers", "nobody answered yet " * 6)
    assert borders(tmp_path / "none.png").min() == 255

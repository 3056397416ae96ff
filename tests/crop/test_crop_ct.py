"""From patient space to the network's grid: nothing of the lungs is lost, and the record leads back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from factories import CROP, oblique_lungs, random_direction
from hypothesis import given
from hypothesis import strategies as st

from ct2vq.crop.ct import AIR_HU, crop_case, crop_ct
from ct2vq.crop.grid import MAX_VOXELS, averaged, network_grid
from ct2vq.errors import CropError, GeometryError
from ct2vq.files import read_json
from ct2vq.volume import (
    affine,
    from_array,
    make_grid,
    read_volume,
    require_same_grid,
    to_array,
    voxel_volume_ml,
    write_volume,
)

SEEDS = st.integers(0, 10**6)


def ct_of(lungs: sitk.Image) -> sitk.Image:
    return from_array(np.where(to_array(lungs) > 0, -800, 40).astype(np.float32), lungs)


def surface_points(lungs: sitk.Image) -> np.ndarray:
    """Corners of all lung voxels in mm (point, 3)."""
    index = np.argwhere(to_array(lungs) > 0)[:, ::-1]
    corners = np.array([(i, j, k) for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])
    points = (index[:, None] + corners).reshape(-1, 3)
    matrix = affine(lungs)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


@given(SEEDS)
def test_cropping_keeps_the_lungs_of_an_oblique_ct(seed: int) -> None:
    lungs = oblique_lungs(seed)
    cropped = crop_ct(ct_of(lungs), lungs, CROP)
    small_ct, small_lungs, record = cropped.ct, cropped.lungs, cropped.record
    for image in (cropped.enhanced, cropped.texture, small_lungs):
        require_same_grid(small_ct, image, "ct", "other")
    assert small_ct.GetSpacing() == (12.0,) * 3
    assert all(n % 4 == 0 for n in small_ct.GetSize())
    volume = (to_array(lungs) > 0).sum() * voxel_volume_ml(lungs)
    assert record["lung_volume_ml"] == pytest.approx(volume, rel=0.1)
    inside = to_array(small_lungs) > 0
    assert not any(np.take(inside, end, axis).any() for axis in range(3) for end in (0, -1)), "there is a margin"
    assert np.median(to_array(small_ct)[inside]) == pytest.approx(-800, abs=60)


@given(
    SEEDS,
    st.floats(3, 15),
    st.floats(0, 40),
    st.integers(1, 16),
    st.tuples(*[st.floats(0.8, 9)] * 3),
    st.booleans(),
)
def test_the_margin_is_never_lost_and_the_size_always_divisible(
    seed: int, spacing: float, margin: float, multiple: int, voxel: tuple[float, float, float], mirrored: bool
) -> None:
    rng = np.random.default_rng(seed)
    direction = random_direction(seed)
    if mirrored:
        direction[:, 2] *= -1  # slices stacked against the normal
    shape = tuple(int(n) for n in rng.integers(8, 16, 3))
    labels = np.zeros(shape, np.uint8)
    low = rng.integers(0, 3, 3)
    labels[low[0] : -1, low[1] : -2, low[2] :] = 1
    labels[..., shape[2] // 2 :] *= 2
    lungs = from_array(labels, make_grid(shape[::-1], np.array(voxel) * 3, rng.normal(0, 200, 3), direction.ravel()))
    settings = CROP | {"spacing_mm": spacing, "margin_mm": margin, "multiple": multiple}
    try:
        grid = network_grid(lungs, settings)
    except CropError as error:
        assert error.code == "D903"
        return
    assert all(n % multiple == 0 for n in grid.GetSize())
    first = np.asarray(grid.GetOrigin()) - spacing / 2
    last = first + np.asarray(grid.GetSize()) * spacing
    points = surface_points(lungs)
    assert (points.min(axis=0) - first >= margin - 1e-6).all()
    assert (last - points.max(axis=0) >= margin - 1e-6).all()


def test_what_lies_beyond_the_ct_is_air_and_reported() -> None:
    lungs = oblique_lungs(3)
    labels = to_array(lungs)
    box = [np.flatnonzero((labels > 0).any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
    cut = lungs[tuple(slice(int(b[0]), int(b[-1]) + 1) for b in reversed(box))]
    cropped = crop_ct(ct_of(cut), cut, CROP)
    small_ct, record = cropped.ct, cropped.record
    assert record["beyond_ct_fraction"] > 0.1
    assert record["warnings"][0].startswith("W901 ")
    assert to_array(small_ct).min() == AIR_HU
    share = (to_array(small_ct) == AIR_HU).mean()
    assert share == pytest.approx(record["beyond_ct_fraction"], abs=0.1)
    inner = crop_ct(ct_of(lungs), lungs, CROP | {"margin_mm": 0, "multiple": 1}).record
    assert inner["beyond_ct_fraction"] < record["beyond_ct_fraction"]


def test_the_record_is_enough_to_go_back(tmp_path: Path) -> None:
    lungs = oblique_lungs(3)
    write_volume(ct_of(lungs), tmp_path / "ct.nii.gz")
    write_volume(lungs, tmp_path / "lungs.nii.gz")
    outputs = {name: tmp_path / "crop" / f"{name}.nii.gz" for name in ("ct", "enhanced", "texture", "lungs")}
    outputs["record"] = tmp_path / "crop" / "crop.json"
    crop_case(tmp_path / "ct.nii.gz", tmp_path / "lungs.nii.gz", outputs, CROP)
    record = read_json(outputs["record"])
    grid = make_grid(record["size"], record["spacing_mm"], record["origin_mm"], record["direction"])
    require_same_grid(grid, read_volume(outputs["ct"]), "record", "ct")
    back = make_grid(record["ct_size"], record["ct_spacing_mm"], record["ct_origin_mm"], record["ct_direction"])
    require_same_grid(back, lungs, "record", "ct")


@pytest.mark.parametrize("seed", [0, 1])
def test_averaging_removes_what_would_alias_and_nothing_else(seed: int) -> None:
    grid = make_grid((30, 30, 30), (2, 2, 5), (0, 0, 0), random_direction(seed).ravel())
    checks = (np.indices((30, 30, 30)).sum(axis=0) % 2).astype(np.float32)
    assert np.ptp(to_array(averaged(from_array(checks, grid), 8.0))[5:-5, 8:-8, 8:-8]) < 0.05
    ramp = np.indices((30, 30, 30))[2].astype(np.float32)
    np.testing.assert_allclose(to_array(averaged(from_array(ramp, grid), 8.0))[..., 8:-8], ramp[..., 8:-8], atol=1e-3)
    np.testing.assert_array_equal(to_array(averaged(from_array(checks, grid), 2.0)), checks)


@pytest.mark.parametrize(
    ("code", "labels", "changes"),
    [
        ("D901", lambda v: v * 0, {}),
        ("D903", lambda v: v, {"spacing_mm": 500.0}),
        ("D904", lambda v: v, {"spacing_mm": 0.01}),
    ],
)
def test_lungs_that_no_grid_can_hold(tmp_path: Path, code: str, labels, changes: dict) -> None:
    lungs = oblique_lungs(1)
    wrong = from_array(labels(to_array(lungs)).astype(np.uint8), lungs)
    write_volume(ct_of(lungs), tmp_path / "ct.nii.gz")
    write_volume(wrong, tmp_path / "lungs.nii.gz")
    with pytest.raises(CropError, match=rf"^{code} file .*lungs\.nii\.gz"):
        crop_case(tmp_path / "ct.nii.gz", tmp_path / "lungs.nii.gz", {}, CROP | changes)


def test_one_lung_is_accepted_as_the_segmentation_did() -> None:
    lungs = oblique_lungs(1)
    left = from_array(np.where(to_array(lungs) == 2, 2, 0).astype(np.uint8), lungs)
    small = crop_ct(ct_of(left), left, CROP).lungs
    assert np.unique(to_array(small)).tolist() == [0, 2]


def test_a_speck_far_away_would_fill_the_memory() -> None:
    """Lungs of usual size at 0.5 mm are too many voxels, and the message says how many."""
    lungs = oblique_lungs(1)
    with pytest.raises(CropError, match=rf"D904 .*{MAX_VOXELS:.2g}".replace("+", r"\+")):
        network_grid(lungs, CROP | {"spacing_mm": 0.3})


def test_values_that_are_no_numbers_and_grids_that_differ() -> None:
    lungs = oblique_lungs(1)
    values = to_array(ct_of(lungs))
    values[3, 3, 3] = np.nan
    with pytest.raises(CropError, match="D905 1 of"):
        crop_ct(from_array(values, lungs), lungs, CROP)
    with pytest.raises(GeometryError, match="ct and lungs"):
        crop_ct(ct_of(oblique_lungs(2)), lungs, CROP)


def test_no_other_case_enters_a_crop() -> None:
    """All that the two rules read belongs to the one case, so nothing can be fitted on the cohort here."""
    rules = (Path(__file__).parents[2] / "workflow" / "rules" / "crop.smk").read_text(encoding="utf-8")
    blocks = re.findall(r"    input:\n(.*?)    output:", rules, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        sources = re.findall(r"=(.+),", block)
        assert len(sources) >= 2
        assert all("{case}" in source or source in ("ct_to_spect", "ancient(accepted)") for source in sources), sources
    assert "expand" not in rules

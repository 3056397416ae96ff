"""Thirds of equal volume from head to feet, whatever the grid's direction, and lobes that fill the lungs."""

from __future__ import annotations

import numpy as np
import pytest
from chests import chest
from hypothesis import given, settings
from hypothesis import strategies as st

from ct2vq.errors import GeometryError
from ct2vq.files import read_json
from ct2vq.lungs import LOBE_SIDES, LOBES, THIRDS, THIRDS_OF
from ct2vq.segment import lobes_from_truth
from ct2vq.segment.regions import lobes_in_lungs, thirds
from ct2vq.volume import from_array, make_grid, read_volume, to_array, write_volume


@pytest.mark.parametrize("turn", ["axial", "flipped", "sagittal", "oblique"])
def test_thirds_are_equal_and_in_order(turn) -> None:
    axes = {
        "axial": np.eye(3),
        "flipped": np.diag([1.0, -1.0, -1.0]),
        "sagittal": np.eye(3)[:, [1, 2, 0]],
        "oblique": np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.2, 1.0, 0.3], [0.0, -0.3, 1.0]]))[0],
    }[turn]
    image, truth = chest(axes=axes)
    found = to_array(thirds(from_array(truth, image)))
    index = np.stack(np.nonzero(truth > 0)[::-1])
    head = image.GetOrigin()[2] + (np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing())[2] @ index
    values = found[truth > 0]
    for side, (upper, middle, lower) in THIRDS_OF.items():
        counts = [(found == label).sum() for label in (upper, middle, lower)]
        assert max(counts) - min(counts) < 0.06 * (truth == side).sum()
        assert head[values == upper].min() > head[values == middle].max()
        assert head[values == middle].min() > head[values == lower].max()
    assert ((found > 0) == (truth > 0)).all()


@given(heights=st.lists(st.integers(1, 40), min_size=6, max_size=30))
@settings(max_examples=40, deadline=None)
def test_thirds_differ_by_a_slice_at_most(heights) -> None:
    labels = np.zeros((len(heights), 1, 40), dtype=np.uint8)
    for z, width in enumerate(heights):
        labels[z, 0, :width] = 1
    found = to_array(thirds(from_array(labels, make_grid(labels.shape[::-1], (1, 1, 1), (0, 0, 0)))))
    for label in (1, 2, 3):
        assert abs((found == label).sum() - labels.sum() / 3) <= max(heights)


def test_every_region_has_a_name_and_a_side() -> None:
    assert set(THIRDS) == {label for labels in THIRDS_OF.values() for label in labels}
    assert all(("right" in LOBES[lobe]) == (side == 1) for lobe, side in LOBE_SIDES.items())
    assert all(("right" in THIRDS[label]) == (side == 1) for side, labels in THIRDS_OF.items() for label in labels)


def test_lobes_fill_the_lungs_that_were_found(tmp_path) -> None:
    image, truth = chest()
    z = np.arange(len(truth))[:, None, None]
    lobes = np.where(truth == 1, np.where(z > 40, 1, 3), np.where(truth == 2, np.where(z > 40, 4, 5), 0))
    fewer = lobes.astype(np.uint8)
    fewer[:, :, ::5] = 0
    write_volume(from_array(fewer, image), tmp_path / "truth.nii.gz")
    write_volume(from_array(truth, image), tmp_path / "lungs.nii.gz")
    paths = [tmp_path / name for name in ("lungs.nii.gz", "truth.nii.gz", "lobes.nii.gz", "lobes.json")]
    lobes_from_truth(*paths)
    found = to_array(read_volume(paths[2]))
    assert ((found > 0) == (truth > 0)).all()
    assert (found == lobes).mean() > 0.995
    record = read_json(paths[3])
    assert record["lobes_source"] == "simulated truth"
    assert record["lobes_ml"]["right middle lobe"] == 0
    assert sum(record["lobes_ml"].values()) == pytest.approx(sum(record["thirds_ml"].values()), rel=1e-3)
    elsewhere = from_array(truth, make_grid(image.GetSize(), image.GetSpacing(), (0, 0, 0)))
    with pytest.raises(GeometryError, match="the lobes and the lungs do not share a grid"):
        lobes_in_lungs(from_array(fewer, image), elsewhere)

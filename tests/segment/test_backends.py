"""The networks of others: refused without their weights, and their real code on weights that nobody trained."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from chests import chest

from ct2vq.config import complete_config, tells_lobes
from ct2vq.errors import SegmentationError
from ct2vq.lungs import LOBE_SIDES
from ct2vq.segment.backends import LTRC_LOBES, run_backend
from ct2vq.volume import same_grid, to_array


def settings(backend: str, **keys) -> dict:
    return complete_config({"study": "x", "segment": {"backend": backend, backend: keys}})["segment"]


def needs(library: str) -> pytest.MarkDecorator:
    reason = f"{library} is not installed (pip install -r requirements-{library}.txt)"
    return pytest.mark.skipif(find_spec(library) is None, reason=reason)


@pytest.mark.parametrize("backend", ["lungmask", "totalsegmentator"])
def test_missing_weights_are_an_error_that_names_their_place(backend, tmp_path) -> None:
    image, _ = chest()
    with pytest.raises(SegmentationError, match=rf"D708 key segment: {backend}\.weights: no weights are named, the f"):
        run_backend(image, settings(backend))
    with pytest.raises(SegmentationError, match=r"D708 file .*nowhere, .* no weights here"):
        run_backend(image, settings(backend, weights=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("backend", ["lungmask", "totalsegmentator"])
def test_a_library_that_is_missing_is_an_error(backend, tmp_path) -> None:
    if find_spec(backend) is not None:
        pytest.skip(f"{backend} is installed")
    (tmp_path / "weights").write_bytes(b"")
    weights = tmp_path / "weights" if backend == "lungmask" else tmp_path
    with pytest.raises(SegmentationError, match=f"D708 .*pip install -r requirements-{backend}"):
        run_backend(chest()[0], settings(backend, weights=str(weights)))


def test_which_backends_tell_lobes() -> None:
    assert not tells_lobes({"segment": settings("lungmask", weights="w")})
    assert tells_lobes({"segment": settings("lungmask", weights="w", lobe_weights="l")})
    assert tells_lobes({"segment": settings("totalsegmentator")})
    assert not tells_lobes(complete_config({"study": "x"}))


def test_labels_of_others_become_ours() -> None:
    # lungmask: 1, 2 are the left upper and lower lobe, 3 to 5 the right upper, middle and lower one
    assert [LOBE_SIDES[LTRC_LOBES[label]] for label in (1, 2, 3, 4, 5)] == [2, 2, 1, 1, 1]


@needs("lungmask")
def test_lungmask_runs_on_random_weights(tmp_path: Path) -> None:
    from random_weights import write_lungmask

    image = chest(axes=np.diag([1.0, 1.0, -1.0]))[0][:, :, 36:38]
    lungs = write_lungmask(tmp_path / "lungs.pth", 3, 1)
    lobes = write_lungmask(tmp_path / "lobes.pth", 6, 2)
    found, none = run_backend(image, settings("lungmask", weights=str(lungs)))
    assert none is None
    assert same_grid(found, image)
    assert set(np.unique(to_array(found))) <= {0, 1, 2}
    found, parts = run_backend(image, settings("lungmask", weights=str(lungs), lobe_weights=str(lobes)))
    assert same_grid(parts, image)
    sides = np.array([0, *LOBE_SIDES.values()])[to_array(parts)]
    assert np.array_equal(sides, to_array(found))


@needs("totalsegmentator")
def test_totalsegmentator_runs_on_random_weights(tmp_path: Path) -> None:
    from random_weights import write_totalsegmentator

    root = write_totalsegmentator(tmp_path, 1)
    image = chest(spacing=(6.0, 6.0, 6.0), axes=np.diag([-1.0, -1.0, 1.0]))[0]
    found, parts = run_backend(image, settings("totalsegmentator", weights=str(root), fast=True))
    assert same_grid(found, image)
    assert same_grid(parts, image)
    assert set(np.unique(to_array(parts))) <= {0, *LOBE_SIDES}

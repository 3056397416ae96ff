"""A segmentation is decided by the settings that it reads and by what its weights hold, not by where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct2vq.apply import _backend
from ct2vq.config import complete_config, completed_block, segment_settings, tells_lobes, weight_paths
from ct2vq.digests import ROOT, _closure, folder_digest
from ct2vq.errors import SegmentationError


def chosen(own: bool = False, weights: dict | None = None, **segment) -> dict:
    config = complete_config({"study": "x", "segment": segment})
    return segment_settings(config, own_mask=own, lungs=None, weights=weights or {})


def test_settings_of_other_backends_and_of_own_masks_rerun_nobody_else() -> None:
    others = {"lungmask": {"weights": "/a", "batch_size": 2}, "totalsegmentator": {"fast": True}}
    patterns = {"own_mask": {"right": "x"}}
    assert chosen(**others, **patterns) == chosen()
    assert chosen(threshold_hu=-500) != chosen()
    assert chosen(True, **others, threshold_hu=-500, inside={"tumour": False}) == chosen(True)
    assert chosen(True, **patterns) != chosen(True)


def test_weights_enter_by_their_content_and_not_by_their_place() -> None:
    one, other, changed = (
        chosen(backend="lungmask", lungmask={"weights": place}, weights={"weights": digest})
        for place, digest in (("/a", "1"), ("/b", "1"), ("/a", "2"))
    )
    assert one == other != changed
    assert "/a" not in str(one)


def test_an_own_mask_depends_on_a_backend_that_tells_its_lobes() -> None:
    total = {"backend": "totalsegmentator", "totalsegmentator": {"weights": "/a"}}
    assert tells_lobes(complete_config({"study": "x", "segment": total}))
    assert chosen(True, {"weights": "1"}, **total)["totalsegmentator"] == {"weights": "1", "fast": False}
    assert "lungmask" not in chosen(True, {"weights": "1"}, backend="lungmask")


def test_only_weights_have_places() -> None:
    config = complete_config({"study": "x", "segment": {"backend": "lungmask"}})
    assert weight_paths(config) == {"weights": None, "lobe_weights": None}
    assert weight_paths(complete_config({"study": "x"})) == {}


def test_the_method_without_weights_reaches_no_backend() -> None:
    modules, libraries = _closure(ROOT / "scripts" / "segment.py", ROOT)
    assert ROOT / "ct2vq" / "segment" / "backends.py" not in modules
    assert not libraries & {"torch", "lungmask", "totalsegmentator"}
    with_backends, libraries = _closure(ROOT / "scripts" / "segment_backend.py", ROOT)
    assert ROOT / "ct2vq" / "segment" / "backends.py" in with_backends
    assert {"torch", "lungmask", "totalsegmentator"} <= libraries


def test_a_block_of_another_version_is_completed() -> None:
    complete = complete_config({"study": "x"})["segment"]
    assert completed_block("segment", {}) == complete
    old = completed_block("segment", {"closing_mm": 3, "inside": {"tumour": False}})
    assert old == complete | {"closing_mm": 3, "inside": complete["inside"] | {"tumour": False}}


def test_applying_needs_the_weights_of_the_study(tmp_path: Path) -> None:
    weights = tmp_path / "unet.pth"
    weights.write_bytes(b"weights")
    digest = folder_digest(weights, tmp_path / "cache")
    settings = completed_block("segment", chosen(backend="lungmask", weights={"weights": digest, "lobe_weights": None}))
    assert _backend(settings, {"weights": weights, "lobe_weights": None}) is not None
    with pytest.raises(SegmentationError, match=r"D708 .*key --segment-weights: .*are not here"):
        _backend(settings, {"weights": None, "lobe_weights": None})
    weights.write_bytes(b"other")
    with pytest.raises(SegmentationError, match=r"D708 .*other weights of `lungmask`"):
        _backend(settings, {"weights": weights, "lobe_weights": None})
    assert _backend(completed_block("segment", {}), {"weights": None, "lobe_weights": None}) is None

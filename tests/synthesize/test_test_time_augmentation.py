"""Views of the CT: averaged answers, in the right place, and only those that a model can know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import SYNTHESIZE, write_network

from ct2vq.config import complete_config
from ct2vq.errors import ConfigError, Ct2vqError
from ct2vq.inputs import read_cropped_case
from ct2vq.synthesize.header import read_header
from ct2vq.synthesize.predict import predict
from ct2vq.synthesize.views import View, views_of

#: arrays that networks read
PLANES = ("hu", "enhanced", "texture", "lungs")
MIRRORED = {"mirrored": True}


def settings(**augmentation: object) -> dict:
    return SYNTHESIZE | {"test_time_augmentation": SYNTHESIZE["test_time_augmentation"] | augmentation}


@pytest.mark.parametrize("view", [View(), View((1, 0, -2)), View(mirrored=True), View((0, 3, 1), mirrored=True)])
def test_a_view_is_undone(view: View) -> None:
    volume = torch.rand(1, 2, 5, 6, 7)
    assert torch.equal(view.undo(view.show(volume)), volume)


def test_images_are_the_mean_over_shifts_put_back(tmp_path: Path, cropped_case: Path) -> None:
    case = read_cropped_case(cropped_case, ())
    weights = write_network(tmp_path / "w.safetensors")
    averaged = predict(weights, case, "cpu", settings(shift_voxels=1))
    steps = [(0, 0, 0), *(tuple(step * (axis == n) for n in range(3)) for axis in range(3) for step in (1, -1))]
    seen = []
    for step in steps:
        arrays = {name: np.roll(getattr(case, name), step, (-3, -2, -1)) for name in PLANES}
        images = predict(weights, replace(case, **arrays), "cpu", SYNTHESIZE)
        seen.append({t: np.roll(image, [-one for one in step], (0, 1, 2)) for t, image in images.items()})
    for target, image in averaged.items():
        np.testing.assert_allclose(image, np.mean([one[target] for one in seen], axis=0), atol=1e-5)
        assert not image[~case.inside].any()
        assert np.abs(image - seen[0][target]).max() > 1e-3


def test_seven_shifts_and_their_mirrors(tmp_path: Path, cropped_case: Path) -> None:
    inside = read_cropped_case(cropped_case, ()).inside
    learnt, never = (read_header(write_network(tmp_path / str(len(h)), **h)) for h in (MIRRORED, {}))
    both = settings(shift_voxels=1, mirror=True)["test_time_augmentation"]
    assert len(views_of(never, both, inside)) == 7, "who never saw a mirrored patient is not asked about one"
    views = views_of(learnt, both, inside)
    assert len(set(views)) == 14 and views[0] == View()
    assert {sum(map(abs, view.shift)) for view in views} == {0, 1}
    assert views_of(learnt, settings()["test_time_augmentation"], inside) == [View()]


def test_no_shift_over_the_border(tmp_path: Path, cropped_case: Path) -> None:
    case = read_cropped_case(cropped_case, ())
    with pytest.raises(Ct2vqError, match=r"shift by 9 voxels.*border"):
        predict(write_network(tmp_path / "w.safetensors"), case, "cpu", settings(shift_voxels=9))
    wrong = {"study": "x", "synthesize": {"test_time_augmentation": {"shift_voxels": 4}}}
    with pytest.raises(ConfigError, match=r"shift_voxels.*16 mm.*margin_mm"):
        complete_config(wrong)

"""Which models may answer together for a new CT, and how their answers are joined."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from factories import CROP
from models import SYNTHESIZE, write_network
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ct2vq.apply import _common_header, _predicted, _weights_of
from ct2vq.errors import Ct2vqError
from ct2vq.inputs import read_cropped_case
from ct2vq.synthesize.predict import predict


def trained(root: Path, name: str, seeds: range, **made: object) -> list[Path]:
    for seed in seeds:
        write_network(root / name / f"fold{seed}" / "weights.safetensors", seed, **made)
    return _weights_of(root / name)


@pytest.mark.parametrize("threads", [1, 2])
def test_folds_are_averaged_then_models(tmp_path: Path, cropped_case: Path, threads: int) -> None:
    both = trained(tmp_path, "ddran", range(3))
    single = trained(tmp_path, "ran_perfusion", range(5, 7), targets=("perfusion",))
    case, config = read_cropped_case(cropped_case, ()), {"seed": 1, "synthesize": SYNTHESIZE | {"uncertainty": "folds"}}
    images, spreads = _predicted({"ddran": both, "ran_perfusion": single}, case, "cpu", config, threads)
    of = {path: predict(path, case, "cpu", SYNTHESIZE) for path in (*both, *single)}
    means = [np.mean([of[path]["perfusion"] for path in paths], axis=0) for paths in (both, single)]
    np.testing.assert_array_equal(images["perfusion"], np.mean(means, axis=0))
    np.testing.assert_array_equal(images["ventilation"], np.mean([of[path]["ventilation"] for path in both], axis=0))
    stack = [of[path]["perfusion"] for path in (*both, *single)]
    np.testing.assert_allclose(spreads["perfusion"], np.std(stack, axis=0, ddof=1), atol=1e-6)


def test_models_of_other_images_do_not_answer_together(tmp_path: Path) -> None:
    here = trained(tmp_path, "ddran", range(2))
    assert _common_header(here)["targets"] == ["perfusion", "ventilation"]
    other = trained(tmp_path, "other", range(1), crop=CROP | {"spacing_mm": 4.0})
    with pytest.raises(Ct2vqError, match=r"other.*trained on other images than each other \(`crop`\)"):
        _common_header([*here, *other])
    mixed = [*here, write_network(tmp_path / "ddran" / "fold9" / "weights.safetensors", targets=("perfusion",))]
    with pytest.raises(Ct2vqError, match="folds of this model were trained differently"):
        _common_header(mixed)
    with pytest.raises(Ct2vqError, match="no trained model here"):
        _weights_of(tmp_path / "nothing")


def test_weights_from_before_textures_answer_beside_todays(tmp_path: Path, cropped_case: Path) -> None:
    (today,) = trained(tmp_path, "today", range(1))
    (plain,) = trained(tmp_path, "plain", range(1), network={"texture": False})
    old = tmp_path / "old" / "fold0" / "weights.safetensors"
    with safe_open(plain, "np") as stream:
        header = json.loads(stream.metadata()["ct2vq"])
    del header["network"]["texture"], header["crop"]["texture"]
    old.parent.mkdir(parents=True)
    save_file(load_file(plain), old, metadata={"ct2vq": json.dumps(header)})
    case = read_cropped_case(cropped_case, ())
    made, expected = (predict(path, case, "cpu", SYNTHESIZE) for path in (old, plain))
    for target, image in expected.items():
        np.testing.assert_array_equal(made[target], image)
    assert _common_header([today, old])["in_channels"] == 8

"""Maps of uncertainty: of folds and of dropout, in the lungs only, the same twice, and never sharpened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from factories import SPACING_MM, TARGETS
from models import SYNTHESIZE, write_network

from ct2vq.config import complete_config
from ct2vq.crop.restore import WayBack
from ct2vq.errors import ConfigError, Ct2vqError
from ct2vq.files import read_json, sha256_file
from ct2vq.inputs import read_cropped_case
from ct2vq.synthesize.case import synthesize_case
from ct2vq.synthesize.header import spread_label
from ct2vq.synthesize.predict import predict_all
from ct2vq.synthesize.uncertainty import dropout_spread, fold_spread, joined_spread
from ct2vq.volume import make_grid, read_volume, resample, to_array

DROPOUT = SYNTHESIZE | {"uncertainty": "dropout", "dropout_samples": 5}


@pytest.fixture
def dropping(tmp_path: Path) -> Path:
    return write_network(tmp_path / "dropping.safetensors", network={"dropout": 0.3})


def test_folds_that_agree_and_folds_that_do_not(tmp_path: Path, cropped_case: Path) -> None:
    case = read_cropped_case(cropped_case, ())
    paths = [write_network(tmp_path / f"{seed}.safetensors", seed) for seed in range(3)]
    members = predict_all(paths, case, "cpu", SYNTHESIZE)
    for target, image in fold_spread(members).items():
        stack = np.stack([one[target] for one in members])
        np.testing.assert_allclose(image, stack.std(axis=0, ddof=1), atol=1e-6)
        assert image.dtype == np.float32 and not image[~case.inside].any() and image[case.inside].min() > 0
    assert not any(image.any() for image in fold_spread([members[0], members[0]]).values())
    with pytest.raises(Ct2vqError, match="one model only"):
        fold_spread(members[:1])


def test_dropout_depends_on_seed_and_case_only(dropping: Path, cropped_case: Path, tmp_path: Path) -> None:
    case = read_cropped_case(cropped_case, ())
    first, same, seed, name = (
        dropout_spread(dropping, case, "cpu", DROPOUT, seed=s, name=n)["perfusion"]
        for s, n in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, seed) and not np.array_equal(first, name)
    assert first[case.inside].min() > 0 and not first[~case.inside].any()
    joined = joined_spread([{"perfusion": first}, {"perfusion": seed}])["perfusion"]
    np.testing.assert_allclose(joined**2, (first**2 + seed**2) / 2, atol=1e-7)
    with pytest.raises(Ct2vqError, match="without dropout"):
        dropout_spread(write_network(tmp_path / "w.safetensors"), case, "cpu", DROPOUT, seed=1, name="a")


def test_a_map_is_written_where_it_is_asked_for(tmp_path: Path, cropped_case: Path, dropping: Path) -> None:
    weights = {"dropping": dropping, "plain": write_network(tmp_path / "plain.safetensors")}
    lungs = cropped_case / "lungs.nii.gz"
    for name in "ab":
        out = tmp_path / name
        synthesize_case(
            cropped_case, lungs, weights, out, out / "r.json", device="cpu", settings=DROPOUT, uncertain=["dropping"]
        )
    inside = to_array(read_volume(lungs)) > 0
    for target in TARGETS:
        path = tmp_path / "a" / "dropping" / f"{target}_uncertainty.nii.gz"
        values = to_array(read_volume(path))
        assert not values[~inside].any() and 0 < values[inside].max() < 0.5
        assert read_volume(path).GetMetaData("descrip") == spread_label("5 dropout runs", True)
        assert sha256_file(path) == sha256_file(tmp_path / "b" / "dropping" / path.name)
        assert not (tmp_path / "a" / "plain" / path.name).exists()
    assert "dropout" in read_json(tmp_path / "a" / "r.json")["dropping"]["uncertainty"]


def test_back_on_the_ct_no_value_exceeds_its_neighbours(cropped_case: Path) -> None:
    small = read_volume(cropped_case / "lungs.nii.gz")
    fine = make_grid(
        [2 * n for n in small.GetSize()], [SPACING_MM / 2] * 3, np.array(small.GetOrigin()) - SPACING_MM / 4
    )
    way_back = WayBack(small, resample(small, fine, linear=False))
    checks = np.indices(small.GetSize()[::-1]).sum(axis=0) % 2 * 1.0
    back = to_array(way_back.linear(checks.astype(np.float32)))
    inside = to_array(resample(small, fine, linear=False)) > 0
    assert back.min() >= 0 and back.max() <= 1 and not back[~inside].any()
    spiked = np.zeros(checks.shape, np.float32)
    spiked[8, 8, 6] = 1
    assert to_array(way_back(spiked)).max() > to_array(way_back.linear(spiked)).max(), "a spline keeps more of a peak"


@pytest.mark.parametrize("what", ["5 folds' models", "200 dropout runs", "15 folds' models"])
def test_the_label_fits_the_header(what: str) -> None:
    assert len(spread_label(what, True)) <= 79


def test_dropout_without_a_network_that_has_it() -> None:
    with pytest.raises(ConfigError, match=r"synthesize\.uncertainty.*dropout"):
        complete_config({"study": "x", "synthesize": {"uncertainty": "dropout"}})

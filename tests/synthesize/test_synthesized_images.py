"""Synthesised images: nothing outside the lungs, in the right place of any CT, labelled, and from our weights only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import SPACING_MM, TARGETS
from models import SYNTHESIZE, write_network
from safetensors.numpy import save_file

from ct2vq.baselines import train_baseline
from ct2vq.errors import Ct2vqError
from ct2vq.files import read_json, sha256_file
from ct2vq.inputs import read_cropped_case
from ct2vq.synthesize.case import synthesize_case
from ct2vq.synthesize.header import LABEL, label_of, read_header
from ct2vq.synthesize.predict import mean_images, predict, predict_all
from ct2vq.volume import make_grid, read_volume, require_same_grid, resample, to_array, write_volume


@pytest.fixture
def weights(tmp_path: Path, cohort) -> dict[str, Path]:
    baseline = tmp_path / "mean_map.safetensors"
    model = {"kind": "mean_map", "targets": list(TARGETS)}
    train_baseline(cohort[0], model, baseline, tmp_path / "mean_map.json", simulated=False)
    return {"ddran": write_network(tmp_path / "ddran.safetensors"), "mean_map": baseline}


@pytest.fixture
def ct_lungs(tmp_path: Path, cropped_case: Path) -> Path:
    """The case's lungs on a finer CT grid."""
    small = read_volume(cropped_case / "lungs.nii.gz")
    size = [n * 2 for n in small.GetSize()]
    fine = make_grid(size, [SPACING_MM / 2] * 3, np.array(small.GetOrigin()) - SPACING_MM / 4)
    write_volume(resample(small, fine, linear=False), tmp_path / "ct_lungs.nii.gz")
    return tmp_path / "ct_lungs.nii.gz"


def run(folder: Path, cropped_case: Path, ct_lungs: Path, weights: dict[str, Path]) -> Path:
    synthesize_case(cropped_case, ct_lungs, weights, folder, folder / "record.json", device="cpu", settings=SYNTHESIZE)
    return folder


def test_every_image_of_every_model(tmp_path: Path, cropped_case: Path, ct_lungs: Path, weights) -> None:
    out = run(tmp_path / "a", cropped_case, ct_lungs, weights)
    for model in weights:
        for target in TARGETS:
            for suffix, like in (("_network", cropped_case / "lungs.nii.gz"), ("", ct_lungs)):
                image, labels = read_volume(out / model / f"{target}{suffix}.nii.gz"), read_volume(like)
                require_same_grid(image, labels, "image", "lungs")
                values, inside = to_array(image), to_array(labels) > 0
                assert (values[~inside] == 0).all()
                assert 0 <= values.min() <= values.max() <= 1
                assert (values[inside] > 0).mean() > 0.99
                assert image.GetMetaData("descrip").startswith(LABEL)
    record = read_json(out / "record.json")
    assert record["ddran"]["label"] == label_of(True)
    assert record["mean_map"]["label"] == LABEL
    assert record["ddran"]["weights_sha256"] == sha256_file(weights["ddran"])
    assert "SYNTHETIC" in label_of(True)
    assert len(label_of(True)) <= 79, "the whole label must fit into the NIfTI header"
    simulated = read_volume(out / "ddran" / "perfusion.nii.gz").GetMetaData("descrip")
    assert simulated == label_of(True)


def test_the_same_bytes_twice(tmp_path: Path, cropped_case: Path, ct_lungs: Path, weights) -> None:
    first, second = (run(tmp_path / name, cropped_case, ct_lungs, weights) for name in "ab")
    files = sorted(path.relative_to(first) for path in first.rglob("*.*"))
    assert len(files) == 9
    assert [sha256_file(first / file) for file in files] == [sha256_file(second / file) for file in files]


def test_an_ensemble_is_the_mean_of_its_members(tmp_path: Path, cropped_case: Path) -> None:
    case = read_cropped_case(cropped_case, ())
    members = [write_network(tmp_path / f"{seed}.safetensors", seed) for seed in range(3)]
    images = [predict(path, case, "cpu", SYNTHESIZE) for path in members]
    mean = mean_images(predict_all(members, case, "cpu", SYNTHESIZE, jobs=2))
    for target in TARGETS:
        np.testing.assert_array_equal(mean[target], np.mean([image[target] for image in images], axis=0))
        assert np.ptp([image[target][case.inside].mean() for image in images]) > 0


def test_a_mirror_average_answers_a_mirrored_ct_with_the_mirrored_image(tmp_path: Path, cropped_case: Path) -> None:
    case = read_cropped_case(cropped_case, ())
    hu, enhanced, texture = (values[..., ::-1].copy() for values in (case.hu, case.enhanced, case.texture))
    lungs = np.where(case.inside, 3 - case.lungs, 0)[:, :, ::-1].astype(np.uint8)  # the right lung becomes the left
    turned = replace(case, hu=hu, enhanced=enhanced, texture=texture, lungs=lungs)
    plain, averaged = (write_network(tmp_path / f"{m}", network={"mirror_average": m}) for m in (False, True))
    for target in TARGETS:
        there, back = (
            predict(averaged, case, "cpu", SYNTHESIZE)[target],
            predict(averaged, turned, "cpu", SYNTHESIZE)[target],
        )
        np.testing.assert_allclose(there, back[:, :, ::-1], atol=1e-5)
        once = [predict(plain, c, "cpu", SYNTHESIZE)[target] for c in (case, turned)]
        np.testing.assert_allclose(there, (once[0] + once[1][:, :, ::-1]) / 2, atol=1e-5)


def foreign(path: Path, content: object) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save_file({"a": np.zeros(3, np.float32)}, path, metadata=content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02pickle",
        b"\xff" * 100,
        None,
        {"format": "pt"},
        {"ct2vq": "{"},
        {"ct2vq": "[]"},
        {"ct2vq": "{}"},
        {"ct2vq": '{"kind": "other", "targets": [], "simulated": true}'},
    ],
    ids=range(9),
)
def test_what_is_no_model(tmp_path: Path, content: object) -> None:
    path = foreign(tmp_path / "foreign.safetensors", content)
    with pytest.raises(Ct2vqError, match=r"foreign\.safetensors.*not a model of ct2vq"):
        read_header(path)
    with pytest.raises(Ct2vqError, match=r"gone\.safetensors.*do not exist"):
        read_header(tmp_path / "gone.safetensors")


def test_half_a_file(tmp_path: Path) -> None:
    path = write_network(tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Ct2vqError, match=r"w\.safetensors"):
        read_header(path)


def test_no_cuda_device(tmp_path: Path, cropped_case: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(Ct2vqError, match="no CUDA device"):
        predict(write_network(tmp_path / "w.safetensors"), read_cropped_case(cropped_case, ()), "cuda", SYNTHESIZE)

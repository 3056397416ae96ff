"""`ct2vq apply`: a trained model on a CT without SPECT, a real one included."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from studies import BIN, Study

from ct2vq.files import read_json
from ct2vq.volume import read_volume, same_grid, to_array, voxel_volume_ml

pytestmark = pytest.mark.workflow

REALDATA = Path(os.environ.get("CT2VQ_REALDATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
#: volumes of the RTSTRUCT's contours in mL (README.txt beside the images)
LUNG_RIGHT_ML, LUNG_LEFT_ML = 2966, 2277
#: the contours go round the tumour (156 mL) and its atelectasis, which the thresholding leaves out
VOLUME_TOLERANCE = 0.12


def apply(study: Study, ct: Path, output: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "python", "-m", "ct2vq", "apply", ct, output, *options]
    return subprocess.run([str(part) for part in command], cwd=study.folder, capture_output=True, text=True)


def require_images(output: Path, ct: sitk.Image) -> None:
    """Both images lie on the CT's grid, in the lungs only, and say what they are."""
    lungs = read_volume(output / "lungs.nii.gz")
    assert same_grid(lungs, ct)
    for target in ("perfusion", "ventilation"):
        image = read_volume(output / f"{target}.nii.gz")
        assert same_grid(image, ct)
        values, inside = to_array(image), to_array(lungs) > 0
        assert not values[~inside].any()
        assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
        assert np.ptp(values[inside]) > 0
        assert image.GetMetaData("descrip") == "SYNTHETIC, RESEARCH ONLY; trained on simulated patients"
    assert read_json(output / "apply.json")["label"].startswith("SYNTHETIC, RESEARCH ONLY")
    assert (output / "apply.png").stat().st_size > 10_000


@pytest.mark.realdata
@pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real images at {REALDATA}")
def test_a_real_ct_goes_all_the_way(finished: Study, tmp_path: Path) -> None:
    with tarfile.open(REALDATA / "mirp_LUNG1-001_ct" / "LUNG1-001_image.tar.xz") as archive:
        archive.extractall(tmp_path / "dicom", filter="data")
    result = apply(finished, tmp_path / "dicom", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    ct = read_volume(tmp_path / "out" / "ct.nii.gz")
    assert ct.GetSize() == (512, 512, 134)
    assert np.allclose(ct.GetSpacing(), (0.9765625, 0.9765625, 3.0), atol=1e-3)
    assert np.allclose((ct.GetOrigin()[2], ct.TransformIndexToPhysicalPoint((0, 0, 133))[2]), (-681.5, -282.5))
    require_images(tmp_path / "out", ct)
    labels = to_array(read_volume(tmp_path / "out" / "lungs.nii.gz"))
    right, left = (float((labels == side).sum()) * voxel_volume_ml(ct) for side in (1, 2))
    assert right == pytest.approx(LUNG_RIGHT_ML, rel=VOLUME_TOLERANCE)
    assert left == pytest.approx(LUNG_LEFT_ML, rel=VOLUME_TOLERANCE)


def test_a_simulated_ct_with_the_single_decoder_too(finished: Study, tmp_path: Path) -> None:
    ct = finished.path("results/simulate/sim001/dicom/ct")
    assert apply(finished, ct, tmp_path / "both").returncode == 0
    require_images(tmp_path / "both", read_volume(finished.path("results/convert/sim001/ct.nii.gz")))
    only = apply(finished, ct, tmp_path / "q", "--model", finished.path("results/train/ran_perfusion"))
    assert only.returncode == 0, only.stderr
    assert (tmp_path / "q" / "perfusion.nii.gz").is_file()
    assert not (tmp_path / "q" / "ventilation.nii.gz").exists()


def test_several_models_with_their_disagreement(finished: Study, tmp_path: Path) -> None:
    ct, models = finished.path("results/simulate/sim001/dicom/ct"), finished.path("results/train")
    options = ["--model", models / "ran_perfusion", "--model", models / "ran_ventilation", "--uncertainty", "folds"]
    result = apply(finished, ct, tmp_path / "pair", *options)
    assert result.returncode == 0, result.stderr
    require_images(tmp_path / "pair", read_volume(finished.path("results/convert/sim001/ct.nii.gz")))
    inside = to_array(read_volume(tmp_path / "pair" / "lungs.nii.gz")) > 0
    for target in ("perfusion", "ventilation"):
        spread = read_volume(tmp_path / "pair" / f"{target}_uncertainty.nii.gz")
        values = to_array(spread)
        assert not values[~inside].any() and 0 < values[inside].mean() < 0.5
        assert "not error" in spread.GetMetaData("descrip")
    record = read_json(tmp_path / "pair" / "apply.json")
    assert list(record["models"]) == ["ran_perfusion", "ran_ventilation"] and "uncertainty" in record
    refused = apply(finished, ct, tmp_path / "no", "--uncertainty", "dropout")
    assert refused.returncode and "synthesize.uncertainty" in refused.stderr and "Traceback" not in refused.stderr


def test_wrong_input_is_one_line(finished: Study, tmp_path: Path) -> None:
    ct = finished.path("results/simulate/sim001/dicom/ct")
    (tmp_path / "empty").mkdir()
    wrong = {
        "no trained model here": (ct, "--model", tmp_path / "empty"),
        "baseline": (ct, "--model", finished.path("results/train/mean_map")),
        str(tmp_path / "empty"): (tmp_path / "empty",),
    }
    for expected, (folder, *options) in wrong.items():
        result = apply(finished, folder, tmp_path / "out", *options)
        assert result.returncode != 0
        assert expected in result.stderr and "Traceback" not in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        assert not list((tmp_path / "out").glob("*.nii.gz"))

"""The rule `segment_backend` under Snakemake: networks of others with weights that nobody trained.

The backend's packages lie in the environment that runs Snakemake (docs/segmentation.md); without them a test skips. The
CT has few slices, because lungmask takes seconds for each.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from studies import TINY, Study, require_plain_failure

from ct2vq.files import read_json
from ct2vq.lungs import LOBE_SIDES, THIRDS
from ct2vq.segment.backends import run_backend
from ct2vq.volume import read_volume, same_grid, to_array

pytestmark = pytest.mark.workflow

CASE = "sim001"
LUNGS = f"results/segment/{CASE}/ct_lungs.nii.gz"
LOG = f"logs/segment/{CASE}/ct_backend.log"
#: weights that nobody trained find one lung, or none
LENIENT = {"min_lung_ml": 0, "allow_one_lung": True}
BACKENDS = {
    "lungmask": {"weights": "weights/r231.pth", "lobe_weights": "weights/ltrclobes.pth"},
    "totalsegmentator": {"weights": "weights", "fast": True},
}


def needs(library: str) -> pytest.MarkDecorator:
    reason = f"{library} is not installed (pip install -r requirements-{library}.txt)"
    return pytest.mark.skipif(find_spec(library) is None, reason=reason)


@pytest.fixture(scope="module")
def converted(checkout: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One converted CT of nine slices. Copy it before you change it."""
    study = checkout.copy(tmp_path_factory.mktemp("backend") / "study")
    study.replace(TINY, "slice_mm: 8.0}\n  attenuation_ct", "slice_mm: 40.0}\n  attenuation_ct")
    study.snakemake(f"results/convert/{CASE}/ct.nii.gz").require_success()
    return study


def choose(study: Study, backend: str, **keys: str | bool) -> None:
    """Set the study's backend, its block and limits that any answer passes."""
    settings = yaml.safe_load(study.path(TINY).read_text(encoding="utf-8"))
    settings["segment"] = LENIENT | {"backend": backend, backend: keys}
    study.path(TINY).write_text(yaml.safe_dump(settings), encoding="utf-8")


def write_weights(study: Study, backend: str, seed: int = 1) -> None:
    """Files of weights where `BACKENDS` names them."""
    from random_weights import write_lungmask, write_totalsegmentator

    study.path("weights").mkdir(exist_ok=True)
    if backend == "totalsegmentator":
        write_totalsegmentator(study.path("weights"), seed)
        return
    write_lungmask(study.path("weights/r231.pth"), 3, seed)
    write_lungmask(study.path("weights/ltrclobes.pth"), 6, seed + 1)


def in_place(study: Study, backend: str) -> dict:
    """The block `segment` as the function takes it: with the places of the weights."""
    block = dict(BACKENDS[backend], batch_size=4)
    places = {key: str(study.path(value)) for key, value in block.items() if key.endswith("weights")}
    return {"backend": backend, backend: block | places}


@pytest.mark.slow
@pytest.mark.parametrize("backend", [pytest.param(name, marks=needs(name)) for name in BACKENDS])
def test_a_network_of_others_segments_under_snakemake(backend: str, converted: Study, tmp_path: Path) -> None:
    study = converted.copy(tmp_path / "study")
    choose(study, backend, **BACKENDS[backend])
    write_weights(study, backend)
    result = study.snakemake(LUNGS).require_success()
    folder = study.path(LUNGS).parent
    ct = read_volume(study.path(f"results/convert/{CASE}/ct.nii.gz"))
    lungs, lobes, parts = (read_volume(folder / f"ct_{name}.nii.gz") for name in ("lungs", "lobes", "regions"))
    assert all(same_grid(image, ct) for image in (lungs, lobes, parts))
    found, found_lobes = run_backend(ct, in_place(study, backend))
    assert np.array_equal(to_array(lungs), to_array(found)), "what the function finds"
    assert np.array_equal(to_array(lobes), to_array(found_lobes))
    assert np.array_equal(np.array([0, *LOBE_SIDES.values()])[to_array(lobes)], to_array(lungs))
    assert np.array_equal(to_array(parts) > 0, to_array(lungs) > 0) and set(np.unique(to_array(parts))) <= {0, *THIRDS}
    record = read_json(folder / "ct_lungs.json")
    assert record["method"] == record["lobes_source"] == backend
    said = result.output + study.path(LOG).read_text(encoding="utf-8")
    assert "ct2vq.segment: lungs: right" in said and ".pth" not in said, "no place of weights is told"
    require_weights_by_content(study, backend)


def require_weights_by_content(study: Study, backend: str) -> None:
    """Another place of the weights runs nothing again; other weights do."""
    assert not study.plan(LUNGS).rules
    shutil.move(study.path("weights"), study.path("elsewhere"))
    moved = {
        key: value.replace("weights", "elsewhere", 1) if isinstance(value, str) else value
        for key, value in BACKENDS[backend].items()
    }
    choose(study, backend, **moved)
    assert not study.plan(LUNGS).rules
    write_weights(study, backend, seed=5)
    choose(study, backend, **BACKENDS[backend])
    assert study.plan(LUNGS).rules == {"segment_backend": 1}


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_that_are_missing_stop_the_job_in_words(backend: str, converted: Study, tmp_path: Path) -> None:
    study = converted.copy(tmp_path / "study")
    choose(study, backend, **BACKENDS[backend])
    require_plain_failure(study.snakemake(LUNGS), "D708", f"segment: {backend}.weights", "no weights here")
    assert "D708" in study.path(LOG).read_text(encoding="utf-8")
    assert not study.path(LUNGS).exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_that_is_not_installed_stops_the_job_in_words(backend: str, converted: Study, tmp_path: Path) -> None:
    if find_spec(backend) is not None:
        pytest.skip(f"{backend} is installed")
    study = converted.copy(tmp_path / "study")
    choose(study, backend, **BACKENDS[backend])
    study.path("weights").mkdir()
    if backend == "lungmask":
        for file in BACKENDS[backend].values():
            study.path(str(file)).write_bytes(b"")
    require_plain_failure(study.snakemake(LUNGS), "D708", f"pip install -r requirements-{backend}.txt")

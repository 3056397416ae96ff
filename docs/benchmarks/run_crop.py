"""Measure what the stage `crop` loses, finds and costs: `make bench-crop` writes crop.tsv and crop.json.

Round trip: a random image of a given resolution (SD a third of its mean, from a fixed seed) on the true lungs of a
simulated CT, to the network's grid and back; |error| in the lungs in per cent of the mean. `before` is linear
interpolation with the nearest value continued, `ct2vq` is what is built in. Hot spots: simulated SPECT images are
carried by the true displacement at 4 mm; a clump of the truth counts as found within 14 mm. Clumps are grouped by their
height in the image (peak over the lungs' mean, at 11 mm resolution), false ones are counted per image; `moved` is the
share of lung voxels more than 20 mm from any clump that changed. `error_normalised` is the mean |difference| from the
noise-free truth, normalised alike, `error_reference` that of the reference (over the mean) in per cent. Limits were set
on the cases with odd numbers; these are the even ones. Seconds are processor time of one image.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from machine import describe_machine  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from ct2vq.config import TARGETS, complete_config  # noqa: E402
from ct2vq.convert import convert_spect  # noqa: E402
from ct2vq.crop.grid import network_grid  # noqa: E402
from ct2vq.crop.hot_spots import find_hot_spots, remove_hot_spots  # noqa: E402
from ct2vq.crop.restore import WayBack  # noqa: E402
from ct2vq.crop.spect import normalise_spect  # noqa: E402
from ct2vq.evaluate.truth import LungInterpolator  # noqa: E402
from ct2vq.files import read_json, write_json, write_tsv  # noqa: E402
from ct2vq.lungs import fill_from_inside  # noqa: E402
from ct2vq.simulate.ceilings import carry  # noqa: E402
from ct2vq.volume import corners, from_array, make_grid, read_volume, resample, to_array  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
METHODS = ("none", "cap", "inpaint")
#: resolution and voxels in mm: the default, a coarser camera, and the demo's voxels with what they can and cannot hold
TRIPS = ((12.0, 4.0), (15.0, 4.0), (24.0, 8.0), (12.0, 8.0))
FOUND_MM, FAR_MM = 14.0, 20.0
BLOB_ML = (1.0645 * 11.0) ** 3 / 1000
HEIGHTS = (0.0, 2.0, 3.0, 5.0, 10.0, 1000.0)


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="directory of a run of config/simulated-study.yaml")
    parser.add_argument("--trips", type=int, default=4, help="cases for the round trip")
    options = parser.parse_args()
    cases = sorted((options.study / "results" / "simulate").glob("sim*[02468]"))
    config = complete_config({"study": "benchmark"})
    rows = [row for case in cases[: options.trips] for row in _round_trips(case, config["crop"])]
    rows += _summary([_hot_spots(case, config) for case in cases])
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["value"] = table["value"].map(lambda value: float(f"{value:.4g}"))
    folder = Path(__file__).parent
    write_tsv(table, folder / "crop.tsv")
    command = "python docs/benchmarks/run_crop.py --study DIRECTORY"
    write_json(describe_machine("Crop: there and back, hot spots", __doc__ or "", command, 1), folder / "crop.json")


def _round_trips(case: Path, settings: Mapping[str, Any]) -> Iterator[list[Any]]:
    lungs = read_volume(case / "truth" / "lungs.nii.gz")
    inside = to_array(lungs) > 0
    for fwhm, spacing in TRIPS:
        source = _smooth_image(lungs, fwhm)
        grid = network_grid(lungs, {**settings, "spacing_mm": spacing})
        known = to_array(grid) > 0
        truth, network = _spline(source, lungs), np.where(known, _spline(source, grid), 0)
        for arm in ("before", "ct2vq"):
            start = time.process_time()
            if arm == "before":
                filled = from_array(fill_from_inside(network, known), grid)
                back = to_array(resample(filled, lungs))
            else:
                back = to_array(WayBack(grid, lungs)(network))
            seconds = time.process_time() - start
            error = 100 * np.abs(back - truth)[inside] / truth[inside].mean()
            name = f"{arm}, {fwhm:.0f} mm resolution on {spacing:.0f} mm"
            for metric, value in (("mean", error.mean()), ("p95", np.percentile(error, 95)), ("max", error.max())):
                yield [name, case.name, "", "truth", f"round_trip_{metric}", value, "%"]
            yield [name, case.name, "", "", "processor_time", seconds, "s"]


def _smooth_image(grid: sitk.Image, fwhm_mm: float) -> sitk.Image:
    """A random image of one resolution on 3 mm voxels round a grid, mean 1, SD 0.35."""
    low, high = corners(grid).min(axis=0) - 30, corners(grid).max(axis=0) + 30
    fine = make_grid(np.ceil((high - low) / 3).astype(int) + 1, [3.0] * 3, low)
    noise = gaussian_filter(np.random.default_rng(1).normal(size=fine.GetSize()[::-1]), fwhm_mm / 2.3548 / 3)
    return from_array((1 + 0.35 * noise / noise.std()).astype(np.float32), fine)


def _spline(image: sitk.Image, grid: sitk.Image) -> np.ndarray:
    identity = sitk.Transform(3, sitk.sitkIdentity)
    return to_array(sitk.Resample(image, grid, identity, sitk.sitkBSpline, 0.0, sitk.sitkFloat32))


def _hot_spots(case: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What was found in the two images of a case, and how far their normalised images lie from the truth."""
    truth, facts = case / "truth", read_json(case / "truth" / "truth.json")
    lungs = read_volume(truth / "lungs.nii.gz")
    grid = network_grid(lungs, config["crop"])
    inside, spacing = to_array(grid) > 0, float(grid.GetSpacing()[0])
    at = LungInterpolator(lungs, grid)
    displacement = at(read_volume(truth / "ct_to_spect_displacement.nii.gz"))
    index = np.moveaxis(np.indices(inside.shape)[::-1], 0, -1)
    places = index * spacing + np.asarray(grid.GetOrigin()) + displacement
    spots = [np.array(spot["position_spect_mm"]) for spot in facts["hot_spots"]]
    away = np.min([np.linalg.norm(places - spot, axis=-1) for spot in spots] + [np.full(inside.shape, 1e3)], axis=0)
    result: dict[str, Any] = {"heights": [spot["lung_mean_ml"] / BLOB_ML for spot in facts["hot_spots"]]}
    for target in TARGETS:
        with tempfile.TemporaryDirectory() as temporary:
            files = [Path(temporary) / name for name in ("spect.nii.gz", "spect.json")]
            convert_spect(case / "dicom" / target, *files, config["convert"], case.name, target)
            values = carry(read_volume(files[0]), grid, displacement, facts["motion"]["shift_mm"][target])
        start = time.process_time()
        found = find_hot_spots(values, inside, spacing, config["crop"]["spect"]["hot_spots"])
        remove_hot_spots(values, inside, found, "inpaint")
        seconds = time.process_time() - start
        peaks = np.array([places[tuple(spot["index"])] for spot in found.spots]).reshape(-1, 3)
        near = [len(peaks) and np.linalg.norm(peaks - spot, axis=1).min() <= FOUND_MM for spot in spots]
        result[target] = {
            "found": [bool(hit) for hit in near],
            "false": sum(away[tuple(spot["index"])] > FOUND_MM for spot in found.spots),
            "moved": float((found.mask & (away > FAR_MM)).sum() / inside.sum()),
            "seconds": seconds,
            "errors": _errors(values, at(read_volume(truth / f"{target}_system.nii.gz")), inside, spacing, config),
        }
    return result


def _errors(
    values: np.ndarray, truth: np.ndarray, inside: np.ndarray, spacing: float, config: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """Mean |difference| of normalised images, and error of the reference in per cent, for each method."""
    settings, errors = config["crop"]["spect"], {}
    for method in METHODS:
        # the truth has no clumps: whatever is bright in it is function
        images = [
            normalise_spect(image, inside, spacing, {**settings, "hot_spots": {**settings["hot_spots"], "method": m}})
            for image, m in ((values, method), (truth, "none"))
        ]
        ratio = [record["reference"] / (record["counts_in_lungs"] / inside.sum()) for _, record in images]
        difference = np.abs(images[0][0] - images[1][0])[inside].mean()
        errors[method] = (float(difference), 100 * abs(ratio[0] / ratio[1] - 1))
    return errors


def _summary(cases: list[dict[str, Any]]) -> Iterator[list[Any]]:
    heights = np.concatenate([case["heights"] for case in cases])
    found = np.concatenate([case["ventilation"]["found"] for case in cases]).astype(bool)
    for low, high in itertools.pairwise(HEIGHTS):
        group = (heights >= low) & (heights < high)
        name = f"clumps of {low:g} to {high:g} times the mean" if high < 100 else f"clumps above {low:g} times the mean"
        yield [name, "", "ventilation", "truth", "number", float(group.sum()), ""]
        yield [name, "", "ventilation", "truth", "found", 100 * float(found[group].mean()), "%"]
    for target in TARGETS:
        of = [case[target] for case in cases]
        yield ["ct2vq", "", target, "truth", "false_per_image", float(np.mean([one["false"] for one in of])), ""]
        yield ["ct2vq", "", target, "truth", "moved", 100 * float(np.mean([one["moved"] for one in of])), "%"]
        yield ["ct2vq", "", target, "", "processor_time", float(np.mean([one["seconds"] for one in of])), "s"]
        for method in METHODS:
            difference, reference = np.mean([one["errors"][method] for one in of], axis=0)
            yield [method, "", target, "truth", "error_normalised", float(difference), ""]
            yield [method, "", target, "truth", "error_reference", float(reference), "%"]


if __name__ == "__main__":
    main()

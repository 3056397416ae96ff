"""Measure what the networks cost: `make bench-networks` writes networks.tsv and networks.json.

Every network of config/peers.yaml and config/ablations.yaml, on cubes of 24 and 48 voxels: parameters; multiply-adds
of one forward pass (`torch.utils.flop_counter` over 2: convolutions and matrix products); processor seconds of a
training step (forward, the default loss, backward, AdamW; float32, one thread) with batches of 1 and of 2, the least
of several, arms in turn in one process after one step each to warm up. On one thread torch takes oneDNN's
convolutions only for a batch of 2 or a large image, so that a step of two images may be faster than a step of one.
`two RANs` is the sum of both single networks. Swin UNETR pads each axis to a multiple of `stem` x 32, so that cubes
of 24 and of 48 cost it as much as 64.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"

import pandas as pd  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from machine import describe_machine  # noqa: E402

from ct2vq.config import complete_config, is_network  # noqa: E402
from ct2vq.files import write_json, write_tsv  # noqa: E402
from ct2vq.inputs import channels  # noqa: E402
from ct2vq.losses import lung_loss  # noqa: E402
from ct2vq.networks.build import build_network  # noqa: E402
from ct2vq.networks.cost import multiply_adds, parameters  # noqa: E402

COLUMNS = ["arm", "case", "target", "reference", "metric", "value", "unit"]
CONFIGS = ("peers.yaml", "ablations.yaml")
SIZES = (24, 48)
BATCHES = (1, 2)
PAIR = ("ran_perfusion", "ran_ventilation")


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of each network and size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    models, loss = _models()
    rows = list(_sizes(models)) + list(_times(models, loss, options.repeats))
    table = pd.DataFrame(rows, columns=COLUMNS)
    pair = table[table["arm"].isin(PAIR)].groupby(["case", "metric", "unit"], as_index=False, sort=False)["value"].sum()
    table = pd.concat([table, pair.assign(arm="two RANs", target="", reference="")])[COLUMNS]
    table["value"] = table["value"].map(lambda value: float(f"{value:.4g}"))
    folder = Path(__file__).parent
    write_tsv(table, folder / "networks.tsv")
    command = "python docs/benchmarks/run_networks.py"
    header = describe_machine("Networks: size, multiply-adds and time of a step", __doc__ or "", command, 1)
    write_json(header, folder / "networks.json")


def _models() -> tuple[dict[str, Mapping[str, Any]], Mapping[str, Any]]:
    """Networks by name, each once, and the default loss."""
    models: dict[str, Mapping[str, Any]] = {}
    for name in CONFIGS:
        text = (ROOT / "config" / name).read_text(encoding="utf-8")
        config = complete_config(yaml.safe_load(text), name)
        models |= {arm: model for arm, model in config["models"].items() if is_network(model)}
    return models, config["train"]["loss"]


def _network(model: Mapping[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(model["kind"], model["targets"], model["network"], channels(model["network"]))


def _sizes(models: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Any]]:
    for arm, model in models.items():
        network = _network(model)
        yield [arm, "", "", "", "parameters", parameters(network) / 1e6, "million"]
        for size in SIZES:
            counted = multiply_adds(network, (size, size, size)) / 1e9
            yield [arm, f"{size}^3", "", "", "multiply_adds", counted, "1e9"]


def _times(models: Mapping[str, Mapping[str, Any]], loss: Mapping[str, Any], repeats: int) -> Iterator[list[Any]]:
    """Seconds of a step, arms in turn, so that a busy minute of the machine hits all of them."""
    networks = {arm: _network(model) for arm, model in models.items()}
    optimisers = {arm: torch.optim.AdamW(network.parameters()) for arm, network in networks.items()}
    for size, batch in itertools.product(SIZES, BATCHES):
        seconds: dict[str, list[float]] = {arm: [] for arm in models}
        for _ in range(1 + repeats):
            for arm, model in models.items():
                seconds[arm].append(_step(networks[arm], optimisers[arm], model, (size, batch), loss))
        for arm, measured in seconds.items():
            yield [arm, f"{size}^3", "", "", f"step_time_of_{batch}", min(measured[1:]), "s"]


def _step(
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    model: Mapping[str, Any],
    sizes: tuple[int, int],
    loss: Mapping[str, Any],
) -> float:
    (size, batch), generator = sizes, torch.Generator().manual_seed(1)
    image = torch.rand((batch, channels(model["network"]), size, size, size), generator=generator)
    truth = torch.rand((batch, len(model["targets"]), size, size, size), generator=generator)
    lungs = torch.ones((batch, 1, size, size, size))
    start = time.process_time()
    optimiser.zero_grad()
    lung_loss(network(image, lungs), truth, lungs, loss, model["targets"]).backward()
    optimiser.step()
    return time.process_time() - start


if __name__ == "__main__":
    main()

"""Adapter of the rule `train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

if __name__ == "__main__":
    from ct2vq.logs import stage

    with stage(snakemake.log[0]):
        from ct2vq.config import TRAINING_WITHOUT_EFFECT
        from ct2vq.gpus import own_gpus

        resources = snakemake.resources
        training = snakemake.params.training | {key: resources[key] for key in TRAINING_WITHOUT_EFFECT}
        with own_gpus(training["device"], training["devices"]):
            from ct2vq.train.run import train_network

            train_network(
                list(snakemake.input.images),
                snakemake.params.patients,
                snakemake.params.model,
                training,
                snakemake.params.preparation,
                {name: Path(path) for name, path in snakemake.output.items()},
                name=snakemake.wildcards.model,
                fold=int(snakemake.wildcards.fold),
                seed=snakemake.params.seed,
                code=snakemake.params.code,
                simulated=snakemake.params.simulated,
            )

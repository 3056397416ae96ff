"""Adapter of the rule `detect`."""

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
        from ct2vq.detect.study import detect

        detect(
            {name: list(map(Path, snakemake.input[name])) for name in ("detection", "defects")},
            Path(snakemake.input.metrics),
            Path(snakemake.input.folds),
            {name: Path(path) for name, path in snakemake.output.items()},
            snakemake.params.settings,
            diagnoses=snakemake.params.diagnoses,
            models=snakemake.params.models,
            seed=snakemake.params.seed,
        )

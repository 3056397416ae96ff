"""Adapter of the rule `evaluate_case`."""

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
        from ct2vq.evaluate.case import evaluate_case
        from ct2vq.evaluate.truth import KnownTruth

        files = {name: Path(path) for name, path in snakemake.input.items() if name != "truth"}
        tables = {name: Path(snakemake.output[name]) for name in ("metrics", "density", "detection", "defects")}
        known = snakemake.params.truth
        evaluate_case(
            snakemake.wildcards.case,
            files,
            tables,
            snakemake.params.settings,
            snakemake.params.arms,
            truth=known and KnownTruth(Path(snakemake.input.truth), **known),
            truth_outputs={Path(path).name.removesuffix(".nii.gz"): Path(path) for path in snakemake.output.truth},
        )

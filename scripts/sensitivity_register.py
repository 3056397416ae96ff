"""Adapter of the rule `sensitivity_register`."""

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
        from ct2vq.register.case import register_case

        files = {name: Path(path) for name, path in snakemake.input.items()}
        register_case(
            {name: path for name, path in files.items() if not name.endswith("_facts")},
            {name.removesuffix("_facts"): path for name, path in files.items() if name.endswith("_facts")},
            Path(snakemake.output.ct_to_spect),
            Path(snakemake.output.spect_to_ct),
            Path(snakemake.output.record),
            snakemake.params.settings,
            snakemake.params.seed,
            snakemake.wildcards.case,
        )

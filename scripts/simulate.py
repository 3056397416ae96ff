"""Adapter of the rule `simulate`."""

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
        from ct2vq.simulate import simulate_case

        simulate_case(
            case_id=snakemake.wildcards.case,
            patient_id=snakemake.params.patient,
            diagnosis=snakemake.params.diagnosis,
            seed=snakemake.params.seed,
            settings=snakemake.params.settings,
            output=Path(snakemake.output.manifest).parent,
        )

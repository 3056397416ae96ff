"""Adapter of the rule `crop`."""

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
        from ct2vq.crop.ct import crop_case

        crop_case(
            Path(snakemake.input.ct),
            Path(snakemake.input.lungs),
            {name: Path(path) for name, path in snakemake.output.items()},
            snakemake.params.settings,
        )

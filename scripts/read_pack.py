"""Adapter of the rule `read_pack`."""

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
        from ct2vq.identity.sources import open_store, private_folder
        from ct2vq.read.pack import write_pack

        paths = dict(snakemake.input.items())
        design = paths.pop("design")
        write_pack(
            snakemake.output.pack,
            snakemake.output.key,
            snakemake.output.record,
            reader=snakemake.wildcards.reader,
            design=design,
            images={
                case: {name: listed[index] for name, listed in paths.items()}
                for index, case in enumerate(snakemake.params.cases)
            },
            settings=snakemake.params.settings,
            secret=open_store(private_folder()).pseudonym("readers", str(snakemake.params.seed), 64),
            archive="work/read",
            exports=snakemake.params.exports,
        )

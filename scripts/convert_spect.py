"""Adapter of the rule `convert_spect`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

if __name__ == "__main__":
    from ct2vq.logs import private_stage

    with private_stage(snakemake.log[0]) as curtain:
        from ct2vq.convert import convert_spect
        from ct2vq.identity.guard import job_guard, job_source
        from ct2vq.identity.job import open_job
        from ct2vq.identity.sources import private_folder

        job = open_job(private_folder(), snakemake.wildcards.case, snakemake.wildcards.target)
        curtain.cleaner = job
        convert_spect(
            job_source(job),
            Path(snakemake.output.volume),
            Path(snakemake.output.sidecar),
            snakemake.params.settings,
            snakemake.wildcards.case,
            snakemake.wildcards.target,
            guard=job_guard(job, Path(snakemake.output.deidentified)),
        )

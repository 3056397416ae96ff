"""Adapter of the rule `report`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from snakemake.script import Snakemake

    snakemake: Snakemake

#: where Snakemake puts the times of all jobs, as every rule says
BENCHMARKS = "benchmarks"

if __name__ == "__main__":
    from ct2vq.logs import stage

    with stage(snakemake.log[0]):
        from ct2vq.read.names import REPORTED
        from ct2vq.report.page import READING, write_report
        from ct2vq.report.study import EXTRA

        tables = ("summary", "pairs", "baselines", "metrics", "folds", "acquisitions", *EXTRA)
        named = dict(snakemake.input.items())
        reading = {name: named[name] for name in (f"{READING}{table}" for table in REPORTED) if name in named}
        write_report(
            {name: snakemake.input[name] for name in tables} | reading,
            qc=snakemake.input.qc,
            noticed=snakemake.input.noticed,
            runs=snakemake.input.runs,
            sidecars=snakemake.input.sidecars,
            panels=snakemake.params.panels,
            normalised=snakemake.params.normalised,
            volumes=snakemake.params.volumes,
            registrations=snakemake.input.registrations,
            figures=[*snakemake.input.figures, *named.get("reading_figures", [])],
            benchmarks=BENCHMARKS,
            outputs=dict(snakemake.output.items()),
            config=snakemake.params.config,
            labels=snakemake.params.labels,
            cases=snakemake.params.cases,
            flow=snakemake.params.flow,
            simulated=snakemake.params.simulated,
        )

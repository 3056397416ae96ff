"""Adapter of the rule `check`: the table of problems on the terminal, and status 1 if there are errors."""

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
        from ct2vq.check import problem_lines

        lines, errors = problem_lines(Path(snakemake.input.problems))
        print("\n".join(["", *lines, ""]), flush=True)
        sys.exit(1 if errors else 0)

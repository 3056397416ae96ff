"""The tables of all cases in one, copied line by line: memory does not grow with the cohort."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ct2vq.errors import Ct2vqError
from ct2vq.files import replacing

logger = logging.getLogger(__name__)


def collect(tables: Sequence[str | Path], output: Path) -> None:
    """Join the tables of all cases, in the order given, and log how many values are missing and why.

    Args:
        tables: tables of metrics of one header.
        output: TSV to write.

    Raises:
        Ct2vqError: a table has another header than the first.
    """
    missing: Counter[str] = Counter()
    rows = 0
    with replacing(output) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as joined:
        header = ""
        for table in tables:
            with open(table, encoding="utf-8", newline="") as lines:
                first = lines.readline()
                if not header:
                    joined.write(first)
                    header = first
                if first != header:
                    raise Ct2vqError("the table has other columns than that of the first case", path=table)
                for line in lines:
                    joined.write(line)
                    rows += 1
                    # the reason is the last column, and empty where the value is known
                    if reason := line.rstrip("\n").rpartition("\t")[2]:
                        missing[reason] += 1
    logger.info("%s rows of %s cases; %s values are missing", rows, len(tables), missing.total())
    for reason, count in missing.most_common():
        logger.info("missing: %s values, because: %s", count, reason)

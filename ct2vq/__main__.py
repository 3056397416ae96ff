"""The command line: `python -m ct2vq`, or `ct2vq` where the package is installed."""

from ct2vq.cli import app

app(prog_name="ct2vq")

"""Make the README's pictures: docs/images/dag.png (the rules) and docs/images/report.png (the top of the report).

Needs graphviz (`dot`, `tred`) and Chromium, both Debian packages that only who changes the README wants. The report
must be finished: run `make demo` first. `make pictures` makes both; `python docs/make_pictures.py dag` only one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
REPORT = ROOT / "results" / "report" / "index.html"
#: one colour for each part of the study, by verb
COLOURS = {
    "#d7e8f5": ("simulate", "convert"),
    "#dcefd8": ("segment", "register", "crop"),
    "#fbe6c8": ("split", "train", "synthesize"),
    "#ead9ee": ("evaluate", "compare", "detect", "sensitivity", "report", "all"),
    "#f6dada": ("read",),
}


def make_dag(image: Path) -> None:
    """Draw the rules of the demo, in an empty folder; edges that follow from others are left out."""
    with tempfile.TemporaryDirectory() as empty:
        places = ["--snakefile", str(ROOT / "Snakefile"), "--directory", empty]
        configuration = ["--configfile", str(ROOT / "config" / "demo.yaml")]
        graph = _output([sys.executable, "-m", "snakemake", *places, *configuration, "--rulegraph"])
    reduced = _output([_tool("tred"), "-"], _styled(graph))
    _output([_tool("dot"), "-Tpng", "-Gdpi=100", "-o", str(image)], reduced)


def make_report(image: Path) -> None:
    """Take a picture of the top of the finished report."""
    if not REPORT.is_file():
        sys.exit(f"no report at {REPORT.relative_to(ROOT)}: run `make demo` first")
    with tempfile.TemporaryDirectory() as profile:
        arguments = ["--headless=new", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={profile}"]
        size = ["--window-size=1200,1500", f"--screenshot={image}"]
        _output([_tool("chromium", "chromium-browser", "google-chrome"), *arguments, *size, REPORT.as_uri()])


def _styled(graph: str) -> str:
    """Snakemake's graph from top to bottom, in the colours of the parts."""
    graph = re.sub(r"graph\[.*?\];", "graph[rankdir=TB, ranksep=0.22, nodesep=0.3, bgcolor=white, margin=0.1];", graph)
    graph = re.sub(
        r"node\[.*?\];",
        'node[shape=box, style="rounded,filled", fontname="DejaVu Sans", fontsize=11, height=0.32, color="#606060"];',
        graph,
        flags=re.DOTALL,
    )
    graph = re.sub(r"edge\[.*?\];", 'edge[color="#8a8a8a", arrowsize=0.6];', graph)
    return re.sub(
        r'\[label = "(\w+)".*?\];', lambda match: f'[label="{match[1]}", fillcolor="{_colour(match[1])}"];', graph
    )


def _colour(rule: str) -> str:
    verb = rule.split("_")[0]
    return next(colour for colour, verbs in COLOURS.items() if verb in verbs)


def _tool(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    return found or sys.exit(f"{names[0]} is not installed: apt-get install graphviz chromium")


def _output(command: list[str], given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


PICTURES: dict[str, Callable[[Path], None]] = {"dag": make_dag, "report": make_report}

if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name](IMAGES / f"{name}.png")
        print(f"docs/images/{name}.png")

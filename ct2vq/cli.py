"""Commands beside the workflow: start a run that goes on after a crash, print the summary, apply a trained model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ct2vq.errors import ConfigError, Ct2vqError

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    help="Run Snakemake with the given arguments, after removing the lock of a run that is dead.",
)
def run(context: typer.Context) -> None:
    """Replace this process by Snakemake, so that the recorded owner of the lock is the process that runs."""
    from ct2vq.forecast import forecast_lines
    from ct2vq.study import record_owner, release_dead_lock, working_directory

    with _plain_errors():
        folder = working_directory(context.args)
        removed = release_dead_lock(folder)
        if removed:
            print(f"ct2vq: {removed}", file=sys.stderr)
        for line in forecast_lines(context.args, folder):
            print(f"ct2vq: {line}", file=sys.stderr)
        record_owner(folder)
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *context.args])


@app.command(help="Tell which file an id in a log stands for (logs name no files: docs/deidentification.md).")
def where(
    name: Annotated[str, typer.Argument(help="the id, ten hexadecimal digits")],
    private: Annotated[Path, typer.Option(help="the study's private folder (`cohort.private`)")] = Path("private"),
) -> None:
    """Print the paths."""
    from ct2vq.identity.job import where as paths_of

    with _plain_errors():
        for path in paths_of(private, name):
            sys.stdout.buffer.write(os.fsencode(path) + b"\n")


@app.command(help="Print where the report is, and the mean metrics of every model.")
def summary(
    results: Annotated[Path, typer.Argument(help="folder of results")] = Path("results"),
) -> None:
    """Print the report's path and a table model x target."""
    from ct2vq.compare.summary import summary_lines
    from ct2vq.files import read_tsv

    table = results / "compare" / "summary.tsv"
    with _plain_errors():
        if not table.is_file():
            raise Ct2vqError("there is no summary yet", path=table, hint="run the workflow first")
        print("\n".join(summary_lines(read_tsv(table))))
        print(f"\nreport: {(results / 'report' / 'index.html').resolve()}")


@app.command(help="Apply a trained model to a new CT without SPECT: DICOM folder in, the synthesised images out.")
def apply(
    ct: Annotated[Path, typer.Argument(help="DICOM folder of the CT")],
    output: Annotated[Path, typer.Argument(help="folder to write to")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="a trained model: results/train/<model> (all folds are averaged); several are averaged where they "
            "predict the same image (default: results/train/ddran)",
        ),
    ] = None,
    lung_mask: Annotated[
        Path | None, typer.Option(help="your own lung mask: NIfTI on the CT's grid, RTSTRUCT or SEG")
    ] = None,
    segment_weights: Annotated[
        Path | None, typer.Option(help="weights of lungmask or TotalSegmentator, if the study segmented with one")
    ] = None,
    segment_lobe_weights: Annotated[
        Path | None, typer.Option(help="lungmask's weights for lobes, if it used them")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps")] = "cpu",
    uncertainty: Annotated[
        Literal["none", "folds", "dropout"] | None, typer.Option(help="a map of it; over what the configuration says")
    ] = None,
    configfile: Annotated[
        Path | None, typer.Option(help="a configuration (block `synthesize`, `seed`), else the defaults")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="else one for each processor; changes no bytes")] = None,
) -> None:
    """Convert, segment, crop, synthesise and draw one CT."""
    from ct2vq.apply import apply_model
    from ct2vq.gpus import own_gpus

    with _plain_errors():
        config = _configuration(configfile)
        if uncertainty is not None:
            config["synthesize"]["uncertainty"] = uncertainty
        with own_gpus(device):
            written = apply_model(
                ct,
                output,
                model or [Path("results/train/ddran")],
                lung_mask=lung_mask,
                segment_weights=segment_weights,
                segment_lobe_weights=segment_lobe_weights,
                device=device,
                config=config,
                threads=threads or os.cpu_count() or 1,
            )
        for path in written:
            print(path)


@app.command("simulate-on", help="Put known function on a real CT: the files of a simulated case, with its truth.")
def simulate_on(
    ct: Annotated[Path, typer.Argument(help="DICOM folder of the CT, or a volume in HU (NIfTI, NRRD)")],
    output: Annotated[Path, typer.Option(help="the case's folder: dicom/, truth/, manifest.json")],
    diagnosis: Annotated[str, typer.Option(help="what is painted into the CT; emphysema is taken from it")] = "normal",
    lungs: Annotated[Path | None, typer.Option(help="lung labels on the CT's grid, else the CT is segmented")] = None,
    seed: Annotated[int, typer.Option(help="everything random follows from it")] = 1,
    case_id: Annotated[str, typer.Option(help="the study's name of the case and of its patient")] = "real-ct",
    configfile: Annotated[Path | None, typer.Option(help="a configuration, else the defaults")] = None,
) -> None:
    """Read and segment one CT, simulate on it, and write what `simulate` writes."""
    from ct2vq.simulate.real_ct import read_scan, simulate_on_ct

    with _plain_errors():
        config = _configuration(configfile)
        settings = {key: value for key, value in config["simulate"].items() if key != "cases"}
        scan = read_scan(ct, lungs, config)
        simulate_on_ct(scan, case_id, case_id, diagnosis, seed, settings, output)
        print(output / "manifest.json")


@app.command(help="Take the inventory of a raw DICOM folder and propose the cohort table.")
def discover(
    raw: Annotated[Path, typer.Argument(help="folder of the export; every file below it is looked at")],
    output: Annotated[Path | None, typer.Option(help="the table to propose, else `cohort.cases`")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="processes that read, else one for each processor")] = None,
    configfile: Annotated[
        Path | None, typer.Option(help="a configuration (block `discover`), else config/config.yaml or the defaults")
    ] = None,
) -> None:
    """Scan, classify, propose; print what was found."""
    from rich.console import Console

    from ct2vq.discover.run import FileProgress, show
    from ct2vq.discover.run import discover as run_discover
    from ct2vq.identity.store import study_store

    console = Console()
    with _plain_errors():
        default = Path("config/config.yaml")
        config = _configuration(configfile or (default if default.is_file() else None))
        # Even if the configuration is that of the simulated cohort, these images may be of real patients.
        store = study_store(config | {"cohort": config["cohort"] | {"source": "table"}})
        table = output or Path(config["cohort"]["cases"])
        with FileProgress(Console(stderr=True)) as progress:
            found = run_discover(raw, config["discover"], store, table, jobs or os.cpu_count() or 1, progress=progress)
        show(found, store.folder, table, console)


@app.command("import-reader", help="Check the files that readers sent back, and keep those that are right.")
def import_reader(
    files: Annotated[list[Path], typer.Argument(help="exports of the readers' page (*.json)")],
    partial: Annotated[bool, typer.Option("--partial", help="accept one with missing answers")] = False,
    packs: Annotated[Path, typer.Option(help="folder of the packs")] = Path("results/read/packs"),
    configfile: Annotated[
        Path | None, typer.Option(help="the study's configuration, else config/config.yaml or the defaults")
    ] = None,
) -> None:
    """Import each file by itself; status 1 if one was refused."""
    from ct2vq.read.exports import import_exports

    with _plain_errors():
        default = Path("config/config.yaml")
        config = _configuration(configfile or (default if default.is_file() else None))
        folder = config["read"]["exports"]
        accepted, refused = import_exports(files, packs, folder, study=config["study"], partial=partial)
    for line in accepted:
        print(line)
    if accepted and config["read"]["simulated"]["readers"]:
        print("ct2vq: the report shows simulated readers until read.simulated.readers is 0", file=sys.stderr)
    for line in refused:
        print(f"ct2vq: refused: {line}", file=sys.stderr)
    if refused:
        raise typer.Exit(1)


@app.command("config-docs", help="Print the page that documents every key of the configuration (config/README.md).")
def config_docs() -> None:
    """Print the reference of the configuration, made from the schemas."""
    from ct2vq.reference import config_reference

    print(config_reference(), end="")


@app.command("errors-docs", help="Print the page that documents every problem of images (docs/errors.md).")
def errors_docs() -> None:
    """Print the reference of the codes, made from their table."""
    from ct2vq.reference import errors_reference

    print(errors_reference(), end="")


def _configuration(path: Path | None) -> dict[str, Any]:
    """A configuration file with its defaults, or the defaults alone.

    Raises:
        ConfigError: missing, no YAML, or wrong.
    """
    import yaml

    from ct2vq.config import complete_config

    if path is None:
        return complete_config({"study": "simulate-on"})
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = f"not a readable YAML file: {' '.join(str(error).split())}"
        raise ConfigError(problem, path=path, key="--configfile") from error
    return complete_config(given if isinstance(given, dict) else {}, str(path))


@contextmanager
def _plain_errors() -> Iterator[None]:
    """A known problem is one line and status 1, without a traceback."""
    try:
        yield
    except Ct2vqError as error:
        print(f"ct2vq: {error}", file=sys.stderr)
        raise typer.Exit(1) from None

"""What is seen of a training while it runs: lines in the log, a bar on a terminal, a table, TensorBoard."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ct2vq.files import write_rows

logger = logging.getLogger(__name__)

COLUMNS = ("epoch", "learning_rate", "loss", "gradient_norm", "validation_loss", "validation_spearman")
#: seconds between lines of the log where nothing was validated
QUIET = 60.0
BAR = 20


class Progress:
    """Tells how far a training is.

    Args:
        label: the training's name, such as `ddran fold 2`.
        epochs: passes in all.
        done: passes that were made before this process.
        table: TSV that is written anew whenever something was validated.
        events: folder for TensorBoard's event files; None for none.
        terminal: stream for the bar; by default stderr, and no bar if it is not a terminal.
    """

    def __init__(
        self,
        label: str,
        epochs: int,
        done: int,
        table: Path,
        events: Path | None = None,
        terminal: TextIO | None = None,
    ) -> None:
        self.label, self.epochs, self.done, self.table = label, epochs, done, table
        terminal = terminal or sys.stderr
        self.terminal = terminal if terminal.isatty() else None
        self.start = self.said = time.monotonic()
        self.spearman: float | None = None
        self.writer = None if events is None else _writer(events, done)

    def tell(self, history: Sequence[Mapping[str, float]], last: bool) -> None:
        """Tell the newest row of the history; a validated one always goes to the log."""
        row = history[-1]
        validated = "validation_loss" in row
        if validated and row["validation_spearman"] == row["validation_spearman"]:
            self.spearman = row["validation_spearman"]
        text = self._text(row)
        if self.terminal is not None:
            self._bar(int(row["epoch"]), text)
        if validated or last or time.monotonic() - self.said > QUIET:
            self.said = time.monotonic()
            logger.info("epoch %d of %d: %s", row["epoch"], self.epochs, text)
            write_history(history, self.table)
        if self.writer is not None:
            for name, value in row.items():
                if name != "epoch" and value == value:
                    self.writer.add_scalar(name, value, int(row["epoch"]))

    def close(self) -> None:
        """End the bar and TensorBoard's files."""
        if self.terminal is not None:
            self.terminal.write("\r\x1b[K")
            self.terminal.flush()
        if self.writer is not None:
            self.writer.close()

    def _text(self, row: Mapping[str, float]) -> str:
        parts = [f"loss {row['loss']:.4f}"]
        if row.get("validation_loss", float("nan")) == row.get("validation_loss"):
            parts.append(f"validation loss {row['validation_loss']:.4f}")
        if self.spearman is not None:
            parts.append(f"validation Rs {self.spearman:.3f}")
        here = row["epoch"] - self.done
        left = (time.monotonic() - self.start) / here * (self.epochs - row["epoch"])
        return ", ".join([*parts, f"{_duration(left)} left"])

    def _bar(self, epoch: int, text: str) -> None:
        full = BAR * epoch // self.epochs
        bar = "#" * full + "." * (BAR - full)
        self.terminal.write(f"\r{self.label} [{bar}] {epoch}/{self.epochs} {text}\x1b[K")
        self.terminal.flush()


def write_history(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """One row an epoch; validation is missing where it was not computed."""
    write_rows([[row.get(column) for column in COLUMNS] for row in history], COLUMNS, path)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _writer(folder: Path, done: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    # events of epochs that an interrupted run told and this one repeats are left out by TensorBoard
    return SummaryWriter(str(folder), purge_step=done + 1)

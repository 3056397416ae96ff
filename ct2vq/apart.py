"""A step in a process of its own: whatever kills it, who asked for it lives on."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from ct2vq.errors import Ct2vqError
from ct2vq.logs import configure_logging


class DiedError(Ct2vqError):
    """The process of a step ended before it had a result."""


def apart(step: Callable[..., Any], *args: Any) -> Any:
    """The result of `step(*args)`, computed by a copy of this process (fork), which logs to stderr.

    Raises:
        DiedError: it ended without a result: killed by a signal, out of memory, or the step raised an error.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, step, args), daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except (EOFError, OSError):
        process.join()
        raise DiedError(f"the process ended with {_ending(process.exitcode or 0)}") from None
    finally:
        receiver.close()
        process.join()


def _send(sender: Connection, step: Callable[..., Any], args: tuple[Any, ...]) -> None:
    configure_logging()
    sender.send(step(*args))


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"status {exit_code}"
    known = -exit_code in {int(one) for one in signal.Signals}
    return f"signal {-exit_code} ({signal.Signals(-exit_code).name})" if known else f"signal {-exit_code}"

"""Worker processes of torch's loader: they end with their parent, and their failures become clear errors."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from types import FrameType
from typing import Any

from multitask.data.parallel import die_with_parent
from multitask.errors import UserError, reason

_SHARED_MEMORY = "/dev/shm"
_FROM_WORKER = "\nOriginal Traceback"
"""Text in an error that torch passes on from a worker, after torch's own preamble."""

_GRACE = 1.0
"""Seconds that workers are given to end."""

FAILURES = (RuntimeError, OSError, EOFError)
"""Errors that torch's loader raises for its workers: the last two if one dies while its batch is received."""


def start(_: int) -> None:
    """Initialises a worker: signals from the terminal are left to the main process."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # If shared memory has no room for a batch, multiprocessing prints a traceback, and the batch never arrives.
    Queue._on_queue_feeder_error = staticmethod(_give_up)  # type: ignore[attr-defined]


def _give_up(error: Exception, _: object) -> None:
    os.write(2, f"a process that loads frames: {reason(error)}\n".encode())
    os._exit(1)


def shut_down(iterator: Any) -> None:
    """Ends the workers of torch's iterator within a second, even if they hang."""
    if hasattr(iterator, "_shutdown_workers"):
        # They only read, so killing them is safe. torch would wait for those that hang one by one, five seconds each.
        for worker in iterator._workers:
            worker.terminate()
        until = time.monotonic() + _GRACE
        for worker in iterator._workers:
            worker.join(max(0.0, until - time.monotonic()))
            worker.kill()
        iterator._shutdown_workers()


def user_error(error: Exception, number: int) -> Exception:
    """Converts an error of torch's loader to the one that the user sees; program errors are returned unchanged.

    Args:
        error: error of an unreadable frame, or of workers that died or sent no batch in time.
        number: number of workers.
    """
    text = str(error)
    if isinstance(error, UserError):
        return UserError(text.strip().splitlines()[-1].partition(": ")[2]) if _FROM_WORKER in text else error
    if not number or _FROM_WORKER in text:
        return error
    # torch first raises an error that names the signal, and from that one another, that a worker has ended.
    found = reason(error.__cause__ if isinstance(error.__cause__, RuntimeError) else error).removesuffix(".")
    if os.path.isdir(_SHARED_MEMORY):
        space = shutil.disk_usage(_SHARED_MEMORY)
        found += f"; {_SHARED_MEMORY} has {space.free >> 20} of {space.total >> 20} MiB free"
    return UserError(
        f"trainer.num_workers={number}: no batch came from the processes that load frames ({found}); needed more "
        "memory, more shared memory (of a container: --shm-size=8g) or fewer processes; 0 loads without any"
    )


class _Deaths:
    """Signal handler that lets torch's loader report dead workers only while a batch is awaited.

    torch raises the error in a handler of SIGCHLD, which would interrupt an update of the network halfway.
    """

    def __init__(self) -> None:
        self._handler: Any = None
        self._waiting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._waiting:
            self._handler(number, frame)

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Raises errors of dead workers within ``with``, including workers that died before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._waiting = True
        try:
            if self._handler:
                self._handler(signal.SIGCHLD, None)
            yield
        finally:
            self._waiting = False
            found = signal.getsignal(signal.SIGCHLD)
            if str(getattr(found, "__module__", "")).startswith("torch."):
                self._handler = found
                signal.signal(signal.SIGCHLD, self)


deaths = _Deaths()

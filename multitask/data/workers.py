"""The processes of torch's loader: they end with the one that started them, and say why where they end before."""

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
"""In the text of an error that torch brings from a worker, behind what it adds in front."""

_GRACE = 1.0
"""Seconds that workers have to end."""

FAILURES = (RuntimeError, OSError, EOFError)
"""What torch's loader raises of its workers: the last two where one dies while its batch is taken over."""


def start(_: int) -> None:
    """What a worker does first: it lets the main process alone answer signals from the terminal."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Where shared memory has no room for a batch, multiprocessing prints a traceback, and nobody ever gets the batch.
    Queue._on_queue_feeder_error = staticmethod(_give_up)  # type: ignore[attr-defined]


def _give_up(error: Exception, _: object) -> None:
    os.write(2, f"a process that loads frames: {reason(error)}\n".encode())
    os._exit(1)


def shut_down(iterator: Any) -> None:
    """Ends the workers of an iterator of torch's loader, also those that hang, all within a second."""
    if hasattr(iterator, "_shutdown_workers"):
        # They only read. torch would wait for each that hangs, five seconds for one after the other.
        for worker in iterator._workers:
            worker.terminate()
        until = time.monotonic() + _GRACE
        for worker in iterator._workers:
            worker.join(max(0.0, until - time.monotonic()))
            worker.kill()
        iterator._shutdown_workers()


def user_error(error: Exception, number: int) -> Exception:
    """What torch's loader raised, as the user is to see it; a fault of the program is returned as it is.

    Args:
        error: of a frame that cannot be read, or of ``number`` workers that ended, or from which no batch came in time.
        number: of workers.
    """
    text = str(error)
    if isinstance(error, UserError):
        return UserError(text.strip().splitlines()[-1].partition(": ")[2]) if _FROM_WORKER in text else error
    if not number or _FROM_WORKER in text:
        return error
    # torch says first which signal it was, then, because of that, that a worker has ended.
    found = reason(error.__cause__ if isinstance(error.__cause__, RuntimeError) else error).removesuffix(".")
    if os.path.isdir(_SHARED_MEMORY):
        space = shutil.disk_usage(_SHARED_MEMORY)
        found += f"; {_SHARED_MEMORY} has {space.free >> 20} of {space.total >> 20} MiB free"
    return UserError(
        f"trainer.num_workers={number}: no batch came from the processes that load frames ({found}); needed more "
        "memory, more shared memory (of a container: --shm-size=8g) or fewer processes; 0 loads without any"
    )


class _Deaths:
    """Lets torch's loader say only while a batch is waited for that a worker has died.

    It raises that from a handler of SIGCHLD, which would tear an update of the network that goes on in the meantime.
    """

    def __init__(self) -> None:
        self._handler: Any = None
        self._waiting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._waiting:
            self._handler(number, frame)

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Within ``with``, the death of a worker is raised, and so are those of before."""
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

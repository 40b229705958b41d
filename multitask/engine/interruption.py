"""How a signal ends a run: after the step, with everything saved."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from multitask.data.parallel import STOPPING

log = logging.getLogger(__name__)


class Stopped(Exception):
    """Raised by what takes long, between two steps of training, to let a signal end the run."""


class Interrupted(Exception):
    """Work was stopped by a signal, after its state was saved.

    Args:
        signum: the signal.
        done: how far it got.
    """

    def __init__(self, signum: int, done: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after {done}; the same command goes on from there")
        self.signum = signum


_ONE_STOP = 1.0
"""Seconds within which signals are one request: a process group's arrives once by itself and once through make."""


@contextmanager
def handled_signals(
    handler: Callable[[int, FrameType | None], object], numbers: Sequence[signal.Signals] = STOPPING
) -> Iterator[Callable[[], None]]:
    """Has a function handle signals, but those that are ignored: a background job's SIGINT, the SIGHUP of nohup.

    Args:
        handler: of the signal and the frame; in the main thread, to which alone Python hands signals.
        numbers: which signals.
    Yields:
        What brings back the handlers there were, before the end does.
    """
    handlers = {number: signal.getsignal(number) for number in numbers}
    before = {number: old for number, old in handlers.items() if old is not signal.SIG_IGN}

    def restore() -> None:
        for number, old in before.items():
            signal.signal(number, old)

    for number in before:
        signal.signal(number, handler)
    try:
        yield restore
    finally:
        restore()


Waiting = Callable[[], AbstractContextManager[None]]
"""Makes a context within which nothing can be torn, as `Deferral.waiting` does."""


class Deferral:
    """Collects signals in ``pending``, so that a step is never torn; `deferred_signals` makes one."""

    def __init__(self, pending: list[int]) -> None:
        self._pending = pending
        self._waiting = False
        self._first = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within ``with`` nothing can be torn, and a signal, also one of before, raises `Stopped` at once."""
        self._waiting = True
        try:
            if self._pending:
                raise Stopped
            yield
        finally:
            self._waiting = False

    def note(self, number: int) -> bool:
        """Notes a signal; whether it is to act at once, as one that comes later again is."""
        now = time.monotonic()
        if self._pending:
            return now - self._first > _ONE_STOP
        self._first = now
        self._pending.append(number)
        log.info("%s: saving%s", signal.Signals(number).name, "" if self._waiting else " after this step")
        if self._waiting:
            raise Stopped
        return False


@contextmanager
def deferred_signals(pending: list[int]) -> Iterator[Deferral]:
    """Collects SIGINT, SIGTERM and SIGHUP, so that a step is never torn; one that comes later again acts at once.

    Args:
        pending: list to which the signals' numbers are added.
    """
    deferral = Deferral(pending)
    if threading.current_thread() is not threading.main_thread():
        yield deferral
        return

    def note(number: int, _: FrameType | None) -> None:
        if deferral.note(number):
            restore()
            signal.raise_signal(number)

    with handled_signals(note) as restore:
        yield deferral

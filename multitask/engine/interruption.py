"""Handling of signals that end a run: after the current step, with everything saved."""

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
    """Raised within long work between two training steps, such as a validation, when a signal is to end the run."""


class Interrupted(Exception):
    """Raised when a signal has stopped the work, after its state was saved.

    Args:
        signum: number of the signal.
        done: progress in words, for the message.
    """

    def __init__(self, signum: int, done: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after {done}; the same command goes on from there")
        self.signum = signum


_ONE_STOP = 1.0
"""Seconds within which signals count as one request: make passes on a signal that its process group gets anyway."""


@contextmanager
def handled_signals(
    handler: Callable[[int, FrameType | None], object], numbers: Sequence[signal.Signals] = STOPPING
) -> Iterator[Callable[[], None]]:
    """Installs a handler for signals, except ignored ones, such as SIGINT in a background job or SIGHUP under nohup.

    Args:
        handler: called with the signal and the frame, in the main thread, the only one in which Python handles signals.
        numbers: the signals to handle.
    Yields:
        A function that restores the former handlers before the end of ``with`` does.
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
"""Makes a context within which a signal may interrupt at once, such as `Deferral.waiting`."""


class Deferral:
    """Collects signals in ``pending``, so that no step is interrupted; made by `deferred_signals`."""

    def __init__(self, pending: list[int]) -> None:
        self._pending = pending
        self._waiting = False
        self._first = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within ``with``, a signal, also one that came before, raises `Stopped` at once: nothing is left half done."""
        self._waiting = True
        try:
            if self._pending:
                raise Stopped
            yield
        finally:
            self._waiting = False

    def note(self, number: int) -> bool:
        """Records a signal; returns whether it is to take effect at once, since it repeats an earlier request."""
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
    """Defers SIGINT, SIGTERM and SIGHUP, so that no step is interrupted; a repeated one takes effect at once.

    Args:
        pending: list to which the signals' numbers are appended.
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

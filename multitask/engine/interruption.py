"""How a signal ends a run: after the step, with everything saved."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def deferred_signals(pending: list[int]) -> Iterator[None]:
    """Collects SIGINT, SIGTERM and SIGHUP, so that a step is never torn; one that comes later again acts at once.

    Args:
        pending: list to which the signals' numbers are added.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = 0.0

    def note(number: int, _: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not pending:
            first = now
            pending.append(number)
            log.info("%s: saving after this step", signal.Signals(number).name)
        elif now - first > _ONE_STOP:
            restore()
            signal.raise_signal(number)

    with handled_signals(note) as restore:
        yield

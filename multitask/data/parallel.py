"""Running the same function on many items in several processes."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from multitask.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end: from the keyboard, a scheduler, or a terminal that closes."""

_CHUNK = 8
"""Number of items that a process is given at once."""

_MOST_LOADERS = 16

_LIBC = ctypes.CDLL(None)  # loaded here, since a fork must not wait for the loader's lock
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def die_with_parent(parent: int | None = None) -> None:
    """Makes Linux kill this process when its parent ends for any reason, since nothing else would.

    Args:
        parent: process id of the parent, to exit at once if it has ended already; None: unknown.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def for_each(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[list[R]]:
    """Calls ``work`` on every item, in any order; the first error stops the rest and is raised.

    Args:
        work: a function that can be pickled.
        items: the arguments.
        workers: number of processes; 1 runs in this process.
    Yields:
        The results of ``work`` for the items finished since the last yield.
    Raises:
        UserError: if a process is killed, as happens when memory runs out.
    """
    if workers == 1 or len(items) <= 1:
        for item in items:
            yield [work(item)]
        return
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    # Spawned, not forked: the caller may run threads, whose locks a fork would copy while they are held.
    context = multiprocessing.get_context("spawn")
    number = min(workers, len(chunks))
    # ``work`` is sent to each process only once, since it may carry the names of a hundred thousand frames.
    with ProcessPoolExecutor(number, context, initializer=_begin, initargs=(os.getpid(), work)) as pool:
        tasks = [pool.submit(_work_on, chunk) for chunk in chunks]
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BrokenProcessPool:
            raise UserError(
                f"num_workers={workers}: a process was ended from outside, as when memory runs out; needed fewer "
                "processes or more memory"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def num_cpus() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_loaders(cpus: int) -> int:
    """Returns the number of loading processes for one training run that has this many processors."""
    return max(1, min(_MOST_LOADERS, cpus - 1))


_WORK: list[Callable[[Any], Any]] = []
"""Function that a process of `for_each` applies to every item."""


def _begin(parent: int, work: Callable[[Any], Any]) -> None:
    die_with_parent(parent)
    _WORK[:] = [work]


def _work_on(chunk: Sequence[Any]) -> list[Any]:
    return [_WORK[0](item) for item in chunk]


def num_workers(given: int | str) -> int:
    """Returns the number of processes for the configuration's ``num_workers``."""
    if given == "auto":
        return num_cpus()
    if isinstance(given, int) and given > 0:
        return given
    raise UserError(f"num_workers: needed auto or a whole number above zero, found {given!r}")

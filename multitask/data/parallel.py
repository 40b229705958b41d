"""The same work on many items, in several processes."""

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
"""Signals that ask a process to end: from the keyboard, from a scheduler, from a terminal that closes."""

_CHUNK = 8
"""Items that a process is handed at once."""

_MOST_LOADERS = 16

_LIBC = ctypes.CDLL(None)  # loaded here, since a fork must not wait for the loader's lock
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def die_with_parent(parent: int | None = None) -> None:
    """Has Linux kill this process when the one that started it ends, whatever ends that: nobody else would.

    Args:
        parent: number of that process, to end at once if it has ended already; None: not known.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def for_each(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[list[R]]:
    """Does ``work`` on every item, in any order; the first error ends it and surfaces.

    Args:
        work: a function that can be pickled.
        items: what to work on.
        workers: number of processes; 1 works in this one.
    Yields:
        What ``work`` returned for the items that are done since.
    Raises:
        UserError: if a process is killed, as those are for which there is not enough memory.
    """
    if workers == 1 or len(items) <= 1:
        for item in items:
            yield [work(item)]
        return
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    # Spawned, not forked: the caller may run threads, whose locks a fork would copy in any state.
    context = multiprocessing.get_context("spawn")
    number = min(workers, len(chunks))
    # What is done goes to each process once, since it may carry the names of a hundred thousand frames.
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
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_loaders(cpus: int) -> int:
    """Number of processes that load frames for one training run, which has this many processors."""
    return max(1, min(_MOST_LOADERS, cpus - 1))


_WORK: list[Callable[[Any], Any]] = []
"""What a process of `for_each` does on every item."""


def _begin(parent: int, work: Callable[[Any], Any]) -> None:
    die_with_parent(parent)
    _WORK[:] = [work]


def _work_on(chunk: Sequence[Any]) -> list[Any]:
    return [_WORK[0](item) for item in chunk]


def num_workers(given: int | str) -> int:
    """How many processes work, by ``num_workers`` of the configuration."""
    if given == "auto":
        return num_cpus()
    if isinstance(given, int) and given > 0:
        return given
    raise UserError(f"num_workers: needed auto or a whole number above zero, found {given!r}")

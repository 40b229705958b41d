"""The same work on many items, in several processes."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end: from the keyboard, from a scheduler, from a terminal that closes."""

_CHUNK = 8
"""Items that a process is handed at once."""


def own_message(error: Exception) -> str:
    """What an error says, without the traceback of a worker in which torch's loader may have wrapped it."""
    text = str(error)
    return text.strip().splitlines()[-1].partition(": ")[2] if "\nOriginal Traceback" in text else text


def for_each(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[list[R]]:
    """Does ``work`` on every item, in any order; the first error ends it and surfaces.

    Args:
        work: a function that can be pickled.
        items: what to work on.
        workers: number of processes; 1 works in this one.
    Yields:
        What ``work`` returned for the items that are done since.
    """
    if workers == 1 or len(items) <= 1:
        for item in items:
            yield [work(item)]
        return
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    # Spawned, not forked: the caller may run threads, whose locks a fork would copy in any state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context) as pool:
        tasks = [pool.submit(_work_on, work, chunk) for chunk in chunks]
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def num_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work_on(work: Callable[[T], R], chunk: Sequence[T]) -> list[R]:
    return [work(item) for item in chunk]

import os
import signal
from functools import partial
from itertools import chain
from pathlib import Path

import pytest

from multitask.data.parallel import for_each
from multitask.errors import UserError


def touch(folder: Path, number: int) -> int:
    if number < 0:
        raise ValueError(f"needed a number >= 0, found {number}")
    (folder / str(number)).touch()
    return number


@pytest.mark.parametrize(("workers", "count"), [(1, 5), (2, 1), (2, 20), (3, 0)])
def test_every_item_is_worked_on_once(tmp_path: Path, workers: int, count: int) -> None:
    done = for_each(partial(touch, tmp_path), range(count), workers)
    assert sorted(chain(*done)) == list(range(count))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(count))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_surfaces(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ValueError, match="found -7"):
        list(for_each(partial(touch, tmp_path), [*range(10), -7, *range(20, 30)], workers))


def end(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_process_that_is_killed_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^num_workers=2: a process was ended from outside, as when memory runs out; "):
        list(for_each(end, range(20), 2))

"""A folder for one process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multitask.errors import UserError

LOCK = ".lock"
"""The file in a folder by which a process holds it."""


@contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Holds a folder, which is made if there is none, as long as this process lives.

    The lock is this process's alone: it ends with it, whatever ends it and whatever workers live on.

    Args:
        folder: to hold, by the file `LOCK` in it, which only a kill leaves there.
        what: the other process is doing, for the error.
    Raises:
        UserError: naming ``output_dir``, if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(f"output_dir={folder}: another process is {what} here") from None
        try:
            yield
        finally:
            Path(file.name).unlink(missing_ok=True)

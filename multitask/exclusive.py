"""A folder for one process at a time."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from multitask.errors import UserError, reason
from multitask.files import make_folder

log = logging.getLogger(__name__)

LOCK = ".lock"
"""The file in a folder by which a process holds it."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that have no locks, some network ones among them."""


@contextmanager
def exclusive(folder: Path, what: str, key: str = "output_dir") -> Iterator[None]:
    """Holds a folder, which is made if there is none, as long as this process lives.

    The lock is this process's alone: it ends with it, whatever ends it and whatever workers live on. On a file system
    that has no locks a line says so, and nothing is held.

    Args:
        folder: to hold, by the file `LOCK` in it, which only a kill leaves there.
        what: the other process is doing, for the error.
        key: of the configuration that names the folder, for the error.
    Raises:
        UserError: naming ``key``, if another process holds it.
    """
    make_folder(folder)
    path = folder / LOCK
    descriptor = _hold(path, f"{key}={folder}", what)
    try:
        yield
    finally:
        # Before the lock ends: whoever opened this file meanwhile finds that it has no name, and makes another.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _hold(path: Path, where: str, what: str) -> int:
    """A descriptor of the file that has the name now, locked."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise UserError(f"{where}: needed a folder that can be written to ({reason(error)})") from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            raise UserError(f"{where}: another process is {what} here") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise UserError(f"{where}: could not be locked ({reason(error)})") from error
            log.warning("%s: its file system has no locks; see to it that no other process is %s here", where, what)
            return descriptor
        if _is_named(descriptor, path):
            return descriptor
        os.close(descriptor)  # its last holder took the name away after it was opened: others would lock another file


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False

"""Files that appear whole or not at all, and folders that one process holds at a time."""

import errno
import fcntl
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from multitask.errors import UserError, reason

log = logging.getLogger(__name__)

LOCK = ".lock"
"""The file in a folder by which a process holds it."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that have no locks, some network ones among them."""

_TEMPORARY = ".multitask-"
"""What the names of unfinished files begin with; as hidden files they are nobody's data."""


@contextmanager
def atomic_writer(path: Path, *, lasting: bool = True, previous: Path | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the name ``path`` at the end of ``with``, once it is on the disk, or leaves nothing.

    Writers never meet: each has a temporary file of its own in the same folder, which is made if there is none. What
    was at ``path`` before is replaced in one step; where ``path`` is a link, the link is, not what it leads to.

    Args:
        path: where the file is to appear.
        lasting: whether to wait until it would outlast a power cut: for files of which there are thousands, and that
            the same command would make again, the wait (10 ms each) is not worth it.
        previous: where the file goes that was at ``path``, as `keep` has it; None: it is replaced.
    Raises:
        UserError: naming ``path``, if it cannot be written, because the disk is full for example. What was there before
            is untouched.
    """
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with named_errors(path):
            with temporary.open("xb") as file:  # O_EXCL: neither another's file nor a link is ever followed
                yield file
                file.flush()
                if lasting:
                    os.fsync(file.fileno())
            if previous:
                keep(path, previous)
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    if lasting:
        _sync_folder(path.parent)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Within ``with``, what the system says of a failed write, often without a name, becomes an error of ``path``.

    Raises:
        UserError: naming ``path``.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: could not be written ({reason(error)})") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    with atomic_writer(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Writes a text file (UTF-8), whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def keep(path: Path, name: Path) -> None:
    """Has a file outlive its replacement by another one, as a hard link of another name in the same folder.

    Where the file system has no hard links the file loses its first name.

    Args:
        path: of the file; where there is none, nothing is done.
        name: the other path, whose file is replaced.
    Raises:
        UserError: naming ``name``, if it cannot be given.
    """
    temporary = _temporary(name)
    try:
        with suppress(FileNotFoundError):
            try:
                os.link(path, temporary)
                os.replace(temporary, name)
            except OSError:
                os.replace(path, name)
    except OSError as error:
        raise UserError(f"{name}: could not be kept ({reason(error)})") from error
    finally:
        with suppress(OSError):  # where both names are the same file's, a rename does nothing
            temporary.unlink()


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where there is none.

    Raises:
        UserError: naming the folder, if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: needed a folder that can be written to ({reason(error)})") from error


def is_leftover(path: Path) -> bool:
    """Whether a file is what a process left that was killed while it wrote, or writes just now."""
    return path.name.startswith(_TEMPORARY)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left in a folder, which no other process may be writing to."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            path.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where the file system can do that to a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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

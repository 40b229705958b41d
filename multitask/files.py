"""Atomic writes of files, and folders that are locked by one process at a time."""

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
"""Name of the lock file by which a process holds a folder."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error codes of file systems without locks, among them some network file systems."""

_TEMPORARY = ".multitask-"
"""Prefix of the names of unfinished files; as hidden files they are not taken for data."""


@contextmanager
def atomic_writer(path: Path, *, durable: bool = True, previous: Path | None = None) -> Iterator[BinaryIO]:
    """Yields a new file that appears as ``path`` at the end of ``with``, complete, or leaves nothing after an error.

    Several processes may write one path: each has its own temporary file in the same folder, which is created if
    missing. An existing file is replaced in one step; if ``path`` is a link, the link is replaced, not its target.

    Args:
        path: final path of the file.
        durable: whether to wait until the file would survive a power cut. The wait (10 ms per file) is not worth it for
            thousands of files that the same command would write again.
        previous: new path of the file that was at ``path``, see `keep`; None: the old file is lost.
    Raises:
        UserError: naming ``path``, if it cannot be written, for example because the disk is full. The old file is then
            unchanged.
    """
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with named_errors(path):
            with temporary.open("xb") as file:  # O_EXCL: never opens an existing file or follows a link
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            if previous:
                keep(path, previous)
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    if durable:
        _sync_folder(path.parent)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turns system errors of failed writes within ``with``, which often name no file, into errors that name ``path``.

    Raises:
        UserError: naming ``path``.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: could not be written ({reason(error)})") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    with atomic_writer(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Writes a text file (UTF-8) atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def keep(path: Path, name: Path) -> None:
    """Keeps a file that is about to be replaced, as a hard link of another name in the same folder.

    On a file system without hard links the file is renamed instead.

    Args:
        path: path of the file; if there is none, nothing is done.
        name: the other path; a file that exists there is replaced.
    Raises:
        UserError: naming ``name``, if it cannot be created.
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
        with suppress(OSError):  # if both names are links to one file, os.replace does nothing
            temporary.unlink()


def make_folder(folder: Path) -> None:
    """Creates a folder and its parents where they are missing.

    Raises:
        UserError: naming the folder, if it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: needed a folder that can be written to ({reason(error)})") from error


def is_leftover(path: Path) -> bool:
    """Whether a file is unfinished: left by a process that was killed while it wrote, or being written now."""
    return path.name.startswith(_TEMPORARY)


def remove_leftovers(folder: Path) -> None:
    """Removes the unfinished files of killed processes from a folder; no other process may be writing to it."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            path.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut, where the file system can sync folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def exclusive(folder: Path, what: str, key: str = "output_dir") -> Iterator[None]:
    """Locks a folder, which is created if missing, within ``with``.

    The lock belongs to this process alone: it ends when the process ends, for whatever reason and even if its workers
    live on. On a file system without locks a warning is logged, and nothing is locked.

    Args:
        folder: the folder to lock, by the file `LOCK` in it, which stays behind only if the process is killed.
        what: activity of the processes that lock it, such as "training", for the error.
        key: configuration key that names the folder, for the error.
    Raises:
        UserError: naming ``key``, if another process has locked the folder.
    """
    make_folder(folder)
    path = folder / LOCK
    descriptor = _hold(path, f"{key}={folder}", what)
    try:
        yield
    finally:
        # Before the lock is released: a process that has this file open by then sees that it is gone, and retries.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _hold(path: Path, where: str, what: str) -> int:
    """Returns a locked descriptor of the file that is at ``path`` now."""
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
        os.close(descriptor)  # its last holder removed it meanwhile: other processes would lock a new file


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False

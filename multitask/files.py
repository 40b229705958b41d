"""Files that appear whole or not at all."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from multitask.errors import UserError, reason

_TEMPORARY = ".multitask-"
"""What the names of unfinished files begin with; as hidden files they are nobody's data."""


@contextmanager
def whole(path: Path, *, lasting: bool = True, previous: Path | None = None) -> Iterator[BinaryIO]:
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
    with whole(path) as file:
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

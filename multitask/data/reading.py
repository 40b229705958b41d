"""Safe reading of data sets' files, which come from others: regular files only, and texts of limited size."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from multitask.errors import UserError, reason

_MOST_TEXT = 2**20
"""Default size limit of a text in bytes: a camera file or a manifest has some hundreds."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading within ``with``.

    Raises:
        UserError: naming the file, if it is missing, is not a regular file (reading a pipe might block for ever), or
            cannot be read, also within ``with``.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: needed a file, found a {'folder' if path.is_dir() else 'pipe or device'}")
        with path.open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: could not be read ({reason(error)})") from error


def read_text(path: Path, max_bytes: int = _MOST_TEXT) -> str:
    """Reads a small UTF-8 text file, without the byte order mark that some Windows editors put in front.

    Args:
        path: the file.
        max_bytes: size limit in bytes.
    Raises:
        UserError: naming the file, if it cannot be read, is too large, or is not text.
    """
    with opened(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UserError(f"{path}: needed a text of at most {max_bytes} bytes, found more")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 ({error})") from error


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """Yields the paths below a folder that match a pattern, except hidden files and the contents of hidden folders.

    Hidden files are never frames, whatever their names: systems and programs leave copies, such as ``._name`` or
    ``.ipynb_checkpoints``, beside the originals. A missing folder has no paths.

    Args:
        folder: the folder.
        pattern: relative path with wildcards as in ``fnmatch``, such as ``*/*.png``; none of them matches a ``/``.

    Raises:
        UserError: naming a folder that cannot be read, whose files would otherwise be missed silently.
    """
    first, _, rest = pattern.partition("/")
    try:
        entries = [entry for entry in os.scandir(folder) if fnmatchcase(entry.name, first)]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{folder}: could not be read ({reason(error)})") from error
    for entry in entries:
        if not entry.name.startswith("."):
            path = folder / entry.name
            yield from visible(path, rest) if rest else [path]

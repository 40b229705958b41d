"""Opening the files of data sets, which are other people's: regular files alone, and small texts."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from multitask.errors import UserError, reason

_MOST_TEXT = 2**20
"""Bytes of the largest text of most kinds: a camera's or a manifest has some hundreds."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read in ``with``.

    Raises:
        UserError: naming the file, if there is none, if it is no regular one (a pipe would be waited for, and a folder
            has no bytes), or if it cannot be read, inside ``with`` too.
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


def read_text(path: Path, most: int = _MOST_TEXT) -> str:
    """The text of a small file in UTF-8, without the mark that some editors of Windows put in front.

    Args:
        path: the file.
        most: bytes of the largest that is read.
    Raises:
        UserError: naming the file, if it cannot be read, is too large, or is no text.
    """
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path}: needed a text of at most {most} bytes, found more")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8 ({error})") from error


def visible(folder: Path, pattern: str) -> Iterator[Path]:
    """What lies below a folder, if there is one, and fits a pattern, but for hidden files and what hidden folders hold.

    Those are nobody's frames, whatever they are called: systems and programs leave copies, ``._name`` or
    ``.ipynb_checkpoints``, beside the files that they show.

    Raises:
        UserError: naming a folder that cannot be read, whose files would otherwise be passed over.
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

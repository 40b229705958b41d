"""Safe reading of ``torch.save`` files: the sizes and checksums that a file declares are verified before loading."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from multitask.errors import UserError, reason
from multitask.models.contents import Contents

_ZIP = b"PK\x03\x04"
"""First bytes of an archive; files without them were written by torch before 1.6."""

_IS_FOLDER = 0x10
"""Bit in the DOS attributes of an archive's entry that marks a folder."""

_PICKLES_BEFORE_TENSORS = 5
"""Number of pickles in front of the tensors in files from before torch 1.6."""


def read(path: Path, *, mmap: bool = False) -> Any:
    """Reads a file onto the CPU without running code in it.

    The checksums of an archive are verified. Whatever sizes a file declares, reading it takes about as much memory as
    the file is long.

    Args:
        path: an existing file.
        mmap: whether an archive's tensors stay on disk until they are used.
    Raises:
        UserError: with the reason why it cannot be read; callers add the file's name.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(_ZIP)) == _ZIP
            file.seek(0)
            if is_zip:
                _check_archive(file)
            else:
                _check_legacy(file)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip)
    except UserError:
        raise
    except Exception as error:  # zipfile, pickle and torch raise many types for malformed files
        raise UserError(first_line(error)) from error


def first_line(error: Exception) -> str:
    """Returns the first line of an error's text, the readable one of torch's errors; without text the error's type."""
    return reason(error) if isinstance(error, OSError) else next(iter(str(error).splitlines()), type(error).__name__)


def _check_archive(file: BinaryIO) -> None:
    """Verifies an archive's checksums, and the sizes that the archive and the pickle in it declare."""
    length = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        _check_directory(file, length)
        sizes: dict[str, int] = {}
        for entry in archive.infolist():
            # torch ignores case in names.
            if entry.filename.lower() in sizes:
                raise UserError(f"two entries {entry.filename[:80]!r}")
            sizes[entry.filename.lower()] = entry.file_size
            if entry.external_attr & _IS_FOLDER:  # torch reads nothing for it, and leaves memory uninitialised
                raise UserError(f"a folder, {entry.filename[:80]!r}, among its entries")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise UserError(f"compressed entries, such as {entry.filename[:80]!r}; torch stores them as they are")
        if (total := sum(sizes.values())) > length:
            raise UserError(f"entries of {total} bytes in a file of {length}")
        if (damaged := archive.testzip()) is not None:
            raise UserError(f"damaged: the check sum of {damaged[:80]!r} does not fit its content")
        pickles = [entry for entry in archive.infolist() if entry.filename.lower().endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError(f"{len(pickles)} entries data.pkl, needed one")
        below = pickles[0].filename.removesuffix("data.pkl").lower() + "data/"
        records = {name.removeprefix(below): size for name, size in sizes.items() if name.startswith(below)}
        with archive.open(pickles[0]) as content:
            Contents(content, records).load()


def _check_directory(file: BinaryIO, length: int) -> None:
    """Requires the end of an archive to be as torch writes it, so that torch and zipfile find the same directory."""
    file.seek(-min(length, 98), 2)
    tail = file.read()
    end = tail[-22:]
    if end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise UserError("its end is not that of an archive")
    size, start = (int.from_bytes(end[at : at + 4], "little") for at in (12, 16))
    behind = 22
    if tail[-42:-38] == b"PK\x06\x07":
        behind = 98
        if int.from_bytes(tail[-34:-26], "little") != length - behind or tail[:4] != b"PK\x06\x06":
            raise UserError("its end is not that of an archive")
        size, start = (int.from_bytes(tail[at : at + 8], "little") for at in (40, 48))
    if start + size != length - behind:
        raise UserError("its directory does not lie at its end")


def _check_legacy(file: BinaryIO) -> None:
    """Compares the sizes that the pickles of an old file declare with the file's length."""
    length = file.seek(0, 2)
    file.seek(0)
    total = 0
    for _ in range(_PICKLES_BEFORE_TENSORS):
        contents = Contents(file)
        contents.load()
        total += contents.storage_bytes
    if total > length:
        raise UserError(f"tensors of {total} bytes in a file of {length}")

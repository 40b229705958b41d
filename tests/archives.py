"""Files of torch.save, taken apart and damaged for tests."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch


def entries(path: Path) -> dict[str, bytes]:
    """Contents of an archive by the names of its entries, in their order."""
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def write(path: Path, contents: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def not_covered(path: Path) -> list[int]:
    """Positions of the bytes of an archive that no check sum is of."""
    covered = np.zeros(path.stat().st_size, dtype=bool)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            local = whole[entry.header_offset : entry.header_offset + 30]
            names = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            start = entry.header_offset + 30 + names
            covered[start : start + entry.file_size] = True
    return np.flatnonzero(~covered).tolist()


def damaged(whole: bytes, rng: np.random.Generator, number: int) -> Iterator[tuple[str, bytes]]:
    """So many ways in which a disk or a transfer may damage a file: each kind in turn, and what became of the file."""
    length = len(whole)
    for index in range(number):
        kind = ("one bit", "truncated", "a block of zeros", "two blocks swapped", "a byte lost")[index % 5]
        broken = bytearray(whole)
        at, other = (int(x) for x in rng.integers(0, length, 2))
        size = int(rng.integers(1, max(2, min(4096, length // 4))))
        if kind == "one bit":
            broken[at] ^= 1 << int(rng.integers(8))
        elif kind == "truncated":
            del broken[at:]
        elif kind == "a block of zeros":
            broken[at : at + size] = bytes(len(broken[at : at + size]))
        elif kind == "two blocks swapped":
            first, second = (min(x, length - size) for x in (at, other))
            broken[first : first + size] = whole[second : second + size]
            broken[second : second + size] = whole[first : first + size]
        else:
            del broken[at]
        yield kind, bytes(broken)


class Storage:
    """A storage, as a pickle of torch's names one; in old files its views are named, too."""

    def __init__(self, number: int, key: str = "0", old: bool = False) -> None:
        self.id = ("storage", torch.FloatStorage, key, "cpu", number, *([None] if old else []))


class Call:
    """Something that a pickle says to call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._called = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._called


def tensor(storage: Storage, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.id if isinstance(value, Storage) else None


def pickled(content: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(content)
    return stream.getvalue()


def write_torch(path: Path, content: Any, *records: bytes, how: int = zipfile.ZIP_STORED) -> Path:
    """Writes an archive as torch.save does, whose pickle may say anything."""
    data = {f"archive/data/{key}": record for key, record in enumerate(records)}
    pickle_first = {"archive/data.pkl": content if isinstance(content, bytes) else pickled(content)}
    return write(path, {**pickle_first, "archive/byteorder": b"little", **data, "archive/version": b"3\n"}, how)


def write_legacy(path: Path, content: Any, *records: tuple[int, bytes]) -> Path:
    """Writes a file as torch.save did before 1.6: pickles, then each storage's number of elements and bytes."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    keys = [str(index) for index in range(len(records))]
    parts = [pickled(part) for part in (0x1950A86A20F9469CFC6C, 1001, system, content, keys)]
    stored = [number.to_bytes(8, "little") + record for number, record in records]
    path.write_bytes(b"".join([*parts, *stored]))
    return path

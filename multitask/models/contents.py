"""Inspection of torch's pickles: checks the tensors that a pickle declares without creating them."""

import math
import pickle
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import IO, Any

from multitask.errors import UserError, shown

_BYTES = {
    **{"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "ComplexDouble": 16, "ComplexFloat": 8},
    **{"Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1, "Untyped": 1},
}
"""Bytes per element by kind of storage."""

_MOST_DIMENSIONS = 8
_MOST_COPIED = 100_000


@dataclass(frozen=True, slots=True)
class _Storage:
    """A storage of ``number`` elements in the file."""

    number: int


class _Dict(dict[Any, Any]):
    """Replacement for an OrderedDict, whose pickle may set attributes."""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not state.keys() <= {"_metadata"}:
            raise UserError(f"an OrderedDict with attributes {shown(state)}")


class _Call:
    """Replacement for a function that a pickle may call; with slots, the pickle cannot set attributes on it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class Contents(pickle._Unpickler):
    """Reads a pickle as torch's own restricted unpickler does, but creates no tensors.

    It refuses whatever would take more memory than the file is long: tensors larger than their stored data, and
    excessive copies. `load` raises many types of error for malformed pickles.

    Args:
        file: the file; after `load` it is positioned behind the pickle.
        records: number of bytes stored for each storage, by its lower-case key; None if unknown.
    """

    def __init__(self, file: IO[bytes], records: Mapping[str, int] | None = None) -> None:
        super().__init__(file)
        self._records = records
        self._storages: dict[str, int] = {}
        self._copied = 0

    @property
    def storage_bytes(self) -> int:
        """Total number of bytes of all storages."""
        return sum(self._storages.values())

    def find_class(self, module: str, name: str) -> Any:
        module = "__builtin__" if module == "builtins" else module  # the name in pickles of protocol 2
        if module in ("torch", "torch.cuda", "torch.storage") and name.removesuffix("Storage") in _BYTES:
            return name.removesuffix("Storage")
        if module == "torch" and name.islower() and name.isalnum():
            return _Call(self._device) if name == "device" else name  # otherwise a dtype, such as float32
        calls: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): lambda *args: _Dict(*self._copies(*args)),
            ("collections", "Counter"): lambda *args: _Dict(*self._copies(*args)),
            ("torch", "Size"): lambda *args: tuple(*self._copies(*args)),
            ("__builtin__", "set"): lambda *args: set(*self._copies(*args)),
            ("__builtin__", "complex"): complex,
            ("_codecs", "encode"): self._bytes,
            **{("torch._utils", f"_rebuild_tensor{version}"): self._tensor for version in ("", "_v2")},
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        if (module, name) not in calls:
            raise UserError(f"needed tensors, numbers and texts, found {shown(f'{module}.{name}')}")
        return _Call(calls[module, name])

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _, number, *_ = pid
        if kind != "storage" or not (isinstance(key, str) and isinstance(number, int) and number >= 0):
            raise UserError(f"needed a storage, found {shown(pid)}")
        size = number * _BYTES[name]
        if self._records is not None and size > (stored := self._records.get(key.lower(), 0)):
            raise UserError(f"a storage {shown(key)} of {size} bytes, of which {stored} are stored")
        self._storages[key] = size
        return _Storage(number)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        numbers = (offset, *size, *stride)
        if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise UserError(f"needed a tensor, found {shown((storage, *numbers))}")
        if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
            raise UserError(f"needed tensors of at most {_MOST_DIMENSIONS} dimensions, found {shown(size)}")
        number = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if number and max(number, last + 1) > storage.number:
            raise UserError(f"a tensor of {shown(size)}, of which {storage.number} elements are stored")

    def _copies(self, values: Collection[Any] = ()) -> tuple[Collection[Any]]:
        """Counts the values that a call copies, and returns them as its arguments; a file may repeat such calls."""
        self._copied += len(values)
        if self._copied > _MOST_COPIED:
            raise UserError(f"more than {_MOST_COPIED} copied values")
        return (values,)

    def _bytes(self, text: str, coding: str) -> None:
        """Checks bytes, which protocol 2 stores as latin1 text; other encodings may expand the text."""
        if coding != "latin1":
            raise UserError(f"needed bytes, found a text in {shown(coding)}")
        self._copies(text)

    @staticmethod
    def _device(kind: object, *_: object) -> str:
        return str(kind)

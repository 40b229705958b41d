"""Errors that the user can correct, as opposed to faults of the program, and helpers to word them."""

import errno
import reprlib
from typing import Any, ClassVar

_MACHINE_FAULTS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENAMETOOLONG", "ELOOP", "EMFILE")
    if hasattr(errno, name)
}
"""Codes of full disks, missing permissions and the like: faults of the machine, not of the program."""


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print numbers of more than a few thousand digits.
        return super().repr_int(x, level) if x.bit_length() <= 256 else f"a number of {x.bit_length()} bits"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 4, 24, 24, 24
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 200, 40, 200


class UserError(ValueError):
    """An error that the user can correct.

    Its message is one line: what is wrong (the key or the file), what was needed, and what was found. The commands
    print that line alone and exit with `status`; any other exception is a fault of the program and shows its traceback.

    Attributes:
        status: the exit status of a command that fails with this error.
    """

    status: ClassVar[int] = 2


def is_machine_fault(error: OSError) -> bool:
    """Whether an error is the machine's fault, such as a full disk, which the user can correct."""
    return error.errno in _MACHINE_FAULTS


def reason(error: BaseException) -> str:
    """Returns the cause of an error in one line: the operating system's message where there is one."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__


def shown(value: Any) -> str:
    """Formats a value for an error message: on one line, without control characters, cut where it is long or deep."""
    return _SHORT.repr(value)

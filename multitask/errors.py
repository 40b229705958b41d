"""What the user can mend, apart from what is wrong in the program."""

import errno
import reprlib
from typing import Any, ClassVar

_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENAMETOOLONG", "ELOOP", "EMFILE")
    if hasattr(errno, name)
}
"""Full disks, missing permissions and the like: faults of the machine, not of the program."""


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python writes no number of more digits than some thousands.
        return super().repr_int(x, level) if x.bit_length() <= 256 else f"a number of {x.bit_length()} bits"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 4, 24, 24, 24
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 200, 40, 200


class UserError(ValueError):
    """A fault that the user can mend.

    Its text is one line: what is wrong (the key or the file), what was needed, and what was found. The commands print
    that line alone and end with `status`; any other exception is a fault of the program and shows its traceback.

    Attributes:
        status: the exit status of a command that ends with it.
    """

    status: ClassVar[int] = 2


def of_the_machine(error: OSError) -> bool:
    """Whether the machine is to blame for an error, and so the user can mend it."""
    return error.errno in _OF_THE_MACHINE


def reason(error: BaseException) -> str:
    """Why something failed, in one line: the system's own words where there are any."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__


def shown(value: Any) -> str:
    """A value as errors show it: on one line, without what drives a terminal, and cut where it is long or deep."""
    return _SHORT.repr(value)

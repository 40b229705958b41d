"""What the user can mend, apart from what is wrong in the program."""

import errno

_OF_THE_MACHINE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENAMETOOLONG", "ELOOP", "EMFILE")
    if hasattr(errno, name)
}
"""Full disks, missing permissions and the like: faults of the machine, not of the program."""


class UserError(ValueError):
    """A fault that the user can mend.

    Its text is one line: what is wrong (the key or the file), what was needed, and what was found. The commands print
    that line alone and end with status 2; any other exception is a fault of the program and shows its traceback.
    """


def of_the_machine(error: OSError) -> bool:
    """Whether the machine is to blame for an error, and so the user can mend it."""
    return error.errno in _OF_THE_MACHINE


def reason(error: BaseException) -> str:
    """Why something failed, in one line: the system's own words where there are any."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__

"""A full disk, for tests of what becomes of files that do not fit on it."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Lets no file grow beyond ``size`` bytes inside ``with``: a write beyond them fails with an `OSError`.

    The limit (EFBIG where a disk says ENOSPC) is this process's, and that of those that it starts meanwhile. It holds
    for whatever they write, captured output and logs too; files that are larger already stay as they are.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

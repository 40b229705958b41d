"""What training on a CPU asks of the C library's allocator."""

import ctypes

_LARGEST, _LARGEST_OF_OLD = 1 << 30, 1 << 25  # bytes that are still taken from the heap; what older releases allow
_NEVER = (1 << 31) - 1  # the largest int
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)


def keep_freed_memory() -> None:
    """Has this process keep memory that it frees, for what it allocates next; does nothing without glibc.

    Each training step allocates what the last one freed. By default glibc returns large blocks to the kernel, which
    hands them out again 4 KiB at a time, zeroed, each at the cost of a fault: a tenth of a step of small pictures, and
    more where several runs do so at a time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        if not mallopt(_MMAP_THRESHOLD, _LARGEST):
            mallopt(_MMAP_THRESHOLD, _LARGEST_OF_OLD)
        mallopt(_TRIM_THRESHOLD, _NEVER)

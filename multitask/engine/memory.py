"""Settings of the C library's memory allocator for training on a CPU."""

import ctypes

_LARGEST, _LARGEST_OF_OLD = 1 << 30, 1 << 25  # bytes: largest block to take from the heap; limit of older releases
_NEVER = (1 << 31) - 1  # the largest int
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)


def keep_freed_memory() -> None:
    """Makes this process reuse freed memory instead of returning it to the kernel; does nothing without glibc.

    Each training step allocates what the last one freed. By default glibc returns large blocks to the kernel, which
    hands them out again 4 KiB at a time, zeroed, each at the cost of a page fault: a tenth of a step on small
    pictures, and more where several runs do so at a time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        if not mallopt(_MMAP_THRESHOLD, _LARGEST):
            mallopt(_MMAP_THRESHOLD, _LARGEST_OF_OLD)
        mallopt(_TRIM_THRESHOLD, _NEVER)

"""Memory that was freed stays with the process, for the next batch.

glibc gives large blocks back to the kernel when they are freed and has every page of them zeroed when they are asked
for again: for a network on a CPU that takes as long as its arithmetic.
"""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**25
"""The largest block, in bytes, that glibc takes from memory it keeps."""


def keep_freed() -> None:
    """Tell glibc to keep what is freed; nothing where there is another C library."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)

"""The memory of a process that does the same work again and again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of glibc's malloc.h
_PAD = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for the next step to use; return whether it does.

    By default glibc gives large tensors back to the system as soon as they are freed, and the next
    step's are handed out and zeroed anew, page by page. The peak may grow by the gaps that tensors
    of other sizes leave, tens of MiB in drawing VAR-d16. For programs, as it holds for the whole
    process; other C libraries than glibc are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    asked = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _PAD))
    done = [bool(mallopt(name, value)) for name, value in asked]
    return all(done)

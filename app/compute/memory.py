"""What a process holds in memory of its own.

Pages of files do not count: all processes share them, and a new worker takes in several MiB with its first requests.
"""

import os
import resource
import sys

_PAGE_BYTES = resource.getpagesize()


def own_bytes(pid: int) -> int | None:
    """Resident bytes of `pid` without pages of files; None where the system does not say or it has ended."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
            _size, resident, of_files = map(int, statm.read().split()[:3])
    except OSError:
        return None
    return (resident - of_files) * _PAGE_BYTES


def share_bytes(pid: int) -> int:
    """What `pid` holds, pages that several processes share counted in equal parts; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            line = next(line for line in rollup if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024


def held_bytes() -> int:
    """What this process holds; its peak, pages of files included, where the system says no more."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
    found = own_bytes(os.getpid())
    return found if found is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

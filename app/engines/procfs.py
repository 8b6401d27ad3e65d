"""What Linux says about a process in /proc (proc(5)). Elsewhere nothing is known, and callers do without."""

import os
from pathlib import Path

GONE = "gone"
_DEAD_STATES = {"Z", "X"}


def start_ticks(pid: int) -> str:
    """Return when a living process started, in clock ticks: with the pid, a name that is never given twice.

    "gone" for a process that ended, zombies included; "unknown" where there is no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return GONE if Path("/proc/self").exists() else "unknown"
    # The third field of stat is the state, the 22nd the start time; ours begin after the second.
    return GONE if fields[0] in _DEAD_STATES else fields[19]


def resident_bytes(pid: int) -> int | None:
    """Memory a process holds in RAM."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")

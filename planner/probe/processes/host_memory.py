"""Host memory that is left: the machine's, or that of the control group this process is in."""

from contextlib import suppress
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """What can be taken before something is ended for it."""
    return min(_machine_bytes(), _group_bytes())


def _machine_bytes() -> int:
    """MemAvailable: proc_meminfo(5), in KiB."""
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def _group_bytes() -> int:
    """The group's limit less what it holds and cannot drop (Documentation/admin-guide/cgroup-v2.rst, memory)."""
    with suppress(OSError, ValueError, StopIteration):
        name = next(
            line.split("::")[1] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
        )
        folder = _GROUP / name.lstrip("/")
        folder = folder if (folder / "memory.max").exists() else _GROUP
        limit = int((folder / "memory.max").read_text())  # "max" where there is none
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return limit - int((folder / "memory.current").read_text()) + int(stat["inactive_file"])
    return 1 << 62

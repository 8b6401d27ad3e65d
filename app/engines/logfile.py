"""Whole lines of a growing file, from a byte offset on."""

from pathlib import Path

from app.engines.base import LogPage
from planner.units import MIB

PAGE_BYTES = MIB


def read_page(path: Path, offset: int, *, ended: bool) -> LogPage:
    """Read at most a mebibyte from `offset` on; a line still being written waits until the writer has ended.

    Raises:
        FileNotFoundError: there is no such log.
    """
    with path.open("rb") as log:
        log.seek(offset)
        return page_of(log.read(PAGE_BYTES), offset, ended=ended)


def page_of(data: bytes, offset: int, *, ended: bool) -> LogPage:
    """Cut `data`, read at `offset`, after its last whole line. A line longer than a page is cut into pieces."""
    full = len(data) >= PAGE_BYTES
    cut = data.rfind(b"\n") + 1
    # Without an end of line in a whole page, or after the writer's last word, there is nothing to wait for.
    if (cut == 0 and full) or (ended and not full):
        cut = len(data)
    # Split on the bytes: str.splitlines would also break a JSON line at a U+2028 in a string.
    lines = [line.decode(errors="replace").replace("\x00", "") for line in data[:cut].split(b"\n")]
    return LogPage(tuple(line for line in lines if line.strip()), offset + cut, more=full)

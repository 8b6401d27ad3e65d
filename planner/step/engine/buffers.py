"""Memory without values: it is there while something owns it, and the events say when it came and went."""

from planner.step.engine.events import Size

_FREED = -1


class UseAfterFreeError(RuntimeError):
    """A value is used whose memory has been freed."""


class LeakError(RuntimeError):
    """Memory is still there when a trace is over."""


class Buffer:
    """Memory. `owners` counts its holders: 0 of a temporary, -1 once it is freed."""

    __slots__ = ("events", "number", "owners", "size", "tag")

    def __init__(self, events: list[int], number: int, size: Size, tag: str) -> None:
        self.events, self.number, self.size, self.tag, self.owners = events, number, size, tag, 0
        events.append(number)

    def own(self) -> None:
        """Count one owner more.

        Raises:
            UseAfterFreeError: the memory has been freed.
        """
        if self.owners < 0:
            raise UseAfterFreeError(freed_too_early(self))
        self.owners += 1

    def disown(self) -> None:
        """Count one owner less; the last one frees it."""
        self.owners -= 1
        if not self.owners:
            self.free()

    def free(self) -> None:
        """Write down that it goes."""
        self.owners = _FREED
        self.events.append(~self.number)


class Alias(Buffer):
    """A gradient that is a view: it owns the whole, and nothing is added to it in place."""

    __slots__ = ("base",)

    def __init__(self, base: Buffer) -> None:
        base.own()
        self.events, self.number, self.size, self.tag, self.base = base.events, base.number, base.size, base.tag, base
        self.owners = 0

    def free(self) -> None:
        """The memory is the base's."""
        self.owners = _FREED
        self.base.disown()


def freed_too_early(buffer: Buffer, function: str = "") -> str:
    """The sentence of the error, with the line that the memory belongs to and the function that asks for it."""
    asked = f" by {function}()" if function else ""
    return f"memory of {buffer.tag!r}, {buffer.size}, is used{asked} after it was freed: hold it where it is made"


def drop_temporaries(buffers: list[Buffer]) -> None:
    """Free those without owners."""
    for buffer in buffers:
        if not buffer.owners:
            buffer.free()

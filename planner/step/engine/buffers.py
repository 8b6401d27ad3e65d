"""Memory without values: it is there while something refers to it, and the events say when it came and went."""

from planner.step.engine.events import Event, Size


class Buffer:
    """Memory. Dropping the last reference frees it."""

    __slots__ = ("born", "events", "size", "tag")

    def __init__(self, events: list[Event], size: Size, tag: str) -> None:
        self.events, self.size, self.tag, self.born = events, size, tag, len(events)
        events.append(Event(1, size, tag, self.born))

    def __del__(self) -> None:
        self.events.append(Event(-1, self.size, self.tag, self.born))


def restored(events: list[Event]) -> Buffer:
    """The memory whose release is the last event, as if that had not happened."""
    buffer, gone = Buffer.__new__(Buffer), events.pop()
    buffer.events, buffer.size, buffer.tag, buffer.born = events, gone.size, gone.tag, gone.born
    return buffer


class Alias(Buffer):
    """A gradient that is a view: it keeps the whole alive, and nothing is added to it in place."""

    __slots__ = ("base",)

    def __init__(self, base: Buffer) -> None:
        self.events, self.size, self.tag, self.base = base.events, base.size, base.tag, base

    def __del__(self) -> None:
        """The memory is the base's."""

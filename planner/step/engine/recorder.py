"""What a trace writes down: the memory that comes and goes, the segments of a step, and who owns what meanwhile."""

from typing import TypeVar

from planner.step.engine.buffers import Alias, Buffer, LeakError, UseAfterFreeError, freed_too_early
from planner.step.engine.events import Size
from planner.step.engine.values import Dims, Value, buffers_of
from planner.step.engine.widths import bytes_of

_T = TypeVar("_T")


class Cause:
    """`with graph.cause(...)`: the line that new buffers belong to."""

    __slots__ = ("before", "graph", "tag")

    def __init__(self, graph: "Recorder", tag: str) -> None:
        self.graph, self.tag, self.before = graph, tag, graph.tag

    def __enter__(self) -> None:
        self.graph.tag = self.tag

    def __exit__(self, *_: object) -> None:
        self.graph.tag = self.before


class Recorder:
    """Allocates memory, and knows the functions under way that hold it."""

    # A function's first argument is asked for its graph; this is one (frames.py).
    graph = None

    def __init__(self) -> None:
        # Numbers of buffers in `made`, in the order they come; `~number` where one goes.
        self.events: list[int] = []
        self.made: list[Buffer] = []
        # What each function under way holds, the innermost last.
        self.frames: list[list[Buffer]] = [[]]
        self.marks: list[tuple[str, int]] = []
        # Gradients of parameters, which stay.
        self.collected: list[Buffer] = []
        self.tag = "other"

    def cause(self, tag: str) -> Cause:
        """Name the line that the next buffers belong to."""
        return Cause(self, tag)

    def new(self, num: int, dims: Dims, tag: str = "", den: int = 1) -> Buffer:
        """Allocate `num` bytes per element of `dims`: a temporary, until it has an owner."""
        made = self.made
        buffer = Buffer(self.events, len(made), Size(bytes_of(num), dims, den), tag or self.tag)
        made.append(buffer)
        return buffer

    def mark(self, name: str) -> None:
        """Begin a segment of the event list."""
        self.marks.append((name, len(self.events)))

    # ------------------------------------------------------------------------------------------------ lifetimes
    def hold(self, thing: _T) -> _T:
        """Own a value to the end of the function under way, as a local name does.

        Raises:
            UseAfterFreeError: its memory has been freed.
        """
        held = self.frames[-1]
        for buffer in buffers_of(thing):
            if buffer.owners < 0:
                raise UseAfterFreeError(freed_too_early(buffer, "hold"))
            buffer.owners += 1
            held.append(buffer)
        return thing

    def release(self, *things: object) -> None:
        """Let go of what this function holds, or of temporaries; what only its caller holds stays.

        Raises:
            UseAfterFreeError: its memory has been freed already.
        """
        for buffer in buffers_of(things):
            if buffer.owners < 0:
                raise UseAfterFreeError(freed_too_early(buffer, "release"))
            if buffer.owners:
                self._unhold(buffer)
            else:
                buffer.free()

    def replace(self, old: object, new: _T) -> _T:
        """Hold `new`, then let go of `old`: a local name that is bound again."""
        self.hold(new)
        for buffer in buffers_of(old):
            self._unhold(buffer)
        return new

    def move(self, thing: _T) -> _T:
        """Hand on what this function holds: it becomes a temporary, of the function that it is passed to."""
        held = self.frames[-1]
        for buffer in buffers_of(thing):
            if buffer in held:
                held.remove(buffer)
                buffer.owners -= 1
        return thing

    def _unhold(self, buffer: Buffer) -> None:
        held = self.frames[-1]
        for index in range(len(held) - 1, -1, -1):
            if held[index] is buffer:
                del held[index]
                buffer.disown()
                return

    def collect(self, gradient: Buffer) -> None:
        """Keep a parameter's gradient."""
        gradient.own()
        self.collected.append(gradient)

    def check_all_freed(self, kept: object = ()) -> None:
        """The end of a trace: all is freed but gradients of parameters and what is `kept`.

        Raises:
            LeakError: something else is there: it was not released, or never had an owner.
        """
        staying = [*self.collected, *buffers_of(kept)]
        known = {id(buffer.base if isinstance(buffer, Alias) else buffer) for buffer in staying}
        for buffer in self.made:
            if buffer.owners >= 0 and id(buffer) not in known:
                msg = f"memory of {buffer.tag!r}, {buffer.size}, is still there with {buffer.owners} owners: release it"
                raise LeakError(msg)


def needs_gradient(*values: Value | None) -> bool:
    """Whether one of them has a gradient."""
    for value in values:  # noqa: SIM110  (asked of every operator)
        if value is not None and value.edge is not None:
            return True
    return False

"""TRL's offloading of activations: what is saved waits on the host, and how long its copies keep memory on the card.

Source: trl 1.16 models/activation_offloading.py OffloadActivations, with streams. Every saved tensor has a number. One
that is large enough is copied to pinned memory on a stream of its own. So that it stays until it is copied, a stash
holds it until one is copied whose number is `STASH` higher, or a node of the backward pass has asked for its first. One
that is saved again meanwhile stays on the card. In the backward pass a tensor comes back when a node asks for it, into
memory that a second stash holds until the next node that asked for one has run.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from planner.step.engine.buffers import Buffer
from planner.step.engine.events import Size
from planner.step.engine.saved import Holder, OffloadedHolder
from planner.step.engine.values import Dims, Shelf

if TYPE_CHECKING:
    from planner.step.engine.graph import Graph

STEP_BEFORE = "embedded tokens and their gradient of the step before"
BROUGHT_BACK = "activations brought back from the host"
# Its defaults, which TRL's trainers leave (get_act_offloading_ctx_manager): max_fwd_stash_size, min_offload_size.
STASH, LEAST_BYTES = 5, 1024


class Offloading:
    """The context in which a step runs.

    `small` are the sizes of dimensions that decide what is too small to copy; a gradient that a loss made in the
    forward pass and saved keeps its line, `gradients`.
    """

    def __init__(self, graph: "Graph", small: Mapping[str, int], gradients: str) -> None:
        self.graph, self.small, self._gradients = graph, small, gradients
        self.count = 0
        # Off while the output head runs, whose own context keeps what it saves (NoOpManager).
        self.pausing = False
        # By number: what is being copied, and what came back. By memory: the number under which it was copied last.
        self._stash: dict[int, Buffer] = {}
        self._back: dict[int, Buffer] = {}
        self._copied: dict[int, int] = {}
        # The latest node that asked for one, what the one that runs asked for, and what earlier ones had.
        self._node: object = None
        self._asked: list[int] = []
        self._earlier: list[int] = []
        # Every size that was copied, with the segment of the forward pass in which it was.
        self.copied: list[tuple[str, Size]] = []
        # What outlives the step: the context knows the latest node that asked for one, and so its graph, until the next
        # step's backward pass; and what no node asked for, until the next step enters the context.
        self.left = Shelf()
        self.before = Shelf()

    def keep_with_node(self, buffer: Buffer) -> None:
        """Keep a leaf of the graph, or its gradient."""
        self.left.put(buffer)

    def begin(self, *sizes: tuple[int, Dims]) -> None:
        """Enter the context, which still knows the graph of the step before: a leaf and its gradient."""
        for each, dims in sizes:
            self.before.put(self.graph.new(each, dims, STEP_BEFORE))

    def never_asked_for(self, buffer: Buffer) -> None:
        """Save a small tensor for a node that no gradient reaches."""
        self.left.put(buffer)
        self.count += 1

    # ------------------------------------------------------------------------------------------------------ forward
    def pack(self, buffer: Buffer | None) -> OffloadedHolder:
        """Keep a saved tensor: copied, and so let go of, or on the card. A parameter (None) counts."""
        self.count += 1
        if buffer is None or buffer.number in self._copied or self._is_small(buffer.size):
            if buffer is not None and buffer.number in self._copied:
                self._copied[buffer.number] = self.count
            return OffloadedHolder(self.count, buffer)
        self._let_go_of_copied(number for number in self._stash if number <= self.count - STASH)
        buffer.own()
        self._stash[self.count] = buffer
        self._copied[buffer.number] = self.count
        self.copied.append((self.graph.marks[-1][0], buffer.size))
        return OffloadedHolder(self.count, None, buffer)

    def _is_small(self, size: Size) -> bool:
        count = size.num
        for name in size.dims:
            count *= self.small.get(name, LEAST_BYTES)
        return count < LEAST_BYTES * size.den

    def _let_go_of_copied(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            buffer = self._stash.pop(number)
            if self._copied.get(buffer.number) == number:
                del self._copied[buffer.number]
            buffer.disown()

    def copied_by_kind(self) -> tuple[tuple[int | None, Size], ...]:
        """The sizes of what was copied, by the kind of layer that did it; None of what is no layer."""
        return tuple(
            (int(kind) if (kind := segment.partition(" ")[2]) else None, size) for segment, size in self.copied
        )

    # ----------------------------------------------------------------------------------------------------- backward
    def unpack(self, node: object, saved: Iterable[Holder]) -> None:
        """Bring back what a node asks for."""
        for holder in saved:
            if isinstance(holder, OffloadedHolder) and holder.waits is not None:
                copied, holder.waits = holder.waits, None
                self.before.clear()
                if node is not self._node:
                    self._node, self._earlier = node, [*self._back]
                buffer = self._stash.get(holder.number)
                if buffer is None:
                    size, tag = copied.size, copied.tag if copied.tag == self._gradients else BROUGHT_BACK
                    buffer = self._back[holder.number] = self.graph.new(size.num, size.dims, tag, size.den)
                    buffer.own()
                self._asked.append(holder.number)
                holder.fill(buffer)

    def after_node(self) -> None:
        """A node has run: the hook that it was given for what came back lets go of what earlier nodes asked for, and of
        its own where something else has it, too: a checkpoint that was made again of it.
        """
        if self._asked:
            own = [number for number in self._asked if number in self._back and self._back[number].owners > 1]
            self._let_go_of_copied(self._stash)
            self._let_go_of_back([*own, *self._earlier])
            self._asked, self._earlier = [], []

    def end(self) -> None:
        """The end of the backward pass, and of the context."""
        self._let_go_of_copied(self._stash)
        self._let_go_of_back([*self._back])

    def _let_go_of_back(self, numbers: list[int]) -> None:
        for number in numbers:
            self._back.pop(number).disown()


@contextmanager
def keeps_on_card(graph: "Graph") -> Iterator[None]:
    """The output head runs: its own context keeps what it saves (NoOpManager)."""
    if graph.offloading is None:
        yield
        return
    graph.offloading.pausing = True
    yield
    graph.offloading.pausing = False

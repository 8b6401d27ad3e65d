"""A bytes-only autograd: buffers that have a symbolic size and no values, and a graph that frees what it saved.

Code written against it looks like the Hugging Face modelling code it stands for, and a buffer lives exactly as
long as the tensor it stands for: CPython frees it when the last reference goes, as it frees the tensor. What comes
out is a list of allocations and frees whose sizes are products of named dimensions. A kind of model is walked once
and evaluated with numbers afterwards, in microseconds (planner/step/engine/program.py).

The engine follows torch/csrc/autograd/engine.cpp: nodes run in reverse order of creation; what a node made is cast and
summed to the shapes of its inputs, then its incoming gradient goes (call_function), then its saved tensors
(evaluate_function), and only then are its results accumulated.
Checkpointing follows torch/utils/checkpoint.py: inside a frame nothing is kept but the inputs, the first node that
asks for a saved tensor recomputes the frame, and the recomputation stops at the last tensor it has to save. The older,
reentrant kind recomputes all of it before the first node runs.
"""

from collections.abc import Callable
from typing import NamedTuple
from weakref import ref

from planner.step.engine.buffers import Alias, Buffer, restored
from planner.step.engine.events import Event, Size
from planner.step.engine.gradients import Edge, Outcome, validated
from planner.step.engine.saved import Frame, Holder, let_go

__all__ = ["Alias", "Backward", "Buffer", "Dims", "Edge", "Graph", "Holder", "Outcome", "Value"]

Dims = tuple[str, ...]


class Value(NamedTuple):
    """A tensor: memory (None: a parameter, which the static lines count), bytes per element, dims, gradient edge."""

    buffer: Buffer | None
    each: int
    dims: Dims
    edge: Edge | None = None


Backward = Callable[[Buffer], Outcome]


class RecomputeDone(Exception):  # noqa: N818  torch's twin is called _StopRecomputationError; neither is an error
    """A checkpoint's recomputation has saved everything that was asked for."""


class Cause:
    """`with graph.cause(...)`: the line that new buffers belong to."""

    __slots__ = ("before", "graph", "tag")

    def __init__(self, graph: "Graph", tag: str) -> None:
        self.graph, self.tag, self.before = graph, tag, graph.tag

    def __enter__(self) -> None:
        self.graph.tag = self.tag

    def __exit__(self, *_: object) -> None:
        self.graph.tag = self.before


class Graph:
    """Records events; owns the graph."""

    def __init__(self, *, keeps_gradients: bool = False) -> None:
        self.events: list[Event] = []
        self.marks: list[tuple[str, int]] = []
        self.nodes: list[tuple[Edge, Backward, list[Holder], str] | str | list[object]] = []
        self.casts: dict[str, Value] = {}
        self.layer_casts: dict[int, dict[str, Value]] = {}
        # What functions keep by a name of their own, which no engine releases: it goes with the graph.
        self.kept_with_graph: list[Buffer | None] = []
        self.layer_kept_with_graph: dict[int, list[Buffer | None]] = {}
        self.collected: list[Buffer] = []
        # What the layer under way returns beside its output.
        self.returned: list[Value] = []
        # What the latest layer returned beside its output, where the model's loop keeps its tuple: until the next does.
        self.outputs: list[Value] = []
        # The embedded tokens' edge where they are a leaf: autocast keeps a cast of them.
        self.leaf_input: Edge | None = None
        self.keeps_gradients = keeps_gradients
        # The segment that begins with the first product of the backward pass, where that comes before the layers.
        self.product: int | None = None
        self.runs_backward = False
        # By segment of the forward pass: the event after the output of its first product.
        self.first_products: dict[int, int] = {}
        # Where the gradient of the head's weight goes.
        self.head = Edge(leaf=True)
        # The same of an embedding's trained rows, where the head has them, too.
        self.rows: Edge | None = None
        self.recording = True
        # Where the nodes of the checkpoint being made again begin.
        self.replay_from: int | None = None
        self.tag = "other"
        self._frame: Frame | None = None
        self._replaying: list[ref[Holder]] | None = None

    def cause(self, tag: str) -> Cause:
        """Name the line that the next buffers belong to."""
        return Cause(self, tag)

    def new(self, num: int, dims: Dims, tag: str = "", den: int = 1) -> Buffer:
        """Allocate `num` bytes per element of `dims`."""
        return Buffer(self.events, Size(num, dims, den), tag or self.tag)

    def mark(self, name: str) -> None:
        """Begin a segment of the event list."""
        self.marks.append((name, len(self.events)))

    def mark_product(self) -> None:
        """Note where the first product of each forward segment is done, and begin a segment at the backward pass's.

        Each thread's cuBLAS handle takes its workspace once the output of its first product is there (aten/src/ATen/
        cuda/CublasHandlePool.cpp); autograd's, among logits, of which some are gone by now.
        """
        if not self.runs_backward:
            self.first_products.setdefault(len(self.marks) - 1, len(self.events))
        elif self.product is None and not any(name.startswith("backward ") for name, _ in self.marks):
            self.product = len(self.marks)
            self.mark("backward")

    def mark_backward(self, name: str) -> None:
        """Begin a segment when the backward pass comes back to this point."""
        self.nodes.append(name)

    def release_backward(self, held: list[object]) -> None:
        """Let go of what is in `held` when the backward pass comes back to this point."""
        self.nodes.append(held)

    @property
    def defers(self) -> bool:
        """Whether saved tensors are promised, as in a checkpoint's first pass, and not kept."""
        return self._frame is not None and self._replaying is None

    def needs(self, *values: Value | None) -> bool:
        """Whether an operation on `values` becomes a node of the graph."""
        return self.recording and any(value is not None and value.edge is not None for value in values)

    def save(self, *saved: Value | Buffer | None) -> list[Holder]:
        """Keep buffers for the backward, one call per saved tensor in torch's order.

        Raises:
            RecomputeDone: inside a recomputation, nothing further is needed (early_stop).
        """
        return [self._keep(item.buffer if isinstance(item, Value) else item) for item in saved]

    def _keep(self, buffer: Buffer | None) -> Holder:
        if not self.recording:
            return Holder(None, None)
        if self._replaying is not None:
            holder = self._replaying.pop()() or Holder(None, None)
            holder.buffer = buffer
            if not self._replaying:
                raise RecomputeDone
            return holder
        if self._frame is not None:
            holder = Holder(None, self._frame)
            self._frame.holders.append(ref(holder))
            return holder
        return Holder(buffer, None)

    def keep_with_graph(self, value: Value) -> None:
        """Keep a tensor until the graph dies: after its last backward, or with the recomputation that made it."""
        if self.recording:
            self.kept_with_graph.append(value.buffer)

    def node(self, backward: Backward, saved: list[Holder] | None = None) -> Edge:
        """Add a node of the graph, unless it is not recorded (torch.no_grad); returns the edge of its output."""
        edge = Edge()
        if self.recording:
            self.nodes.append((edge, backward, saved or [], self.tag))
        return edge

    def accumulate(self, edge: Edge | None, grad: Buffer | None) -> None:
        """Deliver a gradient. A second one is added to the first, in place where nobody else holds that.

        Source: torch/csrc/autograd/input_buffer.cpp, can_accumulate_inplace. A parameter's edge takes what comes
        (functions/accumulate_grad.h), and adds to it in place.
        """
        if edge is None or grad is None:
            return
        if edge.leaf:
            if not self.keeps_gradients:
                self.collected.append(grad)
            return
        first, edge.grad = edge.grad, None
        if first is None:
            edge.grad = grad
        elif isinstance(first, Alias):
            edge.grad = Buffer(self.events, first.size, first.tag)
        else:
            size, tag, before = first.size, first.tag, len(self.events)
            del first
            # Memory that goes when the engine lets go of it had no other owner, so it takes the sum.
            alone = len(self.events) > before
            edge.grad = restored(self.events) if alone else Buffer(self.events, size, tag)

    def backward(self, down_to: int = 0) -> None:
        """Run the nodes created after the first `down_to` ones, last first."""
        before, self.runs_backward = self.tag, True
        while len(self.nodes) > down_to:
            entry = self.nodes.pop()
            if isinstance(entry, str):
                self.mark(entry)
                continue
            if isinstance(entry, list):
                entry.clear()
                continue
            edge, function, saved, tag = entry
            self.tag = f"{tag} (gradients)"
            del entry
            grad, edge.grad = edge.grad, None
            if grad is not None:
                self._redo(saved)
                outcome = list(function(grad))
                let_go(saved)
                ready = validated(outcome)
                del grad
                del function, saved
                ready.reverse()
                while ready:
                    self.accumulate(*ready.pop())
        self.tag = before

    def forget(self, nodes: slice) -> None:
        """Drop nodes whose output nobody used; what they saved goes with them. Casts that autocast keeps stay."""
        kept = {id(value.edge) for value in self.casts.values()}
        self.nodes[nodes] = [entry for entry in self.nodes[nodes] if id(entry[0]) in kept]

    def checkpoint(self, run: Callable[[Value], Value], x: Value) -> Value:
        """torch.utils.checkpoint(use_reentrant=False): keep what `run` closes over and x, recompute on demand."""
        outer, self._frame = self._frame, Frame(lambda: run(x))
        try:
            return run(x)
        finally:
            self._frame = outer

    def checkpoint_reentrant(self, run: Callable[[Value], Value], x: Value, *, offloads: bool = False) -> Value:
        """torch.utils.checkpoint(use_reentrant=True): one node, whose backward is a whole backward of its own.

        Everything is recomputed before the first gradient moves; outputs and incoming gradients stay until all is done
        (CheckpointFunction.backward holds them). Unused outputs have zeros for it (python_function.cpp). `offloads`:
        the input waits on the host, and comes back into memory that is there throughout.
        """
        recording, self.recording = self.recording, False
        out = run(x)
        self.recording = recording
        edge_in, each, dims, kept = x.edge, x.each, x.dims, self.save(None if offloads else x)
        others, self.returned = [(value.each, value.dims) for value in self.returned], []

        def backward(grad: Buffer) -> Outcome:
            zeros = [self.new(*other) for other in others]
            entrance, below, casts, self.casts = Edge(), len(self.nodes), self.casts, {}
            held, self.kept_with_graph = self.kept_with_graph, []
            again = run(Value(kept[0].buffer, each, dims, entrance))
            returned, self.returned = self.returned, []
            self.casts = casts
            if again.edge is not None:
                again.edge.grad = grad
                for value, blank in zip(returned, zeros, strict=True):
                    if value.edge:
                        value.edge.grad = blank
                self.backward(below)
            self.kept_with_graph = held
            return ((edge_in, entrance.grad),)

        return out._replace(edge=self.node(backward, kept))

    def _redo(self, saved: list[Holder]) -> None:
        frame = next((holder.frame for holder in saved if holder.frame), None)
        if frame is None or frame.done:
            return
        frame.done = True
        self._replaying = frame.holders[::-1]
        frame.holders = []
        nodes, tag, casts, held = len(self.nodes), self.tag, self.casts, self.kept_with_graph
        self.replay_from = nodes
        self.tag = "other"
        self.casts, self.kept_with_graph = {}, []
        try:
            frame.run_again()
        except RecomputeDone:
            pass
        finally:
            del self.nodes[nodes:]
            self._replaying, self.tag, self.casts, self.replay_from = None, tag, casts, None
            self.kept_with_graph = held

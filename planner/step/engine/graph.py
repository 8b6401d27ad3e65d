"""A bytes-only autograd: nodes that are recorded forward and run backward. Its theory is in engine/__init__.py.

It follows torch/csrc/autograd/engine.cpp: nodes run in reverse order of creation; what a node made is cast and summed
to the shapes of its inputs, then its incoming gradient goes (call_function), then its saved tensors
(evaluate_function), and only then are its results accumulated.
"""

from collections.abc import Callable

from planner.step.engine.buffers import Alias, Buffer, drop_temporaries
from planner.step.engine.checkpoints import checkpoint, checkpoint_reentrant, recompute
from planner.step.engine.frames import framed
from planner.step.engine.gradients import Edge, Late, Outcome
from planner.step.engine.offloading import Offloading
from planner.step.engine.recorder import Recorder, needs_gradient
from planner.step.engine.saved import CheckpointFrame, Holder, RecomputeDone, let_go, release_all
from planner.step.engine.values import Dims, SharedShelf, Shelf, Value, buffers_of

__all__ = [
    "Alias",
    "Backward",
    "Buffer",
    "Dims",
    "Edge",
    "Graph",
    "Holder",
    "Outcome",
    "SharedShelf",
    "Shelf",
    "Value",
    "buffers_of",
    "drop_casts",
    "framed",
    "let_go",
]

Backward = Callable[[Buffer], Outcome]


class Graph(Recorder):
    """The nodes of one trace, and what outlives the functions that made it: casts, outputs, what functions keep."""

    def __init__(self, *, keeps_gradients: bool = False) -> None:
        super().__init__()
        # A shelf is cleared, and a string begins a segment, when the backward pass comes back to it.
        self.nodes: list[tuple[Edge, Backward, list[Holder], str] | str | Shelf] = []
        self.casts: dict[str, Value] = {}
        self.layer_casts: dict[int, dict[str, Value]] = {}
        # What functions keep by a name of their own, which no engine releases: it goes with the graph.
        self.kept_with_graph = Shelf()
        self.layer_kept_with_graph: dict[int, Shelf] = {}
        # What the layer under way returns beside its output.
        self.returned = Shelf()
        # What the latest layer returned beside its output, where the model's loop keeps its tuple: until the next does.
        self.outputs = Shelf()
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
        # The checkpointed call under way; what a recomputation owes still, the next one last; what it saved unasked.
        self.checkpointed: CheckpointFrame | None = None
        self.replaying: list[Holder] | None = None
        self.unasked: list[Holder] = []
        # What is saved waits on the host, and the node that runs.
        self.offloading: Offloading | None = None
        self.running: Edge | None = None

    # ---------------------------------------------------------------------------------------------------- segments
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

    def release_backward(self, shelf: Shelf) -> None:
        """Clear a shelf when the backward pass comes back to this point."""
        self.nodes.append(shelf)

    # ------------------------------------------------------------------------------------------------------ forward
    @property
    def defers(self) -> bool:
        """Whether saved tensors are promised, as in a checkpoint's first pass, and not kept."""
        return self.checkpointed is not None and self.replaying is None

    def needs(self, *values: Value | None) -> bool:
        """Whether an operation on `values` becomes a node of the graph."""
        return self.recording and needs_gradient(*values)

    def save(self, *saved: Value | Buffer | None) -> list[Holder]:
        """Keep buffers for the backward, one call per saved tensor in torch's order; a temporary that is not kept goes.

        Raises:
            RecomputeDone: inside a recomputation, nothing further is needed (early_stop).
        """
        return [self._saved(item.buffer if isinstance(item, Value) else item) for item in saved]

    def _saved(self, buffer: Buffer | None) -> Holder:
        if self.recording and self.replaying is not None:
            return self._replayed(self.replaying, buffer)
        if self.recording and self.checkpointed is None:
            return self._kept(buffer)
        if buffer is not None and not buffer.owners:
            buffer.free()
        if not self.recording or self.checkpointed is None:
            return Holder(None)
        holder = Holder(None, self.checkpointed)
        self.checkpointed.holders.append(holder)
        return holder

    def _kept(self, buffer: Buffer | None) -> Holder:
        """A saved tensor outside of checkpoints."""
        if self.offloading is None or self.offloading.pausing:
            return Holder(buffer)
        kept = self.offloading.pack(buffer)
        if buffer is not None and not buffer.owners:
            buffer.free()
        return kept

    def _replayed(self, owed: list[Holder], buffer: Buffer | None) -> Holder:
        holder = owed.pop()
        if holder.released:  # its node was dropped, so that nothing waits for the tensor
            holder = Holder(buffer)
            self.unasked.append(holder)
        else:
            holder.fill(buffer)
        if not owed:
            raise RecomputeDone
        return holder

    def keep_with_graph(self, value: Value) -> None:
        """Keep a tensor until the graph dies: after its last backward, or with the recomputation that made it."""
        if self.recording:
            self.kept_with_graph.put(value)

    def keep_cast(self, name: str, value: Value) -> None:
        """Keep a cast until autocast ends."""
        for buffer in buffers_of(value):
            buffer.own()
        self.casts[name] = value

    def node(self, backward: Backward, saved: list[Holder] | None = None) -> Edge:
        """Add a node of the graph, unless it is not recorded (torch.no_grad); returns the edge of its output."""
        edge = Edge()
        if self.recording:
            self.nodes.append((edge, backward, saved or [], self.tag))
        return edge

    def forget(self, nodes: slice) -> None:
        """Drop nodes whose output was not used; what they saved goes with them. Casts that autocast keeps stay."""
        kept = {value.edge for value in self.casts.values()}
        found, staying = self.nodes[nodes], []
        for entry in found:
            if isinstance(entry, tuple) and entry[0] not in kept:
                release_all(entry[2])
            else:
                staying.append(entry)
        self.nodes[nodes] = staying

    def checkpoint(self, run: Callable[[Value], Value], x: Value, given: object) -> Value:
        """torch.utils.checkpoint(use_reentrant=False) of `run(x)`, which is `given` more beside x."""
        return checkpoint(self, run, x, given)

    def checkpoint_reentrant(
        self, run: Callable[[Value], Value], x: Value, given: object, *, offloads: bool = False
    ) -> Value:
        """torch.utils.checkpoint(use_reentrant=True) of the same. `offloads`: x waits on the host."""
        return checkpoint_reentrant(self, run, x, given, offloads=offloads)

    # ----------------------------------------------------------------------------------------------------- backward
    def accumulate(self, edge: Edge | None, grad: Buffer | None) -> None:
        """Deliver a gradient. A second one is added to the first, in place if that has no other holder.

        Source: torch/csrc/autograd/input_buffer.cpp, can_accumulate_inplace. A parameter's edge takes what comes
        (functions/accumulate_grad.h), and adds to it in place.
        """
        if grad is None:
            return
        if edge is None or (edge.leaf and self.keeps_gradients):
            drop_temporaries([grad])
        elif edge.leaf:
            self.collect(grad)
        elif edge.grad is None:
            edge.put(grad)
        else:
            first = edge.grad
            if isinstance(first, Alias):
                edge.put(self.new(first.size.num, first.size.dims, first.tag, first.size.den))
                first.disown()
            elif first.owners > 1:
                first.disown()
                edge.put(self.new(first.size.num, first.size.dims, first.tag, first.size.den))
            drop_temporaries([grad])

    def backward(self, down_to: int = 0) -> None:
        """Run the nodes created after the first `down_to` ones, last first."""
        before, self.runs_backward = self.tag, True
        # What a node saved that no gradient reached goes when the next one is reached.
        skipped: list[Holder] = []
        while len(self.nodes) > down_to:
            entry = self.nodes.pop()
            if isinstance(entry, str):
                self.mark(entry)
            elif isinstance(entry, Shelf):
                entry.clear()
            else:
                edge, function, saved, tag = entry
                self.tag = f"{tag} (gradients)"
                release_all(skipped)
                grad, edge.grad = edge.grad, None
                skipped = saved if grad is None else []
                if grad is not None:
                    self.running = edge
                    self._run(function, saved, grad)
        release_all(skipped)
        self.tag = before

    def _run(self, function: Backward, saved: list[Holder], grad: Buffer) -> None:
        """One node: gradients are brought to their tensors' shapes, then the incoming one goes, then what it saved."""
        recompute(self, saved)
        if self.offloading is not None:
            self.offloading.unpack(self.running, saved)
        held: list[Buffer] = []
        self.frames.append(held)
        outcome = function(grad)
        self.frames.pop()
        for _, made in outcome:
            if isinstance(made, Buffer):
                made.own()
        for buffer in held:
            buffer.disown()
        let_go(saved)
        ready = [(edge, _validated(made)) for edge, made in outcome]
        if self.offloading is not None:
            self.offloading.after_node()
        grad.disown()
        release_all(saved)
        for edge, made in ready:
            self.accumulate(edge, made)
            if made is not None:
                made.disown()


def _validated(made: Buffer | Late | None) -> Buffer | None:
    """A gradient of its tensor's shape and dtype, made now if the node has another (engine.cpp, validate_outputs)."""
    if made is None or isinstance(made, Buffer):
        return made
    buffer = made()
    buffer.own()
    return buffer


def drop_casts(casts: dict[str, Value]) -> None:
    """The end of autocast: casts that it kept go."""
    values = list(casts.values())
    casts.clear()
    for buffer in buffers_of(values):
        buffer.disown()

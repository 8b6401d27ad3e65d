"""torch.utils.checkpoint, both kinds: what is kept of a call, and how it is made again.

Source: torch/utils/checkpoint.py. Inside a frame nothing is kept but the inputs, the first node that asks for a saved
tensor recomputes the frame, and the recomputation stops at the last tensor it has to save. The older, reentrant kind
recomputes all of it before the first node runs.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.step.engine.buffers import Buffer, drop_temporaries
from planner.step.engine.frames import leave
from planner.step.engine.gradients import Edge, Outcome
from planner.step.engine.offloading import Offloading
from planner.step.engine.saved import CheckpointFrame, Given, Holder, RecomputeDone, release_all
from planner.step.engine.values import Shelf, Value, buffers_of

if TYPE_CHECKING:
    from planner.step.engine.graph import Graph

Run = Callable[[Value], Value]


def checkpoint(graph: "Graph", run: Run, x: Value, given: object) -> Value:
    """Keep x and what `run` is `given` beside it, recompute on demand."""
    if graph.offloading is None:
        frame = CheckpointFrame(lambda: run(x), buffers_of((x, given)))
    else:
        frame = CheckpointFrame(_run_on_what_comes_back(graph, run, x, graph.offloading), buffers_of(given))
    outer, graph.checkpointed = graph.checkpointed, frame
    try:
        out = run(x)
    finally:
        graph.checkpointed = outer
    returned = buffers_of(out)
    for buffer in returned:
        buffer.own()
    frame.disown()
    for buffer in returned:
        buffer.owners -= 1
    return out


def _run_on_what_comes_back(graph: "Graph", run: Run, x: Value, offloading: Offloading) -> Callable[[], object]:
    """The call again, whose input was saved as any tensor is, and is there until the call is over."""
    kept = offloading.pack(x.buffer)

    def again() -> None:
        offloading.unpack(graph.running, [kept])
        try:
            run(x._replace(buffer=kept.buffer))
        finally:
            kept.drop()

    return again


def recompute(graph: "Graph", saved: list[Holder]) -> None:
    """Make a checkpointed call again, where its frame owes one of these and has not been made again before."""
    frame = next((holder.frame for holder in saved if holder.frame), None)
    if frame is None or frame.done:
        return
    frame.done = True
    graph.replaying, graph.unasked, frame.holders = frame.holders[::-1], [], []
    nodes, tag, casts, kept = len(graph.nodes), graph.tag, graph.casts, graph.kept_with_graph
    depth, first = len(graph.frames), len(graph.made)
    graph.replay_from, graph.tag, graph.casts, graph.kept_with_graph = nodes, "other", {}, Shelf()
    try:
        frame.run_again()
    except RecomputeDone:
        pass
    finally:
        del graph.nodes[nodes:]
        graph.replaying, graph.replay_from, graph.tag = None, None, tag
    _unwind(graph, depth)
    for buffer in buffers_of(list(graph.casts.values())):
        buffer.disown()
    release_all(graph.unasked)
    graph.kept_with_graph.clear()
    graph.casts, graph.kept_with_graph = casts, kept
    drop_temporaries(graph.made[first:])


def _unwind(graph: "Graph", depth: int) -> None:
    """Leave the functions that a recomputation stopped in, the innermost first."""
    while len(graph.frames) > depth:
        leave(graph.frames.pop(), None)


def checkpoint_reentrant(graph: "Graph", run: Run, x: Value, given: object, *, offloads: bool) -> Value:
    """One node, whose backward is a whole backward of its own.

    Everything is recomputed before the first gradient moves; outputs and incoming gradients stay until all is done
    (CheckpointFunction.backward holds them). Unused outputs have zeros for it (python_function.cpp). `offloads`:
    the input waits on the host, and comes back into memory that is there throughout.
    """
    recording, graph.recording = graph.recording, False
    out = run(x)
    graph.recording = recording
    edge_in, each, dims = x.edge, x.each, x.dims
    saved = graph.save(None if offloads else x)
    others = [(value.each, value.dims) for value in graph.returned.values()]
    graph.returned.clear()

    def backward(grad: Buffer) -> Outcome:
        zeros = graph.hold([graph.new(*other) for other in others])
        entrance, below = Edge(), len(graph.nodes)
        casts, graph.casts = graph.casts, {}
        kept, graph.kept_with_graph = graph.kept_with_graph, Shelf()
        again = graph.hold(run(Value(saved[0].buffer, each, dims, entrance)))
        returned, graph.returned = graph.returned, Shelf()
        for buffer in buffers_of(list(graph.casts.values())):
            buffer.disown()
        graph.casts = casts
        if again.edge is not None:
            again.edge.put(grad)
            for value, blank in zip(returned.values(), zeros, strict=True):
                if value.edge:
                    value.edge.put(blank)
            graph.backward(below)
        graph.kept_with_graph.clear()
        graph.kept_with_graph = kept
        returned.clear()
        return ((edge_in, entrance.take()),)

    beside = [Given(buffers_of(given))] if graph.recording else []
    return out._replace(edge=graph.node(backward, [*saved, *beside]))

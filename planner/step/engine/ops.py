"""The tensor operations decoders are made of: what each allocates, saves for its backward and allocates there.

Saved tensors and gradients follow tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp of
torch 2.13; each was held to a dry run's event list. `e` is bytes per element, `·` a product of dims.
"""

from collections.abc import Callable

from planner.step.engine.cards import new_tensor, view_of
from planner.step.engine.gradients import later
from planner.step.engine.graph import Alias, Buffer, Dims, Edge, Graph, Outcome, Value, framed
from planner.step.engine.widths import promoted

GRADIENTS = "gradients of trained weights"
SUMS = "partial sums over rows"
EMBEDDING_WORKSPACE = "embedding backward workspace"


def parameter(each: int, dims: Dims, *, trained: bool = False) -> Value:
    """A weight. Its own bytes belong to the static lines; a trained one collects a gradient."""
    return Value(None, each, dims, Edge(leaf=True) if trained else None)


@framed
def embedding_gradient(graph: Graph, each: int, dims: Dims, rows: str, tag: str = GRADIENTS) -> Buffer:
    """The dense gradient of an embedding; of many tokens it is summed up in float32 rows first, `rows` of them."""
    indices = graph.new(8, (f"{rows}' indices",), EMBEDDING_WORKSPACE)
    sums = graph.new(4, (rows, dims[-1]), EMBEDDING_WORKSPACE)
    gradient = graph.new(each, dims, tag)
    graph.release(indices, sums)
    return gradient


def summed_over_rows(graph: Graph, whole: Buffer, dims: Dims, result: Callable[[], Buffer]) -> Callable[[], Buffer]:
    """The gradient of what was broadcast over rows: the sum of `whole`, of `dims`, made when the engine asks for it.

    Of many rows several blocks sum up parts for each column, in memory (planner/memory/row_sums.py).
    """
    rows = dims[:-1]

    def summed() -> Buffer:
        out = result()
        if rows and rows[0] in {"T", "s"} and len(out.size.dims) == 1:
            sums = graph.new(4, (row_sums_of(dims[:-1], dims[-1]),), SUMS)
            semaphores = graph.new(4, (semaphores_of(dims[:-1], dims[-1]),), SUMS)
            graph.release(semaphores, sums)
        return out

    return later(whole, summed)


def row_sums_of(rows: Dims, width: str) -> str:
    """The dimension of what a sum over `rows` leaves in memory on its way (planner/memory/row_sums.py)."""
    return f"{' × '.join(rows)} partial sums of {width}"


def semaphores_of(rows: Dims, width: str) -> str:
    """The dimension of its semaphores."""
    return f"{' × '.join(rows)} semaphores of {width}"


def cast(graph: Graph, x: Value, each: int) -> Value:
    """`x.to(dtype)`: a copy only where the dtype differs; its gradient is cast back. Saves nothing."""
    if x.each == each:
        return x
    tag = GRADIENTS if x.edge and x.edge.leaf else ""
    return new_tensor(graph, x, each, x.dims, tag=tag)


def unary(graph: Graph, x: Value, *, saves: str = "") -> Value:
    """An element-wise function with an output of its own: scaling, negation, activation.

    `saves` is "input", "output" or "" (a scalar factor, neg).
    """
    if saves == "output":
        return _saves_output(graph, x)
    return new_tensor(graph, x, x.each, x.dims, (x,) if saves else ())


@framed
def _saves_output(graph: Graph, x: Value) -> Value:
    edge_in, each, dims = x.edge, x.each, x.dims
    out = graph.hold(graph.new(each, dims))
    if not graph.needs(x):
        return Value(out, each, dims)

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, dims)),)

    return Value(out, each, dims, graph.node(backward, graph.save(out)))


def scale_in_place(graph: Graph, x: Value) -> Value:
    """`x *= buffer`: saves the buffer alone, so that a checkpoint is made again up to here; the gradient is new."""
    return view_of(graph, x, x.dims, (None,))


def shift(graph: Graph, x: Value) -> Value:
    """`x + constant`: a new tensor whose gradient passes through."""
    return clone(graph, x)


def clone(graph: Graph, x: Value) -> Value:
    """`x.clone()` or a contiguous copy; the gradient passes through untouched."""
    return new_tensor(graph, x, x.each, x.dims, passes=True)


def relayout_gradient(graph: Graph, x: Value) -> Value:
    """A view (transpose, reshape) whose incoming gradient lies otherwise in memory and is copied."""
    return view_of(graph, x, x.dims)


@framed
def add(graph: Graph, a: Value, b: Value) -> Value:
    """`a + b`, the wider dtype wins. Saves nothing; both sides receive the same gradient, cast where narrower."""
    each, dims = promoted(a.each, b.each), a.dims
    if not graph.needs(a, b):
        return Value(graph.new(each, dims), each, dims)
    sides = ((a.edge, a.each), (b.edge, b.each))

    def backward(grad: Buffer) -> Outcome:
        return tuple((edge, grad if own == each else graph.new(own, dims)) for edge, own in sides if edge)

    edge = graph.node(backward)
    return Value(graph.new(each, dims), each, dims, edge)


def cast_later(graph: Graph, wide: Buffer, dims: Dims, *, each: int, own: int) -> Buffer | Callable[[], Buffer]:
    """A gradient of `each` bytes per element as its tensor of `own` gets it: cast by the engine (validate_outputs)."""
    return wide if own == each else later(wide, lambda: graph.new(own, dims))


@framed
def mul(graph: Graph, a: Value, b: Value) -> Value:
    """`a * b`: each side is saved for the other's gradient; b's gradient is made first (MulBackward0::apply)."""
    each, dims = promoted(a.each, b.each), a.dims
    if not graph.needs(a, b):
        return Value(graph.new(each, dims), each, dims)
    sides = ((a.edge, a.each), (b.edge, b.each))

    def backward(_: Buffer) -> Outcome:
        made = [
            (edge, cast_later(graph, graph.new(each, dims), dims, each=each, own=own))
            for edge, own in reversed(sides)
            if edge
        ]
        return tuple(reversed(made))

    saved = (graph.save(b) if a.edge else []) + (graph.save(a) if b.edge else [])
    edge = graph.node(backward, saved)
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def matmul(  # noqa: PLR0913  # F.linear's own, and how its input is kept
    graph: Graph, x: Value, weight: Value, out: str, *, bias: int = 0, keeps_x: bool = False
) -> Value:
    """`F.linear` with a plain weight `(out, in)`: saves x for the weight's gradient, the weight for x's.

    x has dims (rows..., in). The weight's gradient comes first, x's where there is a trained bias (AddmmBackward0).
    `bias`: bytes per element of that. `keeps_x`: x is saved for a frozen weight, too.
    """
    rows, dims = x.dims[:-1], (*x.dims[:-1], out)
    if not (graph.needs(x, weight) or (bias and graph.recording)):
        result = graph.hold(graph.new(x.each, dims))
        graph.mark_product()
        return Value(result, x.each, dims)
    each, x_edge, w_edge, width = x.each, x.edge, weight.edge, x.dims[-1]

    def gradient_of_bias() -> Buffer:
        summed = graph.new(each, (out,), GRADIENTS)
        if bias == each:
            return summed
        wide = graph.new(bias, (out,), GRADIENTS)
        graph.release(summed)
        return wide

    def backward(grad: Buffer) -> Outcome:
        tag = GRADIENTS if w_edge and (w_edge.leaf or w_edge is graph.head) else ""

        def product(edge: Edge | None, shape: Dims, tag: str = "") -> tuple[Edge | None, Buffer | None]:
            # The weight's gradient is a transposed view; for x's, rows are flattened for the product.
            if edge is None:
                return None, None
            made = graph.hold((edge, Alias(graph.new(each, shape, tag))))
            graph.mark_product()
            return made

        if not bias:
            to_weight = product(w_edge, (out, width), tag)
            return product(x_edge, (*rows, width)), to_weight
        to_input = product(x_edge, (*rows, width))
        to_weight = product(w_edge, (out, width), tag)
        return (Edge(leaf=True), summed_over_rows(graph, grad, dims, gradient_of_bias)), to_input, to_weight

    saved = (graph.save(x) if w_edge or keeps_x else []) + (graph.save(weight) if x_edge else [])
    edge = graph.node(backward, saved)
    result = graph.hold(graph.new(each, dims))
    graph.mark_product()
    return Value(result, each, dims, edge)


@framed
def dropout(graph: Graph, x: Value) -> Value:
    """`native_dropout`: a one-byte mask, which is saved, and the output; its backward scales by the mask."""
    mask, out = graph.hold((graph.new(1, x.dims), graph.new(x.each, x.dims)))
    if not graph.needs(x):
        return Value(out, x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, dims)),)

    return Value(out, each, dims, graph.node(backward, graph.save(mask)))


@framed
def square(graph: Graph, x: Value) -> Value:
    """`x.pow(2)`; its backward makes x**1, 2·x and grad·2x, each of x's size."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        power = graph.hold(graph.new(each, dims))
        doubled = graph.hold(graph.new(each, dims))
        out = graph.hold(graph.new(each, dims))
        graph.release(power, doubled)
        return ((edge_in, out),)

    edge = graph.node(backward, graph.save(x)) if graph.needs(x) else None
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def bmm(graph: Graph, a: Value, b: Value, dims: Dims) -> Value:
    """A batched product of two activations; each is saved for the other's gradient, where one is wanted.

    b's gradient comes first.
    """
    each = a.each
    if not graph.needs(a, b):
        return Value(graph.new(each, dims), each, dims)
    sides = tuple((value.edge, value.each, value.dims) for value in (a, b))

    def backward(_: Buffer) -> Outcome:
        return tuple((edge, graph.new(own, shape)) for edge, own, shape in reversed(sides) if edge)

    saved = (graph.save(a) if b.edge else []) + (graph.save(b) if a.edge else [])
    edge = graph.node(backward, saved)
    return Value(graph.new(each, dims), each, dims, edge)


def view(x: Value, dims: Dims) -> Value:
    """The same memory under other dims."""
    return Value(x.buffer, x.each, dims, x.edge)

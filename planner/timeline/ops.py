"""The tensor operations decoders are made of: what each allocates, saves for its backward and allocates there.

Saved tensors and gradients follow tools/autograd/derivatives.yaml and torch/csrc/autograd/FunctionsManual.cpp of
torch 2.13; each was held to a dry run's event list. `e` is bytes per element, `·` a product of dims.
"""

from planner.timeline.tape import Alias, Buffer, Dims, Edge, Holder, Outcome, Tape, Value

GRADIENTS = "gradients of trained weights"
EMBEDDING_WORKSPACE = "embedding backward workspace"


def parameter(each: int, dims: Dims, *, trained: bool = False) -> Value:
    """A weight. Its own bytes belong to the static lines; a trained one collects a gradient."""
    return Value(None, each, dims, Edge(leaf=True) if trained else None)


def embedding_gradient(tape: Tape, each: int, dims: Dims, rows: str) -> Buffer:
    """The dense gradient of an embedding; of many tokens it is summed up in float32 rows first, `rows` of them."""
    indices = tape.new(8, (f"{rows}' indices",), EMBEDDING_WORKSPACE)
    sums = tape.new(4, (rows, dims[-1]), EMBEDDING_WORKSPACE)
    gradient = tape.new(each, dims, GRADIENTS)
    del indices, sums
    return gradient


def cast(tape: Tape, x: Value, each: int, *, other: bool = False) -> Value:
    """`x.to(dtype)`: a copy only where the dtype differs; its gradient is cast back. Saves nothing.

    `other`: the dtype is another one, be it as wide (float16 and bfloat16).
    """
    if x.each == each and not other:
        return x
    if not tape.needs(x):
        return Value(tape.new(each, x.dims), each, x.dims)
    edge_in, dims, before = x.edge, x.dims, x.each

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(before, dims, GRADIENTS if edge_in and edge_in.leaf else "")),)

    edge = tape.node(backward)
    return Value(tape.new(each, dims), each, dims, edge)


def unary(tape: Tape, x: Value, *, saves: str = "", backward_copies: int = 1) -> Value:
    """An element-wise function with an output of its own: scaling, negation, activation.

    `saves` is "input", "output" or "" (a scalar factor, neg). `backward_copies` counts the allocations of its
    backward; the last one is the gradient.
    """
    if not tape.needs(x):
        return Value(tape.new(x.each, x.dims), x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        work = [tape.new(each, dims) for _ in range(backward_copies)]
        return ((edge_in, work.pop()),)

    if saves == "output":
        out = tape.new(each, dims)
        return Value(out, each, dims, tape.node(backward, tape.save(out)))
    edge = tape.node(backward, tape.save(x) if saves == "input" else None)
    return Value(tape.new(each, dims), each, dims, edge)


def scale_in_place(tape: Tape, x: Value) -> Value:
    """`x *= buffer`: saves the buffer alone, so that a checkpoint is made again up to here; the gradient is new."""
    if not tape.needs(x):
        return x
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, dims)),)

    return Value(x.buffer, each, dims, tape.node(backward, tape.save(None)))


def shift(tape: Tape, x: Value) -> Value:
    """`x + constant`: a new tensor whose gradient passes through."""
    return clone(tape, x)


def clone(tape: Tape, x: Value) -> Value:
    """`x.clone()` or a contiguous copy; the gradient passes through untouched."""
    if not tape.needs(x):
        return Value(tape.new(x.each, x.dims), x.each, x.dims)
    edge_in = x.edge

    def backward(grad: Buffer) -> Outcome:
        return ((edge_in, grad),)

    edge = tape.node(backward)
    return Value(tape.new(x.each, x.dims), x.each, x.dims, edge)


def relayout_gradient(tape: Tape, x: Value) -> Value:
    """A view (transpose, reshape) whose incoming gradient lies otherwise in memory and is copied."""
    if not tape.needs(x):
        return x
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, dims)),)

    return Value(x.buffer, each, dims, tape.node(backward))


def add(tape: Tape, a: Value, b: Value) -> Value:
    """`a + b`, the wider dtype wins. Saves nothing; both sides receive the same gradient, cast where narrower."""
    each, dims = max(a.each, b.each), a.dims
    if not tape.needs(a, b):
        return Value(tape.new(each, dims), each, dims)
    sides = ((a.edge, a.each), (b.edge, b.each))

    def backward(grad: Buffer) -> Outcome:
        return tuple((edge, grad if own == each else tape.new(own, dims)) for edge, own in sides if edge)

    edge = tape.node(backward)
    return Value(tape.new(each, dims), each, dims, edge)


def let_go(saved: list[Holder]) -> None:
    """A checkpoint's hooks hand saved tensors over for good, so that they go before the engine casts a gradient.

    Other saved tensors stay until the node is done (torch/csrc/autograd/engine.cpp, call_function).
    """
    for holder in saved:
        if holder.frame is not None:
            holder.buffer = None


def mul(tape: Tape, a: Value, b: Value) -> Value:
    """`a * b`: each side is saved for the other's gradient."""
    each, dims = max(a.each, b.each), a.dims
    if not tape.needs(a, b):
        return Value(tape.new(each, dims), each, dims)
    sides = ((a.edge, a.each), (b.edge, b.each))

    def backward(_: Buffer) -> Outcome:
        wide = [(edge, tape.new(each, dims), own) for edge, own in sides if edge]
        let_go(saved)
        return tuple((edge, grad if own == each else tape.new(own, dims)) for edge, grad, own in wide)

    saved = (tape.save(b) if a.edge else []) + (tape.save(a) if b.edge else [])
    edge = tape.node(backward, saved)
    return Value(tape.new(each, dims), each, dims, edge)


def matmul(tape: Tape, x: Value, weight: Value, out: str) -> Value:
    """`F.linear` with a plain weight `(out, in)`: saves x for the weight's gradient, the weight for x's.

    x has dims (rows..., in). The weight's gradient comes first, as torch computes it.
    """
    rows, dims = x.dims[:-1], (*x.dims[:-1], out)
    if not tape.needs(x, weight):
        return Value(tape.new(x.each, dims), x.each, dims)
    each, x_edge, w_edge, width = x.each, x.edge, weight.edge, x.dims[-1]

    def backward(_: Buffer) -> Outcome:
        tag = GRADIENTS if w_edge and (w_edge.leaf or w_edge is tape.head) else ""
        # The weight's gradient is a transposed view; for x's, rows are flattened for the product.
        to_weight = (w_edge, Alias(tape.new(each, (out, width), tag))) if w_edge else (None, None)
        if w_edge:
            tape.mark_product()
        to_input = (x_edge, Alias(tape.new(each, (*rows, width)))) if x_edge else (None, None)
        tape.mark_product()
        return to_input, to_weight

    saved = (tape.save(x) if w_edge else []) + (tape.save(weight) if x_edge else [])
    edge = tape.node(backward, saved)
    return Value(tape.new(each, dims), each, dims, edge)


def dropout(tape: Tape, x: Value) -> Value:
    """`native_dropout`: the output and a one-byte mask, which is saved; its backward scales by the mask."""
    out, mask = tape.new(x.each, x.dims), tape.new(1, x.dims)
    if not tape.needs(x):
        return Value(out, x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, dims)),)

    return Value(out, each, dims, tape.node(backward, tape.save(mask)))


def square(tape: Tape, x: Value) -> Value:
    """`x.pow(2)`; its backward makes x**1, 2·x and grad·2x, each of x's size."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        power = tape.new(each, dims)
        doubled = tape.new(each, dims)
        out = tape.new(each, dims)
        del power, doubled
        return ((edge_in, out),)

    edge = tape.node(backward, tape.save(x)) if tape.needs(x) else None
    return Value(tape.new(each, dims), each, dims, edge)


def bmm(tape: Tape, a: Value, b: Value, dims: Dims) -> Value:
    """A batched product of two activations; each is saved for the other's gradient, where one is wanted.

    b's gradient comes first.
    """
    each = a.each
    if not tape.needs(a, b):
        return Value(tape.new(each, dims), each, dims)
    sides = tuple((value.edge, value.each, value.dims) for value in (a, b))

    def backward(_: Buffer) -> Outcome:
        return tuple((edge, tape.new(own, shape)) for edge, own, shape in reversed(sides) if edge)

    saved = (tape.save(a) if b.edge else []) + (tape.save(b) if a.edge else [])
    edge = tape.node(backward, saved)
    return Value(tape.new(each, dims), each, dims, edge)


def view(x: Value, dims: Dims) -> Value:
    """The same memory under other dims."""
    return Value(x.buffer, x.each, dims, x.edge)

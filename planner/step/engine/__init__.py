"""The engine: a bytes-only autograd whose lifetimes are written down.

A trace runs code that looks like torch's and like the modelling code it stands for, on tensors that have a symbolic
size and no numbers. What comes out are allocations and frees. When a tensor is freed is most of what there is to know
about memory, so that none of it is left to Python, its reference counts, `__del__` or weak references. A reader may
keep any value in a variable, or stop in a debugger, and the answer is the same.

**Who owns memory.** A buffer counts its owners (`Buffer.owners`), and is freed by the last one. Owners are

* a function under way that *holds* it (`graph.hold`), as a name in a C++ or Python function does,
* a saved tensor of a node (`Holder`), until the node has run, and what a checkpoint keeps to run a call again
  (`CheckpointFrame`),
* an edge of the graph at which it has arrived as a gradient (`Edge.grad`), and a gradient that is a view (`Alias`),
* what outlives functions: casts that autocast keeps, what a layer returns beside its output, the dictionary in which
  layers share keys, a cache of keys and values (each a `Shelf`, or `keep_cast`).

**Temporaries.** Memory that an operator returns has no owner yet. It belongs to the expression, as a temporary of C++
and of CPython does: the function it is passed to owns it (`framed`) and frees it on its return, unless something else
owns it by then. `unary(graph, cast(graph, x, 4))` frees the float32 copy when `unary` returns. A function *holds* what
it needs longer:

    wide = graph.hold(cast(graph, x, 4))            # to the end of this function, or to graph.release(wide)
    variance = mean(graph, square(graph, wide))
    x = graph.replace(x, add(graph, x, wide))       # the old x goes when the new one is there
    return head(graph, graph.move(x))               # handed on for good: `head` may free it before it returns

What a function returns outlives it as its caller's temporary. An argument that the caller holds stays the caller's.
Scratch memory of an operator is a temporary that is released by hand. What `graph.save` does not keep, a checkpoint's
first pass or `no_grad`, is a temporary passed to it like any other.

**Why frees come when they do.** A line that holds is a fact about the code that is followed: the modelling code or the
C++ operator has a name for that tensor, and so it stays while later lines allocate. Lines that need no `hold` say the
reverse. In what order several tensors go between two allocations is no fact: no allocator could tell afterwards, and a
program has them in the order they came (`program.compiled`).

**Autograd** (graph.py). An operator that needs a gradient adds a node: its backward function, and what it saved, one
`save` per tensor in torch's order. Backward, nodes run in reverse order of creation (torch/csrc/autograd/engine.cpp).
When a node has run, its scratch goes, and what a checkpoint's hooks handed it; gradients are brought to their tensors'
shapes; then the gradient that came in goes, then what the node saved; then gradients are delivered. A second gradient
at an edge is added in place where the edge is the only owner of the first, else into new memory. A saved tensor of a
node that no gradient reaches goes when the next node runs.

**Checkpoints** (checkpoints.py). In a checkpoint's first pass saved tensors are promises: nothing is kept but the
inputs. The first node that asks for one runs the call again. That run ends at the last promise, in the middle of
functions; what these hold, and temporaries they had in hand, then goes.

**Mistakes are loud.** Passing, holding or releasing freed memory raises `UseAfterFreeError`, with the line it belongs
to and the function; what is there at the end of a trace and should not be raises `LeakError`.

The files: buffers (memory), values (tensors, shelves), frames (functions), recorder (events and holding), saved and
checkpoints, gradients and graph (autograd); cards (operators of one tensor), ops, slice_ops and row_ops (operators);
program, segment_peaks, tables and held_bytes (from events to bytes).
"""

"""A product with a weight in hqq's groups. Source: hqq 0.2.8 core/quantize.py."""

from planner.families.parts import Linear
from planner.timeline.tape import Buffer, Dims, Outcome, Tape, Value

_EXPANDED = "expanded 4-bit weight"


def group_wise_matmul(tape: Tape, part: Linear, x: Value) -> Value:
    """`HQQMatmulNoCacheMul`: saves its input, expands the weight in the forward and again in the backward."""
    weight, each, rows = (part.out, part.in_), x.each, x.dims[:-1]
    if not tape.needs(x):
        return Value(_expand_and_multiply(tape, weight, each, (*rows, part.out)), each, (*rows, part.out))
    edge_in = x.edge

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, _expand_and_multiply(tape, weight, each, (*rows, part.in_))),)

    edge = tape.node(backward, tape.save(x))
    return Value(_expand_and_multiply(tape, weight, each, (*rows, part.out)), each, (*rows, part.out), edge)


def _expand_and_multiply(tape: Tape, weight: Dims, each: int, out: Dims) -> Buffer:
    """`Quantizer.dequantize`: the unpacked weight, less its zeros, times its scales: three copies at a time."""
    unpacked = tape.new(each, weight, _EXPANDED)
    shifted = tape.new(each, weight, _EXPANDED)
    expanded = tape.new(each, weight, _EXPANDED)
    del unpacked, shifted
    result = tape.new(each, out)
    del expanded
    return result

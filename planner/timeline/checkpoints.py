"""Products with the weights of a quantized checkpoint: GPTQ's and AWQ's packed ones, and FP8.

Sources: gptqmodel 7.7 nn_modules/qlinear (dequantize_weight, TorchLinear._forward_eager), the kernel that runs on every
card and trains; transformers 5.23 integrations/finegrained_fp8.py (FP8LinearFunction).
"""

from planner.families.parts import Linear
from planner.timeline.tape import Buffer, Outcome, Tape, Value

_EXPANDED = "expanded quantized weight"
# Columns that share a scale while FP8 activations are quantized, and of a weight's blocks in published checkpoints.
_BLOCK = 128


def packed_matmul(tape: Tape, part: Linear, x: Value) -> Value:
    """The weight is unpacked and scaled for one `torch.matmul`, which saves it for the gradient of its input."""
    weight, each, rows = (part.out, part.in_), x.each, x.dims[:-1]
    expanded = _unpacked(tape, each, (part.out, part.in_))
    if not tape.needs(x):
        result = tape.new(each, (*rows, part.out))
        del expanded
        return Value(result, each, (*rows, part.out))
    edge_in = x.edge

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, (*rows, part.in_))),)

    result = tape.new(each, (*rows, part.out))
    edge = tape.node(backward, tape.save(Value(expanded, each, weight)))
    del expanded
    return Value(result, each, (*rows, part.out), edge)


def _unpacked(tape: Tape, each: int, weight: tuple[str, str]) -> Buffer:
    """int32 shifted, narrowed to a byte, masked; then (value - zero point) x scale, all of the weight's size."""
    shifted = tape.new(4, weight, _EXPANDED)
    narrowed = tape.new(1, weight, _EXPANDED)
    del shifted
    values = tape.new(1, weight, _EXPANDED)
    del narrowed
    scales, zeros = tape.new(2, weight, _EXPANDED), tape.new(1, weight, _EXPANDED)
    centred = tape.new(1, weight, _EXPANDED)
    expanded = tape.new(each, weight, _EXPANDED)
    del values, scales, zeros, centred
    return expanded


def float8_matmul(tape: Tape, part: Linear, x: Value) -> Value:
    """Activations are quantized to a byte and a scale per block for the product; backward expands the weight."""
    weight, each, rows = (part.out, part.in_), x.each, x.dims[:-1]
    if not tape.needs(x):
        return Value(_float8_product(tape, part, x), each, (*rows, part.out))
    edge_in = x.edge

    def backward(_: Buffer) -> Outcome:
        expanded = tape.new(each, weight, _EXPANDED)
        scales = tape.new(each, weight, _EXPANDED, _BLOCK)
        del scales
        grad = tape.new(each, (*rows, part.in_))
        del expanded
        return ((edge_in, grad),)

    edge = tape.node(backward)
    return Value(_float8_product(tape, part, x), each, (*rows, part.out), edge)


def _float8_product(tape: Tape, part: Linear, x: Value) -> Buffer:
    quantized = tape.new(1, x.dims)
    scales = tape.new(4, x.dims, den=_BLOCK)
    result = tape.new(x.each, (*x.dims[:-1], part.out))
    del quantized, scales
    return result

"""What the libraries that quantize a cache allocate, to quantize one tensor of keys or values and to have it back.

A packed tensor stays, with a scale and a shift for each group of elements. Lines stand in the order of the code:
optimum-quanto 0.2.7 (tensor/optimizers/max_optimizer.py, library/quantize.py, tensor/packed.py, tensor/qbits.py), hqq
0.2.8 (core/quantize.py, core/optimize.py, core/bitpack.py), transformers 5.23 cache_utils.py (Fp8QuantizedLayer).
"""

from dataclasses import dataclass
from typing import Literal

from planner.step.engine.graph import Buffer, Graph, Value, framed

QUANTIZED = "key and value cache, quantized"
QUANTIZING = "key and value cache, while it is quantized"
DEQUANTIZED = "key and value cache, dequantized"

Packed = tuple[Buffer, ...]


@dataclass(frozen=True, slots=True)
class Quantizer:
    """One of the two tensors of a layer's cache: which library, how many bits, in groups of `group` elements.

    `along_last`: quanto's axis -1, whose groups lie across tokens, so that they are copied together and apart again.
    """

    backend: Literal["quanto", "hqq", "fp8"]
    bits: int
    group: int
    along_last: bool

    def packed(self, graph: Graph, x: Value) -> Packed:
        """`_quantize(x)`: what stays of it."""
        with graph.cause(QUANTIZING):
            if self.backend == "fp8":
                return _fp8(graph, x)
            return _quanto(graph, x, self) if self.backend == "quanto" else _hqq(graph, x, self)

    def unpacked(self, graph: Graph, x: Value) -> Value:
        """`_dequantize` of a packed tensor of x's dims, which may be a parameter's: a tensor as it was before."""
        with graph.cause(DEQUANTIZED):
            if self.backend == "fp8":
                return _fp8_back(graph, x)
            return _quanto_back(graph, x, self) if self.backend == "quanto" else _hqq_back(graph, x, self)


def _like(graph: Graph, x: Value, each: int, den: int = 1, tag: str = "") -> Buffer:
    return graph.new(each, x.dims, tag, den)


# -------------------------------------------------------------------------------------------------------------- quanto
@framed
def _quanto(graph: Graph, x: Value, how: Quantizer) -> Packed:
    scale, shift = graph.hold(_smallest_and_largest(graph, x, how))
    grouped = graph.hold(_like(graph, x, x.each) if how.along_last else None)
    shifted = graph.hold(_like(graph, x, x.each))
    divided = graph.hold(_like(graph, x, x.each))
    graph.release(shifted)
    rounded = graph.hold(_like(graph, x, x.each))
    graph.release(divided)
    clamped = _like(graph, x, x.each)
    integers = graph.hold(_like(graph, x, 1))
    graph.release(clamped, rounded, grouped)
    bytes_of = graph.hold(_like(graph, x, 1, 8 // how.bits, QUANTIZED))
    for _ in range(8 // how.bits):
        graph.release(_like(graph, x, 1, 8 // how.bits))
    graph.release(integers)
    return bytes_of, scale, shift


@framed
def _smallest_and_largest(graph: Graph, x: Value, how: Quantizer) -> Packed:
    """`MaxOptimizer`: a scale and a shift for each group."""
    graph.hold(_like(graph, x, x.each) if how.along_last else None)
    graph.hold([_like(graph, x, x.each, how.group) for _ in ("rmin", "rmax")])
    span = _like(graph, x, x.each, how.group)
    scale = graph.hold(_like(graph, x, x.each, how.group, QUANTIZED))
    graph.release(span)
    return scale, _like(graph, x, x.each, how.group, QUANTIZED)


@framed
def _quanto_back(graph: Graph, x: Value, how: Quantizer) -> Value:
    graph.hold(_like(graph, x, 1))
    out = graph.hold(_like(graph, x, x.each))
    if how.along_last:
        out = _like(graph, x, x.each)
    return Value(out, x.each, x.dims)


# ----------------------------------------------------------------------------------------------------------------- hqq
@framed
def _hqq(graph: Graph, x: Value, how: Quantizer) -> Packed:
    wide = graph.hold(Value(_like(graph, x, 4), 4, x.dims))
    bounds = []
    for _ in ("_min", "_max"):
        bounds.append(graph.hold(_like(graph, x, 4, how.group)))
        graph.release(_like(graph, x, 8, how.group))  # where it was found
    graph.hold(_like(graph, x, 4, how.group))  # denom
    scales = graph.hold([_like(graph, x, 4, how.group) for _ in ("scale", "zero")])
    graph.hold(_proximal(graph, x, how))
    halves = graph.hold([_like(graph, x, 2, how.group) for _ in ("scale", "zero")])
    graph.release(scales)
    integers = graph.hold(_rounded(graph, wide))
    graph.release(wide, *bounds)
    graph.release(_like(graph, x, 1))
    graph.release(integers)
    bytes_of = graph.hold(_like(graph, x, 1, 8 // how.bits, QUANTIZED))
    kept = graph.hold([_like(graph, x, x.each, how.group, QUANTIZED) for _ in ("scale", "zero")])
    graph.release(halves)
    return bytes_of, *kept


@framed
def _rounded(graph: Graph, wide: Value) -> Buffer:
    """`torch.round(tensor * scale + zero).clamp_()`."""
    scaled = graph.hold(_like(graph, wide, wide.each))
    moved = graph.hold(_like(graph, wide, wide.each))
    graph.release(scaled)
    return graph.replace(moved, _like(graph, wide, wide.each))


@framed
def _proximal(graph: Graph, x: Value, how: Quantizer) -> None:
    """`optimize_weights_proximal_legacy`, in float16; from its second round on W_q and W_r of the one before stand by.

    The first round's error is less than infinity, so that there always is a second.
    """
    half = x._replace(each=2)
    graph.hold(_like(graph, half, 2))  # W_f
    graph.hold([_like(graph, half, 2, how.group) for _ in ("scale", "zero")])
    graph.hold([_like(graph, half, 2) for _ in ("W_q", "W_r")])
    graph.hold(_rounded(graph, half))
    divided = graph.hold(_like(graph, half, 2))
    graph.hold(_like(graph, half, 2))
    graph.release(divided)
    apart = graph.hold(_like(graph, half, 2))  # W_f - W_r
    out = graph.hold(_like(graph, half, 2))
    power = _like(graph, half, 2)
    scaled = _like(graph, half, 2)
    graph.release(power, scaled)
    graph.release(_like(graph, half, 2))  # the sign
    graph.release(apart, out)


@framed
def _hqq_back(graph: Graph, x: Value, how: Quantizer) -> Value:
    wide = graph.hold(_like(graph, x, x.each))
    if how.bits < 8:
        masked = _like(graph, x, 1, 8 // how.bits)
        graph.release(masked, _like(graph, x, 1, 8 // how.bits))
    apart = _like(graph, x, x.each)
    out = graph.hold(_like(graph, x, x.each))
    graph.release(apart, wide)
    return Value(out, x.each, x.dims)


# ----------------------------------------------------------------------------------------------------------------- fp8
@framed
def _fp8(graph: Graph, x: Value) -> Packed:
    graph.release(_like(graph, x, x.each))  # x.abs()
    scale = graph.hold(graph.new(4, (), QUANTIZED))
    wide = graph.hold(_like(graph, x, 4))
    divided = _like(graph, x, 4)
    graph.release(wide)
    bytes_of = graph.hold(_like(graph, x, 1, tag=QUANTIZED))
    graph.release(divided)
    return bytes_of, scale


@framed
def _fp8_back(graph: Graph, x: Value) -> Value:
    wide = graph.hold(_like(graph, x, 4))
    scaled = graph.hold(_like(graph, x, 4))
    graph.release(wide)
    out = graph.hold(_like(graph, x, x.each))
    graph.release(scaled)
    return Value(out, x.each, x.dims)

"""Linear layers: plain, quantized, and with a LoRA adapter around them.

Sources: bitsandbytes 0.50 nn/modules.py Linear4bit.forward, autograd/_functions.py MatMul4Bit, backends/cuda/ops.py;
peft 0.21 tuners/lora/bnb.py Linear4bit.forward and tuners/lora/layer.py Linear.forward.
"""

from collections.abc import Callable

from planner.families.parts import Linear
from planner.step.engine.graph import Buffer, Edge, Graph, Outcome, Shelf, Value, framed
from planner.step.engine.ops import GRADIENTS, add, cast, clone, dropout, matmul, parameter, summed_over_rows, unary
from planner.step.projections.adalora import adalora
from planner.step.projections.adapters import (
    adapter_matmul,
    autocast_bias,
    autocast_input,
    autocast_weight,
    narrowed_input,
)
from planner.step.projections.dora import dora
from planner.step.projections.fake_quantized import fake_quantized
from planner.step.projections.hqq_groups import group_wise_matmul
from planner.step.projections.ia3 import ia3
from planner.step.projections.int8 import int8_matmul
from planner.step.projections.oft import oft
from planner.step.projections.peft_method import Base
from planner.step.projections.quantized_weights import float8_matmul, packed_matmul
from planner.step.projections.trained_rows import merged_rows
from planner.step.projections.vera import vera
from planner.step.switches import LayerSwitches, Switches

EXPANDED = "expanded 4-bit weight"
ADAPTERS = "LoRA adapter paths"
_METHODS: dict[str, Callable[[Graph, Switches, Linear, Value, Base], Value]] = {
    "ADALORA": adalora, "VERA": vera, "IA3": ia3, "OFT": oft,
}  # fmt: skip


class Projector:
    """Traces the projections of one layer under one set of switches."""

    def __init__(self, graph: Graph, switches: Switches, layer: LayerSwitches) -> None:
        self.graph, self.switches, self.layer = graph, switches, layer
        # What the layer's code keeps a name for until it returns, beside its residual stream.
        self.named = Shelf()

    @framed
    def __call__(self, part: Linear, x: Value) -> Value:
        """The projection of `x`, adapter included."""
        result = self._with_adapter(part, x) if part.name in self.layer.adapters else self._base(part, x)
        self.graph.mark_product()
        return result

    # ------------------------------------------------------------------------------------------------- base
    def _quantized(self, part: Linear) -> bool:
        return self.switches.storage is not None and part.quantizable

    @framed
    def _base(self, part: Linear, x: Value) -> Value:
        if self._quantized(part) and self.switches.storage == "int8":
            return int8_matmul(self.graph, self.switches, part, x)
        if self._quantized(part) and self.switches.storage == "packed":
            return packed_matmul(self.graph, part, x)
        if self._quantized(part) and self.switches.storage == "fp8":
            return float8_matmul(self.graph, part, x)
        if self._quantized(part):
            return self._four_bit(part, x)
        return plain(self.graph, self.switches, part, x, trains_bias=self._trains_bias(part))

    def _trains_bias(self, part: Linear) -> bool:
        """Whether its own bias is trained beside the adapters."""
        biases = self.switches.biases
        return part.bias and (biases == "all" or (biases == "lora_only" and part.name in self.layer.adapters))

    @framed
    def _four_bit(self, part: Linear, x: Value) -> Value:
        """`Linear4bit.forward`: cast to the compute dtype, multiply, cast back.

        The product is in autocast's dtype where torch makes it, and in the compute dtype where bitsandbytes does.
        """
        inner = self.graph.hold(cast(self.graph, x, self.switches.compute))
        if self.switches.storage == "hqq":
            return cast(self.graph, group_wise_matmul(self.graph, part, inner), x.each)
        return cast(self.graph, self._matmul_four_bit(part, inner), x.each)

    @framed
    def _matmul_four_bit(self, part: Linear, x: Value) -> Value:
        """MatMul4Bit saves neither x nor the expanded weight; the backward expands the weight again.

        Forward without the fused kernel: absmax in float32, absmax + offset, and the weight, beside the output.
        Autocast narrows a float32 product: both of its sides are copied, and so is the gradient of x for the engine.
        """
        graph, weight, dims = self.graph, (part.out, part.in_), (*x.dims[:-1], part.out)
        wide, double = self.switches.expanded, self.switches.double_quant
        own, each = x.each, self._product_bytes(part, x)
        # Autocast's product in the other dtype: the gradient of x is cast to x's, and the weight's dtype is autocast's.
        narrowed = self._narrowed(part, x)
        biased = self._trains_bias(part) and graph.recording
        if not graph.needs(x) and not biased:
            return Value(self._expand_and_multiply(part, x), each, dims)
        edge_in, rows = x.edge, x.dims[:-1]

        def of_bias(_: Buffer) -> Outcome:
            # `grad_output.sum(0)` goes over sequences alone; the engine sums up the rest.
            whole = graph.new(own, ("s", part.out))
            late = summed_over_rows(graph, whole, ("s", part.out), lambda: graph.new(own, (part.out,), GRADIENTS))
            return ((Edge(leaf=True), late),)

        def backward(_: Buffer) -> Outcome:
            if edge_in is None:
                return ()
            absmax = graph.hold(graph.new(4, weight, EXPANDED, 64) if double else None)
            expanded = graph.hold(graph.new(wide, weight, EXPANDED))
            graph.release(absmax)
            if wide != each:
                expanded = graph.replace(expanded, graph.new(each, weight, EXPANDED))
            grad = graph.hold(graph.new(each, (*rows, part.in_)))
            graph.release(expanded)
            return ((edge_in, graph.new(own, (*rows, part.in_)) if narrowed or own != each else grad),)

        def both(grad: Buffer) -> Outcome:
            return (*of_bias(grad), *backward(grad))

        edge = graph.node(both if biased else backward)
        return Value(self._expand_and_multiply(part, x), each, dims, edge)

    def _product_bytes(self, part: Linear, x: Value) -> int:
        """Bytes per element of the product: `F.linear` is on autocast's lower precision list (autocast_mode.h)."""
        return x.each if part.name in self.layer.fused else self.switches.autocast or x.each

    def _narrowed(self, part: Linear, x: Value) -> bool:
        """Whether autocast casts both sides of an expanded product."""
        return self._product_bytes(part, x) != x.each

    @framed
    def _expand_and_multiply(self, part: Linear, x: Value) -> Buffer:
        graph, weight, each = self.graph, (part.out, part.in_), self._product_bytes(part, x)
        if part.name not in self.layer.fused:
            if self.switches.double_quant:
                graph.hold((graph.new(4, weight, EXPANDED, 64), graph.new(4, weight, EXPANDED, 64)))
            graph.hold(graph.new(x.each, weight, EXPANDED))
            if self._narrowed(part, x):
                graph.hold((graph.new(each, weight, EXPANDED), narrowed_input(graph, x, each)))
        result = graph.new(each, (*x.dims[:-1], part.out))
        graph.mark_product()
        return result

    # ---------------------------------------------------------------------------------------------- adapter
    @framed
    def _with_adapter(self, part: Linear, x: Value) -> Value:
        graph, switches = self.graph, self.switches
        if switches.peft_type in _METHODS:
            return _METHODS[switches.peft_type](graph, switches, part, x, self._around(part))
        result = graph.hold(self._base(part, x))
        # An FP8 layer is an nn.Linear to peft, whose adapter is that of any other (tuners/lora/layer.py).
        quantized = self._quantized(part) and switches.storage != "fp8"
        if quantized and switches.storage in {"4bit", "hqq"}:
            # "defensively", peft/tuners/lora/bnb.py Linear4bit.forward
            result = graph.replace(result, clone(graph, result))
        expected = result.each
        with graph.cause(ADAPTERS):
            if not (switches.autocast and quantized):
                x = graph.replace(x, cast(graph, x, switches.adapter))
            if switches.dora:
                inner = graph.hold(dropout(graph, x) if switches.dropout else x)
                high = graph.hold(dora(graph, switches, part, inner, result))
                result = graph.replace(result, add(graph, result, high))
                graph.release(inner, high)
                return result if switches.autocast and quantized else cast(graph, result, expected)
            high = self._low_rank(part, x)
            if quantized and not switches.autocast:
                high = cast(graph, high, expected)
            result = graph.replace(result, add(graph, result, high))
            return cast(graph, result, expected)

    def _around(self, part: Linear) -> Base:
        """The projection as PEFT's other methods see it."""
        by_bnb = self._quantized(part) and self.switches.storage in {"4bit", "int8"}
        in_4bit = by_bnb and self.switches.storage == "4bit"
        return Base(lambda x: self._base(part, x), quantized=by_bnb, in_4bit=in_4bit)

    @framed
    def _low_rank(self, part: Linear, x: Value) -> Value:
        """`lora_B(lora_A(dropout(x))) * scaling`."""
        graph, switches = self.graph, self.switches
        inner = dropout(graph, x) if switches.dropout else x
        low = adapter_matmul(graph, switches, inner, (part.in_, switches.rank(part.name)), part.name)
        high = adapter_matmul(graph, switches, low, (switches.rank(part.name), part.out), part.name)
        return unary(graph, high)


@framed
def plain(graph: Graph, switches: Switches, part: Linear, x: Value, *, trains_bias: bool = False) -> Value:
    """`F.linear` with a 16 or 32-bit weight; autocast casts both sides, a frozen float32 weight every time."""
    trained, held = switches.trains(part.name), switches.held(part.name)
    weight = parameter(held, (part.out, part.in_), trained=trained)
    if part.role == "head" and trained:
        weight = weight._replace(edge=graph.head)
    if part.role == "head" and switches.merges_head:
        weight = merged_rows(graph, switches, held)
    if switches.qat_group:
        x = graph.hold(fake_quantized(graph, x, x.dims[:-1], 1))
        weight = graph.hold(fake_quantized(graph, weight, (part.out, part.in_), switches.qat_group))
    if switches.autocast:
        x = autocast_input(graph, x, switches.autocast)
        weight = autocast_weight(graph, weight, switches.autocast, part.name)
        if part.bias:
            graph.hold(autocast_bias(graph, part, held, switches.autocast, trained=trained))
    bias = held if trains_bias or (part.bias and trained) else 0
    return matmul(graph, x, weight, part.out, bias=bias, keeps_x=switches.keeps_inputs)

"""Linear layers: plain, quantized, and with a LoRA adapter around them.

Sources: bitsandbytes 0.50 nn/modules.py Linear4bit.forward, autograd/_functions.py MatMul4Bit, backends/cuda/ops.py;
peft 0.21 tuners/lora/bnb.py Linear4bit.forward and tuners/lora/layer.py Linear.forward.
"""

from planner.families.parts import Linear
from planner.timeline.adapters import adapter_matmul, autocast_weight
from planner.timeline.checkpoints import float8_matmul, packed_matmul
from planner.timeline.dora import dora
from planner.timeline.groupwise import group_wise_matmul
from planner.timeline.int8 import int8_matmul
from planner.timeline.ops import add, cast, clone, dropout, matmul, parameter, unary
from planner.timeline.switches import LayerSwitches, Switches
from planner.timeline.tape import Buffer, Outcome, Tape, Value

EXPANDED = "expanded 4-bit weight"
ADAPTERS = "LoRA adapter paths"


class Projector:
    """Walks the projections of one layer under one set of switches."""

    def __init__(self, tape: Tape, switches: Switches, layer: LayerSwitches) -> None:
        self.tape, self.switches, self.layer = tape, switches, layer
        # What the layer's code keeps a name for until it returns, beside its residual stream.
        self.named: list[Value] = []

    def __call__(self, part: Linear, x: Value) -> Value:
        """The projection of `x`, adapter included."""
        return self._with_adapter(part, x) if part.name in self.layer.adapters else self._base(part, x)

    # ------------------------------------------------------------------------------------------------- base
    def _quantized(self, part: Linear) -> bool:
        return self.switches.storage is not None and part.quantizable

    def _base(self, part: Linear, x: Value) -> Value:
        if self._quantized(part) and self.switches.storage == "int8":
            return int8_matmul(self.tape, self.switches, part, x)
        if self._quantized(part) and self.switches.storage == "packed":
            return packed_matmul(self.tape, part, x)
        if self._quantized(part) and self.switches.storage == "fp8":
            return float8_matmul(self.tape, part, x)
        if self._quantized(part):
            return self._four_bit(part, x)
        return plain(self.tape, self.switches, part, x)

    def _four_bit(self, part: Linear, x: Value) -> Value:
        """`Linear4bit.forward`: cast to the compute dtype, multiply, cast back."""
        inner = cast(self.tape, x, self.switches.compute)
        if self.switches.storage == "hqq":
            return cast(self.tape, group_wise_matmul(self.tape, part, inner), x.each)
        return cast(self.tape, self._matmul_four_bit(part, inner), x.each)

    def _matmul_four_bit(self, part: Linear, x: Value) -> Value:
        """MatMul4Bit saves neither x nor the expanded weight; the backward expands the weight again.

        Forward without the fused kernel: absmax in float32, absmax + offset, and the weight, beside the output.
        """
        tape, weight, each, dims = self.tape, (part.out, part.in_), x.each, (*x.dims[:-1], part.out)
        wide, double = self.switches.expanded, self.switches.double_quant
        if not tape.needs(x):
            return Value(self._expand_and_multiply(part, x), each, dims)
        edge_in, rows = x.edge, x.dims[:-1]

        def backward(_: Buffer) -> Outcome:
            absmax = tape.new(4, weight, EXPANDED, 64) if double else None
            expanded = tape.new(wide, weight, EXPANDED)
            del absmax
            if wide != each:
                expanded = tape.new(each, weight, EXPANDED)
            grad = tape.new(each, (*rows, part.in_))
            del expanded
            return ((edge_in, grad),)

        edge = tape.node(backward)
        return Value(self._expand_and_multiply(part, x), each, dims, edge)

    def _expand_and_multiply(self, part: Linear, x: Value) -> Buffer:
        tape, weight = self.tape, (part.out, part.in_)
        held = []
        if part.name not in self.layer.fused:
            if self.switches.double_quant:
                held += [tape.new(4, weight, EXPANDED, 64), tape.new(4, weight, EXPANDED, 64)]
            held.append(tape.new(x.each, weight, EXPANDED))
        return tape.new(x.each, (*x.dims[:-1], part.out))

    # ---------------------------------------------------------------------------------------------- adapter
    def _with_adapter(self, part: Linear, x: Value) -> Value:
        tape, switches = self.tape, self.switches
        result = self._base(part, x)
        # An FP8 layer is an nn.Linear to peft, whose adapter is that of any other (tuners/lora/layer.py).
        quantized = self._quantized(part) and switches.storage != "fp8"
        if quantized and switches.storage in {"4bit", "hqq"}:
            result = clone(tape, result)  # "defensively", peft/tuners/lora/bnb.py Linear4bit.forward
        expected = result.each
        with tape.cause(ADAPTERS):
            if not (switches.autocast and quantized):
                x = cast(tape, x, switches.adapter)
            if switches.dora:
                inner = dropout(tape, x) if switches.dropout else x
                high = dora(tape, switches, part, inner, result)
                result = add(tape, result, high)
                del inner, high
                return result if switches.autocast and quantized else cast(tape, result, expected)
            high = self._low_rank(part, x)
            if quantized:  # bnb.py names the update, layer.py does not
                high = high if switches.autocast else cast(tape, high, expected)
                result = add(tape, result, high)
                del high
            else:
                summed = add(tape, result, high)
                del high
                result = summed
                del summed
            result = cast(tape, result, expected)
            return result  # noqa: RET504  # what was cast goes before x does

    def _low_rank(self, part: Linear, x: Value) -> Value:
        """`lora_B(lora_A(dropout(x))) * scaling`."""
        tape, switches = self.tape, self.switches
        inner = dropout(tape, x) if switches.dropout else x
        low = adapter_matmul(tape, switches, inner, (part.in_, "r"), part.name)
        del inner
        high = adapter_matmul(tape, switches, low, ("r", part.out), part.name)
        del low
        return unary(tape, high)


def plain(tape: Tape, switches: Switches, part: Linear, x: Value) -> Value:
    """`F.linear` with a 16 or 32-bit weight; autocast casts both sides, a frozen float32 weight every time."""
    weight = parameter(switches.residual, (part.out, part.in_), trained=switches.trains_base)
    if part.role == "head" and switches.trains_base:
        weight = weight._replace(edge=tape.head)
    if switches.autocast:
        x, weight = cast(tape, x, switches.autocast), autocast_weight(tape, weight, switches.autocast, part.name)
    return matmul(tape, x, weight, part.out)

"""The trained matrices of an adapter, and weights under autocast.

Source: peft 0.21 tuners/lora/layer.py; torch aten/src/ATen/autocast_mode.cpp, cached_cast.
"""

from planner.timeline.ops import cast, matmul, parameter
from planner.timeline.switches import Switches
from planner.timeline.tape import Tape, Value

# Only float32 weights are cached.
_CACHED_BYTES = 4


def autocast_weight(tape: Tape, weight: Value, each: int, name: str, *, other: bool = False) -> Value:
    """A weight under autocast. A trained float32 leaf is cast once and kept until autocast ends.

    `other`: a leaf of the other 16-bit dtype, which is cast each time (autocast_mode.cpp, can_try_cache).
    """
    if name in tape.casts:
        return tape.casts[name]
    copy = cast(tape, weight, each, other=other)
    if copy is not weight and weight.edge is not None and weight.each == _CACHED_BYTES:
        tape.casts[name] = copy
    return copy


def adapter_matmul(tape: Tape, switches: Switches, x: Value, shape: tuple[str, str], name: str) -> Value:
    """`lora_A` or `lora_B` of the projection `name`: a trained weight of `shape` (in, out)."""
    weight = parameter(switches.adapter, (shape[1], shape[0]), trained=True)
    if switches.autocast:
        key = f"{name} {'A' if shape[1] == 'r' else 'B'}"
        weight = autocast_weight(tape, weight, switches.autocast, key, other=switches.adapter_recast)
        x = cast(tape, x, switches.autocast)
    return matmul(tape, x, weight, shape[1])

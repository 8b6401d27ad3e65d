"""What Llama 4 does to queries and keys after the rotation, or in place of it.

Source: transformers 5.23 models/llama4/modeling_llama4.py, Llama4TextAttention.forward: complex rotation before the
heads are transposed, then a norm without weights; layers without positions scale their queries instead.
"""

from dataclasses import replace

from planner.families.parts import Attention, Norm
from planner.timeline.norms import norm
from planner.timeline.ops import cast, view
from planner.timeline.pairs import Tables, complex_pairs
from planner.timeline.rows import scale_rows
from planner.timeline.switches import Switches
from planner.timeline.tape import Tape, Value

_QUERY = Norm("qk_norm", "d", "rms", weight=False, per=("H",))
_KEY = Norm("qk_norm", "d", "rms", weight=False, per=("K",))


def late(
    tape: Tape, part: Attention, qk: tuple[Value, Value], tables: Tables | None, switches: Switches
) -> tuple[Value, Value]:
    """q and k as the kernel takes them."""
    q, k = qk
    del qk
    if part.rotary == "complex" and tables:
        q, k = complex_pairs(tape, q, k, tables)
    if part.late_norm:
        switches = replace(switches, liger=False)
        q = view(norm(tape, _QUERY, view(q, ("T", "H", "d")), switches), ("T", "q"))
        k = view(norm(tape, _KEY, view(k, ("T", "K", "d")), switches), ("T", "k"))
    if part.tempered:
        factors = Value(tape.new(4, ("s",)), 4, ("s",))
        q = cast(tape, scale_rows(tape, q, factors), q.each)
    return q, k

"""What PEFT's methods beside LoRA share: the projection that they go around, and a product that autocast casts for."""

from collections.abc import Callable
from typing import NamedTuple

from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import cast, matmul
from planner.step.projections.adapters import autocast_input
from planner.step.switches import Switches


class Base(NamedTuple):
    """`of`: the projection itself; `quantized`: by bitsandbytes, `in_4bit`: to 4 bits."""

    of: Callable[[Value], Value]
    quantized: bool
    in_4bit: bool


@framed
def product(graph: Graph, switches: Switches, x: Value, weight: Value, out: str) -> Value:
    """`F.linear` by something that is no parameter of its own, which autocast casts each time."""
    if switches.autocast:
        x = graph.hold(autocast_input(graph, x, switches.autocast))
        weight = graph.hold(cast(graph, weight, switches.autocast))
    return matmul(graph, x, weight, out)

"""What PEFT's methods beside LoRA are given: the projection that they go around."""

from collections.abc import Callable
from typing import NamedTuple

from planner.step.engine.graph import Value


class Base(NamedTuple):
    """`of`: the projection itself; `quantized`: by bitsandbytes, `in_4bit`: to 4 bits."""

    of: Callable[[Value], Value]
    quantized: bool
    in_4bit: bool

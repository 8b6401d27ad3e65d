"""Install the rules: one override of the CUDA kernel for each operator in the table, in every thread of the process."""

from typing import Literal, get_args

import torch

from . import pinned
from .kernels import overloads, override
from .rules import rules

Routing = Literal["even", "skewed"]
_libraries: list[torch.library.Library] = []  # an override lasts as long as its library


def install(seed: int = 0, routing: Routing = "even") -> None:
    """Make whole numbers and booleans on the (virtual) card true.

    Call it after `import torch` and before CUDA is used. A second call does nothing.

    Args:
        seed: orders what is made up (routers' choices, sorted floats); the same seed, the same numbers.
        routing: "even" spreads tokens over experts; "skewed" sends all that may go to the same experts there.

    Raises:
        ValueError: `routing` is neither of these.
    """
    if routing not in get_args(Routing):
        raise ValueError(f'routing: {routing!r} is neither "even" nor "skewed"')
    if _libraries:
        return
    library = torch.library.Library("aten", "IMPL")
    _libraries.append(library)
    for name, rule in rules(seed, skewed=routing == "skewed").items():
        for variant in (name, f"{name}_"):
            for op in overloads(variant):
                override(library, op, rule)
    pinned.install(library)

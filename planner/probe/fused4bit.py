"""Fused 4-bit matrix product or expansion? Asked of bitsandbytes' own heuristic, for a card that is not here.

The module that holds it loads CUDA symbols at import, so on a machine without CUDA the one function is compiled
from the installed source, with the card's properties in place of the device query.
"""

import ast
import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes
import torch

from planner.probe.target import Target

_HEURISTIC = "_gemm_4bit_use_custom_cuda"
_CONSTANTS = ("_GEMM_4BIT_CUSTOM_FLOOR_M",)
# `_gemm_4bit_custom_max_m` in the CUDA branch of the same file: past it the dense product always wins.
_MOST_FUSED_TOKENS = 1536

Heuristic = Callable[[int, torch.dtype, int, int, int], bool]


def uses_fused_kernel(target: Target, dtype: torch.dtype, m: int, n: int, k: int) -> bool:
    """Whether `m` tokens by an `n` x `k` weight run without expanding the weight on `target`."""
    return m <= _MOST_FUSED_TOKENS and _heuristic(target)(0, dtype, m, n, k)


@functools.cache
def _heuristic(target: Target) -> Heuristic:
    source = Path(bitsandbytes.__file__).parent / "backends" / "cuda" / "ops.py"
    tree = ast.parse(source.read_text())
    kept = [node for node in tree.body if _is_wanted(node)]
    major, minor = target.capability or (0, 0)
    names: dict[str, Any] = {
        "torch": torch,
        "functools": SimpleNamespace(cache=lambda function: function),
        "_gpu_dispatch_props": lambda _: (target.multiprocessors, major, minor),
    }
    exec(compile(ast.Module(kept, []), str(source), "exec"), names)  # noqa: S102  # bitsandbytes' own source
    heuristic: Heuristic = names[_HEURISTIC]
    return heuristic


def _is_wanted(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == _HEURISTIC
    return isinstance(node, ast.Assign) and any(
        isinstance(name, ast.Name) and name.id in _CONSTANTS for name in node.targets
    )

"""Installed functions that ask where a tensor lies, given the card's answer.

Fake tensors stand for the card but lie on device `cpu` (planner/probe/fakes.py), so `x.device.type == "cuda"` is false
of them. Such a function is compiled again from its installed source with that question answered; all else it names is
looked up in its own module, as before.
"""

import ast
import functools
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any


@functools.cache
def as_on_cuda(function: FunctionType) -> Callable[..., Any]:
    """`function`, a plain one at the top of its module, with every `….device.type` in it read as "cuda"."""
    path = Path(function.__code__.co_filename)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = next(each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == function.__name__)
    answered = ast.fix_missing_locations(_CudaAnswer().visit(node))
    made: dict[str, Any] = {}
    code = compile(ast.Module([answered], []), str(path), "exec")
    exec(code, function.__globals__, made)  # noqa: S102  # the library's own installed source
    compiled: Callable[..., Any] = made[function.__name__]
    return compiled


class _CudaAnswer(ast.NodeTransformer):
    """`….device.type` becomes "cuda"."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if node.attr == "type" and isinstance(node.value, ast.Attribute) and node.value.attr == "device":
            return ast.copy_location(ast.Constant("cuda"), node)
        return self.generic_visit(node)

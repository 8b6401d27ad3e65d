"""What an expression of a Python program is worth without running it."""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
}  # fmt: skip
_LARGEST = 1 << 53
# Questions that a card of compute capability 8.0 answers with yes.
_YES = {"is_bfloat16_supported", "is_bf16_supported", "is_torch_bf16_gpu_available"}


class NoLiteralError(Exception):
    """Only running the program would tell."""


def literal_names(tree: ast.Module) -> dict[str, Any]:
    """Names that are given one literal in the whole program, in the order they are."""
    given: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name, value in _pairs(target, node.value):
                    given.setdefault(name, []).append(value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            given.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            given.setdefault(node.target.id, []).extend([node.value] * 2)
    found: dict[str, Any] = {}
    for name, values in given.items():
        if len(values) == 1:
            try:
                found[name] = literal(values[0], found)
            except NoLiteralError:
                continue
    return found


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, other in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, other)


def literal(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of a literal, of a name that is given one, or of plain arithmetic with whole numbers.

    Raises:
        NoLiteralError: only running the program would tell.
    """
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None | dict() | list() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Attribute(value=ast.Name(id="torch"), attr=name):
            return name
        case ast.List() | ast.Tuple() | ast.Set() | ast.Dict():
            return _collection(node, names)
        case ast.Call():
            return _call(node, names)
    return _operation(node, names)


def _collection(node: ast.List | ast.Tuple | ast.Set | ast.Dict, names: Mapping[str, Any]) -> Any:
    if not isinstance(node, ast.Dict):
        return [literal(item, names) for item in node.elts]
    if None in node.keys:  # `**other`
        raise NoLiteralError
    pairs = zip(node.keys, node.values, strict=True)
    return {str(literal(key, names)): literal(value, names) for key, value in pairs if key}


def _call(node: ast.Call, names: Mapping[str, Any]) -> Any:
    """`dict(name=value)`, and what any recent card says yes to."""
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[]) if all(each.arg for each in node.keywords):
            return {str(each.arg): literal(each.value, names) for each in node.keywords}
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[]) if name in _YES:
            return True
    raise NoLiteralError


def _operation(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not literal(operand, names)
        case ast.UnaryOp(op=ast.USub(), operand=operand) if isinstance(value := literal(operand, names), int | float):
            return -value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _worked_out(type(op), literal(left, names), literal(right, names))
    raise NoLiteralError


def _worked_out(op: type[ast.operator], left: Any, right: Any) -> int:
    if type(left) is not int or type(right) is not int or (op is ast.FloorDiv and not right):
        raise NoLiteralError
    value: int = _ARITHMETIC[op](left, right)
    if max(abs(left), abs(right), abs(value)) > _LARGEST:
        raise NoLiteralError
    return value

"""What an expression of a Python program is worth without running it."""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
}  # fmt: skip
_LARGEST = 1 << 53
_LONGEST_RANGE = 65_536
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
    parsed = [name for name, values in given.items() if len(values) == 1 and _is_called(values[0], "parse_args")]
    defaults = _defaults_of_options(tree, found) if parsed else {}
    return found | {f"{name}.{option}": value for name in parsed for option, value in defaults.items()}


def _is_called(node: ast.expr, method: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method


def _defaults_of_options(tree: ast.Module, names: Mapping[str, Any]) -> dict[str, Any]:
    """What `add_argument` says an option is worth where the command leaves it out; added twice it says nothing.

    Source: Python's argparse.py, _get_optional_kwargs (the option's name) and _StoreTrueAction.
    """
    found: dict[str, list[Any]] = {}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and _is_called(node, "add_argument")):
            continue
        words = {each.arg: each.value for each in node.keywords if each.arg}
        options = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        long = next((each for each in options if each.startswith("--")), options[0] if options else "")
        try:
            name = literal(words["dest"], names) if "dest" in words else long.lstrip("-").replace("-", "_")
            switch = words.get("action", ast.Constant(value=""))
            unset = ast.Constant(value={"store_true": False, "store_false": True}[literal(switch, names)])
        except KeyError:
            unset = None
        except NoLiteralError:
            continue
        value = words.get("default", unset)
        with suppress(NoLiteralError):
            found.setdefault(str(name), []).extend([] if value is None else [literal(value, names)])
    return {name: values[0] for name, values in found.items() if len(values) == 1}


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
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner == "torch" or f"{owner}.{name}" in names:
            return names.get(f"{owner}.{name}", name)
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
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner], keywords=[]):
            return _listed(inner, names)
    raise NoLiteralError


def _listed(node: ast.expr, names: Mapping[str, Any]) -> list[Any]:
    """`list(range(16, 32))`, as layers are written, or `list` of what is one already."""
    match node:
        case ast.Call(func=ast.Name(id="range"), args=[_, *_] as bounds, keywords=[]) if len(bounds) <= 3:
            numbers = [literal(bound, names) for bound in bounds]
            small = all(type(number) is int and abs(number) <= _LONGEST_RANGE for number in numbers)
            if small and 0 not in numbers[2:]:
                return list(range(*numbers))
        case ast.List() | ast.Tuple() | ast.Name():
            value = literal(node, names)
            if isinstance(value, list):
                return value
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

"""Call frames of the traced code: which memory a function owns, and when it lets go of it."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar, get_args

from planner.step.engine.buffers import Buffer, UseAfterFreeError, freed_too_early
from planner.step.engine.values import Value, buffers_of, may_own

_P = ParamSpec("_P")
_R = TypeVar("_R")


def framed(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function of the traced code, whose first argument is the graph or has it as `graph`.

    It owns the temporaries that it is given by position, and what it holds, until it returns. What it returns is a
    temporary of its caller's.

    Raises:
        UseAfterFreeError: when it is called with a value whose memory has been freed.
    """

    owning, more = _owning(function)
    # By the number of arguments of a call: the places of those that may own memory.
    positions: dict[int, tuple[int, ...]] = {}

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        first: Any = args[0]
        frames = (first.graph or first).frames
        held: list[Buffer] = []
        count = len(args)
        places = positions.get(count)
        if places is None:
            places = positions[count] = _places(owning, more, count)
        for position in places:
            arg = args[position]
            if type(arg) is Value:
                buffer = arg.buffer
                if buffer is not None and buffer.owners <= 0:
                    _take(buffer, held, function)
            elif arg is not None:
                for buffer in buffers_of(arg):
                    if buffer.owners <= 0:
                        _take(buffer, held, function)
        frames.append(held)
        result = function(*args, **kwargs)
        frames.pop()
        if held:
            leave(held, result)
        return result

    return call


def _owning(function: Callable[..., object]) -> tuple[tuple[int, ...], int | None]:
    """Places of the named arguments that may own memory, by their annotations, and where further such ones begin."""
    parameters = [*signature(function).parameters.values()]
    owning = tuple(place for place, each in enumerate(parameters[1:], 1) if _may_own(each.annotation))
    last = len(parameters) - 1
    more = parameters[last].kind is Parameter.VAR_POSITIONAL and last in owning
    return owning, last if more else None


def _places(owning: tuple[int, ...], more: int | None, count: int) -> tuple[int, ...]:
    """Of a call with `count` arguments."""
    if more is None:
        return tuple(place for place in owning if place < count)
    return (*(place for place in owning if place < min(more, count)), *range(more, count))


def _may_own(annotation: object) -> bool:
    if isinstance(annotation, type) and not get_args(annotation):
        return may_own(annotation)
    return any(_may_own(part) for part in get_args(annotation))


def leave(held: list[Buffer], result: object) -> None:
    """Let go of what a function holds, but for what it returns."""
    returned = buffers_of(result)
    for buffer in returned:
        if buffer.owners < 0:
            raise UseAfterFreeError(freed_too_early(buffer))
        buffer.owners += 1
    for buffer in held:
        buffer.owners -= 1
        if not buffer.owners:
            buffer.free()
    for buffer in returned:
        buffer.owners -= 1


def _take(buffer: Buffer, held: list[Buffer], function: Callable[..., object]) -> None:
    """Own an argument that is a temporary."""
    if buffer.owners < 0:
        raise UseAfterFreeError(freed_too_early(buffer, function.__qualname__))
    buffer.owners = 1
    held.append(buffer)

"""When memory goes is written down, and nothing that Python does with a value changes it."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

import planner.step
from planner.catalog import resolve_gpu
from planner.model.model import resolve_model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.engine.buffers import LeakError, UseAfterFreeError
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import add, cast, square, unary
from planner.step.engine.program import Program
from planner.step.from_recipe.derive_switches import switches_of
from planner.step.trace import trace
from tests.planner.step.tables.latest_settings import LATEST

DIMS = ("T", "h")
ROOT = Path(planner.step.__file__).parent


def tensor(graph: Graph) -> Value:
    return Value(graph.new(2, DIMS), 2, DIMS)


def events_of(function: Callable[[Graph, Value], Value]) -> list[int]:
    graph = Graph()
    graph.release(function(graph, tensor(graph)))
    return graph.events


@framed
def nested(graph: Graph, x: Value) -> Value:
    return add(graph, unary(graph, cast(graph, unary(graph, x), 4)), x)


@framed
def with_variables(graph: Graph, x: Value) -> Value:
    scaled = unary(graph, x)
    wide = cast(graph, scaled, 4)
    out = unary(graph, wide)
    summed = add(graph, out, x)
    return summed  # noqa: RET504  (the variable is what is tested)


@framed
def holding(graph: Graph, x: Value) -> Value:
    wide = graph.hold(cast(graph, unary(graph, x), 4))
    return add(graph, unary(graph, wide), x)


def test_a_temporary_goes_when_the_function_that_it_was_passed_to_returns() -> None:
    # x, unary, cast, ~unary, unary, ~cast, sum, ~unary, ~x, ~sum
    assert events_of(nested) == [0, 1, 2, ~1, 3, ~2, 4, ~3, ~0, ~4]


def test_a_variable_changes_no_event() -> None:
    assert events_of(with_variables) == events_of(nested)


def test_what_a_function_holds_stays_to_its_end() -> None:
    events = events_of(holding)
    assert events.index(~2) > events.index(4)


def test_a_value_that_is_used_after_it_was_freed_names_its_line_and_who_asks() -> None:
    graph = Graph()
    with graph.cause("norms"):
        x = tensor(graph)
    graph.release(square(graph, x))
    with pytest.raises(UseAfterFreeError, match=r"'norms'.*used by square\(\) after it was freed"):
        square(graph, x)


def test_what_is_released_twice_is_an_error() -> None:
    graph = Graph()
    x = tensor(graph)
    graph.release(x)
    with pytest.raises(UseAfterFreeError, match="release"):
        graph.release(x)


def test_what_nobody_lets_go_of_is_an_error_at_the_end() -> None:
    graph = Graph()
    with graph.cause("norms"):
        forgotten = tensor(graph)
    with pytest.raises(LeakError, match=r"'norms'.*still there with 0 owners"):
        graph.check_all_freed()
    graph.check_all_freed(kept=forgotten)
    graph.release(forgotten)
    graph.check_all_freed()


def traced(checkpointing: bool) -> Program:
    request = Request.parse(
        {"model": LATEST["gemma4 31B"], "gpu": "4090", "training": {"gradient_checkpointing": checkpointing}}
    )
    decoder = resolve_model(request.model).known_decoder()
    trace.cache_clear()
    return trace(decoder.structure, switches_of(decoder, Recipe.of(request), resolve_gpu(request.gpu)))


def parts(program: Program) -> list[object]:
    return [(segment.phase, segment.kind, list(segment.moves), list(segment.births)) for segment in program.segments]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_debugger_that_keeps_every_variable_changes_no_event(checkpointing: bool) -> None:
    alone, seen = parts(traced(checkpointing)), list[dict[str, object]]()

    def keep(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and str(ROOT) in frame.f_code.co_filename:
            seen.append(dict(frame.f_locals))

    sys.setprofile(keep)
    try:
        watched = parts(traced(checkpointing))
    finally:
        sys.setprofile(None)
    assert len(seen) > 1000
    assert watched == alone


def test_no_lifetime_is_left_to_python() -> None:
    found = set()
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "__del__":
                found.add((file.name, node.lineno, "__del__"))
            if isinstance(node, ast.Delete) and any(isinstance(target, ast.Name) for target in node.targets):
                found.add((file.name, node.lineno, "del"))
            if isinstance(node, ast.Import | ast.ImportFrom) and "weakref" in ast.unparse(node):
                found.add((file.name, node.lineno, "weakref"))
    assert not found

"""Who owns a tensor decides what goes: none goes twice, and a sum is made in place of one nobody else holds."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.answer.plan import plan
from planner.catalog import resolve_gpu
from planner.model.model import resolve_model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.engine.events import Size
from planner.step.engine.graph import Alias, Edge, Graph
from planner.step.engine.program import played
from planner.step.lines import program_order_and_tables
from tests.planner.step.tables.latest_settings import LATEST

GEMMA_4 = LATEST["gemma4 31B"]
SIZE = ("T", "h")


@st.composite
def gemma_4s(draw: st.DrawFn) -> dict[str, Any]:
    """Layers of both kinds in any order, whose keys and inputs may be shared."""
    kinds = draw(st.lists(st.sampled_from(["sliding_attention", "full_attention"]), min_size=1, max_size=7))
    return {
        **GEMMA_4,
        "num_hidden_layers": len(kinds),
        "layer_types": kinds,
        "attention_k_eq_v": draw(st.booleans()),
        "hidden_size_per_layer_input": draw(st.sampled_from([0, 128])),
    }


def freed_twice(document: dict[str, Any]) -> set[tuple[str, Size]]:
    """Tensors of which a step frees more than it has made."""
    request = Request.parse(document)
    program, order, _ = program_order_and_tables(
        resolve_model(request.model).known_decoder(), Recipe.of(request), resolve_gpu(request.gpu)
    )
    alive: Counter[int] = Counter()
    found = set()
    for index in played(program, tuple(order)):
        for move in program.segments[index].moves:
            key = move if move >= 0 else ~move
            alive[key] += 1 if move >= 0 else -1
            if alive[key] < 0:
                found.add(program.keys[key])
    return found


@settings(deadline=None, max_examples=60)
@given(gemma_4s(), st.sampled_from(["trainer", "trl", "kbit", "loop"]), st.booleans())
def test_no_order_of_layers_frees_a_tensor_twice(config: dict[str, Any], stack: str, checkpointing: bool) -> None:
    training = {"gradient_checkpointing": checkpointing, "max_length": 1024}
    assert not freed_twice({"model": config, "gpu": "4090", "stack": stack, "training": training})


def test_a_gemma_4_that_begins_with_a_full_layer_is_planned_to_the_end() -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    config = {**GEMMA_4, "layer_types": kinds, "attention_k_eq_v": False}
    answer = plan(Request.parse({"model": config, "gpu": "4090"}))
    assert answer.required_bytes.likely > answer.peak_allocated_bytes


def test_a_sum_is_made_in_place_of_a_gradient_that_nobody_else_holds() -> None:
    graph, edge = Graph(), Edge()
    graph.accumulate(edge, graph.new(2, SIZE))
    graph.accumulate(edge, graph.new(2, SIZE))
    first, second = graph.made
    assert graph.events == [first.number, second.number, ~second.number]
    assert edge.grad is first


@pytest.mark.parametrize("view", [False, True])
def test_a_sum_is_a_new_tensor_where_the_gradient_is_held_or_a_view(view: bool) -> None:
    graph, edge = Graph(), Edge()
    first = graph.new(2, SIZE) if view else graph.hold(graph.new(2, SIZE))
    graph.accumulate(edge, Alias(first) if view else first)
    graph.accumulate(edge, graph.new(2, SIZE))
    assert len(graph.made) == 3
    assert edge.grad is graph.made[2]

"""Bytes of a step's tensors are the same in C and in Python."""

from array import array
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalog import resolve_gpu
from planner.model.model import resolve_model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.engine import tables
from planner.step.engine.events import Size
from planner.step.engine.program import Program
from planner.step.from_recipe.derive_numbers import numbers_of
from planner.step.lines import program_order_and_tables

NAMES = ("T", "h", "V", "none")
SIZES = st.builds(
    Size, st.integers(0, 12), st.lists(st.sampled_from(NAMES), max_size=4).map(tuple), st.sampled_from([1, 2, 8, 64])
)
NUMBERS = st.fixed_dictionaries(dict.fromkeys(NAMES, st.integers(0, 1 << 20) | st.integers(0, 1 << 70)))


def program_of(sizes: list[Size]) -> Program:
    return Program(tuple(("", size) for size in sizes), frozenset(sizes), ())


@given(st.lists(SIZES, min_size=1, max_size=20), NUMBERS)
@settings(max_examples=500, deadline=None)
def test_any_sizes_have_the_same_bytes(sizes: list[Size], numbers: dict[str, int]) -> None:
    program = program_of(sizes)
    (table,) = tables.tables_of(program, [numbers])
    exact = [-(-size.num * prod(numbers[name] for name in size.dims) // size.den) for size in sizes]
    assert list(table) == list(tables.table_in_python(program, numbers)) == [-(-each // 512) * 512 for each in exact]


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "google/gemma-2-9b", "deepseek-ai/DeepSeek-V3"])
def test_a_models_sizes_have_the_same_bytes(model: str) -> None:
    recipe, gpu = Recipe.of(Request.parse({"model": model, "gpu": "rtx-4090"})), resolve_gpu("rtx-4090")
    decoder = resolve_model(model).known_decoder()
    program, _, natively = program_order_and_tables(decoder, recipe, gpu)
    for table, numbers in zip(natively, numbers_of(decoder, recipe, gpu), strict=False):
        assert isinstance(table, array)
        assert table == tables.table_in_python(program, numbers)


def test_bytes_beyond_what_the_c_adds_up_are_left_to_python() -> None:
    (table,) = tables.tables_of(program_of([Size(2, ("T", "h"))]), [{"T": 1 << 40, "h": 1 << 40}])
    assert table == [1 << 81]

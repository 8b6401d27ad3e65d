"""Two shallow models and a straight line: exact for equal layers, by whole periods for alternating ones."""

import pytest

from planner.errors import InvalidRequestError
from planner.measurement import PhaseReading
from planner.probe.configs import config_of
from planner.probe.extrapolate import extrapolate, merge_bottoms
from planner.probe.layers import check_depths, cut, layer_kinds, repetition
from planner.probe.measure import measure
from planner.probe.options import Options
from planner.probe.progress import Progress
from planner.recipe import Recipe
from planner.request import Request
from tests.probe.tiny import request


def config(model: str, **fields: object) -> object:
    asked = request(model, config=fields)
    return config_of(asked, Recipe.of(asked))


def phase(name: str, peak: int, resident: int = 0) -> PhaseReading:
    return PhaseReading(name=name, peak_allocated_bytes=peak, resident_bytes=resident, seconds=1.0)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((0, 0, 0, 0), (0, 1)),
        ((0, 1, 0, 1, 0), (0, 2)),
        ((0, 1, 1, 1), (1, 1)),
        ((0, 0, 1, 0, 0, 1), (0, 3)),
        ((0, 1, 2), (0, 3)),
    ],
)
def test_the_shortest_head_and_period_are_found(kinds: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert repetition(kinds) == expected


def test_every_phase_follows_its_own_line_and_the_bottom_of_backward_its_own() -> None:
    shallow = [phase("forward", 100), phase("backward", 200, 7), phase("backward_bottom", 150, 20)]
    deeper = [phase("forward", 120), phase("backward", 210, 9), phase("backward_bottom", 190, 40)]
    forward, backward = extrapolate((2, 4), [shallow, deeper], 12)
    assert forward.peak_allocated_bytes == 120 + 8 * 10
    assert backward.peak_allocated_bytes == max(210 + 8 * 5, 190 + 8 * 20)
    assert backward.resident_bytes == 40 + 8 * 10
    assert [reading.name for reading in merge_bottoms(shallow)] == ["forward", "backward"]


def test_equal_layers_take_any_depths() -> None:
    llama = config("llama", num_hidden_layers=8)
    assert set(layer_kinds(llama)) == {0}
    check_depths(llama, (2, 4))
    assert cut(llama, 2).num_hidden_layers == 2


def test_layers_are_known_where_the_attention_kernels_are_not_installed() -> None:
    asked = request(training={"attn_implementation": "flash_attention_2"})
    assert layer_kinds(config_of(asked, Recipe.of(asked))) == (0, 0)


def test_alternating_layers_take_whole_periods_and_the_refusal_says_which() -> None:
    gemma = config("gemma2", num_hidden_layers=26)
    check_depths(gemma, (2, 4))
    assert len(cut(gemma, 4).layer_types) == 4
    with pytest.raises(InvalidRequestError) as refusal:
        check_depths(gemma, (2, 3))
    assert "--layers 2,4" in refusal.value.problems[0].message


def test_layers_without_a_pattern_are_refused() -> None:
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    odd = config("gemma3_text", num_hidden_layers=4, layer_types=kinds)
    with pytest.raises(InvalidRequestError, match="do not extrapolate") as refusal:
        check_depths(odd, (1, 2))
    assert "measure it whole" in refusal.value.problems[0].message


def measured(asked: Request, **options: object) -> dict[str, int]:
    result = measure(asked, Options(**options), Progress())
    assert result.layers_measured == options.get("layers")
    return {reading.name: reading.peak_allocated_bytes for reading in result.phases}


def test_the_extrapolated_dry_run_is_the_whole_one() -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "vocab_size": 4096}
    asked = request(config=sizes, training={"max_length": 512})
    whole = measured(asked)
    assert measured(asked, layers=(2, 4)) == pytest.approx(whole, rel=0.001)

"""What the last step held at its fullest moment, by module, beside torch's own peak."""

import pytest

from planner.units import MIB
from tests.probe.tiny import on_card, request

STEADY = ("forward", "loss", "backward", "optimizer")


RUNS = ({}, {"method": "full"}, {"stack": "trl"}, {"training": {"optim": "paged_adamw_8bit"}})


@pytest.mark.parametrize("parts", RUNS)
def test_the_parts_of_the_peak_add_up_to_what_torch_says(parts: dict[str, object]) -> None:
    measurement = on_card(request(**parts))
    peak_bytes = max(phase.peak_allocated_bytes for phase in measurement.phases if phase.name in STEADY)
    assert sum(part.held_bytes + part.made_bytes for part in measurement.peak_parts) == peak_bytes


def test_each_part_is_a_module_and_layers_are_counted_together() -> None:
    parts = {part.name: part for part in on_card(request(config={"vocab_size": 32_768})).peak_parts}
    assert parts["embed_tokens"].held_bytes == 32_768 * 64 * 2
    assert parts["layers.*.mlp"].held_bytes > parts["layers.*.self_attn"].held_bytes > 0
    assert parts["logits and loss"].made_bytes > 0


def test_a_run_that_runs_out_of_memory_has_no_parts() -> None:
    ended = on_card(request(config={"vocab_size": 1 << 18}), memory_limit_bytes=600 * MIB)
    assert ended.outcome == "out_of_memory"
    assert ended.peak_parts == ()

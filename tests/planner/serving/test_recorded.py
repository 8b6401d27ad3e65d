"""What `generate` allocates, against the dry run of the real transformers on a virtual card."""

from statistics import median

import pytest

from planner.families import decoder_of
from planner.families.parts import Experts
from tests.planner.serving.foreseen import RECORDS, foreseen
from tests.planner.serving.settings import SETTINGS

# Experts that the loader stacks: what it holds meanwhile is planned to a few percent only.
DECODERS = {name: decoder_of(row["model"]) for name, row in RECORDS.items()}
STACKED = {
    name
    for name, decoder in DECODERS.items()
    if any(isinstance(block.mlp, Experts) for block in decoder.structure.blocks) and not decoder.stacked_in_checkpoint
}


def off(name: str, *phases: str) -> float:
    recorded = RECORDS[name]["peaks"]
    return max(foreseen(name).totals[phase] for phase in phases) / max(recorded[phase] for phase in phases) - 1


def test_every_setting_is_on_record() -> None:
    assert [*RECORDS] == [setting["name"] for setting in SETTINGS]


def test_half_are_right_to_a_permille_and_the_worst_to_two_percent() -> None:
    errors = [abs(off(name, "prefill", "decode")) for name in RECORDS]
    assert len(errors) >= 30
    assert median(errors) <= 0.001
    assert max(errors) <= 0.02


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_prompt_and_the_tokens_after_it_are_each_right(phase: str) -> None:
    errors = {name: abs(off(name, phase)) for name in RECORDS}
    assert median(errors.values()) <= 0.001
    assert {name: error for name, error in errors.items() if error > 0.02} == {}


def test_what_no_loader_has_to_stack_loads_as_foreseen() -> None:
    errors = {name: abs(off(name, "load")) for name in RECORDS if name not in STACKED}
    assert {name: error for name, error in errors.items() if error > 0.002} == {}

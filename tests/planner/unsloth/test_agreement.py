"""The stack `unsloth` beside dry runs of Unsloth itself: tests/planner/unsloth/recorded.jsonl.

`python -m tests.planner.unsloth.beside` prints every run.
"""

from statistics import median
from typing import Any

import pytest

from planner.answer.plan import Plan, plan, plan_on_cards
from planner.catalog import resolve_gpu
from planner.errors import InvalidRequestError
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.unsloth.buffers import unsloth_lines
from planner.units import MIB
from tests.planner.step.recorded import trained_model
from tests.planner.step.tables.settings import LLAMA
from tests.planner.unsloth.beside import PHASES, beside

ASKED = {
    "model": {**LLAMA, "num_hidden_layers": 32},
    "gpu": {"total_memory_bytes": 25_757_220_864, "compute_capability": "8.9"},
    "stack": "unsloth",
}


def planned(**more: Any) -> Plan:
    return plan(Request.parse({**ASKED, **more}))


def test_peaks_of_a_step_are_those_of_unsloth() -> None:
    errors = [abs(one.peak_fraction) for one in beside()]
    assert len(errors) >= 20
    assert median(errors) <= 0.0001
    assert max(errors) <= 0.02


def test_nine_of_ten_phases_are_equal_to_the_byte_and_all_are_near() -> None:
    errors = [abs(one.fraction(phase)) for one in beside() for phase in PHASES]
    assert sum(error == 0 for error in errors) >= 0.9 * len(errors)
    assert max(errors) <= 0.03


def test_what_is_there_before_a_step_is_unsloths() -> None:
    assert max(abs(one.standing_fraction) for one in beside()) <= 0.001


def test_host_memory_is_what_was_pinned() -> None:
    for one in beside():
        request = Request.parse(one.row.request)
        lines = unsloth_lines(trained_model(request), Recipe.of(request))
        on_host = sum(line.bytes for line in lines if not line.alive_in)
        # A step of another length than the one before pins anew. What others pin is 2 MiB.
        if not request.training.padded:
            assert one.row.pinned_bytes - on_host == 2 * MIB, one.row.name


def test_inputs_wait_on_the_host_where_nobody_says_another() -> None:
    training = {"max_length": 8192}
    assert Request.parse({**ASKED, "training": training}).training.gradient_checkpointing == "unsloth"
    waiting = planned(training=training)
    kept = planned(training={**training, "gradient_checkpointing": True})
    assert waiting.host_bytes > kept.host_bytes
    assert waiting.ledger.peak().allocated_bytes < kept.ledger.peak().allocated_bytes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "full"}, "full fine-tuning with Unsloth is not planned"),
        ({"quantization": {"load_in_8bit": True}}, "in 4 bit (load_in_4bit) or 16 bit"),
        ({"quantization": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}}, "nf4"),
        ({"lora": {"use_dora": True}}, "DoRA with Unsloth is not planned"),
        ({"training": {"objective": "dpo"}}, "dpo with Unsloth is not planned"),
        ({"training": {"loss": "liger"}}, "a cross entropy of its own"),
        ({"training": {"attn_implementation": "eager"}}, "chooses the kernel itself"),
        ({"gpus": 2}, "planned on one card"),
        ({"stack": "trl", "training": {"gradient_checkpointing": "unsloth"}}, "only stack unsloth offloads"),
    ],
)
def test_what_unsloth_cannot_be_asked_is_refused_with_the_fix(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Request.parse({**ASKED, **change})
    assert sentence in " ".join(problem.message for problem in refused.value.problems)


@pytest.mark.parametrize("model", ["google/gemma-3-1b-it", "microsoft/phi-4", "Qwen/Qwen3-30B-A3B"])
def test_families_whose_layers_are_not_unsloths_own_are_refused(model: str) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be planned with Unsloth"):
        planned(model=model)


def test_advice_names_unsloth_where_it_makes_a_run_fit() -> None:
    asked = {"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-3060-12gb", "training": {"max_length": 8192}}
    changes = [item.change for item in plan(Request.parse(asked)).advice]
    assert any(change.get("stack") == "unsloth" for change in changes)


def test_large_cards_write_rows_of_logits_and_small_ones_tiles_also_beside_each_other() -> None:
    request = Request.parse({"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4090", "stack": "unsloth"})
    cards = [resolve_gpu(name) for name in ("rtx-4090", "l40s")]
    alone = [plan(request, gpu=card).peak_allocated_bytes for card in cards]
    assert [one.peak_allocated_bytes for one in plan_on_cards(request, cards)] == alone

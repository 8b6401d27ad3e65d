"""What is there throughout decides without a step: where it is too much, no plan of the step would fit."""

import pytest

from planner import Request, plan
from planner.answer.card_choice import cards_for
from planner.answer.plan import plan_on_cards, smallest_cards
from planner.answer.traced_run import cannot_hold
from planner.step.over_cards.least import least_on_a_card_bytes

SEVEN, SEVENTY = "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-70b-hf"


@pytest.mark.parametrize("strategy", [{}, {"gpus": 4, "fsdp": "full_shard"}, {"gpus": 2, "deepspeed": "zero3"}])
@pytest.mark.parametrize("gpu", ["t4", "rtx-4090", "rtx-5090"])
def test_what_a_card_cannot_hold_before_any_step_does_not_fit_on_it(gpu: str, strategy: dict[str, object]) -> None:
    planned = plan(Request.parse({"model": SEVENTY, "gpu": gpu, "method": "full", **strategy}))
    assert cannot_hold(planned.model, planned.recipe, planned.gpu)
    assert planned.planned_verdict != "fits"


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_the_smallest_cards_are_those_that_planning_on_every_card_finds(method: str) -> None:
    request = Request.parse({"model": SEVEN, "gpu": "t4", "method": method, "training": {"max_length": 4096}})
    every = plan_on_cards(request, cards_for(plan(request).recipe, "NVIDIA"))
    tiers: dict[float, str] = {}
    for found in every:
        if found.planned_verdict == "fits":
            tiers.setdefault(found.gpu.nominal_gb or 0, found.gpu.id)
    assert [card.gpu.id for card in smallest_cards(request)] == [tiers[tier] for tier in sorted(tiers)][:3]


@pytest.mark.parametrize("stack", ["trainer", "loop"])
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("count", [2, 4])
def test_what_one_layer_or_the_loss_makes_is_on_some_card_of_a_spread_model(
    stack: str, checkpointing: bool, count: int
) -> None:
    training = {"max_length": 512, "gradient_checkpointing": checkpointing}
    asked = {"model": SEVEN, "gpu": "rtx-4090", "gpus": count, "device_map": "auto", "stack": stack}
    planned = plan(Request.parse(asked | {"training": training}))
    assert planned.spread is not None
    assert planned.model.decoder is not None
    least_bytes = least_on_a_card_bytes(planned.model.decoder, planned.recipe, planned.gpu)
    assert least_bytes <= max(card.ledger.peak().allocated_bytes for card in planned.spread.cards)


def test_a_loss_that_no_card_can_hold_needs_no_spread_to_be_refused() -> None:
    training = {"max_length": 4096, "per_device_train_batch_size": 4}
    asked = {"model": "Qwen/Qwen2.5-7B", "gpu": "rtx-3060-12gb", "gpus": 8, "device_map": "auto", "training": training}
    planned = plan(Request.parse(asked))
    assert cannot_hold(planned.model, planned.recipe, planned.gpu)
    assert planned.planned_verdict == "does_not_fit"

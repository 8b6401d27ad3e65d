"""Laws that hold for every walk: more never costs less, nothing is negative, lines add up to the instant."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.answer.plan import plan
from planner.families import decoder_of
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step import step_lines
from planner.step.lines import instants_of
from tests.planner.step.models import MODELS, config
from tests.planner.step.recorded import card, formula
from tests.planner.step.tables.mixture_settings import REFUSED
from tests.planner.step.tables.settings import ATTENTION, CARD, LLAMA

STACKS = st.sampled_from(["trainer", "trl", "kbit", "loop"])
LOSSES = st.sampled_from(["full_logits", "chunked", "liger"])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A request for a small Llama, any switch."""
    return {
        "model": {**LLAMA, "num_hidden_layers": draw(st.integers(1, 12))},
        "gpu": CARD,
        "stack": draw(STACKS),
        "lora": {
            "r": draw(st.integers(1, 128)), "lora_dropout": draw(st.sampled_from([0.0, 0.1])),
            "target_modules": draw(st.sampled_from(["all-linear", ["q_proj", "v_proj"], ["gate_proj", "o_proj"]])),
        },
        "training": {
            "max_length": draw(st.integers(8, 4096)), "per_device_train_batch_size": draw(st.integers(1, 4)),
            "gradient_checkpointing": draw(st.booleans()), "loss": draw(LOSSES),
            "attn_implementation": draw(st.sampled_from(["sdpa", "eager"])),
            "gradient_accumulation_steps": draw(st.integers(1, 2)),
        },
    }  # fmt: skip


def changed(document: dict[str, Any], section: str, key: str, value: Any) -> dict[str, Any]:
    return {**document, section: {**document[section], key: value}}


@settings(deadline=None, max_examples=60)
@given(documents(), st.integers(1, 3))
def test_more_sequences_rank_or_layers_never_cost_less(document: dict[str, Any], more: int) -> None:
    before = formula(document)
    batch = document["training"]["per_device_train_batch_size"]
    for larger in (
        changed(document, "training", "per_device_train_batch_size", batch + more),
        changed(document, "lora", "r", document["lora"]["r"] + more),
        changed(document, "model", "num_hidden_layers", document["model"]["num_hidden_layers"] + more),
    ):
        after = formula(larger)
        assert all(after[phase] >= before[phase] for phase in before)


@settings(deadline=None, max_examples=60)
@given(documents(), st.integers(1, 2048))
def test_longer_sequences_never_cost_less(document: dict[str, Any], more: int) -> None:
    """From 2048 tokens on: below that, bitsandbytes may multiply a shorter batch by expanding the weight."""
    length = 2048 + document["training"]["max_length"]
    before = formula(changed(document, "training", "max_length", length))
    after = formula(changed(document, "training", "max_length", length + more))
    assert max(after.values()) >= max(before.values())


@settings(deadline=None, max_examples=60)
@given(documents())
def test_lines_are_positive_and_add_up_to_each_instant(document: dict[str, Any]) -> None:
    request = Request.parse(document)
    decoder, recipe = decoder_of(document["model"]), Recipe.of(request)
    lines = step_lines(decoder, recipe, card(request))
    assert all(line.bytes > 0 and line.formula and line.source for line in lines)
    for instant in instants_of(decoder, recipe, card(request)):
        assert sum(line.bytes for line in lines if instant.phase in line.alive_in) == instant.bytes


@pytest.mark.parametrize("name", MODELS)
def test_every_family_walks_on_every_stack(name: str) -> None:
    lora = {"lora": {"target_modules": ATTENTION}} if config(name)["model_type"] in REFUSED else {}
    for stack in ("trainer", "trl", "kbit", "loop"):
        for loss in ("full_logits", "chunked", "liger"):
            document = {"model": config(name), "gpu": CARD, "stack": stack, "training": {"loss": loss}, **lora}
            assert all(size > 0 for size in formula(document).values())


def test_cut_cross_entropy_never_writes_logits() -> None:
    def peak_bytes(loss: str, length: int) -> int:
        request = {"model": "Qwen/Qwen3-4B", "gpu": "l40s", "method": "lora"}
        training = {"loss": loss, "max_length": length}
        return plan(Request.parse(request | {"training": training})).peak_allocated_bytes

    assert peak_bytes("cut_cross_entropy", 4096) < peak_bytes("full_logits", 4096) - 4096 * 151_936 * 8
    per_token = [peak_bytes(loss, 8192) - peak_bytes(loss, 4096) for loss in ("cut_cross_entropy", "chunked")]
    assert per_token[0] <= per_token[1] + 4096 * 64  # beside the rest of the step, a few numbers per token

"""Quantization-aware training is planned to the byte of dry runs, and refused where none shows it."""

import pytest

from app.cli import app
from planner.answer.plan import plan
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from tests.site.terminal import invoke

SMALL = {"model": "Qwen/Qwen2.5-0.5B", "gpu": "rtx-4090", "method": "full"}


def request(**training: object) -> Request:
    return Request.parse({**SMALL, "training": {"max_length": 1024, **training}})


def test_without_checkpointing_every_weight_keeps_its_clamped_float32_copy() -> None:
    plain, prepared = (plan(request(gradient_checkpointing=False, **more)) for more in ({}, {"qat": 32}))
    weights = 24 * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864)
    assert prepared.peak.allocated_bytes - plain.peak.allocated_bytes > 6 * weights


def test_the_group_size_alone_stands_for_it() -> None:
    assert request(qat=32) == request(qat={"weight_dtype": "int4", "activation_dtype": "int8", "group_size": 32})
    result = invoke(app, ["plan", SMALL["model"], SMALL["gpu"], "--method", "full", "--qat", "32"])
    assert "fake-quantized copies" in result.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"method": "lora"}, "method full"), ({"stack": "unsloth"}, "stack unsloth"), ({"gpus": 2}, "--gpus"),
        ({"training": {"qat": 32, "objective": "dpo"}}, "for sft"),
        ({"training": {"qat": 32, "activation_offloading": True}}, "activation_offloading"),
    ],
)  # fmt: skip
def test_what_no_dry_run_shows_is_refused_with_the_fix(more: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Request.parse({**SMALL, "training": {"qat": 32}, **more})
    assert any(said in problem.message for problem in refused.value.problems)


@pytest.mark.parametrize(("model", "group", "said"), [
    ("Qwen/Qwen2.5-0.5B", 33, "do not divide"), ("Qwen/Qwen3-30B-A3B", 32, "one MLP"),
])  # fmt: skip
def test_layers_that_torchao_would_not_prepare_so_are_refused(model: str, group: int, said: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        plan(Request.parse({**SMALL, "model": model, "training": {"qat": group}}))
    assert any(said in problem.message for problem in refused.value.problems)

"""LoraConfig's options beyond rank, targets and whole modules: what each adapts, and what it cannot be asked."""

from typing import Any

import pytest

from planner.answer.plan import Plan, plan
from planner.answer.static_lines import trained_tensors
from planner.errors import InvalidRequestError
from planner.request.schema import Request
from tests.planner.step.models import config
from tests.planner.step.tables.settings import LLAMA


def planned(lora: dict[str, Any], model: object = LLAMA, **more: Any) -> Plan:
    return plan(Request.parse({"model": model, "gpu": "h100-sxm-80gb", "lora": lora, **more}))


def ranks(lora: dict[str, Any], **more: Any) -> dict[str, int]:
    found = planned(lora, **more)
    tensors = trained_tensors(found.model, found.recipe)
    return {
        tensor.name.removesuffix(".lora_A").rpartition(".")[2]: tensor.shape[0]
        for tensor in tensors
        if tensor.name.endswith("lora_A")
    }


def refused(lora: dict[str, Any], model: object = LLAMA, **more: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        planned(lora, model, **more)
    return "; ".join(f"{problem.field}: {problem.message}" for problem in caught.value.problems)


def test_the_first_pattern_that_ends_a_name_gives_its_rank() -> None:
    found = ranks({"r": 8, "rank_pattern": {"q_proj": 64, "mlp.down_proj": 4, ".*_proj": 16, "q_.*": 1}})
    assert (found["q_proj"], found["down_proj"], found["k_proj"]) == (64, 4, 16)
    assert ranks({"r": 8, "rank_pattern": {"proj": 64}})["q_proj"] == 8  # `proj` is no whole part of a name


def test_ranks_of_single_layers_are_refused() -> None:
    message = refused({"rank_pattern": {"layers.0.self_attn.q_proj": 64}})
    assert message.startswith("lora.rank_pattern: model.layers.*.self_attn.q_proj has ranks 64 and 16 in its layers")


def test_what_is_excluded_has_no_adapter() -> None:
    assert "k_proj" not in ranks({"exclude_modules": ["k_proj"]})
    assert set(ranks({"exclude_modules": r".*mlp.*"})) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert "nothing matches" in refused({"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]})


@pytest.mark.parametrize(
    "lora",
    [
        {"alpha_pattern": {"q_proj": 64.0}}, {"fan_in_fan_out": True}, {"init_lora_weights": False},
        {"init_lora_weights": "gaussian"}, {"loraplus_lr_ratio": 16.0}, {"bias": "all"},
        {"use_rslora": True}, {"lora_alpha": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_what_moves_no_byte_moves_none(lora: dict[str, Any]) -> None:
    assert [phase.allocated_bytes for phase in planned(lora).phases] == [
        phase.allocated_bytes for phase in planned({}).phases
    ]


def test_biases_are_refused_where_a_model_has_some() -> None:
    message = refused({"bias": "lora_only"}, config("qwen2"))
    assert "lora.bias: lora_only trains the model's own biases beside the adapters" in message


@pytest.mark.parametrize("way", ["pissa", "pissa_niter_16", "olora"])
def test_a_decomposition_is_a_moment_of_the_preparation_alone(way: str) -> None:
    plain = {phase.name: phase.allocated_bytes for phase in planned({}, method="lora").phases}
    found = {phase.name: phase.allocated_bytes for phase in planned({"init_lora_weights": way}, method="lora").phases}
    more = {name: size - plain[name] for name, size in found.items()}
    assert more.pop("prepare") >= 2 * 4 * 1024 * 2816
    assert set(more.values()) == {0}


def test_pissa_of_quantized_weights_is_refused_with_the_way_out() -> None:
    for way in ("pissa", "orthogonal"):
        message = refused({"init_lora_weights": way})
        assert f"lora.init_lora_weights: PEFT makes {way} adapters of float weights alone" in message
        assert "use method lora, or make them once" in message


@pytest.mark.parametrize(("way", "why"), [("loftq", "quantizes and decomposes"), ("eva", "over data"), ("x", "write")])
def test_first_values_that_cannot_be_planned_say_why(way: str, why: str) -> None:
    assert why in refused({"init_lora_weights": way})


def test_unsloth_is_refused_with_the_way_out() -> None:
    message = refused({"rank_pattern": {"q_proj": 8}}, "unsloth/Llama-3.2-1B", stack="unsloth")
    assert "drop them, or use stack trl" in message

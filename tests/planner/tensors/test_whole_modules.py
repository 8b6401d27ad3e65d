"""`modules_to_save`: which modules PEFT copies, in which dtype, and what cannot be copied."""

from typing import Any

import pytest

from planner.answer.plan import Plan, plan
from planner.answer.static_lines import trained_tensors
from planner.errors import InvalidRequestError
from planner.memory.adapters import COPIES
from planner.request.schema import Request
from tests.planner.step.models import config
from tests.planner.step.tables.settings import LLAMA

ENDS = ["embed_tokens", "lm_head"]
TIED = {**LLAMA, "tie_word_embeddings": True}


def planned(lora: dict[str, Any], model: object = LLAMA, **more: Any) -> Plan:
    return plan(Request.parse({"model": model, "gpu": "h100-sxm-80gb", "lora": lora, **more}))


def copies(lora: dict[str, Any], model: object = LLAMA, **more: Any) -> dict[str, tuple[int, int]]:
    """Of each copied tensor, how many there are and the bytes of an element."""
    found = planned(lora, model, **more)
    tensors = trained_tensors(found.model, found.recipe)
    return {tensor.name: (tensor.count, tensor.itemsize_bytes) for tensor in tensors if tensor.copied}


def refused(lora: dict[str, Any], **more: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        planned(lora, **more)
    return "; ".join(f"{problem.field}: {problem.message}" for problem in caught.value.problems)


def test_a_copy_has_the_dtype_of_its_original() -> None:
    both = {"model.embed_tokens.weight": (1, 2), "lm_head.weight": (1, 2)}
    assert copies({"modules_to_save": ENDS}) == both
    assert copies({"modules_to_save": ENDS}, stack="trl") == both
    assert copies({"modules_to_save": ENDS}, stack="kbit") == dict.fromkeys(both, (1, 4))


def test_a_trainer_may_cast_the_copies() -> None:
    cast = copies({"modules_to_save": ENDS, "modules_to_save_dtype": "float32"})
    assert set(cast.values()) == {(1, 4)}


def test_a_tied_pair_is_copied_twice_unless_the_copies_are_tied_too() -> None:
    assert len(copies({"modules_to_save": ENDS}, TIED)) == 2
    assert list(copies({"modules_to_save": ["lm_head"]}, TIED)) == ["lm_head.weight"]
    one = {"modules_to_save": ["lm_head"], "ensure_weight_tying": True}
    assert list(copies(one, TIED)) == ["model.embed_tokens.weight"]


def test_a_name_is_the_end_of_a_modules_name() -> None:
    norms = copies({"modules_to_save": ["norm"]})
    assert norms == {
        "model.layers.*.input_layernorm.weight": (4, 2),
        "model.layers.*.post_attention_layernorm.weight": (4, 2),
        "model.norm.weight": (1, 2),
    }


def test_a_copied_module_gets_no_adapter() -> None:
    found = planned({"modules_to_save": ["down_proj"]}, method="lora")
    adapted = {tensor.name for tensor in trained_tensors(found.model, found.recipe) if not tensor.copied}
    assert not any("down_proj" in name for name in adapted)
    assert any("up_proj" in name for name in adapted)


def test_the_copy_its_gradient_and_its_state_are_lines_of_the_plan() -> None:
    without = planned({}, training={"optim": "adamw_torch"})
    found = planned({"modules_to_save": ENDS}, training={"optim": "adamw_torch"})
    (copied,) = (line for line in found.lines if line.name == COPIES)
    assert copied.bytes == 2 * 2 * 8000 * 1024
    more = {phase.name: phase.allocated_bytes for phase in found.phases}
    before = {phase.name: phase.allocated_bytes for phase in without.phases}
    # Copy, gradient and two moments; the moments' square roots while the optimizer steps.
    assert more["optimizer"] - before["optimizer"] >= 5 * copied.bytes
    assert more["prepare"] - before["prepare"] == copied.bytes


def test_what_is_quantized_cannot_be_copied() -> None:
    message = refused({"modules_to_save": ["down_proj"]})
    assert message.startswith("lora.modules_to_save: model.layers.*.mlp.down_proj is quantized")
    whole_head = {"load_in_4bit": True, "llm_int8_skip_modules": ["embed_tokens"]}
    assert "lm_head is quantized" in refused({"modules_to_save": ENDS}, quantization=whole_head)
    assert copies({"modules_to_save": ENDS}, quantization={"load_in_8bit": True})


def test_what_cannot_be_planned_says_what_can() -> None:
    said = refused({"modules_to_save": ["wte"]})
    assert "no module's name ends with wte; name one of embed_tokens, input_layernorm" in said
    around = {"modules_to_save": ["layers"], "target_modules": ["lm_head"]}
    assert "model.layers holds layers" in refused(around, method="lora")
    assert "is of one layer" in refused({"modules_to_save": ["layers.0.input_layernorm"]})
    assert "has an adapter, too" in refused({"modules_to_save": ["proj"], "target_modules": ["q_proj"]}, method="lora")
    latent = {"modules_to_save": ["kv_b_proj"], "target_modules": ["o_proj"]}
    assert "self_attn.kv_b_proj is not planned" in refused(latent, model=config("deepseek_v3"), method="lora")


def test_a_router_and_a_block_are_copied_with_what_they_hold() -> None:
    moe, only_attention = config("qwen3_moe"), {"target_modules": ["q_proj"]}
    assert list(copies({"modules_to_save": ["gate"], **only_attention}, moe)) == ["model.layers.*.mlp.gate.weight"]
    block = copies({"modules_to_save": ["mlp"], **only_attention}, moe)
    assert [name.rpartition("mlp.")[2] for name in block] == [
        "gate.weight", "experts.gate_up_proj", "experts.down_proj",
    ]  # fmt: skip
    found = copies({"modules_to_save": ["self_attn"]}, method="lora")
    assert {name.split(".")[-2] for name in found} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    message = refused({"modules_to_save": ["self_attn"], "target_modules": ["up_proj"]})
    assert "model.layers.*.self_attn.o_proj is quantized" in message


def test_unsloth_is_refused_with_the_way_out() -> None:
    message = refused({"modules_to_save": ENDS}, model="unsloth/Llama-3.2-1B", stack="unsloth")
    assert "drop it, or use stack trl" in message


def test_float16_copies_are_warned_of() -> None:
    half = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float16"}
    found = planned({"modules_to_save": ENDS}, quantization=half)
    assert "unscalable_gradients" in {notice.code for notice in found.warnings}
    assert "unscalable_gradients" not in {notice.code for notice in planned({}, quantization=half).warnings}


def test_a_tied_copy_is_the_head_whichever_of_both_names_asks_for_it() -> None:
    """In float32, as LLaMA-Factory has it, Liger's head casts it; both requests are one run."""
    tied = {"ensure_weight_tying": True, "modules_to_save_dtype": "float32"}
    training = {"loss": "liger", "max_length": 2048}
    one, both = (
        planned({**tied, "modules_to_save": names}, TIED, method="lora", training=training)
        for names in (["embed_tokens"], ENDS)
    )
    assert one.phases == both.phases

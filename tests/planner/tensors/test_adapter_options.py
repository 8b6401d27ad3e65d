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


def trained(lora: dict[str, Any], model: object = LLAMA, **more: Any) -> dict[tuple[str, int], int]:
    """How many of each A there are, by the ends of their names and their ranks."""
    found = planned(lora, model, **more)
    tensors = trained_tensors(found.model, found.recipe)
    return {
        (tensor.name.removesuffix(".lora_A").rpartition(".")[2], tensor.shape[0]): tensor.count
        for tensor in tensors
        if tensor.name.endswith("lora_A")
    }


def test_single_layers_may_have_ranks_of_their_own() -> None:
    found = trained({"target_modules": ["q_proj"], "rank_pattern": {r"layers\.[01]\.self_attn\.q_proj": 64}})
    assert found == {("q_proj", 64): 2, ("q_proj", 16): 2}


@pytest.mark.parametrize(
    ("chosen", "count"),
    [(3, 1), ([0, 2, 3], 3), ([], 4), ([2, 9], 1)],
    ids=["one", "some", "none named", "one that is not there"],
)
def test_layers_to_transform_says_which_layers_have_adapters(chosen: object, count: int) -> None:
    lora = {"target_modules": ["q_proj"], "layers_to_transform": chosen}
    assert trained(lora) == {("q_proj", 16): count}
    assert trained({**lora, "layers_pattern": "layers"}) == {("q_proj", 16): count}


def test_layers_before_the_first_adapter_keep_nothing_for_a_backward_pass() -> None:
    def peak(layers: list[int]) -> int:
        lora = {"target_modules": ["q_proj"], "layers_to_transform": layers}
        return planned(lora, training={"gradient_checkpointing": False}).peak_allocated_bytes

    assert peak([3]) < peak([2]) < peak([1]) < peak([0])


def test_biases_of_a_model_that_has_none_are_none_in_whichever_layers() -> None:
    def peak(bias: str, layers: list[int]) -> int:
        lora = {"target_modules": ["q_proj"], "layers_to_transform": layers, "bias": bias}
        found = planned(lora, training={"gradient_checkpointing": False})
        assert found.required_bytes.likely > 0
        return found.peak_allocated_bytes

    assert peak("all", [1, 3]) == peak("none", [1, 3])
    assert peak("lora_only", [1, 2, 3]) == peak("none", [1, 2, 3])


def test_layers_of_all_linear_and_layers_that_are_counted_nowhere_are_refused() -> None:
    assert refused({"layers_to_transform": [0]}).startswith("lora.layers_to_transform: PEFT chooses layers of listed")
    assert "layers_pattern: says where layers are counted" in refused({"layers_pattern": "layers"})
    elsewhere = {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "h"}
    assert refused(elsewhere) == "lora.layers_pattern: none of the targets lies in a chosen layer of h"
    beyond = {"target_modules": ["q_proj"], "layers_to_transform": [400]}
    assert "lora.layers_to_transform: leaves no target; layers are counted from 0 to" in refused(beyond)


def test_parameters_of_experts_have_one_pair_of_matrices_for_a_whole_stack() -> None:
    lora = {"r": 4, "target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]}
    assert trained(lora, config("qwen3_moe")) == {("gate_up_proj", 4 * 8): 3}
    assert trained(lora, config("gpt_oss")) == {("gate_up_proj", 4 * 8): 4}


def test_trained_tokens_are_rows_of_the_embedding_beside_what_they_were() -> None:
    found = planned({"trainable_token_indices": {"embed_tokens": [7, 8, 9]}}, training={"optim": "adamw_torch"})
    (rows,) = (tensor for tensor in trained_tensors(found.model, found.recipe) if "tokens_delta" in tensor.name)
    assert (rows.name, rows.shape) == ("model.embed_tokens.trainable_tokens_delta", (3, 1024))
    lines = {line.name: line.bytes for line in found.lines}
    assert lines["trained rows of the embedding"] == 3 * 1024 * 4
    assert lines["rows of the embedding before training"] == 3 * 1024 * 4


def test_tokens_that_cannot_be_trained_are_refused_with_the_reason() -> None:
    tied = {**LLAMA, "tie_word_embeddings": True}
    assert "TRL's fused head fails on the head" in refused({"trainable_token_indices": [7]}, tied, stack="trl")
    assert "no formula follows" in refused({"trainable_token_indices": [7]}, tied, training={"loss": "liger"})
    assert planned({"trainable_token_indices": [7]}, tied).peak_allocated_bytes
    assert "beyond the vocabulary of 8,000 words" in refused({"trainable_token_indices": [8000]})
    assert "keep one of the two" in refused({"trainable_token_indices": [7], "modules_to_save": ["embed_tokens"]})
    assert "of the input embedding alone" in refused({"trainable_token_indices": {"lm_head": [7]}})


def test_other_parameters_are_refused_with_what_can_be_named() -> None:
    def why(name: str, model: object = LLAMA, **more: Any) -> str:
        return refused({"target_modules": ["q_proj"], "target_parameters": [name], **more}, model)

    assert "this model has no stacked experts" in why("mlp.experts.gate_up_proj")
    assert "name o_proj in target_modules" in why("o_proj.weight")
    assert "planned are experts.gate_up_proj, experts.down_proj" in why("w1", config("mixtral"))
    assert "only without dropout" in why("mlp.experts.down_proj", config("mixtral"), lora_dropout=0.1)


def test_what_is_excluded_has_no_adapter() -> None:
    assert "k_proj" not in ranks({"exclude_modules": ["k_proj"]})
    assert set(ranks({"exclude_modules": r".*mlp.*"})) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    nothing_left = {"target_modules": ["q_proj"], "exclude_modules": ["q_proj"]}
    assert refused(nothing_left) == "lora.exclude_modules: leaves no target; name fewer modules"


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
    assert "not planned with Unsloth: rank_pattern; drop what is named, or use stack trl" in message


def test_a_models_own_biases_are_trained_beside_the_adapters() -> None:
    def biases(lora: dict[str, Any]) -> dict[str, int]:
        found = planned(lora, config("qwen2"))
        return {tensor.name: tensor.count for tensor in trained_tensors(found.model, found.recipe) if tensor.own}

    each = {f"model.layers.*.self_attn.{name}_proj.bias": 3 for name in "qkv"}
    assert biases({"bias": "all", "target_modules": ["o_proj"]}) == each
    assert biases({"bias": "lora_only", "target_modules": ["q_proj"]}) == {"model.layers.*.self_attn.q_proj.bias": 3}
    assert biases({"bias": "none"}) == {}
    without, beside = (planned({"bias": bias}, config("qwen2")).lines for bias in ("none", "lora_only"))
    held = [{line.name: line.bytes for line in lines}["LoRA matrices"] for lines in (without, beside)]
    assert held[0] == held[1]  # they are the model's weights already


def test_biases_that_no_formula_follows_are_refused() -> None:
    assert "self_attn_layer_norm.bias, too" in refused({"bias": "all"}, config("opt"))
    eight = {"quantization": {"load_in_8bit": True}}
    assert "is planned in 4 bits" in refused({"bias": "lora_only"}, config("qwen2"), **eight)

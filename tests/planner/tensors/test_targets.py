"""Shapes as real PEFT 0.21.2 made them on transformers 5.23, and its own refusals."""

from collections import Counter

import pytest

from planner.errors import InvalidRequestError
from planner.memory.gradients import gradients_bytes
from planner.memory.optimizer import optimizer_lines
from planner.model.model import resolve_model
from planner.request.lora import Lora
from planner.request.validation.patterns import SkipList
from planner.tensors.targets import adapted_weights
from planner.tensors.trainable import AdapterDtypes, adapter_tensors
from planner.tensors.without_effect import unmatched_targets
from tests.planner.tiny import GPT2, LLAMA, MIXTRAL, group

DEEPSEEK = (
    *LLAMA[:5],
    group("model.layers.*.mlp.shared_experts.down_proj.weight", "linear", (256, 64), 1, quantizable=True),
    group("model.layers.*.mlp.gate.weight", "router", (4, 256), 1),
    *MIXTRAL[6:8],
    *LLAMA[8:],
)

FLOAT32 = AdapterDtypes("float32", "float32")


def names(census: tuple, targets: object, model_type: str = "llama", **lora: object) -> dict[str, int]:
    chosen = adapted_weights(census, model_type, Lora(target_modules=targets, **lora))  # type: ignore[arg-type]
    return {weight.name.rsplit(".", 1)[-1]: weight.count for weight in chosen}


def test_all_linear_leaves_the_output_head_out() -> None:
    assert set(names(LLAMA, "all-linear")) == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


def test_a_list_matches_the_ends_of_module_names() -> None:
    assert names(LLAMA, ("q_proj", "v_proj")) == {"q_proj": 2, "v_proj": 2}
    assert names(LLAMA, ("layers.1.self_attn.q_proj",)) == {"q_proj": 1}
    assert names(LLAMA, ("lm_head", "embed_tokens")) == {"embed_tokens": 1, "lm_head": 1}


def test_a_string_is_a_pattern_for_the_whole_name() -> None:
    assert names(LLAMA, r".*\.(q_proj|down_proj)") == {"q_proj": 2, "down_proj": 2}
    assert names(LLAMA, r".*layers\.0\..*_proj") == dict.fromkeys(names(LLAMA, "all-linear"), 1)


def test_an_adapter_is_two_matrices() -> None:
    tensors = adapter_tensors(LLAMA, "llama", Lora(r=8, target_modules=("k_proj",)), FLOAT32)
    assert [(t.shape, t.count, t.itemsize_bytes) for t in tensors] == [((8, 256), 2, 4), ((128, 8), 2, 4)]


def test_dora_adds_one_magnitude_per_output_row_of_a_transposed_weight_too() -> None:
    lora = Lora(r=8, target_modules=("c_attn",), use_dora=True)
    tensors = adapter_tensors(GPT2, "gpt2", lora, AdapterDtypes("bfloat16", "float32"))
    assert [(t.shape, t.itemsize_bytes) for t in tensors] == [((8, 128), 2), ((384, 8), 2), ((384,), 4)]


def test_the_head_of_a_tied_model_can_be_named() -> None:
    tied = tuple(tensor for tensor in LLAMA if tensor.role != "head")
    (head,) = adapted_weights(tied, "llama", Lora(target_modules=("lm_head",)))
    assert (head.rows, head.columns) == (1000, 256)


def test_all_linear_reaches_stacked_experts_of_translated_models() -> None:
    tensors = adapter_tensors(MIXTRAL, "mixtral", Lora(r=8), FLOAT32)
    shapes = Counter({tensor.shape: tensor.count for tensor in tensors if "mlp" in tensor.name})
    assert shapes == {
        (8, 256): 2, (4, 8): 2,  # the router's weight
        (2 * 8 * 4, 256): 2, (1376, 2 * 8 * 4): 2,  # gate_up_proj: twice the rank, times 4 experts
        (8 * 4, 688): 2, (256, 8 * 4): 2,  # down_proj
    }  # fmt: skip


def test_a_mixture_that_peft_does_not_translate_keeps_its_experts_untouched() -> None:
    assert set(names(MIXTRAL, "all-linear", "gpt_oss")) == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_translated_names_no_longer_reach_shared_experts() -> None:
    chosen = adapted_weights(DEEPSEEK, "deepseek_v3", Lora(r=8))
    assert not any("shared_experts" in weight.name for weight in chosen)
    assert any(weight.stacked_experts for weight in chosen)


@pytest.mark.parametrize(
    ("targets", "model_type", "lora", "field", "words"),
    [
        (("nothing",), "llama", {}, "lora.target_modules", "q_proj, k_proj, v_proj, o_proj, gate_proj"),
        ("q_proj", "llama", {}, "lora.target_modules", "nothing matches 'q_proj'"),
        (("input_layernorm",), "llama", {}, "lora.target_modules", "is a norm"),
        (("gate_proj", "down_proj"), "qwen3_moe", {}, "lora.target_modules", "name up_proj too"),
        ("all-linear", "mixtral", {"lora_dropout": 0.1}, "lora.lora_dropout", "set 0"),
        ("all-linear", "mixtral", {"use_dora": True}, "lora.use_dora", "set false"),
    ],
)
def test_what_peft_refuses_is_refused_with_the_fix(
    targets: object, model_type: str, lora: dict[str, object], field: str, words: str
) -> None:
    census = LLAMA if model_type == "llama" else MIXTRAL
    with pytest.raises(InvalidRequestError) as refusal:
        names(census, targets, model_type, **lora)
    (problem,) = refusal.value.problems
    assert problem.field == field
    assert words in problem.message


def test_targets_that_match_nothing_beside_one_that_does_are_reported() -> None:
    assert unmatched_targets(LLAMA, "llama", Lora(target_modules=("q_proj", "c_attn"))) == ("c_attn",)


@pytest.mark.parametrize(
    ("name", "pattern", "skipped"),
    [
        ("model.layers.1.mlp.gate", "model.layers.1", True),
        ("model.layers.11.mlp.gate", "model.layers.1", False),
        ("model.layers.1.mlp.gate_proj", "mlp.gate", False),
        ("model.layers.1.mlp.gate", "mlp.gate", True),
        ("lm_head", "lm_head", True),
    ],
)
def test_skip_patterns_end_at_a_dot(name: str, pattern: str, skipped: bool) -> None:
    assert SkipList((pattern,)).holds(name) is skipped


@pytest.mark.parametrize("model_type", ["phimoe", "llama4_text"])
def test_all_linear_is_refused_where_a_router_would_be_among_them(model_type: str) -> None:
    """Real PEFT 0.21.2 wraps these routers and fails in the forward: 'tuple' object has no attribute 'dtype'."""
    with pytest.raises(InvalidRequestError, match="PEFT cannot adapt") as refused:
        names(DEEPSEEK, "all-linear", model_type)
    assert "name the others: q_proj" in refused.value.problems[0].message
    assert set(names(DEEPSEEK, ("q_proj", "o_proj"), model_type)) == {"q_proj", "o_proj"}


def test_an_adapter_that_no_gradient_reaches_costs_neither_gradient_nor_state() -> None:
    """DeepSeek V3.2's indexer runs without gradients; its adapters are there all the same."""
    indexer = group("model.layers.*.self_attn.indexer.wk.weight", "linear", (64, 256), 2, quantizable=True)
    lora = Lora(target_modules="all-linear")
    with_indexer = adapter_tensors((*LLAMA, indexer), "deepseek_v3", lora, FLOAT32)
    without = adapter_tensors(LLAMA, "deepseek_v3", lora, FLOAT32)
    assert len(with_indexer) > len(without)
    assert gradients_bytes(with_indexer) == gradients_bytes(without)
    states = [optimizer_lines(tensors, "adamw_torch", clips=True) for tensors in (with_indexer, without)]
    assert states[0] == states[1]


def test_a_list_that_names_the_wrapped_projections_of_a_vision_tower_is_refused_with_the_way_out() -> None:
    """PEFT finds q_proj of Gemma 4's tower, a Gemma4ClippableLinear, and stops."""
    census = resolve_model("google/gemma-4-31B-it").census
    with pytest.raises(InvalidRequestError) as caught:
        adapted_weights(census, "gemma4", Lora(target_modules=("q_proj", "v_proj")))
    assert "language_model" in caught.value.problems[0].message
    weights = adapted_weights(census, "gemma4", Lora(target_modules=r".*language_model.*\.(q_proj|v_proj)"))
    assert {weight.name.rsplit(".", 1)[-1] for weight in weights} == {"q_proj", "v_proj"}
    assert sum(weight.count for weight in weights) == 60 + 50


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "out_proj")])
def test_an_adapter_that_mambas_kernels_would_pass_over_is_refused(targets: str | tuple[str, ...]) -> None:
    """Outcome of the same call in PEFT: `_check_lora_target_modules_mamba` raises ValueError."""
    census = resolve_model("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16").census
    with pytest.raises(InvalidRequestError) as caught:
        adapted_weights(census, "nemotron_h", Lora(target_modules=targets))
    assert "out_proj" in caught.value.problems[0].message
    assert "in_proj" in caught.value.problems[0].message


def test_linear_names_do_not_reach_stacked_experts_and_all_linear_does() -> None:
    mixtral = resolve_model("mistralai/Mixtral-8x7B-v0.1")

    def parameters(targets: str) -> int:
        weights = adapted_weights(mixtral.census, "mixtral", Lora(r=32, target_modules=targets))
        return sum(weight.rank * (weight.rows + weight.columns) * weight.count for weight in weights)

    assert parameters("linear-names") == 27_262_976  # q, k, v, o of 32 layers
    assert parameters("all-linear") == 719_331_328


@pytest.mark.parametrize("prefix", ["model.language_model.layers", "language_model.model.layers"])
def test_a_pattern_with_the_wrappers_prefix_finds_the_text_tower_alone(prefix: str) -> None:
    census = resolve_model("Qwen/Qwen3-4B").census
    weights = adapted_weights(census, "qwen3", Lora(target_modules=prefix + r"\.\d+\.self_attn\.(q|v)_proj"))
    assert sum(weight.count for weight in weights) == 72


def test_one_name_as_a_text_is_a_pattern_that_matches_nothing() -> None:
    census = resolve_model("Qwen/Qwen3-4B").census
    with pytest.raises(InvalidRequestError) as caught:
        adapted_weights(census, "qwen3", Lora(target_modules="q_proj"))
    assert "write it as a list, [q_proj]" in caught.value.problems[0].message

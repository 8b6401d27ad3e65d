"""The core's static bytes against the real libraries on CPU: every storage a loaded model, its adapters and its
optimizer hold, rounded as the CUDA allocator rounds."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen3MoeConfig,
)
from transformers.optimization import Adafactor

from planner.errors import InvalidRequestError
from planner.memory.optimizer import state_of
from planner.probe.recording.census import census_of
from planner.request.lora import Lora
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.tensors.tensor_storage import place
from planner.tensors.trainable import AdapterDtypes, Trainable, adapter_tensors
from planner.units import allocated

# The libraries warn about the odd targets and tiny models on purpose here.
pytestmark = pytest.mark.filterwarnings("ignore")

SIZES = {
    "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 1000,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "tied llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "gpt2": GPT2Config(n_embd=128, n_layer=3, n_head=4, vocab_size=500, n_positions=64, bos_token_id=0, eos_token_id=0),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=4),
    "qwen3_moe": Qwen3MoeConfig(**SIZES, num_experts=4, moe_intermediate_size=64, head_dim=64),
}
FLOAT32 = AdapterDtypes("float32", "float32")
QUANTIZATIONS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True},
    "int8": {"load_in_8bit": True},
    "skip": {"load_in_4bit": True, "llm_int8_skip_modules": ["lm_head", "model.layers.1", "o_proj"]},
    "skip nothing": {"load_in_4bit": True, "llm_int8_skip_modules": []},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folders = {}
    for name, config in CONFIGS.items():
        folders[name] = tmp_path_factory.mktemp("model")
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folders[name])
    return folders


def held_bytes(model: torch.nn.Module) -> int:
    """Every storage behind parameters and buffers once, quantization state included."""
    storages: dict[int, int] = {}
    for parameter in chain(model.parameters(), model.buffers()):
        state = getattr(parameter, "quant_state", None)
        parts = [parameter, getattr(parameter, "SCB", None)]
        if state is not None:
            parts += [state.absmax, state.code, state.offset]
            parts += [state.state2.absmax, state.state2.code] if state.state2 else []
        for part in parts:
            if part is not None:
                storages[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
    return sum(map(allocated, storages.values()))


@pytest.mark.parametrize("name", ["llama", "tied llama", "gpt2", "mixtral"])
@pytest.mark.parametrize("kind", list(QUANTIZATIONS))
def test_a_loaded_model_holds_what_the_planner_says(saved: dict[str, Path], name: str, kind: str) -> None:
    quantization = BitsAndBytesConfig(**QUANTIZATIONS[kind])
    model = AutoModelForCausalLM.from_pretrained(
        saved[name], quantization_config=quantization, device_map={"": "cpu"}, dtype=torch.bfloat16
    )
    census = census_of(AutoModelForCausalLM.from_config(CONFIGS[name]))
    for stack in ("trainer", "kbit"):
        if stack == "kbit":
            model = prepare_model_for_kbit_training(model)
        request = {"model": name, "gpu": "any", "quantization": QUANTIZATIONS[kind], "stack": stack}
        placed = place(census, Recipe.of(Request.parse(request)))
        assert held_bytes(model) == sum(p.prepared.total_bytes * p.count for p in placed)


@pytest.mark.parametrize("name", ["llama", "tied llama", "gpt2", "mixtral", "qwen3_moe"])
@pytest.mark.parametrize(
    "targets",
    [
        "all-linear", ["q_proj", "v_proj"], ["q_proj", "gate_proj", "up_proj", "down_proj"], ["q_proj", "gate_proj"],
        ["w1", "w2", "w3"], r".*\.(q_proj|down_proj|gate_proj|up_proj)", r".*layers\.[01]\..*q_proj",
        ["layers.1.self_attn.q_proj"], ["lm_head", "q_proj"], ["c_attn"], ["input_layernorm"], "q_proj",
    ],
    ids=str,
)  # fmt: skip
def test_adapters_have_the_shapes_peft_gives_them(name: str, targets: str | list[str]) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    lora = Lora(r=8, target_modules=tuple(targets) if isinstance(targets, list) else targets)
    census = census_of(model)
    try:
        adapted = get_peft_model(model, LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM"))
    except ValueError:
        with pytest.raises(InvalidRequestError):
            adapter_tensors(census, CONFIGS[name].model_type, lora, FLOAT32)
        return
    real = Counter(tuple(sorted(p.shape)) for p in adapted.parameters() if p.requires_grad)
    ours: Counter[tuple[int, ...]] = Counter()
    for tensor in adapter_tensors(census, CONFIGS[name].model_type, lora, FLOAT32):
        ours[tuple(sorted(tensor.shape))] += tensor.count
    assert ours == real


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
@pytest.mark.parametrize(
    "options",
    [
        {"rank_pattern": {"q_proj": 32, ".*self_attn.*": 4}}, {"exclude_modules": ["k_proj"]},
        {"exclude_modules": r".*layers\.[01]\..*"}, {"rank_pattern": {"attn.v_proj": 2}, "exclude_modules": ["q_proj"]},
    ],
    ids=str,
)  # fmt: skip
def test_ranks_and_exclusions_are_pefts(name: str, options: dict[str, Any]) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    targets = ["q_proj", "k_proj", "v_proj"]
    lora = Lora.model_validate({"r": 8, "target_modules": targets, **options})
    census = census_of(model)
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM", **options))
    real = Counter(tuple(p.shape) for p in adapted.parameters() if p.requires_grad)
    ours: Counter[tuple[int, ...]] = Counter()
    for tensor in adapter_tensors(census, CONFIGS[name].model_type, lora, FLOAT32):
        ours[tensor.shape] += tensor.count
    assert ours == real


@pytest.mark.parametrize("name", ["llama", "tied llama", "gpt2", "mixtral"])
@pytest.mark.parametrize(
    "whole",
    [["embed_tokens", "lm_head"], ["lm_head"], ["norm"], ["wte"], ["o_proj", "norm"], ["model.norm"], ["k_proj"]],
    ids=str,
)
@pytest.mark.parametrize("tied", [False, True])
def test_whole_modules_have_the_shapes_and_dtypes_of_pefts_copies(name: str, whole: list[str], tied: bool) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.bfloat16)
    targets = ["c_attn"] if name == "gpt2" else ["q_proj"]
    lora = Lora(r=8, target_modules=tuple(targets), modules_to_save=tuple(whole), ensure_weight_tying=tied)
    census = census_of(model)
    config = LoraConfig(
        r=8, target_modules=targets, modules_to_save=list(whole), ensure_weight_tying=tied, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    real = Counter(
        (tuple(p.shape), p.element_size()) for key, p in adapted.named_parameters()
        if p.requires_grad and ".modules_to_save." in key
    )  # fmt: skip
    try:
        tensors = adapter_tensors(census, CONFIGS[name].model_type, lora, FLOAT32)
    except InvalidRequestError:
        assert not real
        return
    ours: Counter[tuple[tuple[int, ...], int]] = Counter()
    for tensor in (tensor for tensor in tensors if tensor.copied):
        ours[tensor.shape, tensor.itemsize_bytes] += tensor.count
    assert ours == real


def test_dora_magnitudes_follow_the_output_rows() -> None:
    for name in ("llama", "gpt2"):
        model = AutoModelForCausalLM.from_config(CONFIGS[name])
        census = census_of(model)
        adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", use_dora=True))
        real = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        tensors = adapter_tensors(census, CONFIGS[name].model_type, Lora(r=8, use_dora=True), FLOAT32)
        assert sum(tensor.elements * tensor.count for tensor in tensors) == real


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 4096), (15, 100), (64, 64), (63, 65), (1000, 100), (4096,)], ids=str)
@pytest.mark.parametrize(
    "optimizer", ["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_32bit", "adafactor", "sgd"]
)
def test_optimizers_hold_what_the_planner_says(optimizer: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    parameter = torch.nn.Parameter(torch.randn(shape, dtype=dtype))
    parameter.grad = torch.randn_like(parameter)
    real = {
        "adamw_torch": lambda: torch.optim.AdamW([parameter]),
        "adamw_torch_fused": lambda: torch.optim.AdamW([parameter], fused=True),
        "adamw_8bit": lambda: bnb.optim.AdamW([parameter], optim_bits=8),
        "paged_adamw_32bit": lambda: bnb.optim.AdamW([parameter], optim_bits=32),
        "adafactor": lambda: Adafactor([parameter], lr=1e-3, scale_parameter=False, relative_step=False),
        "sgd": lambda: torch.optim.SGD([parameter], lr=1e-3),
    }[optimizer]()
    real.step()
    # The code maps are shared by all tensors; on a card, unfused AdamW keeps its step count on the host.
    left_out = {"qmap1", "qmap2"} | ({"step"} if optimizer == "adamw_torch" else set())
    held = {name: value for name, value in real.state.get(parameter, {}).items() if name not in left_out}
    real_bytes = sum(allocated(value.nbytes) for value in held.values() if isinstance(value, torch.Tensor))
    tensor = Trainable(name="w", shape=shape, count=1, itemsize_bytes=parameter.element_size())
    state = state_of(tensor, optimizer)
    assert state.device_bytes + 2 * allocated(state.paged_bytes // 2) == real_bytes

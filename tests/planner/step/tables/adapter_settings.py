"""The settings that hold LoraConfig's further options to dry runs: copies of whole modules, ranks, first values.

python -m tests.planner.step.tables.adapter_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.settings import ATTENTION, LLAMA, print_table, setting

ENDS = {"modules_to_save": ["embed_tokens", "lm_head"]}
TIED = {**LLAMA, "tie_word_embeddings": True}
# A vocabulary whose ends outweigh the layers, as Gemma's.
WIDE = {**LLAMA, "num_hidden_layers": 2, "vocab_size": 128_256}
OFF = {"gradient_checkpointing": False}
STACKS = ("trainer", "trl", "kbit", "loop")


def whole_modules() -> list[dict[str, Any]]:
    """`modules_to_save`: both ends, one, norms; every stack, loss and storage; tied pairs; other families."""
    found = []
    for stack in STACKS:
        for method in ("qlora", "lora"):
            more = {"stack": stack, "method": method}
            found += [
                _whole(f"{stack} {method}", LLAMA, ENDS, {}, **more),
                _whole(f"{stack} {method} tied off", TIED, ENDS, OFF, **more),
            ]
        found += [
            _whole(f"{stack} head liger", LLAMA, {"modules_to_save": ["lm_head"]}, {"loss": "liger"}, stack=stack),
            _whole(f"{stack} embedding off", LLAMA, {"modules_to_save": ["embed_tokens"]}, OFF, stack=stack),
            _whole(f"{stack} norms", LLAMA, {"modules_to_save": ["embed_tokens", "norm"]}, {}, stack=stack),
            _whole(f"{stack} full logits wide", WIDE, ENDS, {"loss": "full_logits", "max_length": 256}, stack=stack),
        ]
    one = {**ENDS, "ensure_weight_tying": True}
    several = {"per_device_train_batch_size": 3}
    found += [
        _whole("trainer one copy of a tied pair", TIED, one, {}),
        _whole("trl one copy of a tied pair off", TIED, one, OFF, stack="trl", method="lora"),
        _whole("trainer padded", LLAMA, ENDS, {**several, "padded": True}),
        _whole("trainer accumulation", LLAMA, ENDS, {"gradient_accumulation_steps": 4}),
        _whole("trainer reentrant", LLAMA, ENDS, {"use_reentrant": True}),
        _whole("trainer paged_adamw_8bit", LLAMA, ENDS, {"optim": "paged_adamw_8bit"}),
        _whole("trainer adamw_8bit wide", WIDE, ENDS, {"optim": "adamw_8bit", "max_length": 256}),
        _whole("loop adamw_torch", LLAMA, ENDS, {"optim": "adamw_torch"}, stack="loop"),
        _whole("trainer adafactor", LLAMA, ENDS, {"optim": "adafactor"}),
        _whole("trainer lora linear", LLAMA, {"modules_to_save": ["down_proj"]}, {}, method="lora"),
        _whole("trainer lora linear off norms", LLAMA, {"modules_to_save": ["o_proj", "norm"]}, OFF, method="lora"),
        _whole("trainer int8", LLAMA, ENDS, {}, quantization={"load_in_8bit": True}),
        _whole("trl dpo", LLAMA, ENDS, {"objective": "dpo"}, stack="trl"),
        _whole("trl dpo tied lora", TIED, ENDS, {"objective": "dpo"}, stack="trl", method="lora"),
    ]
    for name in ("qwen2 tied", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral", "phi3", "mixtral", "qwen3_moe"):
        own = {**ENDS, "target_modules": ATTENTION if name in {"mixtral", "qwen3_moe"} else "all-linear"}
        found += [
            _whole(f"{name} trainer", config(name), own, {}),
            _whole(f"{name} trl lora off", config(name), own, OFF, stack="trl", method="lora"),
        ]
    return found


def blocks() -> list[dict[str, Any]]:
    """Copies of routers and of whole blocks."""
    attention = {"target_modules": ["q_proj", "v_proj"]}
    gate, block = {**attention, "modules_to_save": ["gate"]}, {**attention, "modules_to_save": ["mlp"]}
    found = []
    for name in ("mixtral", "qwen3_moe"):
        found += [
            _whole(f"{name} trainer router", config(name), gate, {}),
            _whole(f"{name} trl router off", config(name), gate, OFF, stack="trl"),
            _whole(f"{name} kbit block", config(name), block, {}, stack="kbit"),
            _whole(f"{name} loop lora block off", config(name), block, OFF, stack="loop", method="lora"),
        ]
    return [
        *found,
        _whole("qwen2_moe trainer block", config("qwen2_moe"), block, {}, method="lora"),
        _whole("trainer lora attention", LLAMA, {"modules_to_save": ["self_attn"]}, {}, method="lora"),
        _whole("trl lora mlp off", LLAMA, {"modules_to_save": ["mlp"]}, OFF, method="lora", stack="trl"),
    ]


def tokens() -> list[dict[str, Any]]:
    """`trainable_token_indices`: some rows of an embedding."""
    rows = {"trainable_token_indices": [7, 100, 7000, 7999]}
    found = []
    for stack in STACKS:
        found += [
            _adapters(f"{stack} tokens", WIDE, rows, {"max_length": 256}, stack=stack),
            _adapters(f"{stack} lora tokens off", LLAMA, rows, OFF, stack=stack, method="lora"),
        ]
    return [
        *found,
        _adapters("trainer tokens accumulation", WIDE, rows, {"max_length": 256, "gradient_accumulation_steps": 4}),
        _adapters("trl tokens dpo", LLAMA, rows, {"objective": "dpo"}, stack="trl"),
        _adapters("trainer tokens qwen2", config("qwen2"), rows, {}),
        _adapters("trainer tied tokens", {**WIDE, "tie_word_embeddings": True}, rows, {"max_length": 256}),
        _adapters("loop lora tied tokens off", TIED, rows, OFF, stack="loop", method="lora"),
        _adapters("kbit tied tokens", TIED, rows, {}, stack="kbit"),
        _adapters("trainer tied tokens gemma", config("gemma"), rows, {}),
        _adapters("trainer tokens and head", LLAMA, {**rows, "modules_to_save": ["lm_head"]}, {}),
    ]


def biases() -> list[dict[str, Any]]:
    """`bias`: those of the adapted layers, and all, of a model that has some."""
    model, only, several = config("qwen2"), {"bias": "lora_only"}, {"per_device_train_batch_size": 3}
    return [
        _adapters("trainer biases", model, only, {}),
        _adapters("trainer biases off", model, only, OFF),
        _adapters("loop lora biases off", model, only, OFF, stack="loop", method="lora"),
        _adapters("trainer lora all biases", model, {"bias": "all"}, {}, method="lora"),
        _adapters("kbit biases", model, only, {}, stack="kbit"),
        _adapters("trl biases several off", model, only, {**OFF, **several}, stack="trl"),
    ]


def targets_and_ranks() -> list[dict[str, Any]]:
    """`exclude_modules`, `rank_pattern`, `init_lora_weights` and what moves no byte."""
    ranks = {"rank_pattern": {"q_proj": 64, "mlp.down_proj": 4}, "alpha_pattern": {"q_proj": 8.0}}
    excluded = {"exclude_modules": ["k_proj", "up_proj"]}
    found = []
    for stack in STACKS:
        more = {"stack": stack}
        found += [
            _adapters(f"{stack} ranks", LLAMA, ranks, {}, **more),
            _adapters(f"{stack} ranks off lora", LLAMA, ranks, OFF, method="lora", **more),
            _adapters(f"{stack} excluded off", LLAMA, excluded, OFF, **more),
        ]
    found += [
        _adapters("trainer ranks dropout", LLAMA, {**ranks, "lora_dropout": 0.05}, {}),
        _adapters("trainer ranks dora off", LLAMA, {**ranks, "use_dora": True}, OFF),
        _adapters("trainer ranks accumulation", LLAMA, ranks, {"gradient_accumulation_steps": 4}),
        _adapters("trainer ranks qwen2", config("qwen2"), ranks, {}),
        _adapters("trainer ranks gemma2 off", config("gemma2"), ranks, OFF),
        _adapters("trl ranks mixtral", config("mixtral"), {**ranks, "target_modules": ATTENTION}, {}, stack="trl"),
        _adapters("trainer ranks and whole modules", LLAMA, {**ranks, **ENDS}, {}),
        _adapters("trainer orthogonal lora", LLAMA, {"init_lora_weights": "orthogonal"}, {}, method="lora"),
        _adapters("trainer gaussian", LLAMA, {"init_lora_weights": "gaussian", "fan_in_fan_out": True}, {}),
        _adapters("trainer bias of a model without", LLAMA, {"bias": "all"}, {}),
    ]
    return found


def chosen_layers() -> list[dict[str, Any]]:
    """`layers_to_transform`: the last, the first, those between, every second; patterns and ranks by layer."""
    six = {**LLAMA, "num_hidden_layers": 6}
    last, first, between = {"layers_to_transform": [4, 5]}, {"layers_to_transform": 0}, {"layers_to_transform": [2, 3]}
    second = {"layers_to_transform": [1, 3, 5], "layers_pattern": "layers"}
    found = []
    for stack in STACKS:
        for method in ("qlora", "lora"):
            more = {"stack": stack, "method": method}
            found += [
                _in_layers(f"{stack} {method} last off", six, last, OFF, **more),
                _in_layers(f"{stack} {method} between", six, between, {}, **more),
            ]
        found += [
            _in_layers(f"{stack} last", six, last, {}, stack=stack),
            _in_layers(f"{stack} first off", six, first, OFF, stack=stack),
            _in_layers(f"{stack} every second off", six, second, OFF, stack=stack),
        ]
    more = {"attn_implementation": "eager"}
    found += [
        _in_layers("trainer between eager off", six, between, {**OFF, **more}),
        _in_layers("trainer between dropout off", six, {**between, "lora_dropout": 0.05}, OFF),
        _in_layers("trainer between dora off", six, {**between, "use_dora": True}, OFF),
        _in_layers("trainer between accumulation off", six, between, {**OFF, "gradient_accumulation_steps": 4}),
        _in_layers("trainer between reentrant", six, between, {"use_reentrant": True}),
        _in_layers("trainer between liger off", six, between, {**OFF, "loss": "liger"}),
        _in_layers("trl between chunked dpo", six, between, {"objective": "dpo"}, stack="trl"),
        _in_layers("trl last dpo off", six, last, {"objective": "dpo", **OFF}, stack="trl"),
        _in_layers("trainer last whole ends off", six, {**last, **ENDS}, OFF, method="lora"),
        _in_layers("trainer last whole norms off", six, {**last, "modules_to_save": ["norm"]}, OFF, method="lora"),
        _in_layers("trainer pattern of layers off", LLAMA, {"target_modules": r".*\.[23]\..*_proj"}, OFF),
        _in_layers("trainer ranks by layer", LLAMA, {"rank_pattern": {r"layers\.[01]\..*q_proj": 64}}, {}),
        _in_layers("trainer ranks by layer off", LLAMA, {"rank_pattern": {r"layers\.[12]\..*_proj": 4}}, OFF),
        _in_layers("gpt2 trainer off", config("gpt2"), {"layers_to_transform": [1]}, OFF),
        _in_layers("trainer layers excluded off", LLAMA, {"exclude_modules": r".*layers\.0\..*"}, OFF),
    ]
    for name in ("gemma2", "gemma3_text", "phi3", "qwen3", "mixtral", "deepseek_v3", "cohere2"):
        names = {"target_modules": ATTENTION if name in {"mixtral", "deepseek_v3"} else "linear-names"}
        chosen = {**names, "layers_to_transform": [1]}
        found += [
            _in_layers(f"{name} trainer off", config(name), chosen, OFF),
            _in_layers(f"{name} trl lora", config(name), chosen, {}, stack="trl", method="lora"),
        ]
    return found


EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def parameters() -> list[dict[str, Any]]:
    """`target_parameters`: both stacks of experts, one of them, beside attention and alone; mixtures of all kinds."""
    found = []
    for name in ("mixtral", "qwen3_moe", "gpt_oss", "olmoe", "qwen2_moe", "granitemoe", "deepseek_v3"):
        own = [stack.removeprefix("mlp.") for stack in EXPERTS] if name == "granitemoe" else EXPERTS
        both = {"target_parameters": own, "target_modules": ["q_proj", "v_proj", "o_proj"]}
        found += [
            _parameters(f"{name} trainer", config(name), both, {}),
            _parameters(f"{name} loop lora off", config(name), both, OFF, stack="loop", method="lora"),
        ]
    alone = {"target_parameters": EXPERTS, "target_modules": []}
    for stack in STACKS:
        found += [
            _parameters(f"qwen3_moe {stack} alone off", config("qwen3_moe"), alone, OFF, stack=stack),
            _parameters(f"gpt_oss {stack} alone", config("gpt_oss"), alone, {}, stack=stack),
        ]
    down, router = {**alone, "target_parameters": EXPERTS[1:]}, {**alone, "target_parameters": ["mlp.gate.weight"]}
    found += [
        _parameters("gpt_oss trl lora down off", config("gpt_oss"), down, OFF, stack="trl", method="lora"),
        _parameters("gpt_oss trainer up", config("gpt_oss"), {**alone, "target_parameters": EXPERTS[:1]}, {}),
        _parameters("qwen3_moe trainer accumulation", config("qwen3_moe"), alone, {"gradient_accumulation_steps": 4}),
        _parameters("mixtral trainer router", config("mixtral"), router, {}),
        _parameters("qwen3_moe trainer all-linear", config("qwen3_moe"), {"target_parameters": EXPERTS}, {}),
    ]
    return found


def _parameters(
    name: str, model: dict[str, Any], lora: dict[str, Any], training: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return setting(f"parameters {name}", model, training, lora=lora, **more)


def _in_layers(
    name: str, model: dict[str, Any], lora: dict[str, Any], training: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return setting(f"layers {name}", model, training, lora={"target_modules": "linear-names", **lora}, **more)


def _adapters(
    name: str, model: dict[str, Any], lora: dict[str, Any], training: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return setting(f"adapters {name}", model, training, lora=lora, **more)


def _whole(
    name: str, model: dict[str, Any], lora: dict[str, Any], training: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return setting(f"whole modules {name}", model, training, lora=lora, **more)


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return whole_modules() + blocks() + tokens() + biases() + targets_and_ranks() + chosen_layers() + parameters()


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])

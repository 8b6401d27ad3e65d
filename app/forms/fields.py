"""Every setting of a plan as one control: its name in the URL, its place in the request document, how to read it."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app import strictjson
from app.forms import beyond_controls, stack_words
from app.lora_options import LORA_OPTIONS
from planner.tensors.modules import ALL_LINEAR, LINEAR_NAMES
from planner.units import parse_size_bytes

Document = dict[str, Any]

# Numbers that a text of spans may stand for: as many as a request takes of trained rows.
_MOST_NUMBERS = 65_536
# Two of eight digits and what is between them.
_LONGEST_SPAN = 17
_TRUE = {"on": True, "true": True, "1": True, "yes": True, "off": False, "false": False, "0": False, "no": False}
QUANTIZATIONS: dict[str, Document] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
    "int4": {"quant_method": "hqq"},
}


def whole_number(text: str) -> int:
    """What a person writes as a whole number.

    Raises:
        ValueError: says how it is written.
    """
    try:
        return int(text.replace(",", "").replace(" ", ""))
    except ValueError:
        msg = "write a whole number"
        raise ValueError(msg) from None


def number(text: str) -> float:
    """What a person writes as a number.

    Raises:
        ValueError: says how it is written.
    """
    try:
        return float(text)
    except ValueError:
        msg = "write a number, such as 0.05"
        raise ValueError(msg) from None


def _switch(text: str) -> bool:
    if text.lower() not in _TRUE:
        msg = "write on or off"
        raise ValueError(msg)
    return _TRUE[text.lower()]


def _modules(text: str) -> str | list[str]:
    """Names with commas; a pattern, and names that hold commas, as JSON: `".*_proj"`, `["q_proj"]`."""
    if text[:1] in {'"', "["}:
        with suppress(strictjson.InvalidJsonError):
            written: str | list[str] = strictjson.loads(text.encode("utf-8", "surrogatepass"))
            return written
    names = [name.strip() for name in text.split(",") if name.strip()]
    return names[0] if names in ([ALL_LINEAR], [LINEAR_NAMES]) else names


def _patterns(text: str) -> Document:
    try:
        return _config(text)
    except ValueError:
        msg = 'write an object of patterns and numbers, such as {"q_proj": 32}'
        raise ValueError(msg) from None


def _switch_or_word(text: str) -> bool | str:
    return _switch(text) if text.lower() in _TRUE else text


def _names(text: str) -> list[str]:
    """Names alone."""
    names = _modules(text)
    return [names] if isinstance(names, str) else names


def _numbers(text: str) -> list[int]:
    """Numbers with commas, and spans: `0,1,8-15`.

    Raises:
        ValueError: says how they are written.
    """
    found: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        written = first.isdecimal() and (last.isdecimal() or not dash) and len(part) <= _LONGEST_SPAN
        if not written or int(last or first) - int(first) + len(found) >= _MOST_NUMBERS:
            msg = "write numbers with commas, or spans of them, such as 0,1,8-15"
            raise ValueError(msg)
        found += range(int(first), int(last or first) + 1)
    return found


def numbers_text(numbers: int | Sequence[int]) -> str:
    """What `_numbers` reads as `numbers`."""
    return ",".join(map(str, [numbers] if isinstance(numbers, int) else numbers))


def modules_text(modules: str | Sequence[str]) -> str:
    """What `_modules` reads as `modules`, as people write it where that can be."""
    wanted = modules if isinstance(modules, str) else list(modules)
    plain = wanted if isinstance(wanted, str) else ",".join(wanted)
    return plain if plain and _modules(plain) == wanted else json.dumps(wanted, ensure_ascii=False)


def _config(text: str) -> Document:
    try:
        config = strictjson.loads(text.encode("utf-8", "surrogatepass"))
    except strictjson.InvalidJsonError as error:
        place = "" if error.problems[0].field == "request" else f"{error.problems[0].field}: "
        msg = f"{place}{error.problems[0].message}; paste the model's config.json"
        raise ValueError(msg) from None
    if not isinstance(config, dict):
        msg = "a config.json is an object in braces: { ... }"
        raise ValueError(msg)
    return config


def _autocast(text: str) -> str | None:
    return None if text == "off" else text


@dataclass(frozen=True, slots=True)
class Field:
    """One control of the form: its name in the URL, its place in the document, its default and how to read it."""

    name: str
    path: tuple[str, ...]
    default: str = ""
    read: Callable[[str], Any] = str


_LORA_VALUES: dict[str, Callable[[str], Any]] = {
    "modules": _modules, "names": _names, "numbers": _numbers, "patterns": _patterns, "switch": _switch,
    "switch or word": _switch_or_word, "word": str, "number": number, "whole number": whole_number,
}  # fmt: skip

FIELDS = (
    Field("model", ("model",)),
    Field("config", ("model",), read=_config),
    Field("gpu", ("gpu",)),
    Field("gpu_memory", ("gpu", "total_memory_bytes"), read=parse_size_bytes),
    Field("compute_capability", ("gpu", "compute_capability"), "8.9"),
    Field("gpus", ("gpus",), "1", whole_number),
    Field("fsdp", ("fsdp",)),
    Field("deepspeed", ("deepspeed",)),
    Field("device_map", ("device_map",)),
    Field("cp_size", ("parallelism_config", "cp_size"), "", whole_number),
    Field("sp_size", ("parallelism_config", "sp_size"), "", whole_number),
    Field("method", ("method",), "qlora"),
    Field("quantization", ("quantization",), "nf4", str),
    Field("bnb_4bit_use_double_quant", ("quantization", "bnb_4bit_use_double_quant"), "on", _switch),
    Field("bnb_4bit_compute_dtype", ("quantization", "bnb_4bit_compute_dtype"), "bfloat16"),
    Field("bnb_4bit_quant_storage", ("quantization", "bnb_4bit_quant_storage"), "uint8"),
    Field("llm_int8_skip_modules", ("quantization", "llm_int8_skip_modules"), "", _modules),
    Field("group_size", ("quantization", "group_size"), "64", whole_number),
    Field("lora_r", ("lora", "r"), "16", whole_number),
    Field("lora_alpha", ("lora", "lora_alpha"), "32", number),
    Field("lora_dropout", ("lora", "lora_dropout"), "0", number),
    Field("target_modules", ("lora", "target_modules"), "all-linear", _modules),
    Field("use_dora", ("lora", "use_dora"), "off", _switch),
    *(Field(each.name, ("lora", each.name), each.default, _LORA_VALUES[each.written]) for each in LORA_OPTIONS),
    Field("tokens", ("tokens",), "", whole_number),
    Field("price_per_hour", ("price_per_hour",), "", number),
    Field("per_device_train_batch_size", ("training", "per_device_train_batch_size"), "1", whole_number),
    Field("gradient_accumulation_steps", ("training", "gradient_accumulation_steps"), "1", whole_number),
    Field("max_length", ("training", "max_length"), "2048", whole_number),
    Field("gradient_checkpointing", ("training", "gradient_checkpointing"), "on", _switch),
    Field("use_reentrant", ("training", "use_reentrant"), "off", _switch),
    Field("optim", ("training", "optim"), "paged_adamw_8bit"),
    Field("optim_target_modules", ("training", "optim_target_modules"), "", _modules),
    Field("optim_args", ("training", "optim_args")),
    Field("attn_implementation", ("training", "attn_implementation")),
    Field("sdpa_kernel", ("training", "sdpa_kernel"), "auto"),
    Field("loss", ("training", "loss")),
    Field("liger_kernel_config", ("training", "liger_kernel_config")),
    Field("objective", ("training", "objective"), "sft"),
    Field("precompute_ref_log_probs", ("training", "precompute_ref_log_probs"), "off", _switch),
    Field("ref_model", ("training", "ref_model")),
    Field("max_completion_length", ("training", "max_completion_length"), "", whole_number),
    Field("beta", ("training", "beta"), "0", number),
    Field("vllm_gpu_memory_utilization", ("training", "vllm_gpu_memory_utilization"), "", number),
    Field("num_generations", ("training", "num_generations"), "", whole_number),
    Field("steps_per_generation", ("training", "steps_per_generation"), "", whole_number),
    Field("num_iterations", ("training", "num_iterations"), "1", whole_number),
    Field("per_device_eval_batch_size", ("training", "per_device_eval_batch_size"), "", whole_number),
    Field("packing", ("training", "packing"), "off", _switch),
    Field("activation_offloading", ("training", "activation_offloading"), "off", _switch),
    Field("qat", ("training", "qat"), "", whole_number),
    Field("neftune_noise_alpha", ("training", "neftune_noise_alpha"), "", number),
    Field("padded", ("training", "padded"), "off", _switch),
    Field("expandable_segments", ("training", "expandable_segments"), "off", _switch),
    Field("max_grad_norm", ("training", "max_grad_norm"), "1", number),
    Field("stack", ("stack",), "trainer", stack_words.preset),
    Field("model_dtype", ("stack", "model_dtype"), "bfloat16"),
    Field("kbit_preparation", ("stack", "kbit_preparation"), "off", _switch),
    Field("autocast", ("stack", "autocast"), "off", _autocast),
    Field("adapter_dtype", ("stack", "adapter_dtype"), "float32"),
    Field("outputs_kept", ("stack", "outputs_kept"), "off", _switch),
    Field(beyond_controls.NAME, (beyond_controls.NAME,), read=beyond_controls.read_differences),
)
BY_NAME = {item.name: item for item in FIELDS}
DEFAULTS = {item.name: item.default for item in FIELDS}
STACK_SWITCHES = tuple(item.name for item in FIELDS if item.path[0] == "stack" and len(item.path) > 1)

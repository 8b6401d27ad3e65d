"""A checkpoint that is quantized already: what its `quantization_config` says, and what can be trained on it.

Source: transformers 5.23, quantizers/auto.py (merge_quantization_configs: the checkpoint's own kind is the one that
loads), trainer_utils.py (validate_quantization_for_training) and quantizers/quantizer_*.py (is_trainable);
peft 0.21, tuners/lora/{gptq,awq,torchao}.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from planner.errors import FieldProblem, InvalidRequestError
from planner.gpu import Gpu
from planner.request.peft_types import METHODS
from planner.request.recipe import Recipe
from planner.request.schema import CHAPTER_QUANTIZATION, CHECKPOINT_KINDS, Quantization, Request
from planner.tensors.inventory import Census

FIELD = "model.quantization_config"
# quantizer_finegrained_fp8.py validate_environment: an older card dequantizes while it loads.
_FP8_CAPABILITY = (8, 9)
_PLANNED = CHECKPOINT_KINDS | {"bitsandbytes"}

_DEQUANTIZE = "set quantization_config.dequantize to true to train its weights in 16 bit"
# Methods that no formula plans, and why.
_REFUSED = {
    "mxfp4": f"transformers 5.23 trains no mxfp4 weights (Mxfp4HfQuantizer.is_trainable); {_DEQUANTIZE}",
    "compressed-tensors": "transformers 5.23 leaves these weights packed until the first forward pass unpacks them, "
    f"and no formula here plans that step; {_DEQUANTIZE}",
    "hqq": 'transformers 5.23 cannot load HQQ checkpoints ("not available yet"); plan the original model with '
    '"quantization": {"quant_method": "hqq"}',
    "torchao": "PEFT 0.21 trains torchao's int8 weights only, and no formula here plans their step; plan the original "
    "model with bitsandbytes' load_in_8bit or load_in_4bit",
}
_NOT_TRAINABLE = frozenset(
    {"auto-round", "fbgemm_fp8", "gguf", "higgs", "metal", "nvfp4", "quark", "spqr", "vptq", "bitnet", "gemma"}
)
# Where a method can be had without its quantization (FineGrainedFP8Config, Mxfp4Config, CompressedTensorsConfig).
_DEQUANTIZED = frozenset({"fp8", "mxfp4", "compressed-tensors"})


def with_checkpoint(request: Request, config: Mapping[str, Any], census: Census) -> Request:
    """`request` with the quantization that the checkpoint brings along, whatever the recipe's default is.

    Raises:
        InvalidRequestError: it is written wrongly, of a kind that is not planned, or cannot be trained this way.
    """
    written = written_quantization(config)
    if written is None:
        _refuse_without_checkpoint(request)
        return request
    method = _method_of(written)
    if written.get("dequantize") is True and method in _DEQUANTIZED:
        return _dense(request)
    if method not in _PLANNED:  # adapters on them neither, so that no other method is advised
        raise _refused(_reason(method))
    if request.method == "full":
        raise _refused(f"{method} weights cannot be trained themselves (Trainer refuses them); take method lora")
    quantization = _read(method, written)
    _refuse_another_kind(request, quantization)
    if method != "bitsandbytes":
        _refuse_what_adapters_cannot(request, method, census)
    return request.model_copy(update={"method": "qlora", "quantization": quantization})


def on_card(recipe: Recipe, gpu: Gpu) -> Recipe:
    """`recipe` as this card loads it: one without FP8 products dequantizes an FP8 checkpoint to 16 bit."""
    quantization = recipe.quantization
    if quantization is None or quantization.quant_method != "fp8":
        return recipe
    computes = gpu.compute_capability is not None and gpu.compute_capability >= _FP8_CAPABILITY
    return recipe if computes else replace(recipe, quantization=None, kbit_preparation=False)


def written_quantization(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `quantization_config` of a config.json, wherever it stands; None for a checkpoint that is not quantized.

    Raises:
        InvalidRequestError: it is no object.
    """
    text = config.get("text_config")
    places = (config, text) if isinstance(text, Mapping) else (config,)
    # compression_config is what compressed-tensors called it at first.
    found = (place.get(key) for place in places for key in ("quantization_config", "compression_config"))
    written = next((value for value in found if value is not None), None)
    if written is not None and not isinstance(written, Mapping):
        raise _refused("is an object in every config.json; copy it whole or leave it out")
    return written or None


def _method_of(written: Mapping[str, Any]) -> str:
    method = written.get("quant_method")
    if method is None and (written.get("load_in_4bit") or written.get("load_in_8bit")):
        return "bitsandbytes"
    if not isinstance(method, str) or not method:
        raise _refused('"quant_method" is missing: no loader can tell what the weights are')
    return "fp8" if method in {"fp8", "finegrained_fp8"} else method


def _reason(method: str) -> str:
    if method in _NOT_TRAINABLE:
        return f"transformers 5.23 trains no {method} weights (is_trainable of its quantizer); plan the original model"
    return _REFUSED.get(method, f"no formula here plans {method} weights; plan the original model")


def _read(method: str, written: Mapping[str, Any]) -> Quantization:
    """What the loader keeps of it.

    Raises:
        InvalidRequestError: names every key that cannot be planned.
    """
    readers = {"bitsandbytes": _bitsandbytes, "awq": _packed, "gptq": _packed, "fp8": _float8}
    keys = {"quant_method": method, **readers[method](written)}
    try:
        return Quantization.model_validate({key: value for key, value in keys.items() if value is not None})
    except ValidationError as error:
        problems = [FieldProblem(f"{FIELD}.{item['loc'][0]}", item["msg"]) for item in error.errors()]
        raise InvalidRequestError("The checkpoint's quantization cannot be read.", problems) from None


def _bitsandbytes(written: Mapping[str, Any]) -> dict[str, Any]:
    keys = {key: written.get(key) for key in Quantization.model_fields if key.startswith(("load_in", "bnb_", "llm_"))}
    if not (keys["load_in_4bit"] or keys["load_in_8bit"]):
        raise _refused("names neither load_in_4bit nor load_in_8bit")
    dtype = keys["bnb_4bit_compute_dtype"]
    return keys | {"bnb_4bit_compute_dtype": dtype.removeprefix("torch.") if isinstance(dtype, str) else dtype}


def _packed(written: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("modules_in_block_to_quantize", "dynamic", "lm_head"):
        if written.get(key):
            raise _refused(f"{key} chooses what is quantized, which no formula here reads")
    # AutoAWQ's own files say w_bit and q_group_size.
    return {
        "bits": written.get("bits", written.get("w_bit", 4)),
        "group_size": written.get("group_size", written.get("q_group_size", 128)),
        "llm_int8_skip_modules": written.get("modules_to_not_convert"),
    }


def _float8(written: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "weight_block_size": written.get("weight_block_size"),
        "llm_int8_skip_modules": written.get("modules_to_not_convert") or written.get("ignored_layers"),
    }


def _dense(request: Request) -> Request:
    """Loaded in 16 bit. bitsandbytes is the recipe's default and no choice; as a choice, it is refused."""
    if request.method != "qlora":
        return request
    if "method" in request.model_fields_set or request.quantization != CHAPTER_QUANTIZATION:
        raise _refused("a checkpoint of another kind cannot be loaded with bitsandbytes; take method lora or full")
    return request.model_copy(update={"method": "lora", "quantization": None})


def _refuse_without_checkpoint(request: Request) -> None:
    method = request.quantization.quant_method if request.quantization else "bitsandbytes"
    if method in CHECKPOINT_KINDS:
        problem = f"{method} is how a checkpoint is stored, and this model's config has no quantization_config"
        raise InvalidRequestError("The quantization cannot be used.", [FieldProblem("quantization", problem)])


def _refuse_another_kind(request: Request, quantization: Quantization) -> None:
    """merge_quantization_configs takes the checkpoint's own, and fails where another kind is passed."""
    asked = request.quantization
    if asked is None or asked == CHAPTER_QUANTIZATION or asked.quant_method == quantization.quant_method:
        return
    problem = f"the checkpoint is stored as {quantization.quant_method}, and loads as nothing else; drop it"
    raise InvalidRequestError("The quantization cannot be used.", [FieldProblem("quantization", problem)])


def _refuse_what_adapters_cannot(request: Request, method: str, census: Census) -> None:
    if request.lora.use_dora:
        problem = f"PEFT has no DoRA on {method} weights that is planned here; set false"
        raise InvalidRequestError("DoRA cannot be used.", [FieldProblem("lora.use_dora", problem)])
    if request.lora.peft_type != "LORA":
        problem = f"{METHODS[request.lora.peft_type].label} on {method} weights is not planned; write LORA"
        raise InvalidRequestError("This adapter cannot be planned.", [FieldProblem("lora.peft_type", problem)])
    if any(group.role == "expert" and len(group.shape) == 3 for group in census):
        raise _refused(f"no formula here plans the stacked experts of a mixture in {method}; plan the original model")


def _refused(problem: str) -> InvalidRequestError:
    return InvalidRequestError("The checkpoint's quantization cannot be planned.", [FieldProblem(FIELD, problem)])

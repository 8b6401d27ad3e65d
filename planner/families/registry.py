"""From a config to a Decoder: which function describes which model type."""

from collections.abc import Callable, Mapping
from typing import Any

from planner.errors import FieldProblem, InvalidRequestError, UnknownArchitectureError
from planner.families.config import Fields
from planner.families.deepseek import deepseek
from planner.families.gemma.gemma4 import gemma4
from planner.families.gemma.gemma4_whole import gemma4_whole
from planner.families.gemma.text import gemma, gemma2
from planner.families.hybrids.bamba import bamba
from planner.families.hybrids.granite import granite_hybrid
from planner.families.hybrids.lfm2 import lfm2
from planner.families.hybrids.nemotron_h import nemotron_h
from planner.families.hybrids.olmo_hybrid import olmo_hybrid
from planner.families.hybrids.qwen3_next import qwen3_next
from planner.families.llama import llama
from planner.families.moe import glm4_moe, gpt_oss, llama4, mixtral, qwen_moe
from planner.families.parts import Decoder
from planner.families.plain import apertus, arcee, bloom, falcon, gpt2, gpt_neox, gptj, opt, phi, starcoder2
from planner.families.unknown import DECODERS, sentence
from planner.families.variants import cohere, cwm, exaone4, glm, granite, olmo, olmo2, phi3, stablelm

_LLAMA = (
    "llama", "mistral", "ministral3", "qwen2", "qwen3", "hunyuan_v1_dense", "smollm3", "seed_oss", "ernie4_5",
    "internlm3",
)  # fmt: skip
_FAMILIES: dict[str, Callable[[Fields], Decoder]] = {
    **dict.fromkeys(_LLAMA, llama),
    "gemma": gemma, "gemma2": gemma2, "gemma3_text": gemma2, "gemma4_text": gemma4, "gemma4": gemma4_whole,
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), qwen3_next),
    "phi3": phi3, "glm": glm, "glm4": glm, "granite": granite, "olmo": olmo, "olmo2": olmo2, "olmo3": olmo2,
    "exaone4": exaone4, "cwm": cwm, "cohere": cohere, "cohere2": cohere, "stablelm": stablelm,
    "starcoder2": starcoder2, "arcee": arcee, "apertus": apertus, "jais2": arcee, "phi": phi, "gpt_neox": gpt_neox,
    "gpt2": gpt2, "gptj": gptj, "bloom": bloom, "opt": opt, "falcon": falcon,
    **dict.fromkeys(("mixtral", "olmoe", "phimoe", "granitemoe", "minimax_m2"), mixtral),
    "bamba": bamba, "granitemoehybrid": granite_hybrid, "lfm2": lfm2, "nemotron_h": nemotron_h,
    "olmo_hybrid": olmo_hybrid,
    "qwen2_moe": qwen_moe, "qwen3_moe": qwen_moe, "glm4_moe": glm4_moe, "gpt_oss": gpt_oss, "llama4_text": llama4,
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"), deepseek),
}  # fmt: skip


# Multimodal configs whose text tower alone AutoModelForCausalLM builds (transformers 5.23 models/auto/modeling_auto.py,
# MODEL_FOR_CAUSAL_LM_MAPPING_NAMES). Of the other wrappers it builds the whole model or nothing.
_TEXT_TOWERS = {"llama4": "llama4_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text"}

def builds_text_alone(model_type: str) -> bool:
    """Whether AutoModelForCausalLM leaves out the towers of this multimodal type."""
    return model_type in _TEXT_TOWERS


def known_types() -> frozenset[str]:
    """The model types that `decoder_of` describes."""
    return frozenset(_FAMILIES)


def decoder_of(config: Mapping[str, Any]) -> Decoder:
    """Describe the model that `AutoModelForCausalLM` builds from `config`.

    Raises:
        UnknownArchitectureError: the model type is not known to the formulas.
        InvalidRequestError: names every missing or bad key of a known type.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        problem = FieldProblem("model.model_type", "is missing; write the config's model_type, such as llama")
        raise InvalidRequestError("The config does not say which model it is.", [problem])
    text = config.get("text_config")
    if model_type in _TEXT_TOWERS and isinstance(text, Mapping):
        return decoder_of({**text, "model_type": _TEXT_TOWERS[model_type]})
    family = _FAMILIES.get(model_type)
    if family is None:
        raise UnknownArchitectureError(sentence(config, model_type, _FAMILIES), dry_run=model_type in DECODERS)
    fields = Fields(model_type, config)
    decoder = family(fields)
    fields.check()
    return decoder

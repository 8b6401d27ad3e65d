"""The controls of the page about serving: each one's name in the address and its place in the document."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.forms.fields import number, whole_number
from app.serving import QUANTIZATIONS, cache_config
from app.views.plan_question import EXAMPLE
from planner.errors import FieldProblem

_LLAMA_CPP, _TRANSFORMERS = "llama.cpp", "transformers"


def _bits(text: str) -> dict[str, Any] | None:
    if text not in QUANTIZATIONS:
        msg = f"choose 16bit, {', '.join(QUANTIZATIONS)}"
        raise ValueError(msg)
    return QUANTIZATIONS[text]


@dataclass(frozen=True, slots=True)
class Control:
    """One control; its name is the document's own."""

    name: str
    default: str
    label: str
    read: Callable[[str], Any] = str


CONTROLS = {
    item.name: item
    for item in (
        Control("model", EXAMPLE["model"], "Model"),
        Control("gpu", EXAMPLE["gpu"], "Card"),
        Control("engine", _TRANSFORMERS, "Engine"),
        Control("context", "4096", "Context", whole_number),
        Control("batch", "1", "Users", whole_number),
        Control("weights", "16bit", "Weights", _bits),
        Control("gguf", "Q4_K_M", "GGUF file"),
        Control("kv_cache_dtype", "auto", "Cache"),
        Control("cache_implementation", "dynamic", "Cache"),
        Control("cache_config", "", "Quantized by", cache_config),
        Control("max_new_tokens", "256", "Tokens of the answer", whole_number),
        Control("gpu_memory_utilization", "0.9", "vLLM’s share of the card", number),
        Control("adapter_rank", "", "Adapter beside, its rank", whole_number),
    )
}


def values_in(pairs: Mapping[str, str]) -> dict[str, str]:
    """Every control's text: what the address says, else its default."""
    given = {name: text.strip() for name, text in pairs.items() if name in CONTROLS and text.strip()}
    return {name: item.default for name, item in CONTROLS.items()} | given


def document_of(values: Mapping[str, str]) -> tuple[dict[str, Any], list[FieldProblem]]:
    """The document of `POST /api/v1/inference`, and every control that cannot be read.

    What an engine does not have is left out.
    """
    document: dict[str, Any] = {}
    unread = []
    for name, item in CONTROLS.items():
        if values[name] != item.default or name in {"model", "gpu"}:
            try:
                document[name] = item.read(values[name])
            except ValueError as error:
                unread.append(FieldProblem(name, str(error)))
    return _in_the_engines_words(document), unread


def _in_the_engines_words(document: dict[str, Any]) -> dict[str, Any]:
    quantization, rank = document.pop("weights", None), document.pop("adapter_rank", None)
    if document.get("engine") == _LLAMA_CPP:
        quantization = None
    else:
        document.pop("gguf", None)
    if document.get("engine", _TRANSFORMERS) != _TRANSFORMERS:
        for name in ("cache_implementation", "cache_config"):
            document.pop(name, None)
    if document.get("engine") != "vllm":
        document.pop("gpu_memory_utilization", None)
    return document | ({"quantization": quantization} if quantization else {}) | ({"lora": {"r": rank}} if rank else {})

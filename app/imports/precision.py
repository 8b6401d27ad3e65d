"""Which of the request's stacks a trainer's dtypes amount to: a preset where one says the same, otherwise the switches.

A preset keeps its name where it can, because the planner knows more about it than four dtypes: what Trainer tells
bitsandbytes about embeddings, and that its collator returns a mask.
"""

from dataclasses import dataclass
from typing import Any

from app.imports.rules import Reading
from planner.errors import InvalidRequestError
from planner.request.recipe import stack_switches
from planner.request.schema import Request


@dataclass(frozen=True, slots=True)
class Dtypes:
    """What the model is loaded in, what Trainer autocasts to (None: it does not), what adapters are kept in."""

    model: str
    autocast: str | None
    adapters: str


def put_stack(reading: Reading, preset: str, dtypes: Dtypes, reason: str) -> None:
    """Set `stack` to `preset` or `loop` where they mean these dtypes, otherwise to the switches, and say why.

    The preset `kbit` prepares the model, which `loop` does not.
    """
    adapters = "float32" if reading.document.get("method") == "full" else dtypes.adapters  # there are none
    wanted = {"model_dtype": dtypes.model, "autocast": dtypes.autocast, "adapter_dtype": adapters}
    for name in (preset,) if preset == "kbit" else (preset, "loop"):
        if _meaning(reading, name) == wanted:
            reading.assume("stack", name, reason)
            return
    prepared = {"kbit_preparation": True} if preset == "kbit" else {}
    reading.assume("stack", {**wanted, **prepared}, reason)


def half_precision(reading: Reading, *, bf16: bool, fp16: bool) -> str | None:
    """The 16-bit dtype that a trainer autocasts to; None for neither. Both at once is a contradiction."""
    if bf16 and fp16:
        reading.contradict("fp16", "bf16 is on as well; keep one")
    return "bfloat16" if bf16 else "float16" if fp16 else None


def four_bits(reading: Reading, key: str, *, kind: Any = "nf4", nested: Any = False, compute: Any = "bfloat16") -> None:
    """bitsandbytes' 4 bits; `nested`: with double quantization."""
    reading.use(key, "quantization.load_in_4bit", True)
    reading.put("quantization.bnb_4bit_quant_type", kind)
    reading.put("quantization.bnb_4bit_use_double_quant", nested)
    reading.put("quantization.bnb_4bit_compute_dtype", compute)


_WORDS = {
    "bf16": "bfloat16", "f16": "float16", "fp16": "float16", "half": "float16",
    "fp32": "float32", "f32": "float32", "float": "float32",
}  # fmt: skip


def dtype_name(value: Any) -> str:
    """`bf16`, `torch.bfloat16` and the like by torch's own name."""
    word = str(value).removeprefix("torch.").lower()
    return _WORDS.get(word, word)


def _meaning(reading: Reading, preset: str) -> dict[str, Any]:
    """What the preset would stand for in this document; the model and the card make no difference."""
    document: dict[str, Any] = {"model": "any", "gpu": "any", "stack": preset}
    document |= {name: reading.document[name] for name in ("method", "quantization") if name in reading.document}
    try:
        switches = stack_switches(Request.parse(document))
    except InvalidRequestError:
        return {}  # the whole request will be refused for the same reason, in the file's own words
    return {
        "model_dtype": switches.model_dtype,
        "autocast": switches.autocast,
        "adapter_dtype": switches.adapter_dtype,
    }

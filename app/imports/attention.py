"""The words trainers have for attention, as the request's: which kernel is planned, and what is left out of it."""

from typing import Any

from app.imports.adapters.linear_targets import has_sinks
from app.imports.effects import Effect
from app.imports.rules import Reading

_PATH = "training.attn_implementation"
_OWN = ("sdpa", "eager", "flash_attention_2")
# Other names of the same kernels. kernels-community/flash-attn(2) is built from the flash-attn package.
_SAME = {
    "fa2": "flash_attention_2", "flash": "flash_attention_2", "flash_attn": "flash_attention_2",
    "flash_attn_2": "flash_attention_2", "kernels-community/flash-attn": "flash_attention_2",
    "kernels-community/flash-attn2": "flash_attention_2", "disabled": "eager", "math": "eager", "torch": "sdpa",
}  # fmt: skip
_FLASH_3 = (
    "flash_attention_3", "fa3", "flash_attn_3", "kernels-community/flash-attn3", "kernels-community/vllm-flash-attn3",
)  # fmt: skip
_LIKE_2 = Effect(
    "flash attention 3 keeps what 2 keeps; what its backward pass works in has no formula here",
    "with flash attention 2",
    saves=True,
)
_SINKS = Effect(
    "flash attention 3 with sinks writes no scores, and has no formula here; planned with the scores written out",
    "with the attention's scores written out",
    saves=True,
)
_DEFAULT = "with the model's default attention"


def put_attention(reading: Reading, key: str, word: Any) -> None:
    """Plan the attention that `key` names. What is no word is left for the request to refuse."""
    name = word.lower() if isinstance(word, str) else word
    if not isinstance(name, str) or name in _OWN:
        reading.use(key, _PATH, word)
    elif name == "auto":
        return
    elif name in _SAME:
        reading.use(key, _PATH, _SAME[name])
    elif name == "xformers":
        # xformers' memory_efficient_attention is the kernel that torch has as mem-efficient.
        reading.use(key, _PATH, "sdpa")
        reading.put("training.sdpa_kernel", "mem_efficient")
    elif name in _FLASH_3 and has_sinks(reading.get("model")):
        reading.leave_out(key, _SINKS)
    elif name in _FLASH_3:
        reading.use(key, _PATH, "flash_attention_2")
        reading.leave_out(key, _LIKE_2)
    else:
        reading.leave_out(key, Effect(f"no formula for {word}; planned {_DEFAULT}", _DEFAULT, saves=True))

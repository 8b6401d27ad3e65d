"""`python -m tests.planner.parallel.spread [WORDS]`: probe `device_map` on several virtual cards, write spread.jsonl.

With WORDS only the settings whose name has them. One process has all cards; each card's own peak is recorded.
"""

from pathlib import Path
from typing import Any

from tests.planner.parallel.probed import WHOLE, asked, record_named
from tests.planner.parallel.record import TIED, UNTIED, WIDE

FILE = Path(__file__).with_name("spread.jsonl")
EIGHT = UNTIED | {"num_hidden_layers": 8}
MANY_WORDS = UNTIED | {"vocab_size": 128_256}
MANY_WORDS_TIED = MANY_WORDS | {"tie_word_embeddings": True}
GROUPED = EIGHT | {"num_key_value_heads": 4}
GEMMA = {
    "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "vocab_size": 64_000, "hidden_size": 1152,
    "intermediate_size": 6912, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 1,
    "head_dim": 256, "sliding_window": 512, "max_position_embeddings": 2048, "tie_word_embeddings": True,
    "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 2,
}  # fmt: skip
UNLIKE = ["rtx-3090", "rtx-3060-12gb"]
BY_HAND = {
    "model.embed_tokens": 1, "model.layers.0": 0, "model.layers.1": 1, "model.layers.2": 0, "model.layers.3": 1,
    "model.norm": 0, "model.rotary_emb": 0, "lm_head": 0,
}  # fmt: skip


def spread(method: str, model: dict[str, Any] = UNTIED, **parts: Any) -> dict[str, Any]:
    """A request on two cards, or as `gpus` says; `training` is merged."""
    plain = asked(method, model, stack="trainer", device_map="auto")
    training = plain["training"] | parts.pop("training", {})
    if method == "qlora":
        plain["quantization"] = WHOLE
    request = plain | {"training": training} | parts
    if "model_type" in model:
        request["model"] = model
    if isinstance(request["gpus"], list):
        request["gpu"] = request["gpus"][0]
    return request


OFF = {"gradient_checkpointing": False}
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("full", spread("full")),
    ("full tied", spread("full", TIED)),
    ("full, all activations", spread("full", training=OFF)),
    ("full, 4 cards", spread("full", EIGHT, gpus=4)),
    ("full, accumulating", spread("full", training={"gradient_accumulation_steps": 2})),
    ("full tied, accumulating", spread("full", TIED, training={"gradient_accumulation_steps": 2})),
    ("full loop wide", spread("full", WIDE, stack="loop")),
    ("lora", spread("lora")),
    ("lora, all activations", spread("lora", training=OFF)),
    ("lora, 4 cards, all activations", spread("lora", GROUPED, gpus=4, training=OFF)),
    ("lora many words", spread("lora", MANY_WORDS)),
    ("lora many words tied", spread("lora", MANY_WORDS_TIED)),
    ("lora eager", spread("lora", training={"attn_implementation": "eager"})),
    ("lora padded", spread("lora", training={"padded": True})),
    ("lora gemma 3", spread("lora", GEMMA, training=OFF)),
    ("qlora", spread("qlora")),
    ("qlora kbit", spread("qlora", GROUPED, stack="kbit")),
    ("qlora many words, 4 cards", spread("qlora", MANY_WORDS | {"num_hidden_layers": 8}, gpus=4)),
    ("qlora loop, all activations", spread("qlora", EIGHT, stack="loop", training=OFF)),
    ("lora 8 bit", spread("qlora", EIGHT, quantization={"load_in_8bit": True})),
    ("lora on unlike cards", spread("lora", EIGHT, gpus=UNLIKE)),
    ("full sequential", spread("full", EIGHT, device_map="sequential", max_memory={"0": "250MiB", "1": "20GiB"})),
    ("full balanced_low_0, 4 cards", spread("full", EIGHT, device_map="balanced_low_0", gpus=4)),
    ("full max_memory", spread("full", EIGHT, gpus=2, max_memory={"0": "180MiB", "1": "20GiB"})),
    ("full by hand", spread("full", device_map=BY_HAND)),
)  # fmt: skip


if __name__ == "__main__":
    record_named(FILE, SETTINGS)

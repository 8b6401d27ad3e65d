"""What strangers write into fields: mostly the right kind, often at the edge, sometimes nothing like it."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from planner.catalog.gpu_rows import gpu_catalog
from planner.catalog.model_rows import model_catalog
from planner.request.schema import Request

MODELS = tuple(model_catalog().rows)
GPUS = tuple(card.gpu.id for card in gpu_catalog().cards.values() if card.gpu)
_NUMBERS = (0, 1, -1, 2, 7, 8, 63, 64, 2047, 2049, 65_536, 16_777_216, 2**31, 2**48, 2**63, 10**30, 0.5, 1e308, -0.0)
_WORDS = (
    "", " ", "all-linear", "q_proj", "q_proj,v_proj", ".*", ".*.*.*.*x", "(?i)x", "(a+)+$", "[", "nan", "true", "off",
    "\x00", "\ud800", "é", "\u202e", "%00", "../../etc/passwd", "<script>alert(1)</script>", "${7*7}", "{{7*7}}",
    "'; DROP TABLE probes; --", "9" * 310, "x" * 300, "a: " * 50, "//[", "http://[", "24gb", "-_", "!!bool x",
)  # fmt: skip
_CONFIG_KEYS = (
    "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "head_dim",
    "num_hidden_layers", "max_position_embeddings", "tie_word_embeddings", "num_local_experts", "num_experts_per_tok",
    "sliding_window", "layer_types", "rope_scaling", "quantization_config", "_attn_implementation", "text_config",
)  # fmt: skip


def anything(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON value."""
    kind = rng.randrange(9 if depth else 6)
    if kind < 2:
        return rng.choice(_NUMBERS)
    if kind < 4:
        return word(rng)
    if kind < 6:
        return rng.choice((True, False, None))
    items = [anything(rng, depth - 1) for _ in range(rng.choice((0, 1, 2, 5)))]
    return items if kind < 8 else {word(rng): item for item in items}


def word(rng: random.Random) -> str:
    """Some text."""
    return rng.choice(_WORDS) if rng.random() < 0.8 else "".join(chr(rng.randrange(1, 0x3000)) for _ in range(8))


def config(rng: random.Random) -> dict[str, Any]:
    """A config.json: a real one, bent, up to the largest that anybody may send."""
    made = dict(model_catalog().rows[rng.choice(MODELS)].config)
    for _ in range(rng.choice((0, 1, 2, 4))):
        key = rng.choice((*_CONFIG_KEYS, *made))
        made[key] = rng.choice(_NUMBERS) if rng.random() < 0.6 else anything(rng)
    if rng.random() < 0.3:
        made["num_hidden_layers"] = rng.choice((64, 256, 512, 1024))
    if rng.random() < 0.02:
        made |= {f"key_{number}": anything(rng) for number in range(2_000)}
    return made


def document(rng: random.Random) -> Any:
    """A plan's document, drawn from the schema that the API publishes."""
    if rng.random() < 0.03:
        return anything(rng)
    schema = Request.model_json_schema()
    made: dict[str, Any] = {"model": _model(rng), "gpu": _gpu(rng)}
    for name, shape in schema["properties"].items():
        if name not in made and rng.random() < 0.5:
            made[name] = _drawn(rng, shape, schema["$defs"])
    if rng.random() < 0.1:
        made[word(rng)] = anything(rng)
    return made


def _model(rng: random.Random) -> Any:
    chance = rng.random()
    if chance < 0.6:
        return rng.choice(MODELS)
    if chance < 0.8:
        return config(rng)
    return rng.choice(("org/model", "meta-llama/Llama-3.1-8X", "owner/name@rev", word(rng), anything(rng)))


def _gpu(rng: random.Random) -> Any:
    chance = rng.random()
    if chance < 0.8:
        return rng.choice(GPUS)
    size = rng.choice((1 << 28, 24 << 30, 1 << 44, 1 << 60, -1))
    return {"total_memory_bytes": size} if chance < 0.9 else rng.choice((word(rng), anything(rng)))


def _drawn(rng: random.Random, shape: Mapping[str, Any], shapes: Mapping[str, Any]) -> Any:
    if rng.random() < 0.05:
        return anything(rng)
    if "$ref" in shape:
        return _drawn(rng, shapes[shape["$ref"].rpartition("/")[2]], shapes)
    for among in ("anyOf", "oneOf", "allOf"):
        if among in shape:
            return _drawn(rng, rng.choice(shape[among]), shapes)
    if "enum" in shape:
        return rng.choice(shape["enum"])
    if "properties" in shape:
        return {name: _drawn(rng, part, shapes) for name, part in shape["properties"].items() if rng.random() < 0.3}
    return _of_type(rng, shape, shapes)


def _of_type(rng: random.Random, shape: Mapping[str, Any], shapes: Mapping[str, Any]) -> Any:
    kind = shape.get("type")
    if kind in ("integer", "number"):
        ends: Sequence[Any] = [shape[end] for end in ("minimum", "maximum", "exclusiveMinimum") if end in shape]
        return rng.choice((*ends, *_NUMBERS, 1, 2, 4, 8, 16, 512, 1024, 4096))
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "array":
        length = rng.choice((0, 1, 3, 8, 64, 513) if rng.random() < 0.2 else (0, 1, 3))
        return [word(rng) for _ in range(length)] if rng.random() < 0.8 else _drawn(rng, shape.get("items", {}), shapes)
    return shape.get("const", word(rng))

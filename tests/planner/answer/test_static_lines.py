"""Static bytes of catalogue rows against closed forms written from the configs alone, to the byte."""

from collections.abc import Iterator
from typing import Any

import pytest

from planner.answer.static_lines import static_lines
from planner.catalog.model_rows import model_catalog
from planner.ledger import Ledger
from planner.model.model import resolve_model
from tests.planner.tiny import recipe

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "granite", "mixtral")
ROWS = [row.id for row in model_catalog().search("") if row.model_type in FAMILIES]
RANK = 16
# One scalar, the loss of the last step.
LOSS_BYTES = 512


def r512(size: int) -> int:
    return -(-size // 512) * 512


def linears(c: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """(N, K) of every quantized weight of one layer."""
    h, ffn, q, kv = c["h"], c["I"], c["H"] * c["d"], c["K"] * c["d"]
    if c["type"] == "phi3":
        yield from ((q + 2 * kv, h), (h, q), (2 * ffn, h), (h, ffn))
        return
    yield from ((q, h), (kv, h), (kv, h), (h, q))
    if c["type"] != "mixtral":
        yield from ((ffn, h), (ffn, h), (h, ffn))


def plain(c: dict[str, Any]) -> Iterator[int]:
    """Elements of every tensor of one layer that stays unquantized."""
    h, q, kv = c["h"], c["H"] * c["d"], c["K"] * c["d"]
    norms = {"gemma2": 4, "gemma3_text": 4}.get(c["type"], 2)
    yield from [h] * norms
    if c["type"] in ("qwen3", "gemma3_text"):
        yield from (c["d"], c["d"])
    if c["type"] == "olmo2":
        yield from (q, kv)
    if c["type"] == "mixtral":
        yield from (c["E"] * h, c["E"] * 2 * c["I"] * h, c["E"] * h * c["I"])


def biases(c: dict[str, Any]) -> Iterator[int]:
    """Elements of every bias of one layer, which bitsandbytes keeps in the dtype it computes in."""
    if c["type"] == "qwen2":
        yield from (c["H"] * c["d"], c["K"] * c["d"], c["K"] * c["d"])


def nf4(n: int) -> int:
    blocks = -(-n // 64)
    return r512(-(-n // 2)) + r512(blocks) + r512(4 * -(-blocks // 256)) + 512 + 1024 + 512


def widths(model_id: str) -> dict[str, Any]:
    model = resolve_model(model_id)
    config = dict(model.config)
    heads = config["num_attention_heads"]
    return {
        "type": model.model_type, "h": config["hidden_size"], "I": config["intermediate_size"], "H": heads,
        "K": config.get("num_key_value_heads") or heads, "d": config.get("head_dim") or config["hidden_size"] // heads,
        "V": config["vocab_size"], "L": config["num_hidden_layers"], "E": config.get("num_local_experts", 8),
        "tied": config.get("tie_word_embeddings", model.model_type.startswith("gemma")),
        "tower": sum(r512(2 * group.params) for group in model.census if group.role == "tower"),
    }  # fmt: skip


def phases(model_id: str, **fields: Any) -> dict[str, int]:
    """Tensors only: the slack of the blocks they sit in is tests/planner/allocator/test_load_phase.py's business."""
    lines = static_lines(resolve_model(model_id), recipe(**fields))
    ledger = Ledger.of(line for line in lines if line.cause != "runtime")
    return {phase.name: phase.allocated_bytes for phase in ledger.phases()}


def buffers(c: dict[str, Any]) -> int:
    """Rotary frequencies twice, in Gemma 3 for each of two reaches; Gemma's embedding has a scale."""
    reaches = 2 if c["type"] == "gemma3_text" else 1
    return 2 * reaches * r512(4 * c["d"] // 2) + (512 if c["type"].startswith("gemma") else 0)


def closed_form(c: dict[str, Any], plain_itemsize_bytes: int) -> int:
    """Quantized base, one shared code map, the rest in `plain_itemsize_bytes`, the buffers, and a tower in 16 bit."""
    ends = (1 if c["tied"] else 2) * r512(plain_itemsize_bytes * c["V"] * c["h"])
    layer = sum(nf4(n * k) for n, k in linears(c)) + sum(r512(plain_itemsize_bytes * size) for size in plain(c))
    layer += sum(r512(2 * size) for size in biases(c))
    return c["L"] * layer + ends + r512(plain_itemsize_bytes * c["h"]) + 1024 + buffers(c) + c["tower"]


def lora(c: dict[str, Any], itemsize_bytes: int) -> int:
    pairs = sum(r512(itemsize_bytes * RANK * k) + r512(itemsize_bytes * RANK * n) for n, k in linears(c))
    return c["L"] * pairs


@pytest.mark.parametrize("model_id", ROWS)
@pytest.mark.parametrize(("stack", "itemsize_bytes"), [("trainer", 2), ("kbit", 4)])
def test_the_quantized_base_equals_its_closed_form(model_id: str, stack: str, itemsize_bytes: int) -> None:
    c = widths(model_id)
    attention = ("q_proj", "qkv_proj")
    held = phases(model_id, stack=stack, lora={"target_modules": attention}, training={"optim": "sgd"})["backward"]
    queries = linears(c).__next__()
    adapters = c["L"] * (r512(4 * RANK * queries[1]) + r512(4 * RANK * queries[0]))
    assert held - adapters - LOSS_BYTES == closed_form(c, itemsize_bytes)


@pytest.mark.parametrize("model_id", [row for row in ROWS if resolve_model(row).model_type != "mixtral"])
def test_adapters_and_fused_adam_equal_their_closed_forms(model_id: str) -> None:
    c = widths(model_id)
    tensors = 2 * c["L"] * len(list(linears(c)))
    none, adam = (phases(model_id, training={"optim": optim})["loss"] for optim in ("sgd", "adamw_torch_fused"))
    assert none == closed_form(c, 2) + lora(c, 4) + LOSS_BYTES
    assert adam - none == 2 * lora(c, 4) + 512 * tensors


@pytest.mark.parametrize("model_id", [row for row in ROWS if resolve_model(row).model_type == "mixtral"])
def test_adapters_on_mixtral_experts_equal_their_closed_form(model_id: str) -> None:
    c = widths(model_id)
    h, ffn, experts = c["h"], c["I"], c["E"]
    shapes = [(2 * RANK * experts, h, 2 * ffn), (RANK * experts, ffn, h), (RANK, h, experts)]
    on_experts = c["L"] * sum(r512(4 * rank * k) + r512(4 * rank * n) for rank, k, n in shapes)
    held = phases(model_id, training={"optim": "sgd"})["loss"]
    assert held == closed_form(c, 2) + lora(c, 4) + on_experts + LOSS_BYTES


@pytest.mark.parametrize("model_id", ROWS)
def test_full_fine_tuning_holds_two_bytes_a_parameter_and_as_many_gradients(model_id: str) -> None:
    held = phases(model_id, method="full", training={"optim": "sgd", "max_grad_norm": 0.0})
    params = resolve_model(model_id).params
    rounding = 512 * sum(group.count for group in resolve_model(model_id).census)
    assert 2 * params <= held["loss"] <= 2 * params + rounding
    c = widths(model_id)
    assert held["optimizer"] == 2 * held["loss"] - buffers(c) - c["tower"] - LOSS_BYTES

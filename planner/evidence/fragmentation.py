"""`python -m planner.evidence.fragmentation`: write planner/overheads/fragmentation.jsonl. No torch.

What the allocator cannot hand out because it is cut into the wrong pieces, for many models and recipes: each one's
whole run is played with less and less memory until it fails. Takes about six minutes of one core.
"""

import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import planner.overheads
from planner.answer.plan import plan
from planner.answer.replay.reserved_bytes import smallest_capacity_bytes
from planner.request.schema import Request
from planner.step import largest_bytes

ROWS_FILE = Path(planner.overheads.__file__).with_name("fragmentation.jsonl")

MODELS = (
    "Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.2-1B", "HuggingFaceTB/SmolLM2-1.7B", "Qwen/Qwen3-4B",
    "meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-Instruct-v0.2", "meta-llama/Llama-3.1-8B", "google/gemma-2-9b",
    "meta-llama/Llama-2-13b-hf", "Qwen/Qwen2.5-14B", "Qwen/Qwen2.5-32B", "meta-llama/Llama-3.1-70B",
)  # fmt: skip
RECIPES: tuple[dict[str, Any], ...] = (
    {"stack": "trainer", "training": {"max_length": 2048}},
    {"stack": "trl", "training": {"max_length": 1024, "per_device_train_batch_size": 4}},
    {"stack": "kbit", "training": {"max_length": 1024}},
    {"stack": "trainer", "training": {"max_length": 512, "gradient_checkpointing": False}},
    {"stack": "trainer", "lora": {"r": 128}, "training": {"max_length": 1024}},
    {"stack": "trainer", "method": "lora", "training": {"max_length": 4096}},
    {"stack": "kbit", "training": {"max_length": 1024, "attn_implementation": "eager"}},
)
ALLOCATORS = ("default", "expandable_segments")


def rows() -> Iterator[dict[str, Any]]:
    """One per model, recipe, allocator and kind of lengths."""
    for model, recipe, allocator, padded in product(MODELS, RECIPES, ALLOCATORS, (False, True)):
        training = {**recipe["training"], "expandable_segments": allocator != "default", "padded": padded}
        document = {"model": model, "gpu": "h100-sxm-80gb", **recipe, "training": training}
        answer = plan(Request.parse(document))
        yield {
            "request": document,
            "allocated_bytes": answer.peak_allocated_bytes,
            "largest_bytes": largest_bytes(answer.model.known_decoder(), answer.recipe, answer.gpu),
            "capacity_bytes": smallest_capacity_bytes(answer.model, answer.recipe, answer.gpu),
        }


if __name__ == "__main__":
    lines = [json.dumps(row) for row in rows()]
    ROWS_FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(lines)} rows\n")

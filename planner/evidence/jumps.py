"""How far reserved bytes jump: a run a little longer may reserve less, where its pieces suit each other better.

`python -m planner.evidence.jumps` records planner/overheads/jumps.jsonl: reserved bytes of runs over rising lengths,
each step played through the allocator.
"""

import json
from itertools import product
from pathlib import Path
from typing import Any

import planner.overheads
from planner.answer.plan import plan
from planner.request.schema import Request

FILE = Path(planner.overheads.__file__).with_name("jumps.jsonl")
# One of each kind that a 16-bit full fine-tuning of up to 10 billion parameters is tried with.
_MODELS = (
    "HuggingFaceTB/SmolLM-1.7B", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen1.5-7B", "google/gemma-3-1b-it",
    "google/gemma-3-4b-it", "microsoft/phi-1_5", "tiiuae/Falcon3-10B-Base", "zai-org/GLM-4-9B-0414",
    "bigscience/bloom-3b", "facebook/opt-6.7b", "meta-llama/Llama-3.1-8B",
)  # fmt: skip
_METHODS = ("full", "lora", "qlora")
# Powers of two, which pieces suit best, with their neighbours and what lies between.
_LENGTHS = (1000, 1024, 1025, 1536, 2047, 2048, 2049, 2056, 3072, 4095, 4096, 4097, 4104, 4160)
_BATCHES = (1, 2, 4)


def record() -> list[dict[str, Any]]:
    """Play every setting; one row each."""
    return [_row(*setting) for setting in product(_MODELS, _METHODS, _BATCHES)]


def _row(model: str, method: str, batch: int) -> dict[str, Any]:
    reserved = []
    for length in _LENGTHS:
        training = {"max_length": length, "per_device_train_batch_size": batch}
        request = Request.parse({"model": model, "gpu": "h200", "method": method, "training": training})
        reserved.append([length, plan(request).estimate.reserved_bytes()])
    return {"model": model, "method": method, "per_device_train_batch_size": batch, "reserved": reserved}


if __name__ == "__main__":
    FILE.write_text("".join(json.dumps(row) + "\n" for row in record()), encoding="utf-8")

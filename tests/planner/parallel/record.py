"""`python -m tests.planner.parallel.record`: run the settings on virtual cards, write recorded.jsonl."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("recorded.jsonl")
PROGRAM = Path(__file__).with_name("program.py")

UNTIED = {
    "vocab_size": 32000, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4,
    "num_attention_heads": 16, "num_key_value_heads": 16, "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}  # fmt: skip
TIED = UNTIED | {"tie_word_embeddings": True}
# Layers that weigh more than the vocabulary.
WIDE = UNTIED | {"vocab_size": 1000, "hidden_size": 2048, "intermediate_size": 5632}


def setting(strategy: str, method: str = "full", **changes: Any) -> dict[str, Any]:
    plain = {"checkpointing": True, "batch": 2, "length": 512, "model": UNTIED, "r": 16}
    return plain | {"strategy": strategy, "method": method} | changes


# Name, cards, setting.
SETTINGS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("single full", 1, setting("single")),
    ("ddp full", 2, setting("ddp")),
    ("ddp full tied 4", 4, setting("ddp", model=TIED)),
    ("ddp full bucket view", 2, setting("ddp", ddp={"gradient_as_bucket_view": True})),
    ("ddp full all activations", 2, setting("ddp", checkpointing=False)),
    ("ddp lora", 2, setting("ddp", "lora")),
    ("ddp lora all activations", 2, setting("ddp", "lora", checkpointing=False)),
    ("fsdp full 4", 4, setting("fsdp")),
    ("fsdp full small vocabulary", 2, setting("fsdp", model=WIDE, length=128)),
    ("fsdp full mixed small vocabulary", 2, setting("fsdp", model=WIDE, length=128, mixed=True)),
    ("fsdp full mixed", 2, setting("fsdp", mixed=True)),
    ("fsdp full mixed tied 4", 4, setting("fsdp", mixed=True, model=TIED)),
    ("fsdp full all activations", 2, setting("fsdp", checkpointing=False)),
    ("fsdp full tied", 2, setting("fsdp", model=TIED)),
    ("fsdp full not resharded, small vocabulary", 2, setting("fsdp", model=WIDE, length=128, reshard=False)),
    ("fsdp full offload", 2, setting("fsdp", offload=True, model=WIDE, length=128)),
    ("fsdp lora", 2, setting("fsdp", "lora")),
    ("fsdp lora small vocabulary", 2, setting("fsdp", "lora", model=WIDE, length=128)),
    ("fsdp lora mixed 4", 4, setting("fsdp", "lora", mixed=True, model=WIDE, length=256)),
    ("fsdp lora all activations 4", 4, setting("fsdp", "lora", checkpointing=False)),
)


def request_of(cards: int, setting: dict[str, Any]) -> dict[str, Any]:
    """The same run as a request."""
    document: dict[str, Any] = {
        "model": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **setting["model"]},
        "gpu": "rtx-4090",
        "gpus": cards,
        "method": setting["method"],
        "lora": {"r": setting["r"]},
        "training": {
            "per_device_train_batch_size": setting["batch"], "max_length": setting["length"],
            "optim": "adamw_torch_fused", "gradient_checkpointing": setting["checkpointing"],
            "expandable_segments": True,
        },
        "stack": "loop",
    }  # fmt: skip
    if setting["strategy"] == "fsdp":
        mixed = {"mixed_precision": "bfloat16"} if setting.get("mixed") else {}
        offload, reshard = setting.get("offload", False), setting.get("reshard", True)
        document["fsdp"] = {"cpu_offload": offload, "reshard_after_forward": reshard, **mixed}
    elif setting["strategy"] == "ddp":
        document["ddp"] = setting.get("ddp", {})
    return document


def recorded_run(cards: int, setting: dict[str, Any]) -> dict[str, int]:
    """Peaks of a step's phases on rank 0, in bytes; expandable segments, so that no block is larger than its tensor."""
    program = ["torchrun", "--nproc-per-node", str(cards), str(PROGRAM), json.dumps(setting)]
    options = ["--gpu", "rtx-4090", "--gpus", str(cards), "--ranks", "1", "--steps", "4"]
    command = ["fitproof", "dry-run", *options, "--", *program]
    environment = os.environ | {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return json.loads(re.findall(r"FIGURES (\{.*?\})", done.stderr)[-1])  # type: ignore[no-any-return]  # JSON


def main() -> None:
    with FILE.open("w", encoding="utf-8") as file:
        for name, cards, given in SETTINGS:
            row = {"name": name, "request": request_of(cards, given), "peaks": recorded_run(cards, given)}
            file.write(json.dumps(row) + "\n")
            print(name, file=sys.stderr)


if __name__ == "__main__":
    main()

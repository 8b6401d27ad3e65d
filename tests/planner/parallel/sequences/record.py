"""`python -m tests.planner.parallel.sequences.record`: run the settings on virtual cards, write recorded.jsonl.

Settings that have a record are left alone.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("recorded.jsonl")
PROGRAM = Path(__file__).with_name("program.py")

# Llama 3.2 1B's layers, four of them; attention decides the peak where the vocabulary is small.
WHOLE = {
    "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072,
    "num_attention_heads": 32, "num_hidden_layers": 4, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}, "tie_word_embeddings": True,
    "vocab_size": 128256,
}  # fmt: skip
SMALL = WHOLE | {"vocab_size": 4096}
# Attention is the largest moment.
SLIM = SMALL | {"intermediate_size": 1024}


def setting(length: int, **changes: Any) -> dict[str, Any]:
    plain = {"model": SMALL, "parts": 2, "groups": 1, "batch": 1, "checkpointing": True, "rotates": "allgather"}
    return plain | {"length": length} | changes


# Name, ranks that run, setting.
SETTINGS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("2 parts of 4096", 1, setting(4096, model=WHOLE)),
    ("2 parts of 4096, all activations", 1, setting(4096, model=WHOLE, checkpointing=False)),
    ("2 parts of 8192, small vocabulary", 2, setting(8192)),
    ("4 parts of 16384, small vocabulary", 1, setting(16384, parts=4)),
    ("2 parts of 8192, handed on one by one", 1, setting(8192, rotates="alltoall")),
    ("4 parts of 8192, all activations", 1, setting(8192, parts=4, checkpointing=False)),
    ("2 parts of 2 x 8192, on 4 cards", 1, setting(8192, groups=2, batch=2)),
    ("4 parts of 16384, slim", 1, setting(16384, model=SLIM, parts=4)),
    ("2 parts of 8192, slim, handed on one by one", 2, setting(8192, model=SLIM, rotates="alltoall")),
)


def request_of(setting: dict[str, Any]) -> dict[str, Any]:
    """The same run as a request."""
    return {
        "model": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **setting["model"]},
        "gpu": "h100-sxm-80gb",
        "gpus": setting["parts"] * setting["groups"],
        "method": "full",
        "fsdp": "full_shard",
        "parallelism_config": {
            "cp_size": setting["parts"], "dp_shard_size": setting["groups"],
            "cp_handler": {"cp_comm_strategy": setting["rotates"]},
        },
        "training": {
            "per_device_train_batch_size": setting["batch"], "max_length": setting["length"],
            "optim": "adamw_torch_fused", "gradient_checkpointing": setting["checkpointing"],
        },
    }  # fmt: skip


def recorded_run(ranks: int, setting: dict[str, Any]) -> dict[str, int]:
    """The peak of each rank that ran, in bytes."""
    cards = str(setting["parts"] * setting["groups"])
    options = ["--gpu", "h100-sxm-80gb", "--gpus", cards, "--ranks", str(ranks), "--offline", "--json"]
    program = ["torchrun", "--nproc-per-node", cards, str(PROGRAM), json.dumps(setting)]
    done = subprocess.run(["fitproof", "dry-run", *options, "--", *program], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout[done.stdout.index('{\n  "version"') :])
    return {str(process["rank"]): process["peak_allocated_bytes"] for process in answer["processes"]}


def main() -> None:
    known = [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []
    rows = {row["name"]: row for row in known}
    for name, ranks, given in SETTINGS:
        if name not in rows:
            rows[name] = {"name": name, "request": request_of(given), "peaks": recorded_run(ranks, given)}
            print(name, rows[name]["peaks"], file=sys.stderr, flush=True)
        kept = [rows[one] for one, _, _ in SETTINGS if one in rows]
        FILE.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


if __name__ == "__main__":
    main()

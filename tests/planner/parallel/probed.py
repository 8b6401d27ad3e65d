"""`python -m tests.planner.parallel.probed [WORDS]`: probe the settings on virtual cards, write probed.jsonl.

With WORDS only the settings whose name has them. Those of ZeRO want DeepSpeed beside the probe
(planner/probe/refusals.py, INSTALL_DEEPSPEED).
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.planner.parallel.record import TIED, UNTIED, WIDE, request_of, setting

FILE = Path(__file__).with_name("probed.jsonl")
CUT = {
    "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "bfloat16",
}  # fmt: skip
WHOLE = CUT | {"bnb_4bit_quant_storage": "uint8"}
OFFLOADED = {"stage": 3, "offload_optimizer": "cpu", "offload_param": "cpu"}
AUTO: dict[str, Any] = {"reduce_bucket_size": "auto"}
AUTO_3 = AUTO | {"stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto"}
PLAIN = {"reduce_bucket_size": 500_000_000}
# A model of which most parts are let go of before they are used again.
DEEP = WIDE | {"num_hidden_layers": 8}
SHORT: dict[str, Any] = {"stage3_max_reuse_distance": 30_000_000, "stage3_max_live_parameters": 100_000_000}
# torch's default, where a block may be larger than its tensor.
SEGMENTS = {"expandable_segments": False}
PHASES = {"forward": ("forward", "loss"), "backward": ("backward",), "optimizer": ("optimizer",)}


def asked(method: str, model: dict[str, Any] = UNTIED, **parts: Any) -> dict[str, Any]:
    """A request on two cards."""
    return request_of(2, setting("", method, model=model)) | parts


def by_zero(method: str, stage: int, model: dict[str, Any] = UNTIED, **parts: Any) -> dict[str, Any]:
    """A request with ZeRO's buckets as TrainingArguments fill them in; `training` and `gpus` may differ, too."""
    plain = asked(method, model, stack="trainer")
    changes = {name: parts.pop(name) for name in ("training", "gpus", "quantization") if name in parts}
    changes["training"] = plain["training"] | changes.get("training", {})
    return plain | {"deepspeed": {"stage": stage} | (AUTO_3 if stage == 3 else AUTO) | parts} | changes


def by_fsdp1(method: str, model: dict[str, Any] = UNTIED, **parts: Any) -> dict[str, Any]:
    """A request with FSDP1 under a Trainer, next layers gathered ahead as accelerate's file writes it."""
    plain = asked(method, model, stack="trainer")
    changes = {name: parts.pop(name) for name in ("training", "gpus", "quantization", "stack") if name in parts}
    changes["training"] = plain["training"] | changes.get("training", {})
    return plain | {"fsdp": {"version": 1, "backward_prefetch": "backward_pre"} | parts} | changes


SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("fsdp 4 bit", asked("qlora", quantization=CUT, fsdp={})),
    ("fsdp 4 bit, bytes", asked("qlora", quantization=WHOLE, fsdp={})),
    ("fsdp 4 bit offload", asked("qlora", quantization=CUT, fsdp={"cpu_offload": True})),
    ("fsdp1 4 bit", asked("qlora", quantization=CUT, fsdp={"version": 1}, stack="trainer")),
    ("fsdp1 full", asked("full", fsdp={"version": 1}, stack="trainer")),
    ("fsdp1 full small vocabulary", asked("full", WIDE, fsdp={"version": 1, "backward_prefetch": "backward_pre"})),
    ("fsdp1 lora", asked("lora", fsdp={"version": 1}, stack="trainer")),
    ("fsdp1 lora ahead", asked("lora", fsdp={"version": 1, "backward_prefetch": "backward_pre"}, stack="trainer")),
    ("fsdp1 lora small vocabulary", asked("lora", WIDE, fsdp={"version": 1}, stack="trainer")),
    ("fsdp1 full offload", by_fsdp1("full", WIDE, cpu_offload=True)),
    ("fsdp1 lora offload", by_fsdp1("lora", WIDE, cpu_offload=True)),
    ("fsdp1 4 bit offload", by_fsdp1("qlora", quantization=CUT, cpu_offload=True)),
    ("fsdp1 full, shard_grad_op", by_fsdp1("full", WIDE, reshard_after_forward=False)),
    ("fsdp1 lora, shard_grad_op", by_fsdp1("lora", WIDE, reshard_after_forward=False)),
    ("fsdp1 full hybrid, 4 cards", by_fsdp1("full", WIDE, gpus=4, hybrid_shard=True, cards_per_node=2)),
    ("fsdp1 full mixed", by_fsdp1("full", WIDE, stack="loop", mixed_precision="bfloat16")),
    ("fsdp1 full tied, 4 cards", by_fsdp1("full", TIED, gpus=4)),
    ("fsdp1 full, all activations", by_fsdp1("full", WIDE, training={"gradient_checkpointing": False})),
    ("fsdp1 lora, all activations", by_fsdp1("lora", WIDE, training={"gradient_checkpointing": False})),
    ("fsdp1 full, accumulating", by_fsdp1("full", WIDE, training={"gradient_accumulation_steps": 2})),
    ("fsdp1 full wide, trainer", by_fsdp1("full", WIDE)),
    ("fsdp1 full, no units", by_fsdp1("full", auto_wrap=False)),
    ("fsdp1 full, after", by_fsdp1("full", WIDE, backward_prefetch="backward_post")),
    ("fsdp1 full, segments", by_fsdp1("full", training=SEGMENTS)),
    ("fsdp1 full deep, segments", by_fsdp1("full", DEEP, training=SEGMENTS)),
    ("fsdp1 full offload, segments", by_fsdp1("full", WIDE, cpu_offload=True, training=SEGMENTS)),
    ("fsdp1 lora, segments", by_fsdp1("lora", training=SEGMENTS)),
    ("fsdp1 4 bit, segments", by_fsdp1("qlora", quantization=CUT, training=SEGMENTS)),
    ("zero 1 full", asked("full", deepspeed={"stage": 1}, stack="trainer")),
    ("zero 2 full", asked("full", deepspeed={"stage": 2}, stack="trainer")),
    ("zero 2 lora", asked("lora", deepspeed={"stage": 2}, stack="trainer")),
    ("zero 2 full offload", asked("full", deepspeed={"stage": 2, "offload_optimizer": "cpu"}, stack="trainer")),
    ("zero 1 full, auto", by_zero("full", 1)),
    ("zero 1 full wide, auto", by_zero("full", 1, WIDE)),
    ("zero 1 full, auto, overlapping", by_zero("full", 1, overlap_comm=True)),
    ("zero 1 full, auto, accumulating", by_zero("full", 1, training={"gradient_accumulation_steps": 2})),
    ("zero 2 full wide, auto", by_zero("full", 2, WIDE)),
    ("zero 2 full tied, auto, 4 cards", by_zero("full", 2, TIED, gpus=4)),
    ("zero 2 full, auto, accumulating", by_zero("full", 2, training={"gradient_accumulation_steps": 2})),
    ("zero 2 full wide, auto, offload", by_zero("full", 2, WIDE, offload_optimizer="cpu")),
    ("zero 2 4 bit wide, 4 cards", by_zero("qlora", 2, WIDE, quantization=WHOLE, gpus=4, **PLAIN)),
    ("zero 3 full", asked("full", deepspeed={"stage": 3}, stack="trainer")),
    ("zero 3 full offload", asked("full", deepspeed=OFFLOADED, stack="trainer")),
    ("one card: fsdp full", asked("full", gpus=1, fsdp={}, stack="trainer")),
    ("one card: zero 1 full", asked("full", gpus=1, deepspeed={"stage": 1}, stack="trainer")),
    ("one card: zero 2 full", asked("full", gpus=1, deepspeed={"stage": 2}, stack="trainer")),
    ("one card: zero 3 full", asked("full", gpus=1, deepspeed={"stage": 3}, stack="trainer")),
    ("zero 3 lora", asked("lora", deepspeed={"stage": 3}, stack="trainer")),
    ("zero 3 full wide, auto", by_zero("full", 3, WIDE)),
    ("zero 3 full deep, auto, short", by_zero("full", 3, DEEP, **SHORT)),
    ("zero 3 lora deep, auto, short", by_zero("lora", 3, DEEP, **SHORT)),
    ("zero 3 lora, auto", by_zero("lora", 3)),
)


def probed(request: dict[str, Any]) -> dict[str, Any]:
    """Peaks of a step's phases on the fullest rank, in bytes, the peak of each rank, and what each reserved at most."""
    done = subprocess.run(
        [sys.executable, "-m", "planner.probe"], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    measurement = json.loads(done.stdout.splitlines()[-1])
    phases = {phase["name"]: phase["peak_allocated_bytes"] for phase in measurement["phases"]}
    peaks = {name: max(phases[part] for part in parts) for name, parts in PHASES.items()}
    ranks = {kind: [rank[f"peak_{kind}_bytes"] for rank in measurement["ranks"]] for kind in ("allocated", "reserved")}
    return {"peaks": peaks, "ranks": ranks["allocated"], "reserved": ranks["reserved"]}


def record_named(file: Path, settings: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Probe those settings whose name has the words of the command line, and keep the rows of the others."""
    rows = {row["name"]: row for row in map(json.loads, file.read_text().splitlines())} if file.exists() else {}
    word, named = " ".join(sys.argv[1:]), list(settings)
    for name, request in named:
        if word in name:
            rows[name] = {"name": name, "request": request, **probed(request)}
            print(name, rows[name]["ranks"], file=sys.stderr, flush=True)
            file.write_text("".join(json.dumps(rows[each]) + "\n" for each, _ in named if each in rows))


if __name__ == "__main__":
    record_named(FILE, SETTINGS)

"""`python -m tests.planner.parallel.probed [WORDS]`: probe the settings on virtual cards, write probed.jsonl.

With WORDS only the settings whose name has them. Those of ZeRO want DeepSpeed beside the probe
(planner/probe/refusals.py, INSTALL_DEEPSPEED).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.planner.parallel.record import UNTIED, WIDE, request_of, setting

FILE = Path(__file__).with_name("probed.jsonl")
CUT = {
    "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "bfloat16",
}  # fmt: skip
WHOLE = CUT | {"bnb_4bit_quant_storage": "uint8"}
OFFLOADED = {"stage": 3, "offload_optimizer": "cpu", "offload_param": "cpu"}
PHASES = {"forward": ("forward", "loss"), "backward": ("backward",), "optimizer": ("optimizer",)}


def asked(method: str, model: dict[str, Any] = UNTIED, **parts: Any) -> dict[str, Any]:
    """A request on two cards."""
    return request_of(2, setting("", method, model=model)) | parts


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
    ("zero 1 full", asked("full", deepspeed={"stage": 1}, stack="trainer")),
    ("zero 2 full", asked("full", deepspeed={"stage": 2}, stack="trainer")),
    ("zero 2 lora", asked("lora", deepspeed={"stage": 2}, stack="trainer")),
    ("zero 2 full offload", asked("full", deepspeed={"stage": 2, "offload_optimizer": "cpu"}, stack="trainer")),
    ("zero 3 full", asked("full", deepspeed={"stage": 3}, stack="trainer")),
    ("zero 3 full offload", asked("full", deepspeed=OFFLOADED, stack="trainer")),
    ("one card: fsdp full", asked("full", gpus=1, fsdp={}, stack="trainer")),
    ("one card: zero 1 full", asked("full", gpus=1, deepspeed={"stage": 1}, stack="trainer")),
    ("one card: zero 2 full", asked("full", gpus=1, deepspeed={"stage": 2}, stack="trainer")),
    ("one card: zero 3 full", asked("full", gpus=1, deepspeed={"stage": 3}, stack="trainer")),
)


def probed(request: dict[str, Any]) -> dict[str, Any]:
    """Peaks of a step's phases on the fullest rank, in bytes, and the peak of each rank."""
    done = subprocess.run(
        [sys.executable, "-m", "planner.probe"], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    measurement = json.loads(done.stdout.splitlines()[-1])
    phases = {phase["name"]: phase["peak_allocated_bytes"] for phase in measurement["phases"]}
    peaks = {name: max(phases[part] for part in parts) for name, parts in PHASES.items()}
    return {"peaks": peaks, "ranks": [rank["peak_allocated_bytes"] for rank in measurement["ranks"]]}


def main() -> None:
    known = {row["name"]: row for row in map(json.loads, FILE.read_text().splitlines())} if FILE.exists() else {}
    word = " ".join(sys.argv[1:])
    for name, request in SETTINGS:
        if word in name:
            known[name] = {"name": name, "request": request, **probed(request)}
            print(name, known[name]["peaks"], file=sys.stderr, flush=True)
            rows = [known[each] for each, _ in SETTINGS if each in known]
            FILE.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()

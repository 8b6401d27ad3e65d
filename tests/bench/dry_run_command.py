"""What `fitproof dry-run` costs beside the imports that a program does anyway: processor seconds, and memory."""

import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.server import ROOT
from tests.bench.timing import report
from tests.probe.command.terminal import program, torchrun

RANKS = 8
DRY_RUN = (sys.executable, "-m", "app.cli", "dry-run")
# Fills a folder of the hub cache's form with Llama 2 7B, hollow.
CHECKPOINT = (sys.executable, "-m", "planner.probe.command.hollow_model", "meta-llama/Llama-2-7b-hf")
IMPORTS = (
    "import torch, datasets, peft, bitsandbytes, trl.trainer.sft_trainer; from transformers import AutoModelForCausalLM"
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a command and all its children: processor seconds, and the largest of their resident sizes."""

    seconds: float
    resident_bytes: int


def run() -> None:
    """Print both costs, and that of the imports alone."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*CHECKPOINT, f"{folder}/model"], cwd=ROOT, check=True)
        (checkpoint,) = Path(folder, "model", "snapshots").iterdir()
        words = [sys.executable, program("trl_sft"), str(checkpoint), f"{folder}/output", "2048", "1"]
        sft = _cost([*DRY_RUN, "--gpu", "rtx-4090", "--", *words])
        imports = _cost([*DRY_RUN, "--gpu", "rtx-4090", "--", sys.executable, "-c", IMPORTS])
    report("7B, TRL SFT: its imports alone", f"{imports.seconds:.1f} s CPU")
    report("7B, TRL SFT: beside its imports", f"{sft.seconds - imports.seconds:.1f} s CPU", "at most 20")
    report("7B, TRL SFT: largest process", f"{sft.resident_bytes / (1 << 30):.2f} GiB")
    words = [*torchrun(RANKS), program("fsdp2"), "8b"]
    sharded = _cost([*DRY_RUN, "--gpu", "h100-sxm-80gb", "--gpus", str(RANKS), "--", *words])
    report(f"8B, FSDP2 on {RANKS} ranks", f"{sharded.seconds:.1f} s CPU", "at most 60")
    report(f"8B, FSDP2 on {RANKS} ranks: largest process", f"{sharded.resident_bytes / (1 << 30):.2f} GiB")


def _cost(command: list[str]) -> Cost:
    """Run in a process of its own, whose children's usage is then that of this command alone."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 2 * (IMPORTS in command)):
            sys.stderr.write(done.stdout + done.stderr)
            os._exit(1)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.write(writer, f"{used.ru_utime + used.ru_stime} {used.ru_maxrss * 1024}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        seconds, resident = told.read().split()
    os.waitpid(child, 0)
    return Cost(float(seconds), int(resident))

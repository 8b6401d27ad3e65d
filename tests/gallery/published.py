"""`python -m tests.gallery.published FOLDER [IDS]`: published runs on several cards again, with their releases.

Rows of `published_several_cards.jsonl` are run by programs that do what theirs did, on two virtual cards, the first
rank of them (the second holds as much), each on a card that is as far behind its host as it can be and on one that is
never behind: two minutes of a processor each, more for 34B and 70B. What they said goes
to `several_cards_dry_runs.jsonl`, which `python -m planner.evidence.several_cards` shows beside the measured bytes. Not
run: full fine-tuning, whose peak no release moves, and fms-acceleration's own plugin for 4 bits.
"""

import sys
from pathlib import Path
from typing import Any

from planner.evidence.several_cards import DryRun, dry_runs, keep_dry_runs, rows
from tests.gallery.results import Program
from tests.gallery.running import tried


def main() -> int:
    """Run the rows one after another; each result is kept at once. Exits 1 where a row has no answer."""
    folder, ids = Path(sys.argv[1]).absolute(), sys.argv[2:]
    failed = 0
    for program in published_programs():
        if ids and program.name not in ids:
            continue
        result, at_once = tried(program, folder), tried(program, folder, FITPROOF_STREAMS="at-once")
        print(f"{program.name}: {result.verdict or result.why}", flush=True)
        failed += not (result.verdict and at_once.verdict)
        if result.verdict and at_once.verdict:
            found = DryRun(
                peak_allocated_bytes=result.peak_allocated_bytes,
                peak_reserved_bytes=result.peak_reserved_bytes,
                peak_reserved_at_once_bytes=at_once.peak_reserved_bytes,
                release=result.release,
                torch=result.torch,
                out_of_memory=result.why.startswith("CUDA out of memory"),
            )
            keep_dry_runs({**dry_runs(), program.name: found})
    return int(failed > 0)


def published_programs() -> list[Program]:
    """The programs of the rows that are run, named by their ids."""
    return [program for row in rows() if (program := _program_of(row))]


def _program_of(row: dict[str, Any]) -> Program | None:
    request = row["request"]
    training, method = request["training"], request.get("method", "qlora")
    batch, length = training.get("per_device_train_batch_size", 1), training.get("max_length", 2048)
    if row["id"].startswith("fsdp-qlora-"):
        environment = "fsdp_qlora"
        offload = ["offload"] if request["fsdp"].get("cpu_offload") else []
        launch = ["python", "-m", "torch.distributed.run", "--nproc-per-node=2", "{programs}/fsdp_qlora.py"]
        command = [*launch, request["model"], method, str(batch), str(length), *offload]
    elif method == "lora":
        environment = "fms"
        launch = ["python", "-m", "accelerate.commands.launch", "--config_file", "{configs}/fms_fsdp.yaml"]
        command = [*launch, "{programs}/fms_lora.py", str(batch)]
    else:
        return None
    return Program(
        name=row["id"],
        package="transformers",
        environment=environment,
        gpu=request["gpu"],
        gpus=2,
        options=["--ranks=1"],
        command=command,
    )


if __name__ == "__main__":
    sys.exit(main())

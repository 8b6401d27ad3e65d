"""`python -m planner.evidence.several_cards`: published runs on several cards beside the formulas; writes the report.

Rows of `published_several_cards.jsonl` are predicted as they stand, by today's releases. What the runs' own releases
kept beside that shows in the same rows on one card, where they were published.
"""

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from planner.answer.plan import plan
from planner.evidence.markdown import table
from planner.request.schema import Request
from planner.units import format_gib

FILE = Path(__file__).parent / "reports" / "several_cards.md"

_HEAD = """# Published runs on several cards

Written by `python -m planner.evidence.several_cards`: the formulas' figure for one card beside what was measured. All
are FSDP 1 (FULL_SHARD); allocated is compared with allocated, reserved with reserved.

"""
_WHY = """
What makes the differences, as far as it is known:

* Full fine-tuning peaks in the optimizer's step: shards of weights, gradients, two moments, and the copies that AdamW
  makes of all of them (`foreach`), each 2 bytes a parameter over the cards. Nothing else of the step is as high, so the
  releases do not show, and the figure is the measured one.
* With adapters the peak is in the backward pass. fms-acceleration ran transformers 4.48: the same LoRA rows on one card
  are 4 % (batch 4) and 6 % (batch 8) above today's releases, and that part grows with the batch. The rest is not shown
  yet. By torch's source, FSDP 1 keeps embedding, head and last norm gathered together, as one root unit, until the
  backward pass is over, and gathers the next layer before the current one goes: 0.24 and 0.41 GiB of Mistral 7B that
  the formula, which follows FSDP 2's units, does not have.
* fsdp_qlora's figures are reserved bytes of releases of March 2024. A dry run of Llama 2 70B's row with today's takes
  13.79 GiB (README, the gallery's table): of the 5.9 GiB that the formula lacks, 4.8 are the formula's own, and 1.1 are
  the card's or the releases'. On a card a block that another stream used comes back only when the card's work has come
  so far (`record_stream`); a virtual card's work is done at once.

FSDP 1 with adapters is therefore planned too low, and never said to fit; `fitproof dry-run` plays it.
"""


def rows() -> list[dict[str, Any]]:
    """The committed rows: as published.jsonl, with `gpus` and `fsdp` in each request."""
    text = (files("planner.evidence.publications") / "published_several_cards.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def predicted_bytes(row: dict[str, Any]) -> int:
    """The formulas' figure under the row's metric."""
    planned = plan(Request.parse(row["request"]))
    return planned.peak_allocated_bytes if row["metric"] == "peak_allocated" else planned.estimate.reserved_bytes()


def report() -> str:
    """The report as Markdown."""
    head = ("run", "model", "method", "cards", "batch", "metric", "predicted", "measured", "difference")
    return _HEAD + table(head, map(_cells, rows())) + "\n" + _WHY


def _cells(row: dict[str, Any]) -> list[str]:
    request = Request.parse(row["request"])
    predicted, training = predicted_bytes(row), request.training
    offload = ", offload" if request.fsdp and request.fsdp.cpu_offload else ""
    return [
        f"[{row['id']}]({row['source_url']})",
        str(request.model).rpartition("/")[2],
        f"{request.method}{offload}",
        f"{request.gpus} x {row['gpu'].removeprefix('2x')}",
        f"{training.per_device_train_batch_size} x {training.max_length}",
        row["metric"].removeprefix("peak_"),
        format_gib(predicted),
        format_gib(row["bytes"]),
        f"{100 * (predicted / row['bytes'] - 1):+.1f} %",
    ]


if __name__ == "__main__":
    FILE.write_text(report(), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")

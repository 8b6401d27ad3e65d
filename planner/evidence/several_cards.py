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
* With adapters the peak is in the backward pass. The formulas are those of today's releases, to the byte of dry runs of
  FSDP 1 (`tests/planner/parallel/probed.jsonl`): embedding, head and last norm are one root unit, which stays gathered
  until the backward pass is over, adapters are units of their own, and the next layer is gathered before the current
  one goes (BACKWARD_PRE).
* What is left of fms-acceleration's grows with the tokens: 172 kB each with LoRA, 139 kB with 4-bit weights, of which
  72 kB are in the same rows on one card, too: as much as one more 16-bit copy of the logits (64,000 bytes) and a hidden
  state (8,192). A dry run of four layers with transformers 4.48.1, peft 0.13.2 and accelerate 1.0.1, its releases, and
  torch 2.14.1 names the copies that are there at once: 16-bit logits (modeling_mistral.py:848), all of them in float32
  (loss_utils.py:36), those shifted (:39) and their log-softmax (:26). Today's keeps the last alone and makes two of
  its size in the backward pass: 23 kB a token less. The rest of the 172 kB it does not show; TRL's trainer,
  FlashAttention and torch 2.4 were not in it.
* fsdp_qlora's figures are reserved bytes of releases of March 2024. A dry run of Llama 2 70B's row with today's takes
  13.79 GiB (README, the gallery's table), 1.1 GiB less than the card's. The long rows with 4-bit weights lack 280 to
  290 kB a token of Llama 2 and Mistral and 583 kB of Yi, whose vocabulary is twice as large: 256,000 and 512,000 bytes
  are two float32 copies of the logits, which releases of that time made (`logits.float()`, then the shifted copy). On a
  card a block that another stream used comes back only when the card's work has come so far (`record_stream`); a
  virtual card's work is done at once.

FSDP 1 never simply fits; `fitproof dry-run` plays it.
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

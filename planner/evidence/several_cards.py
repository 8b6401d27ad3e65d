"""`python -m planner.evidence.several_cards`: published runs on several cards beside the formulas; writes the report.

Rows of `published_several_cards.jsonl` are predicted as they stand, by today's releases. What the runs' own releases
kept beside that shows in dry runs with them (`python -m tests.gallery.published`).
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from planner.answer.plan import plan
from planner.evidence.markdown import table
from planner.request.schema import Request
from planner.units import format_gib

FILE = Path(__file__).parent / "reports" / "several_cards.md"
_DRY_RUNS = Path(__file__).parent / "publications" / "several_cards_dry_runs.jsonl"

_HEAD = """# Published runs on several cards

Written by `python -m planner.evidence.several_cards`: the formulas' figure for one card, today's releases taken, and
dry runs with the run's own, beside what was measured. All are FSDP 1 (FULL_SHARD); allocated is compared with
allocated, reserved with reserved. A dry run is of a card that is never behind its host (at once) and of one that is as
far behind as the program lets it be (behind): memory that one stream hands to another comes back at once, or when the
host waits.

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
* Today's transformers quantizes a whole model on every card before FSDP cuts it (modeling_utils.py, `not is_quantized`;
  accelerate warns of it), and reserved bytes stay from then on. These programs quantize on the way to the host, layer
  by layer: rows 1, 2, 11, 12 and 13 are planned 12 to 190 % too high for that. Without the load, the same play says
  4.71, 4.95, 21.75, 21.53 and 13.60 GiB, 5 to 9 % too low. 70B would not load on such cards today.
* The rest is their releases. Dry runs with those (`python -m tests.gallery.published`: transformers 4.37.2 or 4.48.1
  with the accelerate and peft of that time, on torch 2.14.1, in programs that do what theirs did) are what cards
  measured, but for what is named here. transformers 4.37.2 makes all logits in float32, keeps them with its output,
  which train.py holds until the step is over, and copies them once more to shift them: at four sequences of 2,048
  tokens 1,000 MiB each, and as much for the log-softmax and each of the two gradients. Today's keeps one of these.
* fms-acceleration's rows ran with PyTorch's attention in place of FlashAttention 2, which cannot be installed without
  nvcc: the mask (64 MiB) and the repeated keys and values (128 MiB and more) are the dry run's alone.
* Where reserved bytes come near the card (10 sequences, and the run that ends out of memory in its second step) they
  say little: the allocator keeps what it has until a card is full, and which holes it has then depends on each size.
* A block that another stream used comes back to its own when the card's work has come so far (`record_stream`). How
  far a card is behind, bytes cannot tell. With offload each layer waits for its copy from the host, and the card is
  as far behind as it can be: rows 13 and 14, 6.7 and 3.1 % low at once, are 1.6 and 0.2 % low. Rows of 2,048 tokens
  without offload are met by a card that is never behind, and one that is behind takes 0.3 GiB more (three layers in 4
  bit): FSDP 1 waits for an earlier unit at each gather, and what an adapter's unit gives the card may be done while
  the host goes on. `fitproof dry-run` plays a card that is behind; FITPROOF_STREAMS=at-once plays the other.
"""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What `python -m tests.gallery.published` found of a row with the releases of its time.

    `peak_reserved_bytes` of a card that is as far behind its host as it can be, None where that was not run;
    `peak_reserved_at_once_bytes` of one that is never behind.
    """

    peak_allocated_bytes: int
    peak_reserved_bytes: int | None
    peak_reserved_at_once_bytes: int
    release: str
    torch: str
    out_of_memory: bool

    def bytes_of(self, metric: str) -> tuple[int, int | None]:
        """Its figures under a row's metric: at once, and behind. Allocated bytes are the same at both ends."""
        if metric == "peak_allocated":
            return self.peak_allocated_bytes, self.peak_allocated_bytes
        return self.peak_reserved_at_once_bytes, self.peak_reserved_bytes


def dry_runs() -> dict[str, DryRun]:
    """By the row's id."""
    found = (json.loads(line) for line in _DRY_RUNS.read_text(encoding="utf-8").splitlines())
    return {row.pop("id"): DryRun(**row) for row in found}


def keep_dry_runs(found: Mapping[str, DryRun]) -> None:
    """Write them, in the order of the rows."""
    lines = [json.dumps({"id": row["id"], **asdict(found[row["id"]])}) for row in rows() if row["id"] in found]
    _DRY_RUNS.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


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
    head = (
        "run", "model", "method", "cards", "batch", "metric", "formula", "at once", "behind", "measured",
        "formula off", "at once off", "behind off",
    )  # fmt: skip
    found = dry_runs()
    return _HEAD + table(head, (_cells(row, found.get(row["id"])) for row in rows())) + "\n" + _WHY


def _cells(row: dict[str, Any], dry_run: DryRun | None) -> list[str]:
    request = Request.parse(row["request"])
    predicted, training = predicted_bytes(row), request.training
    at_once, behind = dry_run.bytes_of(row["metric"]) if dry_run else (None, None)
    ended = ", then out of memory" if dry_run and dry_run.out_of_memory else ""
    offload = ", offload" if request.fsdp and request.fsdp.cpu_offload else ""
    return [
        f"[{row['id']}]({row['source_url']})",
        str(request.model).rpartition("/")[2],
        f"{request.method}{offload}",
        f"{request.gpus} x {row['gpu'].removeprefix('2x')}",
        f"{training.per_device_train_batch_size} x {training.max_length}",
        row["metric"].removeprefix("peak_"),
        format_gib(predicted),
        f"{format_gib(at_once)}{ended}" if at_once else "",
        format_gib(behind) if behind else "",
        format_gib(row["bytes"]),
        *(f"{100 * (found / row['bytes'] - 1):+.1f} %" if found else "" for found in (predicted, at_once, behind)),
    ]


if __name__ == "__main__":
    FILE.write_text(report(), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")

"""`python -m planner.evidence.unsloth_published`: what Unsloth publishes of its own memory, predicted beside it.

Writes reports/unsloth_published.md and prints it. No torch.
"""

import json
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from planner.answer.plan import Plan, plan
from planner.evidence.markdown import table
from planner.request.schema import Request
from planner.units import GIB

REPORT_FILE = Path(__file__).parent / "reports" / "unsloth_published.md"
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# The page says neither length nor batch: "the absolute minimum".
_MINIMUM = {"max_length": 512, "per_device_train_batch_size": 1, "optim": "adamw_8bit"}
_SHORT = 128
_CARD = "a100-sxm-80gb"
_TABLE = """\
The page names no batch, length or card, and calls its figures the absolute minimum. Predicted is the process on a card
of compute capability 8.0 with 80 GB: 1 x 512 tokens, rank 16 on the seven projections, adamw_8bit, `likely`."""
_NOTEBOOKS = """\
Outputs that the notebooks were saved with: `torch.cuda.max_memory_reserved()` before and after training. A batch is as
long as its data, of which only the cap is known. Predicted is what today's release reserves for batches of 128 tokens
a sequence and at the cap. Those releases are of 2024 and 2025, and their code is not the one that is planned; why they
reserved more was not looked into."""


@lru_cache(maxsize=1)
def rows() -> tuple[dict[str, Any], ...]:
    """Every row of `unsloth_published.jsonl`, each with its source."""
    text = (files("planner.evidence.publications") / "unsloth_published.jsonl").read_text(encoding="utf-8")
    return tuple(map(json.loads, text.splitlines()))


def planned(row: dict[str, Any], method: str, training: dict[str, Any]) -> Plan:
    """One of their runs with today's Unsloth."""
    gpu = row.get("gpu", _CARD)
    dtype = "float16" if gpu == "t4" else "bfloat16"
    quantization = {"quantization": {"bnb_4bit_compute_dtype": dtype}} if method == "qlora" else {}
    lora = {"r": row.get("r", 16), "target_modules": _LINEAR}
    asked = {"model": row["model"], "gpu": gpu, "method": method, "stack": "unsloth", "lora": lora}
    return plan(Request.parse(asked | quantization | {"training": training}))


def report() -> str:
    """The whole report as Markdown."""
    parts = [
        "# What Unsloth publishes of its own memory",
        "Written by `python -m planner.evidence.unsloth_published`.",
        "## Its table of requirements",
        _TABLE,
        table(("model", "QLoRA, GB", "predicted", "LoRA in 16 bit, GB", "predicted"), _requirements()),
        "## Its notebooks",
        _NOTEBOOKS,
        table(
            ("model", "card", "release", "before, GiB", "after, GiB", f"predicted at {_SHORT}", "at the cap"),
            _notebooks(),
        ),
        "Sources:",
        "\n".join(f"* {address}" for address in dict.fromkeys(row["source_url"] for row in rows())),
    ]
    return "\n\n".join(parts) + "\n"


def _requirements() -> Iterator[tuple[str, ...]]:
    for row in rows():
        if row["kind"] == "requirement":
            found = [planned(row, method, _MINIMUM) for method in ("qlora", "lora")]
            ours = [f"{one.required_bytes.likely / 1e9:.1f}" for one in found]
            yield row["model"], f"{row['qlora_gb']}", ours[0], f"{row['lora_gb']}", ours[1]


def _notebooks() -> Iterator[tuple[str, ...]]:
    for row in rows():
        if row["kind"] == "notebook":
            lengths = (_SHORT, row["cap"])
            found = [planned(row, "qlora", {**row["training"], "max_length": length}) for length in lengths]
            ours = [f"{one.estimate.reserved_bytes() / GIB:.2f}" for one in found]
            before, after = f"{row['before_gib']:.2f}", f"{row['after_gib']:.2f}"
            yield row["model"], row["gpu"], row["release"], before, after, *ours


if __name__ == "__main__":
    text = report()
    REPORT_FILE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)

"""Runs on several cards, as Requests.

`python -m planner.evidence.publications.convert_several_cards ROWS.jsonl > published_several_cards.jsonl`

As convert_published, for rows on more than one GPU under FSDP's FULL_SHARD, each GPU's figure as published.

* fms-acceleration: its accelerate.yaml has FSDP version 1, a unit a layer, BACKWARD_PRE, mixed precision "no"
  (scripts/benchmarks/accelerate.yaml of its repository); the rows are means over the cards.
* fsdp_qlora: its train.py has FSDP version 1 in bfloat16, torch's default of prefetching (BACKWARD_PRE), adapters in
  units of their own, a plain loop (benchmarks_03_2024.md); the first rank's reserved bytes.
"""

import sys
from collections.abc import Mapping
from typing import Any

from planner.evidence.publications.convert_published import OBSTACLES, Row, convert, converted
from planner.request.schema import Request

_OWN_LOOP = "fsdp_qlora train.py (PyTorch FSDP)"
_SHARDED = ("FSDP FULL_SHARD", "FSDP FULL_SHARD + CPU offload")
# fsdp_qlora's own names for what convert_published knows by another.
_SAME = {
    "optimizer": {"adamw (script default)": "adamw_torch"},
    "metric": {"peak torch memory_reserved, rank 0": "torch.cuda.max_memory_reserved()"},
    "framework": {_OWN_LOOP: "transformers + PEFT"},
    # The second Mistral's base model was published as files of the first one's shape, without its window.
    "model": {"mistralai/Mistral-7B-v0.2 (base)": "mistralai/Mistral-7B-v0.3"},
}


def as_on_one_card(row: Row) -> dict[str, Any]:
    """The row in convert_published's words, its cards left out."""
    same = {name: words.get(row[name], row[name]) for name, words in _SAME.items()}
    return {**row, **same, "num_gpus": 1, "parallelism": "none", "versions": row["versions"] or {}}


def obstacle(row: Row) -> str | None:
    """Why this row cannot be a Request, or None when it can."""
    if row["num_gpus"] == 1:
        return "one GPU"
    if row["parallelism"] not in _SHARDED:
        return "another strategy than FSDP's FULL_SHARD"
    plain = as_on_one_card(row)
    return next((reason for reason, holds in OBSTACLES if holds(plain)), None)


def converted_sharded(row: Row) -> Mapping[str, Any]:
    """One line of `published_several_cards.jsonl`."""
    line = converted(as_on_one_card(row))
    own_loop = row["framework"] == _OWN_LOOP
    fsdp: dict[str, Any] = {"version": 1, "backward_prefetch": "backward_pre"}
    if "CPU offload" in row["parallelism"]:
        fsdp["cpu_offload"] = True
    if own_loop:
        fsdp["mixed_precision"] = "bfloat16"
        line["request"]["stack"] = {"model_dtype": "bfloat16", "autocast": None, "adapter_dtype": "bfloat16"}
    if row["category"] == "qlora":  # cut like everything else: half of it was left on each card after training
        line["request"]["quantization"]["bnb_4bit_quant_storage"] = "bfloat16"
    line["request"] |= {"gpus": row["num_gpus"], "fsdp": fsdp}
    line["request"] = Request.parse(line["request"]).model_dump(mode="json", exclude_defaults=True)
    return {**line, "harness": row["framework"], "gpu": row["gpu"]}


if __name__ == "__main__":
    sys.exit(convert(sys.argv[1], obstacle, converted_sharded))

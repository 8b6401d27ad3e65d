"""Published speeds, as Requests: `python -m planner.evidence.publications.convert_throughput ROWS.jsonl`.

The input is that of convert_published.py. Kept are runs on one card with packed sequences, whose every token counts.
Kernels that replace the libraries' own are kept and marked: nothing is fitted to them.
"""

import sys
from typing import Any

from planner.evidence.publications.convert_published import OBSTACLES, STOCK_KERNELS, Row, convert, request_of
from planner.model.model import resolve_model
from planner.request.schema import Request

_TOKENS_PER_SECOND = "train_tokens_per_second"
# What the quantized weights were made from; group size and bits as in these repositories' quantize_config.json.
_GPTQ = {
    "TheBloke/Mistral-7B-v0.1-GPTQ": "mistralai/Mistral-7B-v0.1",
    "TheBloke/Llama-2-70B-GPTQ": "meta-llama/Llama-2-70b-hf",
}
_GPTQ_CONFIG = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
_NO_OBSTACLE_HERE = {
    "no byte figure", "the metric is not said, or is no peak", "quantized otherwise than by bitsandbytes",
    "kernels that replace the libraries' own", "float32 weights that TRL cast back to bfloat16",
    "the model is not in the catalogue",
}  # fmt: skip


def obstacle(row: Row) -> str | None:
    """Why this row tells nothing about time, or None where it does."""
    if not (row["other_metrics"] or {}).get(_TOKENS_PER_SECOND):
        return "no tokens per second"
    if row["outcome"] != "ok":
        return "it did not end"
    if row["quant"] == "gptq-int4" and row["model"] not in _GPTQ:
        return "the model is not in the catalogue"
    reason = next((reason for reason, holds in OBSTACLES if reason not in _NO_OBSTACLE_HERE and holds(row)), None)
    unknown = dict(OBSTACLES)["the model is not in the catalogue"]
    return reason or ("the model is not in the catalogue" if row["quant"] != "gptq-int4" and unknown(row) else None)


def converted(row: Row) -> dict[str, Any]:
    """One line of `throughput.jsonl`."""
    made_from = _GPTQ.get(row["model"])
    known = {**row, "model": made_from, "quant": "nf4", "double_quant": False} if made_from else row
    document = request_of(known)
    if made_from:
        document["model"] = {**resolve_model(made_from).config, "quantization_config": _GPTQ_CONFIG}
        del document["quantization"]
    if "Liger fused-linear-cross-entropy" in row["kernels"]:
        document["training"]["loss"] = "liger"
    return {
        "id": row["id"],
        "model": row["model"],
        "method": row["category"],
        "request": Request.parse(document).model_dump(mode="json", exclude_defaults=True),
        "tokens_per_second": row["other_metrics"][_TOKENS_PER_SECOND],
        "stock_kernels": row["kernels"] in STOCK_KERNELS,
        "versions": row["versions"],
        "source": row["source"],
        "source_url": row["source_url"],
        "date": row["date"],
    }


if __name__ == "__main__":
    sys.exit(convert(sys.argv[1], obstacle, converted))
